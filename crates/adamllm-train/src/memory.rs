//! The memory that a run takes, by formula: weights, gradients and the optimizer's state from the parameters' shapes, activations from
//! what the model says of a pass ([`PassMemory`]). How its pieces add up follows `backward.rs`.

use adamllm_nn::{F32_BYTES, HeadMemory, ParameterKind, PassMemory, PassSegment, PlannedParameter};
use burn::tensor::DType;
use serde::Serialize;

use crate::{GradientCheckpointing, GradientDtype, MomentDtype, OptimizerKind, TrainConfig};

/// The steps whose batches are there at a time: the one that is trained on, two that wait, and the one that is being made.
const STEPS_AHEAD: u64 = 4;

/// What a process holds in a pass beside values of tensors: stacks of threads, blocks that products pack, images that are being decoded.
/// Measured once: a dry run of a model of 1.2 million parameters (the mini base model) held 30 to 48 MB more than its values.
const RUNTIME: u64 = 40_000_000;

/// What is known of a run's memory beforehand, in bytes.
///
/// Peaks are those of the whole process: `process` and the weights are in each.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RunMemory {
    /// What the process holds before it loads weights: code, tokenizer, records. Measured, where the system reports it.
    pub process: u64,
    /// The parameters that are trained.
    pub trained_weights: u64,
    /// The parameters that are not.
    pub untrained_weights: u64,
    /// Linear layers in 8 or 4 bits.
    pub quantised_weights: u64,
    /// Linear layers that are read from the mapped file.
    pub mapped_weights: u64,
    /// A gradient for each trained parameter.
    pub gradients: u64,
    /// The optimizer's moments.
    pub moments: u64,
    /// Trained parameters in f32, where the model holds them in fewer bits.
    pub master_weights: u64,
    /// What the graph keeps of the worst pass until its backward pass, and the batch; `None` where it is not known.
    pub activations: Option<u64>,
    /// What the worst pass takes beside the values that it holds: the process's own needs, and memory that is free and does not fit what
    /// is asked for. The allocator keeps what a block has given back by its sizes, so about as much as the widest block holds is there
    /// a second time (measured once with mimalloc, on a model of 101 million parameters in 16 settings).
    pub allocator: Option<u64>,
    /// The peak while the weights are read.
    pub loading_peak: u64,
    /// The peak of the worst pass alone, without the optimizer's state: what a dry run does.
    pub pass_peak: Option<u64>,
    /// The peak of the worst pass in the run: beside the optimizer's state, the gradients of the step's other passes, and the pixels of
    /// the batches that were made ahead.
    pub training_peak: Option<u64>,
    /// The peak of the update.
    pub update_peak: u64,
    /// The largest of the peaks of loading, training and update.
    pub peak: Option<u64>,
}

/// The weights of a model that is not loaded yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct WeightBytes<'a> {
    /// Its parameters.
    pub parameters: &'a [PlannedParameter],
    /// Bytes of weights in 8 or 4 bits, which are no parameters.
    pub quantised: u64,
    /// Bytes of weights that are read from the mapped file.
    pub mapped: u64,
    /// Bytes of the largest tensor in the files.
    pub largest_tensor: u64,
}

