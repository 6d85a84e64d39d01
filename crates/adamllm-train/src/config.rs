use serde::{Deserialize, Serialize};

use crate::{Schedule, TrainError};

/// The settings of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Seeds the order of the examples.
    pub seed: u64,
    /// Passes over the examples; may be a fraction.
    pub epochs: f64,
    /// Ends earlier, after this many optimizer steps.
    pub max_steps: Option<usize>,
    /// Examples in an optimizer step: the paper's "batch size".
    pub batch_size: usize,
    /// Examples in one forward pass, at most; `batch_size` is reached by accumulation.
    pub micro_batch_size: usize,
    /// Further limits on a forward pass, for sources that know their examples' sizes. The examples of a step are then sorted by
    /// length, so that little is padded; the step's gradient is the same.
    pub micro_batch_budget: Option<MicroBatchBudget>,
    /// The source's batches hold their examples one after the other instead of padded: the budget's tokens are then those of the
    /// examples together, and every forward pass is filled as far as examples fit.
    pub packing: bool,
    /// Which examples meet in a step.
    pub order: ExampleOrder,
    /// What becomes of an epoch's last examples where they do not fill a step.
    pub last_batch: LastBatch,
    /// What a step's loss is divided by.
    pub loss_normalization: LossNormalization,
    /// The update rule.
    pub optimizer: OptimizerKind,
    /// What the optimizer's moments are kept in. They are computed with in f32.
    pub moments: MomentDtype,
    /// Divides moments and f32 copies among the ranks of a data parallel run, whole parameters each (stage 1 of ZeRO, Rajbhandari et
    /// al., 2020, arXiv 1910.02054). The run's course is the same, and so are its checkpoints' weights. Each rank writes its own
    /// part, so all must see the run's folder. One process has nothing to divide.
    pub shard_optimizer: bool,
    /// What the gradients of a step are kept in until the update. They are computed, added up and measured in f32.
    pub gradients: GradientDtype,
    /// Activation checkpointing.
    pub gradient_checkpointing: GradientCheckpointing,
    /// Targets that pass the head together: so many logits are held at a time.
    pub loss_chunk: usize,
    /// The peak learning rate.
    pub learning_rate: f64,
    /// Its course.
    pub schedule: Schedule,
    /// AdamW's decay, where [`TrainConfig::decay_rule`] applies it.
    pub weight_decay: f64,
    /// Which parameters decay.
    pub decay_rule: DecayRule,
    /// AdamW's moments.
    pub betas: [f64; 2],
    /// AdamW's epsilon.
    pub epsilon: f64,
    /// The gradient's norm over all parameters is scaled down to this; `None` leaves it.
    pub max_gradient_norm: Option<f64>,
    /// Parameters with settings of their own; the last group that matches counts.
    pub groups: Vec<ParameterGroup>,
    /// What happens when the loss or the gradient is not finite.
    pub non_finite: NonFinite,
    /// A checkpoint after every so many steps; `None` for none before the end.
    pub save_every: Option<usize>,
    /// Checkpoints kept; older ones are removed.
    pub keep_last: usize,
    /// A line of `metrics.jsonl` after every so many steps.
    pub log_every: usize,
}

/// Which examples meet in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExampleOrder {
    /// Any.
    Shuffled,
    /// Examples of similar length, for sources that know their examples' sizes: the shuffled examples of 50 steps are
    /// sorted by tokens, cut into steps again, and the steps shuffled.
    LengthGrouped,
    /// In the order of the source, the same in each epoch: for sources that are ordered themselves, such as captions before
    /// tasks.
    Sequential,
}

/// What becomes of an epoch's last examples where they do not fill a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LastBatch {
    /// A step of their own (transformers since 2025).
    Keep,
    /// They are left out where they do not make `batch_size / micro_batch_size` forward passes, as in transformers 4.45, the
    /// paper's time.
    Hf445,
}

/// What a step's loss is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LossNormalization {
    /// The targets of the whole step: how the step is split changes nothing.
    Step,
    /// The mean over each micro-batch's targets, then over the micro-batches, as the paper's tools did: targets of a
    /// micro-batch that has few of them count for more.
    MicroBatch,
}

