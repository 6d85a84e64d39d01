//! The vision encoder of Llama 3.2 Vision ("Mllama"; Grattafiori et al. 2024, arXiv 2407.21783, section 7; model card
//! meta-llama/Llama-3.2-11B-Vision-Instruct): up to four tiles read together, then once more by gated global layers.
//!
//! What transformers does is kept where it surprises: patches attend to the features of missing tiles (only
//! pairs of padding are masked), and every tile is filled up with empty features to a multiple of eight.

use adamllm_nn::{
    Activation, AttentionMask, BlockExecutor, LayerNorm, LayerNormConfig, Linear, LinearConfig, LinearLayers,
    PixelValues, index_tensor, numbered_layers, run_block, tanh_gated,
};
use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Int, Tensor};

use crate::block::{EncoderBlock, EncoderBlockConfig};
use crate::preprocess::TileGrid;
use crate::tile_patches::TileCut;

/// Every tile's features are filled up to a multiple of this.
const FEATURE_MULTIPLE: usize = 8;

/// The sizes of an [`MllamaEncoder`].
#[derive(Config, Debug, PartialEq)]
pub struct MllamaEncoderConfig {
    /// Blocks.
    pub n_layers: usize,
    /// Gated blocks after them.
    pub n_global_layers: usize,
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
    /// Tiles of an image, missing ones included.
    pub max_tiles: usize,
    /// Rows of the tables of tile embeddings: the grids that an image may have, and one for no image.
    pub n_aspect_ratios: usize,
    /// Blocks whose outputs are put beside the last one's, counted from 0.
    pub intermediate_layers: Vec<usize>,
    /// Colour channels.
    #[config(default = 3)]
    pub n_channels: usize,
    /// Inside the MLPs.
    #[config(default = "Activation::Gelu")]
    pub activation: Activation,
    /// Added to the variance in the blocks' norms.
    #[config(default = 1e-5)]
    pub epsilon: f64,
}

/// Tiles to patch features.
#[derive(Module, Debug)]
pub struct MllamaEncoder {
    /// A convolution whose kernel is its stride, as a linear layer: `[d_vision, n_channels * patch * patch]`.
    pub patch_embedding: Linear,
    /// `[d_vision]`: the class token before a tile's patches.
    pub class_embedding: Param<Tensor<1>>,
    /// The position of a patch in its tile, and in the image.
    pub positions: TilePositions,
    /// Which tile it is, before the first norm.
    pub pre_tile: TileEmbedding,
    /// Which tile it is, before the global layers.
    pub post_tile: TileEmbedding,
    /// Before the blocks.
    pub pre_norm: LayerNorm,
    /// After the blocks.
    pub post_norm: LayerNorm,
    /// The blocks.
    pub layers: Vec<EncoderBlock>,
    /// The gated blocks.
    pub global_layers: Vec<EncoderBlock>,
    /// The sizes.
    #[module(skip)]
    pub config: MllamaEncoderConfig,
}

/// An embedding for each tile of each grid, with a gate.
#[derive(Module, Debug)]
pub struct TileEmbedding {
    /// `[n_aspect_ratios, max_tiles * d_vision]`.
    pub embedding: Param<Tensor<2>>,
    /// `[1]`.
    pub gate: Param<Tensor<1>>,
}

/// Positions within a tile and tables for each grid, mixed by one gate.
#[derive(Module, Debug)]
pub struct TilePositions {
    /// `[1 + n_patches, d_vision]`.
    pub embedding: Param<Tensor<2>>,
    /// `[n_aspect_ratios, max_tiles * (1 + n_patches) * d_vision]`.
    pub tile_embedding: Param<Tensor<2>>,
    /// `[1]`.
    pub gate: Param<Tensor<1>>,
}

