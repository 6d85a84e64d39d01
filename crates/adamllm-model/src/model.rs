use adamllm_language::{Decoder, DecoderInput, KvCache, Positions};
use adamllm_nn::AttentionMask;
use adamllm_vision::{PatchesRef, Qwen2VlTower};
use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::hf::config::ModelConfig;

/// A tower (where the family reads images) and a decoder.
#[derive(Module, Debug)]
pub struct VisionLanguageModel {
    /// Pictures to rows; `None` for text-only families.
    pub vision: Option<Qwen2VlTower>,
    /// Rows to tokens.
    pub language: Decoder,
}

/// Tokens and pictures of a batch, padded, on the host.
#[derive(Clone, Debug)]
pub struct ModelInput<'a> {
    /// `batch * seq` token ids, padding included.
    pub tokens: &'a [u32],
    /// `[batch, seq]`.
    pub dims: [usize; 2],
    /// `batch * seq` positions.
    pub positions: &'a Positions,
    /// Pictures, each once.
    pub pictures: &'a [PatchesRef<'a>],
    /// For each placeholder, in the order of the tokens: `[place in tokens, row among all pictures' rows]`.
    pub image_rows: &'a [[usize; 2]],
}

impl VisionLanguageModel {
    /// A model with random weights, made when first used.
    pub fn init(config: &ModelConfig, device: &Device) -> Self {
        let vision = config.tower.as_ref().map(|tower| tower.init(device));
        Self { vision, language: config.decoder.init(device) }
    }

    /// The device that the weights are on.
    pub fn device(&self) -> Device {
        self.language.embedding.val().device()
    }

    /// The dtype of the weights.
    pub fn dtype(&self) -> DType {
        self.language.embedding.val().dtype()
    }

    /// Embeds the tokens and puts the pictures' rows in the places of their placeholders.
    ///
    /// # Shapes
    /// - output: `[batch, seq, d_model]`
    ///
    /// # Panics
    /// If there are pictures and the family reads none.
    pub fn embed(&self, input: &ModelInput) -> Tensor<3> {
        let device = self.device();
        let ids: Vec<i32> = input.tokens.iter().map(|&t| t as i32).collect();
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, input.dims), &device);
        let text = self.language.embed(tokens);
        if input.pictures.is_empty() {
            return text;
        }
        let [batch, seq, d_model] = text.dims();
        let vision = self.vision.as_ref().expect("pictures for a text-only model");
        let pictures = vision.encode(input.pictures, self.dtype(), &device);
        // One gather from [text rows; picture rows]: each place takes its own row.
        let mut source: Vec<i32> = (0..(batch * seq) as i32).collect();
        for [place, row] in input.image_rows {
            source[*place] = (batch * seq + row) as i32;
        }
        let source = Tensor::<1, Int>::from_data(TensorData::new(source, [batch * seq]), &self.device());
        let rows = Tensor::cat(vec![text.reshape([batch * seq, d_model]), pictures], 0);
        rows.select(0, source).reshape([batch, seq, d_model])
    }

    /// Tokens and pictures to hidden states behind the final norm, with a causal mask over `padding` on the left.
    ///
    /// # Shapes
    /// - output: `[batch, seq, d_model]`
    pub fn hidden(&self, input: &ModelInput, padding: &[usize], cache: Option<&mut KvCache>) -> Tensor<3> {
        let rows = self.embed(input);
        let past = cache.as_ref().map_or(0, |cache| cache.len());
        let mask = AttentionMask::causal(padding, past, input.dims[1], &self.device());
        self.language.forward(DecoderInput { rows, positions: input.positions, mask }, cache)
    }
}