/// The update rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OptimizerKind {
    /// AdamW for every parameter.
    #[serde(alias = "adamw")]
    AdamW,
    /// Muon (Jordan et al., 2024; burn's) with momentum 0.95 and updates scaled to AdamW's size for the matrices between hidden
    /// states; AdamW for vectors, and for the embeddings and the head that the model names
    /// ([`Objective::parameter_kind`](adamllm_nn::Objective::parameter_kind)).
    Muon,
}

/// What the optimizer's moments are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MomentDtype {
    /// 8 bytes for a parameter's two moments.
    F32,
    /// 4 bytes. A second moment moves only where its change is above one part in 512, so it follows slowly.
    Bf16,
    /// 2.03 bytes: 8 bits in blocks of 256, each divided by its largest absolute value (Dettmers et al., 2022, arXiv 2110.02861).
    /// Parameters of fewer than 4,096 values keep f32. The moments stay in the host's memory; on a GPU every update carries the
    /// parameters there and back.
    Int8,
}

impl MomentDtype {
    /// Parameters with fewer values keep their moments in f32 where others have 8 bits, as bitsandbytes does: together they are
    /// little, and they are often the sensitive ones.
    pub(crate) const MIN_8_BIT_VALUES: u64 = 4096;

    /// The bytes of a moment for each value of a parameter of `n` values.
    pub fn bytes_per_value_of(self, n: u64) -> f64 {
        match self {
            Self::F32 => 4.0,
            Self::Bf16 => 2.0,
            Self::Int8 if n < Self::MIN_8_BIT_VALUES => 4.0,
            // Blocks of 256 share a scale in f32.
            Self::Int8 => 1.0 + 4.0 / 256.0,
        }
    }
}

/// What the gradients of a step are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GradientDtype {
    /// As the backward pass gives them: 4 bytes a parameter for a model in f32.
    F32,
    /// 2 bytes. Rounded after every backward pass, so sums over many micro-batches lose what is below one part in 256 of them. With
    /// `gradient_checkpointing = "blocks"` those of one block at a time are wider.
    Bf16,
}

/// Activation checkpointing: which activations of a forward pass are recomputed in the backward pass, instead of kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GradientCheckpointing {
    /// None: fastest, and every activation is held.
    Off,
    /// The activations inside every block of vision encoder and decoder are recomputed (Chen et al., 2016): one block's are
    /// held at a time, for a third of time more.
    Blocks,
}

/// How much one forward pass may read. An example that is larger by itself has a pass of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MicroBatchBudget {
    /// Tokens, padding included: examples times the longest example; with packing, the examples' tokens together.
    #[serde(default)]
    pub tokens: Option<usize>,
    /// Patches of images.
    #[serde(default)]
    pub patches: Option<usize>,
}

/// Parameters, by the beginning of their names, with settings of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterGroup {
    /// The names' beginning, such as `vision.`.
    pub prefix: String,
    /// A peak learning rate of their own.
    #[serde(default)]
    pub learning_rate: Option<f64>,
    /// A decay of their own.
    #[serde(default)]
    pub weight_decay: Option<f64>,
    /// Not trained at all.
    #[serde(default)]
    pub frozen: bool,
}

/// Which parameters decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DecayRule {
    /// Matrices only: no biases, no norms (transformers since 2025).
    Modern,
    /// transformers 4.45, the paper's time: also the weights of Qwen2's RMS norms, which its list of norms lacked. Biases
    /// and layer norms do not decay.
    Hf445,
}

/// What happens when the loss or the gradient is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NonFinite {
    /// The run ends with an error that names the examples.
    Stop,
    /// The step is left out and noted; the run goes on.
    SkipStep,
    /// The examples whose own loss or gradient is not finite are left out and written to `quarantine.jsonl`; the rest of the
    /// step counts. Where no example is at fault by itself, the run ends as with `stop`.
    Quarantine,
}

impl Default for TrainConfig {
    /// The paper's settings for Qwen2-VL-2B (table 10), on one device.
    fn default() -> Self {
        Self {
            seed: 0,
            epochs: 1.0,
            max_steps: None,
            batch_size: 128,
            micro_batch_size: 4,
            micro_batch_budget: None,
            packing: false,
            order: ExampleOrder::Shuffled,
            last_batch: LastBatch::Keep,
            loss_normalization: LossNormalization::Step,
            optimizer: OptimizerKind::AdamW,
            moments: MomentDtype::F32,
            shard_optimizer: false,
            gradients: GradientDtype::F32,
            gradient_checkpointing: GradientCheckpointing::Off,
            loss_chunk: 512,
            learning_rate: 1e-5,
            schedule: Schedule::default(),
            weight_decay: 0.1,
            decay_rule: DecayRule::Modern,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            max_gradient_norm: Some(1.0),
            groups: Vec::new(),
            non_finite: NonFinite::Stop,
            save_every: Some(500),
            keep_last: 1,
            log_every: 1,
        }
    }
}

