//! The vision encoder of Qwen2.5-VL (arXiv 2502.13923; model card Qwen/Qwen2.5-VL-3B-Instruct): as Qwen2-VL's, with RMS
//! norms, gated MLPs, and attention within windows in all blocks but a few.

use adamllm_nn::{
    Activation, BlockExecutor, GatedMlp, GatedMlpConfig, Linear, LinearConfig, LinearLayers, Mlp, MlpConfig,
    ParameterKind, PixelValues, RmsNorm, RmsNormConfig, RotaryTable, VisionEncoder, attend, index_tensor,
    numbered_layers, prefixed_layers, run_block,
};
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use super::windows::Windows;
use crate::parameter_kind::embedding_or_hidden;
use crate::patches::{encode_by_grid, gather_patches, grid_rotary, merge_order, split_heads};

/// The sizes of a [`Qwen2_5VlEncoder`].
#[derive(Config, Debug, PartialEq)]
pub struct Qwen2_5VlEncoderConfig {
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
    /// Blocks in which every patch attends to every patch, counted from 0.
    pub full_attention_layers: Vec<usize>,
    /// Pixels on a window's side.
    #[config(default = 112)]
    pub window_size: usize,
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
}

/// Patches to features.
#[derive(Module, Debug)]
pub struct Qwen2_5VlEncoder {
    /// A convolution whose kernel is its stride, as a linear layer: `[d_vision, n_channels * frames * patch * patch]`.
    pub patch_embedding: Linear,
    /// The blocks.
    pub blocks: Vec<WindowBlock>,
    /// Joins neighbouring patches.
    pub merger: RmsPatchMerger,
    /// The sizes.
    #[module(skip)]
    pub config: Qwen2_5VlEncoderConfig,
}

/// Attention and gated MLP, each with a norm before it, added to the residual stream.
#[derive(Module, Debug)]
pub struct WindowBlock {
    /// Before the attention.
    pub norm1: RmsNorm,
    /// Query, key and value in one layer: `[3 * d_vision, d_vision]`.
    pub qkv: Linear,
    /// `[d_vision, d_vision]`.
    pub projection: Linear,
    /// Before the MLP.
    pub norm2: RmsNorm,
    /// SwiGLU with biases.
    pub mlp: GatedMlp,
    /// Attention heads.
    pub n_heads: usize,
}

/// Joins `merge_size^2` patches into one feature of the decoder's width.
#[derive(Module, Debug)]
pub struct RmsPatchMerger {
    /// Over single patches.
    pub norm: RmsNorm,
    /// `d_vision * merge_size^2` to itself to `d_model`.
    pub mlp: Mlp,
}

impl Qwen2_5VlEncoderConfig {
    /// An encoder with normally distributed weights, made when first used.
    pub fn init(&self, device: &Device) -> Qwen2_5VlEncoder {
        let d_merged = self.d_vision * self.merge_size * self.merge_size;
        Qwen2_5VlEncoder {
            patch_embedding: LinearConfig::new(self.d_patch(), self.d_vision).init(device),
            blocks: (0..self.n_layers).map(|_| self.init_block(device)).collect(),
            merger: RmsPatchMerger {
                norm: RmsNormConfig::new(self.d_vision).init(device),
                mlp: MlpConfig::new(d_merged, d_merged, self.d_model, Activation::Gelu).init(device),
            },
            config: self.clone(),
        }
    }

    fn init_block(&self, device: &Device) -> WindowBlock {
        let d = self.d_vision;
        let linear = |d_in, d_out| LinearConfig::new(d_in, d_out).with_bias(true).init(device);
        WindowBlock {
            norm1: RmsNormConfig::new(d).init(device),
            qkv: linear(d, 3 * d),
            projection: linear(d, d),
            norm2: RmsNormConfig::new(d).init(device),
            mlp: GatedMlpConfig::new(d, self.d_hidden).with_bias(true).init(device),
            n_heads: self.n_heads,
        }
    }

    /// Values in one patch.
    pub fn d_patch(&self) -> usize {
        self.n_channels * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Merged squares on a window's side.
    fn window(&self) -> usize {
        (self.window_size / self.merge_size / self.patch_size).max(1)
    }

    /// Qwen/Qwen2.5-VL-3B-Instruct.
    pub fn qwen2_5_vl_3b() -> Self {
        Self::new(32, 1280, 3420, 2048, 16, vec![7, 15, 23, 31])
    }

    /// A few thousand parameters, for tests.
    pub fn tiny() -> Self {
        Self::new(2, 16, 24, 16, 2, vec![1]).with_window_size(56)
    }
}

impl VisionEncoder for Qwen2_5VlEncoder {
    /// Images of equal grid go through the encoder together.
    fn encode<'a>(&'a self, images: &[&PixelValues], blocks: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
        encode_by_grid(images, |grid, group| self.encode_equal(images, grid, group, blocks))
    }

    fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
        let mut layers = numbered_layers("blocks", self.blocks.iter_mut().map(WindowBlock::linear_layers_mut));
        layers.extend(prefixed_layers("merger.mlp", self.merger.mlp.linear_layers_mut()));
        layers
    }

    fn parameter_kind(&self, parameter: &str) -> ParameterKind {
        embedding_or_hidden(parameter, &["patch_embedding"])
    }
}