impl RunMemory {
    /// The memory of a run whose worst passes are `passes`; none where they are not known. `process` is what the process holds
    /// already, `step_pixels` are the bytes of the pixel values of a step.
    pub fn new(
        config: &TrainConfig,
        weights: &WeightBytes,
        passes: &[PassMemory],
        process: u64,
        step_pixels: u64,
    ) -> Self {
        let sum = |bytes: &dyn Fn(&PlannedParameter) -> u64| weights.parameters.iter().map(bytes).sum::<u64>();
        let trained = |bytes: &dyn Fn(&PlannedParameter) -> u64| sum(&|p| if config.trains(p) { bytes(p) } else { 0 });
        let trained_weights = trained(&PlannedParameter::n_bytes);
        let mut memory = Self {
            process,
            trained_weights,
            untrained_weights: sum(&PlannedParameter::n_bytes) - trained_weights,
            quantised_weights: weights.quantised,
            mapped_weights: weights.mapped,
            gradients: trained(&|p| config.gradient_bytes(p)),
            moments: trained(&|p| config.moment_bytes(p)),
            master_weights: trained(&master_bytes),
            ..Self::default()
        };

        let held = process + trained_weights + memory.untrained_weights + weights.quantised;
        // The file's pages of one tensor at a time; what stays mapped is read again when it is first used.
        memory.loading_peak = held + weights.largest_tensor;
        let held = held + weights.mapped;
        let state = memory.moments + memory.master_weights;
        let converted = weights.parameters.iter().filter(|p| config.trains(p)).map(|p| config.converted_bytes(p)).max();
        memory.update_peak = held + state + memory.gradients + converted.unwrap_or(0);

        let accumulates = config.micro_batch_size < config.batch_size || config.micro_batch_budget.is_some();
        let largest = |peak: &dyn Fn(&PassMemory) -> u64| passes.iter().map(peak).max();
        let ahead = STEPS_AHEAD * step_pixels;
        memory.activations = largest(&|pass| Passing::new(pass, config, false).forward());
        memory.allocator = largest(&allocator_bytes);
        let beside = |pass: &PassMemory| held + allocator_bytes(pass);
        memory.pass_peak = largest(&|pass| beside(pass) + Passing::new(pass, config, false).peak());
        memory.training_peak =
            largest(&|pass| beside(pass) + state + ahead + Passing::new(pass, config, accumulates).peak());
        memory.peak = memory.training_peak.map(|peak| peak.max(memory.loading_peak).max(memory.update_peak));
        memory
    }

    /// The peak of a dry run: of loading, or of the worst pass.
    pub fn dry_run_peak(&self) -> Option<u64> {
        self.pass_peak.map(|peak| peak.max(self.loading_peak))
    }
}

/// The memory in a line: weights and state, then the peaks.
impl std::fmt::Display for RunMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gb = |bytes: u64| bytes as f64 / 1e9;
        let process = self.process + self.allocator.unwrap_or(0);
        let parts = [
            ("process and allocator", process),
            ("weights that are trained", self.trained_weights),
            ("others", self.untrained_weights),
            ("quantised", self.quantised_weights),
            ("mapped from the file", self.mapped_weights),
            ("gradients", self.gradients),
            ("moments", self.moments),
            ("master weights", self.master_weights),
            ("activations of the worst pass", self.activations.unwrap_or(0)),
        ];
        let parts = parts.iter().filter(|(_, bytes)| *bytes > 0);
        let parts: Vec<String> = parts.map(|(name, bytes)| format!("{name} {:.2}", gb(*bytes))).collect();
        write!(f, "memory in GB: {}", parts.join(", "))?;

        let peaks = [
            ("loading", Some(self.loading_peak)),
            ("one pass forward and backward, as in a dry run", self.pass_peak),
            ("the worst pass of the run", self.training_peak),
            ("the update", Some(self.update_peak)),
        ];
        let peaks = peaks.iter().filter_map(|(name, peak)| Some(format!("{name} {:.2}", gb((*peak)?))));
        write!(f, "; peak of the process: {}", peaks.collect::<Vec<_>>().join(", "))?;
        self.peak.map_or(Ok(()), |peak| write!(f, "; of the whole run: {:.2}", gb(peak)))
    }
}

impl TrainConfig {
    /// Whether the run trains a parameter: the model lets it, and no group freezes it.
    fn trains(&self, parameter: &PlannedParameter) -> bool {
        parameter.trained && self.trains_name(&parameter.name)
    }

    /// Whether no group freezes the parameter of this name.
    pub fn trains_name(&self, name: &str) -> bool {
        !self.group(name).is_some_and(|group| group.frozen)
    }

