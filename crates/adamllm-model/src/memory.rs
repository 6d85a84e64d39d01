//! What a training pass of a model holds in memory, by formula: the pieces that the families' encoders have in common, and the whole.

use adamllm_nn::{BlockShape, ExampleSize, F32_BYTES, MlpShape, PassMemory, PassSegment, TrainedParameters};

use crate::ModelConfig;

impl ModelConfig {
    /// What a training pass over a batch holds on the CPU in f32. `size` is that of all its examples together, its tokens with the
    /// padding; the names of `trained` are the model's. `None` where the vision encoder does not say what it holds
    /// ([`VisionConfig::pass_segments`](crate::VisionConfig::pass_segments)).
    pub fn pass_memory(&self, size: &ExampleSize, trained: &TrainedParameters) -> Option<PassMemory> {
        let (decoder, mut segments, mut shared) = (&self.decoder, Vec::new(), self.decoder.shared_bytes(size));
        let mut n_layer_features = 0;
        if let Some(vision) = self.vision.as_ref().filter(|_| size.images > 0) {
            segments = vision.pass_segments(size, trained)?;
            n_layer_features = vision.n_layer_features();
            shared += self.pixel_bytes(size);
        }
        segments.extend(decoder.pass_segments(size, "language", n_layer_features, trained));
        Some(PassMemory::new(segments, decoder.head_memory(size, "language", trained), shared))
    }

    /// Bytes of a batch's pixel values, as the image processor makes them: a value for each channel of each pixel that a patch has.
    pub fn pixel_bytes(&self, size: &ExampleSize) -> u64 {
        let kernel = self.vision.as_ref().map(|vision| vision.patch_kernel()).unwrap_or_default();
        let d_patch: usize = if kernel.is_empty() { 0 } else { kernel.iter().product() };
        F32_BYTES * (size.patches * d_patch) as u64
    }
}

/// How a block of an encoder makes queries, keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attention {
    /// A layer each: CLIP, SigLIP.
    Separate,
    /// The same, and gates that keep what they multiply (Mllama's global layers).
    Gated,
    /// One layer, whose whole output the values keep (Qwen2-VL).
    Joined,
    /// One layer, and copies of all three for the windows, whose outputs are joined again (Qwen2.5-VL).
    Windowed,
}

/// The sizes that all blocks of an encoder share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EncoderShape {
    /// The encoder's path of field names in the model.
    pub(crate) name: &'static str,
    /// Positions that go through the blocks.
    pub(crate) positions: usize,
    pub(crate) d_vision: usize,
    pub(crate) n_heads: usize,
    pub(crate) d_hidden: usize,
    pub(crate) mlp: MlpShape,
}

impl EncoderShape {
    /// Pixels to positions, with the rotary tables or position embeddings of the blocks. The pixels are kept where the embedding is
    /// trained.
    pub(crate) fn patch_embedding(&self, d_patch: usize, trained: &TrainedParameters) -> PassSegment {
        let patch = F32_BYTES * d_patch as u64;
        let d = F32_BYTES * self.d_vision as u64;
        let weights = trained.n_elements(&format!("{}.patch_embedding.", self.name));
        let tables = 2 * d / self.n_heads as u64;
        let kept = if weights > 0 { patch } else { 0 };
        let others = ["class_embedding", "position_embedding", "positions.", "pre_tile."];
        let others = others.map(|other| trained.n_elements(&format!("{}.{other}", self.name)));
        let all = weights + others.iter().sum::<u64>();
        PassSegment::between(self.positions, [kept, tables, 2 * patch + d, d], all)
    }

    /// A norm before or after the blocks.
    pub(crate) fn norm(&self, name: &str, trained: &TrainedParameters) -> PassSegment {
        let d = F32_BYTES * self.d_vision as u64;
        let weights = trained.n_elements(&format!("{}.{name}.", self.name));
        PassSegment::between(self.positions, [d, 0, 2 * d, 2 * d], weights)
    }

    pub(crate) fn block(&self, name: &str, attention: Attention, trained: &TrainedParameters) -> PassSegment {
        let d = self.d_vision;
        let (projections, output, extra): (&[&str], _, _) = match attention {
            Attention::Separate => (SEPARATE, "attention.output", 0),
            Attention::Gated => (SEPARATE, "attention.output", 2 * d),
            Attention::Joined => (&["qkv"], "projection", 2 * d),
            Attention::Windowed => (&["qkv"], "projection", d),
        };
        let shape = BlockShape {
            name,
            positions: self.positions,
            d_model: d,
            d_query: d,
            d_key: d,
            n_heads: self.n_heads,
            d_hidden: self.d_hidden,
            projections,
            output,
            mlp: self.mlp,
            extra,
        };
        shape.segment(trained)
    }

    /// The merger of Qwen's families: a norm, and an MLP over the channels of merged patches.
    pub(crate) fn merger(
        &self,
        name: &str,
        features: usize,
        d_model: usize,
        trained: &TrainedParameters,
    ) -> PassSegment {
        let d = F32_BYTES * self.d_vision as u64;
        let d_merged = self.positions * self.d_vision / features.max(1);
        let norm = PassSegment::between(self.positions, [d, 0, 2 * d, 2 * d], 0);
        let mlp = mlp_connector(&format!("{name}.mlp"), features, [d_merged, d_merged, d_model], trained);
        PassSegment {
            input: norm.input,
            // What the MLP reads is the norm's output.
            inside: mlp.input + mlp.inside,
            forward: norm.input + mlp.forward,
            backward: norm.backward.max(mlp.backward),
            trained: trained.n_elements(&format!("{name}.")),
            ..PassSegment::default()
        }
    }
}

const SEPARATE: &[&str] = &["attention.query", "attention.key", "attention.value"];

/// A connector of two layers with an activation between, such as LLaVA's projector.
pub(crate) fn mlp_connector(
    name: &str,
    features: usize,
    [d_input, d_hidden, d_output]: [usize; 3],
    trained: &TrainedParameters,
) -> PassSegment {
    let bytes = |values: usize| F32_BYTES * values as u64;
    let input = trained.linear_bytes(&[format!("{name}.fc1")], d_input);
    let second = trained.linear_bytes(&[format!("{name}.fc2")], d_hidden);
    let widest = bytes((d_input + d_hidden).max(2 * d_hidden).max(d_hidden + d_output));
    let weights = trained.n_elements(&format!("{name}."));
    PassSegment::between(features, [input, bytes(d_hidden) + second, widest, bytes(2 * d_hidden)], weights)
}

/// A connector of one layer, over channels that were put together for it.
pub(crate) fn linear_connector(
    name: &str,
    features: usize,
    [d_input, d_output]: [usize; 2],
    trained: &TrainedParameters,
) -> PassSegment {
    let bytes = |values: usize| F32_BYTES * values as u64;
    let inside = trained.linear_bytes(&[name.to_owned()], d_input);
    let weights = trained.n_elements(&format!("{name}."));
    PassSegment::between(features, [0, inside, bytes(2 * d_input + d_output), bytes(2 * d_input)], weights)
}
