//! The CLIP vision encoder (Radford et al. 2021, arXiv 2103.00020; model card openai/clip-vit-large-patch14-336) as LLaVA
//! reads it: the patches' features of an inner layer, without the class feature.

use adamllm_nn::{
    Activation, BlockExecutor, LayerNorm, LayerNormConfig, Linear, LinearConfig, LinearLayers, PixelValues,
    numbered_layers, run_block,
};
use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

use crate::block::{EncoderBlock, EncoderBlockConfig};
use crate::tile_patches::TileCut;

/// The sizes of a [`ClipEncoder`].
#[derive(Config, Debug, PartialEq)]
pub struct ClipEncoderConfig {
    /// Blocks.
    pub n_layers: usize,
    /// Blocks that are used: LLaVA's `vision_feature_layer` of -2 is the output of the last but one.
    pub n_used_layers: usize,
    /// Width of the encoder.
    pub d_vision: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Width inside the MLPs.
    pub d_hidden: usize,
    /// Side of a tile in pixels.
    pub tile: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Colour channels.
    #[config(default = 3)]
    pub n_channels: usize,
    /// Inside the MLPs.
    #[config(default = "Activation::QuickGelu")]
    pub activation: Activation,
    /// Added to the variance in the norms.
    #[config(default = 1e-5)]
    pub epsilon: f64,
}

/// Tiles to patch features.
#[derive(Module, Debug)]
pub struct ClipEncoder {
    /// `[d_vision]`: the class token before the patches.
    pub class_embedding: Param<Tensor<1>>,
    /// A convolution whose kernel is its stride, as a linear layer: `[d_vision, n_channels * patch * patch]`.
    pub patch_embedding: Linear,
    /// `[1 + n_patches, d_vision]`.
    pub position_embedding: Param<Tensor<2>>,
    /// Before the blocks.
    pub pre_norm: LayerNorm,
    /// The blocks, those after the last used one included.
    pub layers: Vec<EncoderBlock>,
    /// After the last block. LLaVA never comes this far; the weights are kept for the files' sake.
    pub post_norm: LayerNorm,
    /// The sizes.
    #[module(skip)]
    pub config: ClipEncoderConfig,
}

impl ClipEncoderConfig {
    /// An encoder with normally distributed weights, made when first used.
    pub fn init(&self, device: &Device) -> ClipEncoder {
        let normal = Initializer::Normal { mean: 0.0, std: 0.02 };
        let block = EncoderBlockConfig::new(self.d_vision, self.n_heads, self.d_hidden, self.activation)
            .with_epsilon(self.epsilon)
            .with_attention_bias(true);
        let norm = || LayerNormConfig::new(self.d_vision).with_epsilon(self.epsilon).init(device);
        ClipEncoder {
            class_embedding: normal.init([self.d_vision], device),
            patch_embedding: LinearConfig::new(self.cut().d_patch(), self.d_vision).init(device),
            position_embedding: normal.init([1 + self.n_patches(), self.d_vision], device),
            pre_norm: norm(),
            layers: (0..self.n_layers).map(|_| block.init(device)).collect(),
            post_norm: norm(),
            config: self.clone(),
        }
    }

    /// Patches of a tile.
    pub fn n_patches(&self) -> usize {
        self.side() * self.side()
    }

    /// Patches along the side of a tile.
    pub fn side(&self) -> usize {
        self.cut().side()
    }

    fn cut(&self) -> TileCut {
        TileCut { n_channels: self.n_channels, tile: self.tile, patch: self.patch_size }
    }

    /// openai/clip-vit-large-patch14-336, read as LLaVA reads it.
    pub fn vit_large_336() -> Self {
        Self::new(24, 23, 1024, 16, 4096, 336, 14)
    }

    /// A few thousand parameters, for tests.
    pub fn tiny() -> Self {
        Self::new(3, 2, 16, 2, 32, 28, 14)
    }
}

impl ClipEncoder {
    /// The blocks' linear layers, under their paths of field names.
    pub fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
        numbered_layers("layers", self.layers.iter_mut().map(EncoderBlock::linear_layers_mut))
    }

    /// Whether a forward pass reads a parameter, by its name inside the encoder: the layers after the last used one, and the norm
    /// after all of them, are kept for the files' sake.
    pub fn uses(&self, parameter: &str) -> bool {
        let layer = parameter.strip_prefix("layers.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        layer.map_or(!parameter.starts_with("post_norm."), |layer| layer < self.config.n_used_layers)
    }

    /// The features of every tile, the images' tiles one after the other.
    ///
    /// # Shapes
    /// - output: `[sum of n_tiles, n_patches, d_vision]`
    ///
    /// # Panics
    /// If an image's values do not fill its tiles, or `images` is empty.
    pub fn encode_tiles<'a>(&'a self, images: &[&PixelValues], blocks: &mut dyn BlockExecutor<'a>) -> Tensor<3> {
        let weight = self.patch_embedding.weight.val();
        let values: Vec<f32> = images.iter().flat_map(|image| image.values.iter().copied()).collect();
        let patches = self.config.cut().patches(values, weight.dtype(), &weight.device());
        let patches = self.patch_embedding.forward(patches);
        let [n_tiles, n_patches, d_vision] = patches.dims();
        let class = self.class_embedding.val().reshape([1, 1, d_vision]).expand([n_tiles, 1, d_vision]);
        let x = Tensor::cat(vec![class, patches], 1) + self.position_embedding.val().unsqueeze::<3>();
        let mut x = self.pre_norm.forward(x);
        for layer in &self.layers[..self.config.n_used_layers] {
            x = run_block(blocks, layer, vec![x], |layer, x| layer.forward(x[0].clone(), None));
        }
        x.narrow(1, 1, n_patches)
    }
}

#[cfg(test)]
mod tests {
    use adamllm_nn::{Eager, ImageLayout};

    use super::*;

    #[test]
    fn tiles_do_not_attend_to_each_other() {
        let device = Device::flex();
        let config = ClipEncoderConfig::tiny();
        let encoder = config.init(&device);
        let tile = |phase: f32| -> Vec<f32> { (0..3 * 28 * 28).map(|i| (i as f32 * 0.11 + phase).sin()).collect() };
        let image = |tiles: Vec<Vec<f32>>| {
            let layout = ImageLayout::embedded(tiles.len() * 4, vec![tiles.len(), 3, 28, 28]);
            PixelValues::new(tiles.concat(), layout)
        };
        let together = encoder.encode_tiles(&[&image(vec![tile(0.0), tile(1.0)])], &mut Eager);
        assert_eq!(together.dims(), [2, config.n_patches(), config.d_vision]);
        let alone = encoder.encode_tiles(&[&image(vec![tile(1.0)])], &mut Eager);
        let difference = (together.narrow(0, 1, 1) - alone).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-5, "{difference}");
    }
}