    /// Bytes of a parameter's gradient, which has the parameter's dtype until it is kept.
    fn gradient_bytes(&self, parameter: &PlannedParameter) -> u64 {
        match self.gradients {
            GradientDtype::F32 => parameter.n_bytes(),
            GradientDtype::Bf16 => DType::BF16.size() as u64 * parameter.n_elements(),
        }
    }

    /// Bytes of a parameter's moments: AdamW has two, Muon one.
    fn moment_bytes(&self, parameter: &PlannedParameter) -> u64 {
        let n_moments = if self.is_moved_by_muon(parameter) { 1.0 } else { 2.0 };
        (n_moments * self.moments.bytes_per_value_of(parameter.n_elements()) * parameter.n_elements() as f64).ceil()
            as u64
    }

    fn is_moved_by_muon(&self, parameter: &PlannedParameter) -> bool {
        let is_matrix = parameter.shape.len() == 2 && parameter.kind == ParameterKind::Hidden;
        self.optimizer == OptimizerKind::Muon && is_matrix
    }

    /// Bytes of what is in f32 for the update of a parameter, beside what is kept in fewer bits. Beside AdamW's moments in 8 bits, all is
    /// expanded a block at a time.
    fn converted_bytes(&self, parameter: &PlannedParameter) -> u64 {
        let n = F32_BYTES * parameter.n_elements();
        let moments = match self.moments {
            MomentDtype::F32 => 0,
            MomentDtype::Int8 if !self.is_moved_by_muon(parameter) => 0,
            MomentDtype::Bf16 | MomentDtype::Int8 => 2 * n,
        };
        let in_f32 = parameter.dtype == DType::F32 && self.gradients == GradientDtype::F32;
        moments + if in_f32 || moments == 0 && self.moments == MomentDtype::Int8 { 0 } else { n }
    }
}

/// Bytes of the copy in f32 of a parameter that the model holds in fewer bits.
fn master_bytes(parameter: &PlannedParameter) -> u64 {
    if parameter.dtype == DType::F32 { 0 } else { F32_BYTES * parameter.n_elements() }
}

/// What a pass takes beside its values.
fn allocator_bytes(pass: &PassMemory) -> u64 {
    let reached = pass.segments.iter().zip(pass.tracked()).filter(|(_, tracked)| *tracked);
    RUNTIME + reached.map(|(segment, _)| segment.inside + segment.backward).max().unwrap_or(0)
}

/// A pass, forward and backward, step by step: what is held, and the most so far.
struct Passing<'p> {
    pass: &'p PassMemory,
    checkpoints: bool,
    loss_chunk: u64,
    /// What the graph keeps, and the batch.
    kept: u64,
    /// Gradients that other passes of the step have left, to which this one's are added.
    accumulated: u64,
    /// Whether they are those of all parameters already.
    accumulates: bool,
    /// Bytes of a value of those.
    kept_bytes: u64,
    /// Gradients of this pass that are not added yet.
    fresh: u64,
    peak: u64,
}

impl<'p> Passing<'p> {
    fn new(pass: &'p PassMemory, config: &TrainConfig, accumulates: bool) -> Self {
        let tied: u64 = pass.segments.iter().map(|segment| segment.tied).sum();
        let trained = pass.segments.iter().map(|segment| segment.trained).sum::<u64>() + pass.head.trained - tied;
        let kept_bytes = match config.gradients {
            GradientDtype::F32 => F32_BYTES,
            GradientDtype::Bf16 => DType::BF16.size() as u64,
        };
        Self {
            pass,
            kept_bytes,
            checkpoints: config.gradient_checkpointing == GradientCheckpointing::Blocks,
            loss_chunk: config.loss_chunk as u64,
            kept: pass.shared,
            accumulated: if accumulates { kept_bytes * trained } else { 0 },
            accumulates,
            fresh: 0,
            peak: 0,
        }
    }