impl MllamaEncoderConfig {
    /// An encoder with normally distributed weights, made when first used.
    pub fn init(&self, device: &Device) -> MllamaEncoder {
        let normal = Initializer::Normal { mean: 0.0, std: 0.02 };
        let (d, per_tile) = (self.d_vision, self.features_per_tile());

        // transformers starts these at 0: the tables of the grids come in with training.
        let gate = || Initializer::Zeros.init([1], device);

        let block = EncoderBlockConfig::new(d, self.n_heads, self.d_hidden, self.activation).with_epsilon(self.epsilon);
        let tile = || TileEmbedding {
            embedding: normal.init([self.n_aspect_ratios, self.max_tiles * d], device),
            gate: gate(),
        };

        // torch's default: transformers gives these two norms no `norm_eps`.
        let norm = || LayerNormConfig::new(d).with_epsilon(1e-5).init(device);

        MllamaEncoder {
            patch_embedding: LinearConfig::new(self.cut().d_patch(), d).init(device),
            class_embedding: normal.init([d], device),
            positions: TilePositions {
                embedding: normal.init([per_tile, d], device),
                tile_embedding: normal.init([self.n_aspect_ratios, self.max_tiles * per_tile * d], device),
                gate: gate(),
            },
            pre_tile: tile(),
            post_tile: tile(),
            pre_norm: norm(),
            post_norm: norm(),
            layers: (0..self.n_layers).map(|_| block.init(device)).collect(),
            global_layers: (0..self.n_global_layers).map(|_| block.clone().with_gated(true).init(device)).collect(),
            config: self.clone(),
        }
    }

    /// Features of a tile: the class feature and those of its patches.
    pub fn features_per_tile(&self) -> usize {
        1 + self.cut().side().pow(2)
    }

    /// Width of its features: the last output and the chosen inner ones.
    pub fn d_output(&self) -> usize {
        self.d_vision * (1 + self.intermediate_layers.len())
    }

    fn cut(&self) -> TileCut {
        TileCut { n_channels: self.n_channels, tile: self.tile, patch: self.patch_size }
    }

    /// meta-llama/Llama-3.2-11B-Vision-Instruct.
    pub fn llama3_2_11b() -> Self {
        Self::new(32, 8, 1280, 16, 5120, 560, 14, 4, 9, vec![3, 7, 15, 23, 30])
    }

    /// A few thousand parameters, for tests.
    pub fn tiny() -> Self {
        Self::new(2, 1, 16, 2, 32, 28, 14, 4, 9, vec![0])
    }
}

