//! A vision transformer of one's own (Dosovitskiy et al., 2020, arXiv 2010.11929), its image preparation, and what a model folder
//! has to know of both.

use std::path::Path;
use std::sync::Arc;

use adamllm::burn; // the derive macro names it
use adamllm::burn::module::{Initializer, Module, Param};
use adamllm::burn::tensor::{Device, Tensor, TensorData};
use adamllm::core::RgbImage;
use adamllm::model::{ModelError, VisionConfig};
use adamllm::nn::{
    Activation, BlockExecutor, ConnectedEncoder, ExampleSize, ImageLayout, LayerNorm, LayerNormConfig, Linear,
    LinearConfig, Mlp, MlpConfig, PixelValues, VisionEncoder, attend, run_block,
};
use adamllm::vision::preprocess::{ImageProcessor, PreprocessError, resize_bicubic};

/// Pixels on the side of an image, whatever its own size, and of a patch.
const SIDE: u32 = 56;
const PATCH: u32 = 14;
const N_PATCHES: usize = ((SIDE / PATCH) * (SIDE / PATCH)) as usize;
const D_PATCH: usize = (3 * PATCH * PATCH) as usize;

/// The sizes.
#[derive(Clone, Debug)]
pub struct VitConfig {
    /// Blocks.
    pub n_layers: usize,
    /// Width of the encoder.
    pub d_vision: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Width of the decoder.
    pub d_model: usize,
}

/// Patches, positions, blocks, a norm.
#[derive(Module, Debug)]
pub struct Vit {
    patch_embedding: Linear,
    positions: Param<Tensor<2>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

/// Attention and MLP, each with a norm before it.
#[derive(Module, Debug)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    projection: Linear,
    norm2: LayerNorm,
    mlp: Mlp,
    n_heads: usize,
}

/// The encoder, and a projector to the decoder's width.
pub type ConnectedVit = ConnectedEncoder<Vit, Mlp>;

impl VitConfig {
    /// Random weights.
    pub fn build(&self, device: &Device) -> ConnectedVit {
        let d = self.d_vision;
        let linear = |d_in, d_out| LinearConfig::new(d_in, d_out).with_bias(true).init(device);
        let norm = || LayerNormConfig::new(d).init(device);
        let block = |_| Block {
            norm1: norm(),
            qkv: linear(d, 3 * d),
            projection: linear(d, d),
            norm2: norm(),
            mlp: MlpConfig::new(d, 4 * d, d, Activation::Gelu).init(device),
            n_heads: self.n_heads,
        };
        let encoder = Vit {
            patch_embedding: linear(D_PATCH, d),
            positions: Initializer::Normal { mean: 0.0, std: 0.02 }.init([N_PATCHES, d], device),
            blocks: (0..self.n_layers).map(block).collect(),
            norm: norm(),
        };
        let connector = MlpConfig::new(d, self.d_model, self.d_model, Activation::Gelu).init(device);
        ConnectedEncoder { encoder, connector }
    }
}

impl VisionEncoder for Vit {
    fn encode<'a>(&'a self, images: &[&PixelValues], blocks: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
        let device = self.positions.val().device();
        let values: Vec<f32> = images.iter().flat_map(|image| image.values.iter().copied()).collect();
        let patches = Tensor::<3>::from_data(TensorData::new(values, [images.len(), N_PATCHES, D_PATCH]), &device);
        let mut x = self.patch_embedding.forward(patches) + self.positions.val().unsqueeze::<3>();
        for block in &self.blocks {
            // Through `run_block`, so that the trainer can checkpoint the activations.
            x = run_block(blocks, block, vec![x], |block, x| block.forward(x[0].clone()));
        }
        self.norm.forward(x).flatten(0, 1)
    }
}

impl Block {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, n, d] = x.dims();
        let qkv = self.qkv.forward(self.norm1.forward(x.clone()));
        let heads = qkv.reshape([batch, n, 3 * self.n_heads, d / self.n_heads]).swap_dims(1, 2);
        let part = |i: usize| heads.clone().narrow(1, i * self.n_heads, self.n_heads);
        let x = x + self.projection.forward(attend(part(0), part(1), part(2), None));
        x.clone() + self.mlp.forward(self.norm2.forward(x))
    }
}

/// Images scaled to one size and cut into patches, bytes to numbers from -1 to 1.
#[derive(Debug)]
pub struct SquarePatches;

impl ImageProcessor for SquarePatches {
    fn layout(&self, width: u32, height: u32) -> Result<ImageLayout, PreprocessError> {
        match width.min(height) {
            0 => Err(PreprocessError::NoPixels { width, height }),
            _ => Ok(ImageLayout::embedded(N_PATCHES, vec![N_PATCHES, D_PATCH])),
        }
    }

    fn process(&self, image: &RgbImage) -> Result<PixelValues, PreprocessError> {
        let layout = self.layout(image.width(), image.height())?;
        let scaled = resize_bicubic(image, SIDE, SIDE)?;
        let mut values = Vec::with_capacity(N_PATCHES * D_PATCH);
        for top in (0..SIDE).step_by(PATCH as usize) {
            for left in (0..SIDE).step_by(PATCH as usize) {
                for (y, x) in (top..top + PATCH).flat_map(|y| (left..left + PATCH).map(move |x| (y, x))) {
                    values.extend(scaled.get_pixel(x, y).0.map(|byte| f32::from(byte) / 127.5 - 1.0));
                }
            }
        }
        Ok(PixelValues::new(values, layout))
    }
}

impl VisionConfig for VitConfig {
    fn image_processor(&self, _folder: &Path) -> Result<Arc<dyn ImageProcessor>, ModelError> {
        Ok(Arc::new(SquarePatches))
    }

    fn n_blocks(&self) -> usize {
        self.n_layers
    }

    /// Two operations for each weight and patch, four for each pair of patches and channel.
    fn forward_flops(&self, size: &ExampleSize) -> f64 {
        let (patches, d) = (size.patches as f64, self.d_vision as f64);
        let block = 24.0 * d * d * patches + 4.0 * d * size.attention_pairs as f64;
        let connector = 2.0 * (d + self.d_model as f64) * self.d_model as f64;
        patches * (2.0 * D_PATCH as f64 * d + connector) + self.n_layers as f64 * block
    }
}