    /// What is kept at the end of the forward pass.
    fn forward(&mut self) -> u64 {
        let pass = self.pass;
        for (segment, tracked) in pass.segments.iter().zip(pass.tracked()) {
            let own = if tracked { self.kept_of(segment) } else { 0 };
            self.note(segment.forward.max(own));
            self.kept += own;
        }
        self.kept += pass.head.targets * pass.head.hidden;
        self.kept
    }

    /// The most that is held at a time, weights and optimizer's state apart.
    fn peak(mut self) -> u64 {
        let pass = self.pass;
        self.forward();
        self.head(&pass.head);
        let reached = pass.segments.iter().zip(pass.tracked()).filter(|(_, tracked)| *tracked);
        for (segment, _) in reached.rev() {
            self.backward(segment);
        }
        self.note(0);
        self.peak
    }

    /// The logits of a chunk of targets stand beside their gradient, which stands beside the head's. With several chunks, the
    /// gradient of the hidden states is put together, and each chunk's gradient of the head is added to that of those before.
    fn head(&mut self, head: &HeadMemory) {
        let chunk = head.targets.min(self.loss_chunk);
        let in_chunks = self.checkpoints || head.targets > chunk;
        let (logits, weights) = (chunk * head.logits, F32_BYTES * head.trained);
        if in_chunks {
            self.kept += head.targets * head.hidden;
        }
        self.note(2 * logits);
        self.note(logits + weights);
        self.add(weights, in_chunks);
        if head.targets > chunk {
            self.note((2 * logits).max(logits + weights));
        }
    }

    fn backward(&mut self, segment: &PassSegment) {
        let recomputed = if self.checkpoints && segment.is_block { segment.inside } else { 0 };
        let gradients = F32_BYTES * segment.trained;
        self.note(recomputed + segment.backward + gradients);
        self.kept -= self.kept_of(segment);
        self.add(gradients - F32_BYTES * segment.tied, self.checkpoints);
    }

    fn kept_of(&self, segment: &PassSegment) -> u64 {
        segment.input + if self.checkpoints && segment.is_block { 0 } else { segment.inside }
    }

    /// Gradients that were found: added to the step's `at_once`, or with all the others of the pass.
    fn add(&mut self, gradients: u64, at_once: bool) {
        match at_once {
            true if self.accumulates => {}
            true => self.accumulated += gradients / F32_BYTES * self.kept_bytes,
            false => self.fresh += gradients,
        }
    }

