//! The vision encoder of Qwen2-VL (arXiv 2409.12191; model card Qwen/Qwen2-VL-2B-Instruct): patches of any image size,
//! 2-D rotary positions, and a merger that joins 2 x 2 patches into one feature for the decoder.

use adamllm_nn::{
    Activation, BlockExecutor, LayerNorm, LayerNormConfig, Linear, LinearConfig, LinearLayers, Mlp, MlpConfig,
    ParameterKind, PixelValues, RotaryTable, VisionEncoder, attend, numbered_layers, prefixed_layers, run_block,
};
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::merger::PatchMerger;
use crate::parameter_kind::embedding_or_hidden;
use crate::patches::{encode_by_grid, gather_patches, grid_rotary, merge_order, split_heads};

/// The sizes of a [`Qwen2VlEncoder`].
#[derive(Config, Debug, PartialEq)]
pub struct Qwen2VlEncoderConfig {
    /// Blocks.
    pub n_layers: usize,
    /// Width of the encoder.
    pub d_vision: usize,
    /// Width of its features (the decoder's width).
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
    /// Patches on the side of a merged square.
    #[config(default = 2)]
    pub merge_size: usize,
    /// Inside the MLPs.
    #[config(default = "Activation::QuickGelu")]
    pub activation: Activation,
}

/// Patches to features.
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

/// Attention and MLP, each with a norm before it, added to the residual stream.
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

impl Qwen2VlEncoderConfig {
    /// An encoder with normally distributed weights, made when first used.
    pub fn init(&self, device: &Device) -> Qwen2VlEncoder {
        let sizes = [self.d_vision, self.n_heads, self.d_vision * self.mlp_ratio];
        Qwen2VlEncoder {
            patch_embedding: LinearConfig::new(self.d_patch(), self.d_vision).init(device),
            blocks: (0..self.n_layers).map(|_| VisionBlock::init(sizes, self.activation, device)).collect(),
            merger: PatchMerger::init([self.d_vision, self.merge_size.pow(2), self.d_model], false, device),
            config: self.clone(),
        }
    }

    /// Values in one patch.
    pub fn d_patch(&self) -> usize {
        self.n_channels * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Features that a grid of patches becomes.
    pub fn n_features(&self, [frames, height, width]: [usize; 3]) -> usize {
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

impl VisionEncoder for Qwen2VlEncoder {
    /// Images of equal grid go through the encoder together.
    fn encode<'a>(&'a self, images: &[&PixelValues], blocks: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
        encode_by_grid(images, |grid, group| self.encode_equal(images, grid, group, blocks))
    }

    fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
        let mut layers = numbered_layers("blocks", self.blocks.iter_mut().map(VisionBlock::linear_layers_mut));
        layers.extend(prefixed_layers("merger.mlp", self.merger.mlp.linear_layers_mut()));
        layers
    }

    fn parameter_kind(&self, parameter: &str) -> ParameterKind {
        embedding_or_hidden(parameter, &["patch_embedding"])
    }
}

impl Qwen2VlEncoder {
    /// The features of the images whose indices are in `group`, all of the grid `grid`.
    fn encode_equal<'a>(
        &'a self,
        images: &[&PixelValues],
        grid: [usize; 3],
        group: &[usize],
        blocks: &mut dyn BlockExecutor<'a>,
    ) -> Tensor<2> {
        let [_, height, width] = grid;
        let order = merge_order(height, width, self.config.merge_size);
        let patches = gather_patches(images, group, grid, &self.patch_embedding);
        let device = &patches.device();
        let d_head = self.config.d_vision / self.config.n_heads;
        let rotary = grid_rotary(&order, patches.dims()[0], d_head, device);
        let mut x = self.patch_embedding.forward(patches);
        for block in &self.blocks {
            let rotary = rotary.clone();
            x = run_block(blocks, block, vec![x], move |block, x| block.forward(x[0].clone(), &rotary));
        }
        self.merger.forward(x, self.config.merge_size.pow(2))
    }
}

impl VisionBlock {
    /// A block of the width `d`, whose MLP is `d_hidden` wide inside.
    pub(crate) fn init([d, n_heads, d_hidden]: [usize; 3], activation: Activation, device: &Device) -> Self {
        let linear = |d_in, d_out| LinearConfig::new(d_in, d_out).with_bias(true).init(device);
        Self {
            norm1: LayerNormConfig::new(d).init(device),
            qkv: linear(d, 3 * d),
            projection: linear(d, d),
            norm2: LayerNormConfig::new(d).init(device),
            mlp: MlpConfig::new(d, d_hidden, d, activation).init(device),
            n_heads,
        }
    }

    /// `[batch, n_patches, d_vision]` to the same.
    pub(crate) fn forward(&self, x: Tensor<3>, rotary: &RotaryTable) -> Tensor<3> {
        let qkv = self.qkv.forward(self.norm1.forward(x.clone()));
        let [query, key, value] = split_heads(qkv, self.n_heads, rotary);
        let x = x + self.projection.forward(attend(query, key, value, None));
        let changed = self.mlp.forward(self.norm2.forward(x.clone()));
        x + changed
    }

    /// Its linear layers, under their paths of field names.
    pub(crate) fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
        let mut layers: LinearLayers = vec![("qkv".into(), &mut self.qkv), ("projection".into(), &mut self.projection)];
        layers.extend(prefixed_layers("mlp", self.mlp.linear_layers_mut()));
        layers
    }
}

#[cfg(test)]
mod tests {
    use adamllm_nn::Eager;

    use super::*;
    use crate::patches::testing::image;

    #[test]
    fn images_do_not_attend_to_each_other_and_keep_their_order() {
        let device = Device::flex();
        let config = Qwen2VlEncoderConfig::tiny();
        let encoder = config.init(&device);
        let image = |grid, phase| image(grid, config.d_patch(), phase);
        let images = [image([1, 4, 4], 0.0), image([1, 2, 4], 1.0), image([1, 4, 4], 2.0)];
        let together = encoder.encode(&images.each_ref(), &mut Eager);
        let alone = images.map(|image| encoder.encode(&[&image], &mut Eager));
        let difference = (together - Tensor::cat(alone.to_vec(), 0)).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-5, "{difference}");
    }
}
