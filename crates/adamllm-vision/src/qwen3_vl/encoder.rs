//! The vision encoder of Qwen3-VL (arXiv 2511.21631): Qwen2-VL's with learned positions beside the rotary ones, and with
//! features of several blocks for the decoder's first layers (DeepStack, arXiv 2406.04334).

use adamllm_nn::{
    Activation, BlockExecutor, ImageFeatures, Linear, LinearConfig, LinearLayers, ParameterKind, PixelValues,
    VisionEncoder, numbered_layers, prefixed_layers, run_block,
};
use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

use super::position_table::resampled;
use crate::parameter_kind::embedding_or_hidden;
use crate::patches::{encode_each_by_grid, gather_patches, grid_rotary, merge_order};
use crate::{PatchMerger, VisionBlock};

/// The sizes of a [`Qwen3VlEncoder`].
#[derive(Config, Debug, PartialEq)]
pub struct Qwen3VlEncoderConfig {
    /// Blocks.
    pub n_layers: usize,
    /// Width of the encoder.
    pub d_vision: usize,
    /// Width inside the MLPs.
    pub d_hidden: usize,
    /// Width of its features (the decoder's width).
    pub d_model: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Blocks, counted from 0, whose outputs become features of their own: the mergers are in this order, the features in
    /// that of the blocks.
    pub deepstack_layers: Vec<usize>,
    /// Learned position embeddings: a square grid, line by line.
    #[config(default = 2304)]
    pub n_positions: usize,
    /// Colour channels.
    #[config(default = 3)]
    pub n_channels: usize,
    /// Pixels on a patch's side.
    #[config(default = 16)]
    pub patch_size: usize,
    /// Frames in a patch; an image is repeated.
    #[config(default = 2)]
    pub temporal_patch_size: usize,
    /// Patches on the side of a merged square.
    #[config(default = 2)]
    pub merge_size: usize,
    /// Inside the MLPs.
    #[config(default = "Activation::GeluPytorchTanh")]
    pub activation: Activation,
}

/// Patches to features.
#[derive(Module, Debug)]
pub struct Qwen3VlEncoder {
    /// A convolution whose kernel is its stride, as a linear layer: `[d_vision, n_channels * frames * patch * patch]`.
    pub patch_embedding: Linear,
    /// `[n_positions, d_vision]`.
    pub position_embedding: Param<Tensor<2>>,
    /// The blocks.
    pub blocks: Vec<VisionBlock>,
    /// After the last block: the features that replace placeholders.
    pub merger: PatchMerger,
    /// After each of `deepstack_layers`: the features that the decoder adds after its first layers.
    pub deepstack_mergers: Vec<PatchMerger>,
    /// The sizes.
    #[module(skip)]
    pub config: Qwen3VlEncoderConfig,
}

impl Qwen3VlEncoderConfig {
    /// An encoder with normally distributed weights, made when first used.
    pub fn init(&self, device: &Device) -> Qwen3VlEncoder {
        let block = || VisionBlock::init([self.d_vision, self.n_heads, self.d_hidden], self.activation, device);
        let sizes = [self.d_vision, self.merge_size * self.merge_size, self.d_model];
        let normal = Initializer::Normal { mean: 0.0, std: 0.02 };
        Qwen3VlEncoder {
            patch_embedding: LinearConfig::new(self.d_patch(), self.d_vision).with_bias(true).init(device),
            position_embedding: normal.init([self.n_positions, self.d_vision], device),
            blocks: (0..self.n_layers).map(|_| block()).collect(),
            merger: PatchMerger::init(sizes, false, device),
            deepstack_mergers: self.deepstack_layers.iter().map(|_| PatchMerger::init(sizes, true, device)).collect(),
            config: self.clone(),
        }
    }