    fn note(&mut self, beside: u64) {
        self.peak = self.peak.max(self.kept + self.accumulated + self.fresh + beside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ParameterGroup;

    fn parameter(name: &str, shape: &[usize], dtype: DType) -> PlannedParameter {
        let (name, shape) = (name.to_owned(), shape.to_vec());
        PlannedParameter { name, shape, dtype, kind: ParameterKind::Hidden, trained: true }
    }

    fn memory(parameters: &[PlannedParameter], config: &TrainConfig) -> RunMemory {
        let weights = WeightBytes { parameters, largest_tensor: 7, quantised: 3, mapped: 11 };
        RunMemory::new(config, &weights, &[], 100, 0)
    }

    #[test]
    fn sixteen_bytes_for_a_parameter_in_f32() {
        let parameters = [parameter("a", &[10, 10], DType::F32), parameter("b", &[10], DType::F32)];
        let config = TrainConfig::default();
        let got = memory(&parameters, &config);
        assert_eq!((got.trained_weights, got.gradients, got.moments, got.master_weights), (440, 440, 880, 0));
        assert_eq!((got.loading_peak, got.update_peak), (100 + 440 + 3 + 7, 100 + 440 + 3 + 11 + 440 + 880));
        assert_eq!((got.activations, got.peak, got.dry_run_peak()), (None, None, None));

        // Muon has one moment for a matrix; what a group freezes has none.
        let muon = TrainConfig { optimizer: OptimizerKind::Muon, ..config.clone() };
        assert_eq!(memory(&parameters, &muon).moments, 400 + 80);
        let group = ParameterGroup { prefix: "a".into(), learning_rate: None, weight_decay: None, frozen: true };
        let frozen = memory(&parameters, &TrainConfig { groups: vec![group], ..config });
        assert_eq!((frozen.trained_weights, frozen.untrained_weights, frozen.moments), (40, 400, 80));
    }

    #[test]
    fn fewer_bits_have_a_copy_in_f32() {
        let parameters = [parameter("a", &[10, 10], DType::BF16)];
        let got = memory(&parameters, &TrainConfig { moments: MomentDtype::Bf16, ..TrainConfig::default() });
        assert_eq!((got.trained_weights, got.gradients, got.moments, got.master_weights), (200, 200, 400, 400));
        // Both moments and the parameter in f32 for the update of one parameter.
        assert_eq!(got.update_peak, 100 + 200 + 3 + 11 + 200 + 400 + 400 + 3 * 400);
    }

    #[test]
    fn moments_in_8_bits_and_gradients_in_bf16_take_a_third() {
        let parameters = [parameter("a", &[64, 64], DType::F32), parameter("b", &[10], DType::F32)];
        let (moments, gradients) = (MomentDtype::Int8, GradientDtype::Bf16);
        let got = memory(&parameters, &TrainConfig { moments, gradients, ..TrainConfig::default() });
        // Codes and the scales of 16 blocks; the small one's are in f32.
        assert_eq!((got.gradients, got.moments), (2 * 4106, 2 * (4096 + 16 * 4) + 2 * 4 * 10));
        // Nothing is in f32 for the update but blocks.
        assert_eq!(got.update_peak, 100 + 4 * 4106 + 3 + 11 + got.gradients + got.moments);
        let blocks =
            TrainConfig { gradient_checkpointing: GradientCheckpointing::Blocks, gradients, ..TrainConfig::default() };
        let wide = TrainConfig { gradients: GradientDtype::F32, ..blocks.clone() };
        let of = |config: &TrainConfig| Passing::new(&pass(), config, true).peak();
        assert_eq!(of(&wide) - of(&blocks), 4, "two bytes less for each gradient of another pass");
    }

    /// Two blocks of 10 and 100 bytes, a head of one target whose logits have 8 bytes.
    fn pass() -> PassMemory {
        let block =
            PassSegment { is_block: true, input: 10, inside: 100, forward: 50, backward: 30, ..PassSegment::default() };
        let blocks = vec![PassSegment { trained: 1, ..block }; 2];
        PassMemory::new(blocks, HeadMemory::new(1, 1, 2, 0), 1000)
    }

    #[test]
    fn what_is_kept_adds_up() {
        let plain = TrainConfig::default();
        let blocks = TrainConfig { gradient_checkpointing: GradientCheckpointing::Blocks, ..plain.clone() };
        let of = |config: &TrainConfig, accumulates| Passing::new(&pass(), config, accumulates).peak();
        let kept = |config: &TrainConfig| Passing::new(&pass(), config, false).forward();
        assert_eq!((kept(&plain), kept(&blocks)), (1000 + 2 * 110 + 4, 1000 + 2 * 10 + 4));
        // The last block's backward pass, with the gradient of its parameter.
        assert_eq!(of(&plain, false), 1000 + 2 * 110 + 4 + 30 + 4);
        // The same, with the hidden states' gradient, and the last block recomputed.
        assert_eq!(of(&blocks, false), 1000 + 2 * 10 + 8 + 100 + 30 + 4);
        // Another pass has left both gradients.
        assert_eq!(of(&blocks, true), of(&blocks, false) + 8);
        assert_eq!(of(&plain, true), of(&plain, false) + 8);
    }
}
