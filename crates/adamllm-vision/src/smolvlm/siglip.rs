//! The SigLIP vision encoder (Zhai et al. 2023, arXiv 2303.15343; model card google/siglip-so400m-patch14-384) as Idefics3 and
//! SmolVLM read it: tiles of any number of patches, the features of all patches after the last norm.

use adamllm_nn::{
    Activation, BlockExecutor, LayerNorm, LayerNormConfig, Linear, LinearConfig, LinearLayers, PixelValues,
    index_tensor, numbered_layers, run_block,
};
use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

use super::positions::bucketed;
use crate::block::{EncoderBlock, EncoderBlockConfig};
use crate::tile_patches::TileCut;

/// The sizes of a [`SiglipEncoder`].
#[derive(Config, Debug, PartialEq)]
pub struct SiglipEncoderConfig {
    /// Blocks.
    pub n_layers: usize,
    /// Width of the encoder.
    pub d_vision: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Width inside the MLPs.
    pub d_hidden: usize,
    /// Side of the image in pixels whose patches have one position embedding each.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Colour channels.
    #[config(default = 3)]
    pub n_channels: usize,
    /// Inside the MLPs.
    #[config(default = "Activation::GeluPytorchTanh")]
    pub activation: Activation,
    /// Added to the variance in the norms.
    #[config(default = 1e-6)]
    pub epsilon: f64,
}

/// Tiles to patch features.
#[derive(Module, Debug)]
pub struct SiglipEncoder {
    /// A convolution whose kernel is its stride, as a linear layer: `[d_vision, n_channels * patch * patch]`.
    pub patch_embedding: Linear,
    /// `[side * side, d_vision]`: a square grid, line by line.
    pub position_embedding: Param<Tensor<2>>,
    /// The blocks.
    pub layers: Vec<EncoderBlock>,
    /// After the last block.
    pub post_norm: LayerNorm,
    /// The sizes.
    #[module(skip)]
    pub config: SiglipEncoderConfig,
}

impl SiglipEncoderConfig {
    /// An encoder with normally distributed weights, made when first used.
    pub fn init(&self, device: &Device) -> SiglipEncoder {
        let normal = Initializer::Normal { mean: 0.0, std: 0.02 };
        let block = EncoderBlockConfig::new(self.d_vision, self.n_heads, self.d_hidden, self.activation)
            .with_epsilon(self.epsilon)
            .with_attention_bias(true);
        SiglipEncoder {
            patch_embedding: LinearConfig::new(self.d_patch(), self.d_vision).with_bias(true).init(device),
            position_embedding: normal.init([self.side() * self.side(), self.d_vision], device),
            layers: (0..self.n_layers).map(|_| block.init(device)).collect(),
            post_norm: LayerNormConfig::new(self.d_vision).with_epsilon(self.epsilon).init(device),
            config: self.clone(),
        }
    }

    /// Values in one patch.
    pub fn d_patch(&self) -> usize {
        self.n_channels * self.patch_size * self.patch_size
    }

    /// Positions along the side of the grid.
    pub fn side(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// The encoder of HuggingFaceTB/SmolVLM-256M-Instruct and HuggingFaceTB/SmolVLM-500M-Instruct.
    pub fn base_512() -> Self {
        Self::new(12, 768, 12, 3072, 512, 16)
    }

    /// The encoder of HuggingFaceTB/SmolVLM-Instruct.
    pub fn so400m_384() -> Self {
        Self::new(27, 1152, 16, 4304, 384, 14)
    }

    /// A few thousand parameters, for tests.
    pub fn tiny() -> Self {
        Self::new(2, 16, 2, 32, 16, 4)
    }
}

impl SiglipEncoder {
    /// The blocks' linear layers, under their paths of field names.
    pub fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
        numbered_layers("layers", self.layers.iter_mut().map(EncoderBlock::linear_layers_mut))
    }

    /// The features of every tile, the images' tiles one after the other. All tiles have one size; pixels that fill no whole
    /// patch at its right and lower edge are not read.
    ///
    /// # Shapes
    /// - output: `[sum of n_tiles, n_patches, d_vision]`
    ///
    /// # Panics
    /// If an image was cut for another encoder, the images' tiles differ in size, or `images` is empty.
    pub fn encode_tiles<'a>(&'a self, images: &[&PixelValues], blocks: &mut dyn BlockExecutor<'a>) -> Tensor<3> {
        let weight = self.patch_embedding.weight.val();
        let device = weight.device();
        let tile = images[0].layout.pixel_shape[3];
        assert!(images.iter().all(|image| image.layout.pixel_shape[3] == tile), "tiles of one size");
        let cut = TileCut { n_channels: self.config.n_channels, tile, patch: self.config.patch_size };
        let values: Vec<f32> = images.iter().flat_map(|image| image.values.iter().copied()).collect();

        let patches = self.patch_embedding.forward(cut.patches(values, weight.dtype(), &device));
        let positions = bucketed(cut.side(), self.config.side());
        let positions = self.position_embedding.val().select(0, index_tensor(positions, &device));
        let mut x = patches + positions.unsqueeze::<3>();
        for layer in &self.layers {
            x = run_block(blocks, layer, vec![x], |layer, x| layer.forward(x[0].clone(), None));
        }
        self.post_norm.forward(x)
    }
}
