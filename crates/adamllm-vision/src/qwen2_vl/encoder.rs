//! The vision encoder of Qwen2-VL (arXiv 2409.12191; model card Qwen/Qwen2-VL-2B-Instruct): patches of any image size,
//! 2-D rotary positions, and a merger that joins 2 x 2 patches into one row for the decoder.

use adamllm_nn::{
    Activation, BlockExecutor, Eager, LayerNorm, LayerNormConfig, Linear, LinearConfig, Mlp, MlpConfig, RotaryTable,
    attend, run_block,
};
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};

use crate::patches::{PatchesRef, encode_by_grid, gather_patches, grid_rotary, merge_order, split_heads};

/// The sizes of a [`Qwen2VlEncoder`].
#[derive(Config, Debug, PartialEq)]
pub struct Qwen2VlEncoderConfig {
    /// Blocks.
    pub n_layers: usize,
    /// Width of the encoder.
    pub d_vision: usize,
    /// Width of the rows it gives (the decoder's width).
    pub d_model: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Width inside the MLPs divided by `d_vision`.
    #[config(default = 4)]
    pub mlp_ratio: usize,
    /// Colour channels.
    #[config(default = 3)]
    pub n_channels: usize,
    /// Pixels on a patch's side.
    #[config(default = 14)]
    pub patch_size: usize,
    /// Frames in a patch; an image is repeated.
    #[config(default = 2)]
    pub temporal_patch_size: usize,
    /// Patches on the side of a merged row.
    #[config(default = 2)]
    pub merge_size: usize,
    /// Inside the MLPs.
    #[config(default = "Activation::QuickGelu")]
    pub activation: Activation,
}

/// Patches to rows.
#[derive(Module, Debug)]
pub struct Qwen2VlEncoder {
    /// A convolution whose kernel is its stride, as a linear layer: `[d_vision, n_channels * frames * patch * patch]`.
    pub patch_embedding: Linear,
    /// The blocks.
    pub blocks: Vec<VisionBlock>,
    /// Joins neighbouring patches.
    pub merger: PatchMerger,
    /// The sizes.
    #[module(skip)]
    pub config: Qwen2VlEncoderConfig,
}

/// Attention and MLP, each behind a norm and added to the residual stream.
#[derive(Module, Debug)]
pub struct VisionBlock {
    /// Before the attention.
    pub norm1: LayerNorm,
    /// Query, key and value in one layer: `[3 * d_vision, d_vision]`.
    pub qkv: Linear,
    /// `[d_vision, d_vision]`.
    pub projection: Linear,
    /// Before the MLP.
    pub norm2: LayerNorm,
    /// Two layers.
    pub mlp: Mlp,
    /// Attention heads.
    pub n_heads: usize,
}

/// Joins `merge_size^2` patches into one row of the decoder's width.
#[derive(Module, Debug)]
pub struct PatchMerger {
    /// Over single patches.
    pub norm: LayerNorm,
    /// `d_vision * merge_size^2` to itself to `d_model`.
    pub mlp: Mlp,
}

impl Qwen2VlEncoderConfig {
    /// An encoder with normally distributed weights, made when first used.
    pub fn init(&self, device: &Device) -> Qwen2VlEncoder {
        let d_merged = self.d_vision * self.merge_size * self.merge_size;
        Qwen2VlEncoder {
            patch_embedding: LinearConfig::new(self.d_patch(), self.d_vision).init(device),
            blocks: (0..self.n_layers).map(|_| self.init_block(device)).collect(),
            merger: PatchMerger {
                norm: LayerNormConfig::new(self.d_vision).init(device),
                mlp: MlpConfig::new(d_merged, d_merged, self.d_model, Activation::Gelu).init(device),
            },
            config: self.clone(),
        }
    }

    fn init_block(&self, device: &Device) -> VisionBlock {
        let d = self.d_vision;
        let linear = |d_in, d_out| LinearConfig::new(d_in, d_out).with_bias(true).init(device);
        VisionBlock {
            norm1: LayerNormConfig::new(d).init(device),
            qkv: linear(d, 3 * d),
            projection: linear(d, d),
            norm2: LayerNormConfig::new(d).init(device),
            mlp: MlpConfig::new(d, d * self.mlp_ratio, d, self.activation).init(device),
            n_heads: self.n_heads,
        }
    }