impl Qwen2_5VlEncoder {
    /// The features of the images whose indices are in `group`, all of the grid `grid`.
    fn encode_equal<'a>(
        &'a self,
        images: &[&PixelValues],
        grid: [usize; 3],
        group: &[usize],
        blocks: &mut dyn BlockExecutor<'a>,
    ) -> Tensor<2> {
        let config = &self.config;
        let [_, height, width] = grid;
        let per_square = config.merge_size * config.merge_size;
        let windows =
            std::rc::Rc::new(Windows::cut([height / config.merge_size, width / config.merge_size], config.window()));
        let patch_order = windows.patch_order(per_square);
        let positions = merge_order(height, width, config.merge_size);
        let positions: Vec<_> = patch_order.iter().map(|&patch| positions[patch]).collect();

        let patches = gather_patches(images, group, grid, &self.patch_embedding);
        let device = &patches.device();
        let batch = patches.dims()[0];
        let rotary = grid_rotary(&positions, batch, config.d_vision / config.n_heads, device);
        let mut x = self.patch_embedding.forward(patches.select(1, indices(&patch_order, device)));
        for (i, block) in self.blocks.iter().enumerate() {
            let (rotary, windows) = (rotary.clone(), windows.clone());
            let windowed = !config.full_attention_layers.contains(&i);
            let forward = move |block: &WindowBlock, x: &[Tensor<3>]| {
                block.forward(x[0].clone(), &rotary, windowed.then_some((&*windows, per_square)))
            };
            x = run_block(blocks, block, vec![x], forward);
        }
        // Back to reading order: merged squares are what moved.
        let features = self.merger.forward(x, per_square);
        features.select(1, indices(&windows.inverse(), device)).flatten(0, 1)
    }
}

fn indices(order: &[usize], device: &Device) -> Tensor<1, Int> {
    index_tensor(order.iter().map(|&i| i as i32).collect(), device)
}

impl WindowBlock {
    /// Its linear layers, under their paths of field names.
    fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
        let mut layers: LinearLayers = vec![("qkv".into(), &mut self.qkv), ("projection".into(), &mut self.projection)];
        layers.extend(prefixed_layers("mlp", self.mlp.linear_layers_mut()));
        layers
    }

    /// `[batch, n_patches, d_vision]` to the same, the patches in the order of their windows.
    fn forward(&self, x: Tensor<3>, rotary: &RotaryTable, within: Option<(&Windows, usize)>) -> Tensor<3> {
        let qkv = split_heads(self.qkv.forward(self.norm1.forward(x.clone())), self.n_heads, rotary);
        let mixed = match within {
            None => {
                let [query, key, value] = qkv;
                attend(query, key, value, None)
            }
            Some((windows, per_square)) => attend_within(qkv, windows, per_square),
        };
        let x = x + self.projection.forward(mixed);
        let changed = self.mlp.forward(self.norm2.forward(x.clone()));
        x + changed
    }
}

/// Attention in which a patch attends to its own window. Windows of equal size are elements of one batch.
fn attend_within(qkv: [Tensor<4>; 3], windows: &Windows, per_square: usize) -> Tensor<3> {
    let [batch, n_heads, _, d_head] = qkv[0].dims();
    let mut start = 0;
    let mut mixed = Vec::with_capacity(windows.groups().len());
    for group in windows.groups() {
        let (n, size) = (group.n_windows, group.n_squares * per_square);
        // [batch, heads, n * size, d] to [batch * n, heads, size, d]
        let cut = |x: &Tensor<4>| {
            let x = x.clone().narrow(2, start, n * size).reshape([batch, n_heads, n, size * d_head]);
            x.swap_dims(1, 2).reshape([batch * n, n_heads, size, d_head])
        };
        let [query, key, value] = [cut(&qkv[0]), cut(&qkv[1]), cut(&qkv[2])];
        mixed.push(attend(query, key, value, None).reshape([batch, n * size, n_heads * d_head]));
        start += n * size;
    }
    Tensor::cat(mixed, 1)
}

impl RmsPatchMerger {
    /// `[batch, n_patches, d_vision]` to `[batch, n_patches / per_square, d_model]`.
    fn forward(&self, x: Tensor<3>, per_square: usize) -> Tensor<3> {
        let [batch, n_patches, d_vision] = x.dims();
        let joined = self.norm.forward(x).reshape([batch, n_patches / per_square, d_vision * per_square]);
        self.mlp.forward(joined)
    }
}

#[cfg(test)]
mod tests {
    use adamllm_nn::{Eager, ImageLayout};

    use super::*;

    /// Without a block of full attention, a change in one window reaches that window's features only.
    #[test]
    fn windows_do_not_attend_to_each_other() {
        let device = Device::flex();
        let encoder =
            Qwen2_5VlEncoderConfig { full_attention_layers: vec![], ..Qwen2_5VlEncoderConfig::tiny() }.init(&device);
        let d_patch = encoder.config.d_patch();
        let features_of = |values: &[f32]| {
            let grid = [1, 6, 10]; // 3 x 5 merged squares: windows of 2 x 2, and smaller ones at the right and the bottom
            let layout = ImageLayout { metadata: grid.to_vec(), ..ImageLayout::embedded(15, vec![60, d_patch]) };
            encoder.encode(&[&PixelValues::new(values.to_vec(), layout)], &mut Eager)
        };
        let mut values: Vec<f32> = (0..60 * d_patch).map(|i| (i as f32 * 0.37).sin()).collect();
        let before = features_of(&values);
        values[..d_patch].iter_mut().for_each(|v| *v += 1.0); // the first patch, of merged square (0, 0)
        let changed = (features_of(&values) - before).abs().max_dim(1);
        let changed: Vec<f32> = changed.into_data().try_to_vec().expect("f32");
        let reached: Vec<usize> = (0..15).filter(|&i| changed[i] > 1e-6).collect();
        assert_eq!(reached, [0, 1, 5, 6]);
    }
}