    /// Values in one patch.
    pub fn d_patch(&self) -> usize {
        self.n_channels * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// The encoder of Qwen/Qwen3-VL-2B-Instruct and Qwen/Qwen3-VL-4B-Instruct, before a decoder of the width `d_model`.
    pub fn qwen3_vl_2b_4b(d_model: usize) -> Self {
        Self::new(24, 1024, 4096, d_model, 16, vec![5, 11, 17])
    }

    /// The encoder of Qwen/Qwen3-VL-8B-Instruct.
    pub fn qwen3_vl_8b() -> Self {
        Self::new(27, 1152, 4304, 4096, 16, vec![8, 16, 24])
    }

    /// A few thousand parameters, for tests.
    pub fn tiny() -> Self {
        Self::new(3, 16, 24, 16, 2, vec![0, 1]).with_n_positions(9).with_patch_size(4)
    }
}

impl VisionEncoder for Qwen3VlEncoder {
    fn encode<'a>(&'a self, images: &[&PixelValues], blocks: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
        self.encode_with_layers(images, blocks).features
    }

    /// Images of equal grid go through the encoder together.
    fn encode_with_layers<'a>(&'a self, images: &[&PixelValues], blocks: &mut dyn BlockExecutor<'a>) -> ImageFeatures {
        encode_each_by_grid(images, |grid, group| self.encode_equal(images, grid, group, blocks))
    }

    fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
        let mut layers = numbered_layers("blocks", self.blocks.iter_mut().map(VisionBlock::linear_layers_mut));
        layers.extend(prefixed_layers("merger.mlp", self.merger.mlp.linear_layers_mut()));
        let mergers = self.deepstack_mergers.iter_mut();
        let mergers = mergers.map(|merger| prefixed_layers("mlp", merger.mlp.linear_layers_mut()));
        layers.extend(numbered_layers("deepstack_mergers", mergers));
        layers
    }

    fn parameter_kind(&self, parameter: &str) -> ParameterKind {
        embedding_or_hidden(parameter, &["patch_embedding", "position_embedding"])
    }
}

impl Qwen3VlEncoder {
    /// The features of the images whose indices are in `group`, all of the grid `grid`.
    fn encode_equal<'a>(
        &'a self,
        images: &[&PixelValues],
        grid: [usize; 3],
        group: &[usize],
        blocks: &mut dyn BlockExecutor<'a>,
    ) -> ImageFeatures {
        let [_, height, width] = grid;
        let order = merge_order(height, width, self.config.merge_size);
        let patches = gather_patches(images, group, grid, &self.patch_embedding);
        let device = &patches.device();
        let d_head = self.config.d_vision / self.config.n_heads;
        let rotary = grid_rotary(&order, patches.dims()[0], d_head, device);
        let positions = resampled(self.position_embedding.val(), &order, [height, width]);

        let per_square = self.config.merge_size * self.config.merge_size;
        let mut x = self.patch_embedding.forward(patches) + positions;
        let mut layer_features = Vec::with_capacity(self.deepstack_mergers.len());
        for (i, block) in self.blocks.iter().enumerate() {
            let rotary = rotary.clone();
            x = run_block(blocks, block, vec![x], move |block, x| block.forward(x[0].clone(), &rotary));
            if let Some(merger) = self.config.deepstack_layers.iter().position(|&layer| layer == i) {
                layer_features.push(self.deepstack_mergers[merger].forward(x.clone(), per_square));
            }
        }
        ImageFeatures { features: self.merger.forward(x, per_square), layer_features }
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
        let config = Qwen3VlEncoderConfig::tiny();
        let encoder = config.init(&device);
        let image = |grid, phase| image(grid, config.d_patch(), phase);
        let images = [image([1, 4, 4], 0.0), image([1, 2, 4], 1.0), image([1, 4, 4], 2.0)];
        let together = encoder.encode_with_layers(&images.each_ref(), &mut Eager);
        let alone = images.map(|image| encoder.encode_with_layers(&[&image], &mut Eager));
        assert_eq!(together.layer_features.len(), 2);
        let alone = ImageFeatures::cat(alone.to_vec());
        let all = |features: ImageFeatures| Tensor::cat([vec![features.features], features.layer_features].concat(), 0);
        let difference = (all(together) - all(alone)).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-5, "{difference}");
    }
}