impl TrainConfig {
    /// Checks what the loop relies on.
    ///
    /// # Errors
    /// [`TrainError::Config`] names the first setting at fault.
    pub fn validate(&self) -> Result<(), TrainError> {
        let positive = |field, value: f64| check(field, value > 0.0 && value.is_finite(), "a positive number", value);
        let at_least_one = |field, value: usize| check(field, value > 0, "at least 1", value);
        positive("epochs", self.epochs)?;
        positive("learning_rate", self.learning_rate)?;
        positive("epsilon", self.epsilon)?;
        positive("max_gradient_norm", self.max_gradient_norm.unwrap_or(1.0))?;
        at_least_one("batch_size", self.batch_size)?;
        at_least_one("micro_batch_size", self.micro_batch_size)?;
        at_least_one("loss_chunk", self.loss_chunk)?;
        at_least_one("save_every", self.save_every.unwrap_or(1))?;
        at_least_one("keep_last", self.keep_last)?;
        at_least_one("log_every", self.log_every)?;
        check("weight_decay", self.weight_decay >= 0.0, "0 or more", self.weight_decay)?;
        check("schedule.warmup", (0.0..=1.0).contains(&self.schedule.warmup), "0 to 1", self.schedule.warmup)?;
        let [b1, b2] = self.betas;
        let in_range = |b: f64| (0.0..1.0).contains(&b);
        check("betas", in_range(b1) && in_range(b2), "two numbers from 0 to below 1", format!("{:?}", self.betas))
    }

    /// The group that a parameter belongs to.
    pub(crate) fn group(&self, name: &str) -> Option<&ParameterGroup> {
        self.groups.iter().rev().find(|group| name.starts_with(&group.prefix))
    }

    /// Optimizer steps in an epoch of `n_examples` examples; at least one.
    pub fn steps_per_epoch(&self, n_examples: usize) -> usize {
        let steps = match self.last_batch {
            LastBatch::Keep => n_examples.div_ceil(self.batch_size),
            LastBatch::Hf445 => {
                let passes = (self.batch_size / self.micro_batch_size).max(1);
                n_examples.div_ceil(self.micro_batch_size) / passes
            }
        };
        steps.max(1)
    }

    /// Optimizer steps over `n_examples` examples: all epochs, rounded up, or `max_steps` where that is fewer.
    pub fn n_steps(&self, n_examples: usize) -> usize {
        let steps = (self.epochs * self.steps_per_epoch(n_examples) as f64).ceil() as usize;
        self.max_steps.map_or(steps, |max| steps.min(max))
    }
}

fn check(field: &'static str, holds: bool, expected: &str, got: impl ToString) -> Result<(), TrainError> {
    if holds {
        return Ok(());
    }
    Err(TrainError::Config { field, expected: expected.into(), got: got.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// transformers 4.45: `max(len(dataloader) // accumulation, 1)` steps in an epoch, `ceil(epochs * steps)` in all.
    #[test]
    fn steps_are_counted_as_transformers_counts_them() {
        let now = TrainConfig { batch_size: 128, micro_batch_size: 8, ..TrainConfig::default() };
        let then = TrainConfig { last_batch: LastBatch::Hf445, ..now.clone() };
        for (n_examples, steps_now, steps_then) in
            [(1280, 10, 10), (1281, 11, 10), (1279, 10, 10), (1272, 10, 9), (50, 1, 1)]
        {
            assert_eq!(
                (now.n_steps(n_examples), then.n_steps(n_examples)),
                (steps_now, steps_then),
                "{n_examples} examples"
            );
        }
        let longer = TrainConfig { epochs: 1.5, ..then };
        assert_eq!(longer.n_steps(1281), 15);
        assert_eq!(TrainConfig { max_steps: Some(7), ..longer }.n_steps(1281), 7);
    }
}
