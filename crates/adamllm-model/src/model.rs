use adamllm_language::{Decoder, DecoderInput, ImageView, KvCache, Positions};
use adamllm_nn::{AttentionMask, BlockExecutor};
use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::hf::config::ModelConfig;
use crate::{EncodedImage, VisionSide};

/// A vision side (where the family reads images) and a decoder.
#[derive(Module, Debug)]
pub struct VisionLanguageModel {
    /// Images to rows; `None` for text-only families.
    pub vision: Option<VisionSide>,
    /// Rows to tokens.
    pub language: Decoder,
}

/// Tokens and images of a batch, padded, on the host.
#[derive(Clone, Debug)]
pub struct ModelInput<'a> {
    /// `batch * seq` token ids, padding included.
    pub tokens: &'a [u32],
    /// `[batch, seq]`.
    pub dims: [usize; 2],
    /// `batch * seq` positions.
    pub positions: &'a Positions,
    /// Images, each once.
    pub images: &'a [EncodedImage],
    /// How image rows reach the decoder.
    pub image_rows: &'a ImageRows,
}

/// How image rows reach the decoder.
#[derive(Clone, Debug)]
pub enum ImageRows {
    /// In the places of their placeholders: for each, `[place in tokens, row among all images' rows]`.
    Spliced(Vec<[usize; 2]>),
    /// Through cross-attention layers.
    Attended {
        /// For each row of the batch, which images stand in its slots.
        slots: Vec<Vec<usize>>,
        /// Which tokens see them.
        view: ImageView,
    },
}

/// A batch in front of the decoder.
#[derive(Debug)]
pub struct Embedded {
    /// `[batch, seq, d_model]`.
    pub rows: Tensor<3>,
    /// For cross-attention layers: the images' rows, `[batch, n_slots * slot, d_model]`, and who sees them.
    pub pictures: Option<(Tensor<3>, ImageView)>,
}

impl VisionLanguageModel {
    /// A model with random weights, made when first used.
    pub fn init(config: &ModelConfig, device: &Device) -> Self {
        let vision = config.vision.as_ref().map(|vision| vision.init(device));
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

    /// Embeds the tokens, and puts the images' rows in the places of their placeholders or in their slots.
    ///
    /// # Panics
    /// If there are images and the family reads none.
    pub fn embed(&self, input: &ModelInput) -> Embedded {
        let images = (!input.images.is_empty()).then(|| self.encode_images(input.images));
        self.embed_with(input, images)
    }

    /// The rows of all images, one image after the other: `[sum of n_rows, d_model]`.
    ///
    /// # Panics
    /// If the family reads no images, or `images` is empty.
    pub fn encode_images(&self, images: &[EncodedImage]) -> Tensor<2> {
        let vision = self.vision.as_ref().expect("images for a text-only model");
        vision.encode(images, self.dtype(), &self.device())
    }

    /// As [`VisionLanguageModel::embed`], with the rows of all the input's images at hand.
    pub fn embed_with(&self, input: &ModelInput, images: Option<Tensor<2>>) -> Embedded {
        let device = self.device();
        let ids: Vec<i32> = input.tokens.iter().map(|&t| t as i32).collect();
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, input.dims), &device);
        let text = self.language.embed(tokens);
        match (input.image_rows, images) {
            (_, None) => Embedded { rows: text, pictures: None },
            (ImageRows::Spliced(places), Some(images)) => {
                Embedded { rows: splice(text, images, places, &device), pictures: None }
            }
            (ImageRows::Attended { slots, view }, Some(images)) => {
                let rows = fill_slots(images, slots, view, &device);
                Embedded { rows: text, pictures: Some((rows, view.clone())) }
            }
        }
    }

    /// Tokens and images to hidden states behind the final norm, with a causal mask over `padding` on the left.
    ///
    /// # Shapes
    /// - output: `[batch, seq, d_model]`
    pub fn hidden(&self, input: &ModelInput, padding: &[usize], cache: Option<&mut KvCache>) -> Tensor<3> {
        let Embedded { rows, pictures } = self.embed(input);
        let past = cache.as_ref().map_or(0, |cache| cache.len());
        let (seq, device) = (input.dims[1], self.device());
        let mask = AttentionMask::causal(padding, past, seq, &device);
        let cross = pictures.map(|(rows, view)| view.input(Some(rows), past..past + seq, self.dtype(), &device));
        self.language.forward(DecoderInput { rows, positions: input.positions, mask, cross }, cache)
    }

    /// As [`VisionLanguageModel::hidden`] without a cache, under the given mask; `blocks` runs the blocks of encoder and decoder.
    ///
    /// # Shapes
    /// - output: `[batch, seq, d_model]`
    ///
    /// # Panics
    /// If there are images and the family reads none.
    pub fn hidden_in_blocks<'a>(
        &'a self,
        input: &ModelInput,
        mask: Option<AttentionMask>,
        blocks: &mut dyn BlockExecutor<'a>,
    ) -> Tensor<3> {
        let device = self.device();
        let images = (!input.images.is_empty()).then(|| {
            let vision = self.vision.as_ref().expect("images for a text-only model");
            vision.encode_in_blocks(input.images, self.dtype(), &device, blocks)
        });
        let Embedded { rows, pictures } = self.embed_with(input, images);
        let seq = input.dims[1];
        let cross = pictures.map(|(rows, view)| view.input(Some(rows), 0..seq, self.dtype(), &device));
        self.language.forward_in_blocks(DecoderInput { rows, positions: input.positions, mask, cross }, blocks)
    }
}

/// One gather from [text rows; image rows]: each place takes its own row.
fn splice(text: Tensor<3>, images: Tensor<2>, places: &[[usize; 2]], device: &Device) -> Tensor<3> {
    let [batch, seq, d_model] = text.dims();
    let mut source: Vec<i32> = (0..(batch * seq) as i32).collect();
    for [place, row] in places {
        source[*place] = (batch * seq + row) as i32;
    }
    let rows = Tensor::cat(vec![text.reshape([batch * seq, d_model]), images], 0);
    rows.select(0, indices(source, device)).reshape([batch, seq, d_model])
}

/// The rows of each batch row's images, slot by slot. Slots that stay empty hold the first image, and nobody sees them.
fn fill_slots(images: Tensor<2>, slots: &[Vec<usize>], view: &ImageView, device: &Device) -> Tensor<3> {
    let [_, d_model] = images.dims();
    let (n_slots, slot) = (view.n_slots(), view.slot);
    let in_slot = |row: &Vec<usize>, i: usize| row.get(i).copied().unwrap_or(0);
    let chosen = slots.iter().flat_map(|row| (0..n_slots).map(move |i| in_slot(row, i)));
    let source: Vec<i32> = chosen.flat_map(|image| image * slot..(image + 1) * slot).map(|row| row as i32).collect();
    images.select(0, indices(source, device)).reshape([slots.len(), n_slots * slot, d_model])
}

fn indices(values: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let n = values.len();
    Tensor::from_data(TensorData::new(values, [n]), device)
}