impl MllamaEncoder {
    /// The blocks' linear layers, under their paths of field names.
    pub fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
        let mut layers = numbered_layers("layers", self.layers.iter_mut().map(EncoderBlock::linear_layers_mut));
        let global = self.global_layers.iter_mut().map(EncoderBlock::linear_layers_mut);
        layers.extend(numbered_layers("global_layers", global));
        layers
    }

    /// The features of every image: those of missing tiles too, which the caller masks.
    ///
    /// # Shapes
    /// - output: `[n_images, max_tiles * features_per_tile, d_output]`
    ///
    /// # Panics
    /// If an image's values do not fill its tiles, it has more than `max_tiles`, or `images` is empty.
    pub fn encode_tiles<'a>(&'a self, images: &[&PixelValues], blocks: &mut dyn BlockExecutor<'a>) -> Tensor<3> {
        let weight = self.patch_embedding.weight.val();
        let (dtype, device) = (weight.dtype(), &weight.device());
        let grids: Vec<TileGrid> = images.iter().map(|image| TileGrid::of(&image.layout)).collect();
        let config = &self.config;
        let (n, n_tiles, d) = (images.len(), config.max_tiles, config.d_vision);
        let per_tile = config.features_per_tile();
        let ids = aspect_ratio_ids(&grids, device);

        let patches = config.cut().patches(self.values(images, &grids), dtype, device);
        let x = self.patch_embedding.forward(patches).reshape([n, n_tiles, per_tile - 1, d]);
        let x = x + self.pre_tile.forward(ids.clone(), [n_tiles, d]);
        let class = self.class_embedding.val().reshape([1, 1, 1, d]).expand([n, n_tiles, 1, d]);
        let x = Tensor::cat(vec![class, x], 2);
        let x = self.pre_norm.forward(x + self.positions.forward(ids.clone(), [n_tiles, per_tile, d]));

        let filled = per_tile.next_multiple_of(FEATURE_MULTIPLE);
        let empty = Tensor::zeros([n, n_tiles, filled - per_tile, d], (device, x.dtype()));
        let mut x = Tensor::cat(vec![x, empty], 2).reshape([n, n_tiles * filled, d]);
        let mask = padding_mask(&grids, n_tiles, [per_tile, filled], device);
        let mut inner = Vec::with_capacity(config.intermediate_layers.len());
        for (i, layer) in self.layers.iter().enumerate() {
            let mask = mask.clone();
            x = run_block(blocks, layer, vec![x], move |layer, x| layer.forward(x[0].clone(), Some(&mask)));
            if config.intermediate_layers.contains(&i) {
                inner.push(x.clone());
            }
        }
        let x = self.post_norm.forward(x).reshape([n, n_tiles, filled, d]);
        let mut x = (x + self.post_tile.forward(ids, [n_tiles, d])).reshape([n, n_tiles * filled, d]);
        for layer in &self.global_layers {
            let mask = mask.clone();
            x = run_block(blocks, layer, vec![x], move |layer, x| layer.forward(x[0].clone(), Some(&mask)));
        }

        let unfilled = |x: Tensor<3>| {
            x.reshape([n, n_tiles, filled, d]).narrow(2, 0, per_tile).reshape([n, n_tiles * per_tile, d])
        };
        let last = unfilled(x);
        if inner.is_empty() {
            return last;
        }
        // The inner outputs are interleaved channel by channel: all of channel 0, then all of channel 1.
        let inner: Vec<Tensor<4>> = inner.into_iter().map(|x| unfilled(x).unsqueeze_dim(3)).collect();
        let d_inner = d * inner.len();
        Tensor::cat(vec![last, Tensor::cat(inner, 3).reshape([n, n_tiles * per_tile, d_inner])], 2)
    }

    /// All tiles; missing ones are zero.
    fn values(&self, images: &[&PixelValues], grids: &[TileGrid]) -> Vec<f32> {
        let config = &self.config;
        let n_pixels = config.n_channels * config.tile * config.tile;
        let mut values = Vec::with_capacity(images.len() * config.max_tiles * n_pixels);
        for (image, grid) in images.iter().zip(grids) {
            let n_tiles = grid.n_tiles();
            assert_eq!(image.values.len(), n_tiles * n_pixels, "values do not fill the tiles");
            assert!(n_tiles <= config.max_tiles, "{n_tiles} tiles, at most {}", config.max_tiles);
            values.extend_from_slice(&image.values);
            values.extend(std::iter::repeat_n(0.0, (config.max_tiles - n_tiles) * n_pixels));
        }
        values
    }
}

fn aspect_ratio_ids(grids: &[TileGrid], device: &Device) -> Tensor<1, Int> {
    index_tensor(grids.iter().map(|grid| grid.aspect_ratio_id as i32).collect(), device)
}

/// Masks pairs of padding (missing tiles, and what fills a tile up); every other pair is allowed.
fn padding_mask(grids: &[TileGrid], n_tiles: usize, [per_tile, filled]: [usize; 2], device: &Device) -> AttentionMask {
    let n = n_tiles * filled;
    let padding = |image: usize, index: usize| index / filled >= grids[image].n_tiles() || index % filled >= per_tile;
    AttentionMask::from_rule([grids.len(), n, n], device, |image, query, key| {
        !(padding(image, query) && padding(image, key))
    })
}

impl TileEmbedding {
    /// `[n_images, max_tiles, 1, d_vision]`.
    fn forward(&self, grids: Tensor<1, Int>, [n_tiles, d]: [usize; 2]) -> Tensor<4> {
        let [n] = grids.dims();
        let embeddings = self.embedding.val().select(0, grids).reshape([n, n_tiles, 1, d]);
        tanh_gated(embeddings, &self.gate)
    }
}

impl TilePositions {
    /// `[n_images, max_tiles, features_per_tile, d_vision]`.
    fn forward(&self, grids: Tensor<1, Int>, [n_tiles, per_tile, d]: [usize; 3]) -> Tensor<4> {
        let [n] = grids.dims();
        let gate = self.gate.val().tanh().unsqueeze::<4>();
        let within = self.embedding.val().reshape([1, 1, per_tile, d]) * (gate.clone().neg() + 1.0);
        let tables = self.tile_embedding.val().select(0, grids).reshape([n, n_tiles, per_tile, d]);
        within + tables * gate
    }
}