    /// Values in one patch.
    pub fn d_patch(&self) -> usize {
        self.n_channels * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Rows that a grid of patches becomes.
    pub fn n_rows(&self, [frames, height, width]: [usize; 3]) -> usize {
        frames * height * width / (self.merge_size * self.merge_size)
    }

    /// Qwen/Qwen2-VL-2B-Instruct.
    pub fn qwen2_vl_2b() -> Self {
        Self::new(32, 1280, 1536, 16)
    }

    /// A few thousand parameters, for tests.
    pub fn tiny() -> Self {
        Self::new(2, 16, 16, 2)
    }
}

impl Qwen2VlEncoder {
    /// The rows of all images, in the images' order. Images of equal grid go through the encoder together; no
    /// image sees another.
    ///
    /// # Shapes
    /// - output: `[sum of n_rows, d_model]`
    ///
    /// # Panics
    /// If an image's values do not fill its grid, or `images` is empty.
    pub fn encode(&self, pictures: &[PatchesRef], dtype: DType, device: &Device) -> Tensor<2> {
        self.encode_in_blocks(pictures, dtype, device, &mut Eager)
    }

    /// As [`Qwen2VlEncoder::encode`]; `blocks` runs the blocks.
    ///
    /// # Panics
    /// As [`Qwen2VlEncoder::encode`].
    pub fn encode_in_blocks<'a>(
        &'a self,
        pictures: &[PatchesRef],
        dtype: DType,
        device: &Device,
        blocks: &mut dyn BlockExecutor<'a>,
    ) -> Tensor<2> {
        encode_by_grid(pictures, device, |grid, members| {
            self.encode_equal(pictures, grid, members, (dtype, device), blocks)
        })
    }

    fn encode_equal<'a>(
        &'a self,
        pictures: &[PatchesRef],
        grid: [usize; 3],
        members: &[usize],
        (dtype, device): (DType, &Device),
        blocks: &mut dyn BlockExecutor<'a>,
    ) -> Tensor<2> {
        let [_, height, width] = grid;
        let order = merge_order(height, width, self.config.merge_size);
        let patches = gather_patches(pictures, members, grid, self.config.d_patch(), dtype, device);
        let d_head = self.config.d_vision / self.config.n_heads;
        let rotary = grid_rotary(&order, patches.dims()[0], d_head, device);
        let mut x = self.patch_embedding.forward(patches);
        for block in &self.blocks {
            let rotary = rotary.clone();
            x = run_block(blocks, block, vec![x], move |block, x| block.forward(x[0].clone(), &rotary));
        }
        self.merger.forward(x, self.config.merge_size)
    }
}

impl VisionBlock {
    /// `[batch, n_patches, d_vision]` to the same.
    fn forward(&self, x: Tensor<3>, rotary: &RotaryTable) -> Tensor<3> {
        let qkv = self.qkv.forward(self.norm1.forward(x.clone()));
        let [query, key, value] = split_heads(qkv, self.n_heads, rotary);
        let x = x + self.projection.forward(attend(query, key, value, None));
        let changed = self.mlp.forward(self.norm2.forward(x.clone()));
        x + changed
    }
}

impl PatchMerger {
    /// `[batch, n_patches, d_vision]` to `[batch * n_patches / merge^2, d_model]`.
    fn forward(&self, x: Tensor<3>, merge: usize) -> Tensor<2> {
        let [batch, n_patches, d_vision] = x.dims();
        let per_row = merge * merge;
        let joined = self.norm.forward(x).reshape([batch * n_patches / per_row, d_vision * per_row]);
        self.mlp.forward(joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_do_not_see_each_other_and_keep_their_order() {
        let device = Device::flex();
        let config = Qwen2VlEncoderConfig::tiny();
        let encoder = config.init(&device);
        let picture = |n: usize, phase: f32| -> Vec<f32> {
            (0..n * config.d_patch()).map(|i| (i as f32 * 0.37 + phase).sin()).collect()
        };
        let (a, b, c) = (picture(16, 0.0), picture(8, 1.0), picture(16, 2.0));
        let pictures = [
            PatchesRef { values: &a, grid: [1, 4, 4] },
            PatchesRef { values: &b, grid: [1, 2, 4] },
            PatchesRef { values: &c, grid: [1, 4, 4] },
        ];
        let together = encoder.encode(&pictures, DType::F32, &device);
        let alone = pictures.map(|p| encoder.encode(&[p], DType::F32, &device));
        let difference = (together - Tensor::cat(alone.to_vec(), 0)).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-5, "{difference}");
    }
}
