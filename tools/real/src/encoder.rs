//! A small convolutional vision encoder. Every place of its grids is treated alike, and what is pooled over the last grid is the image's
//! only token: a shape is found wherever it lies, after few images.

use std::path::Path;
use std::sync::Arc;

use adamllm::burn; // the derive macro names it
use adamllm::burn::module::Module;
use adamllm::burn::tensor::{Device, Tensor, TensorData};
use adamllm::core::RgbImage;
use adamllm::model::{ModelError, VisionConfig};
use adamllm::nn::{
    Activation, BlockExecutor, ConnectedEncoder, ExampleSize, ImageLayout, LayerNorm, LayerNormConfig, Linear,
    LinearConfig, Mlp, MlpConfig, PixelValues, VisionEncoder, run_block,
};
use adamllm::vision::preprocess::{ImageProcessor, PreprocessError, resize_bicubic};

/// Pixels on the side of an image, whatever its own size, and of a patch.
const SIDE: usize = 64;
const PATCH: usize = 2;
/// The side of the grid of patches.
const GRID: usize = SIDE / PATCH;
const N_PATCHES: usize = GRID * GRID;
const D_PATCH: usize = 3 * PATCH * PATCH;
/// Merges, each of which halves the grid's side.
const N_MERGES: usize = 2;
const N_TOKENS: usize = 1;
const ACTIVATION: Activation = Activation::GeluPytorchTanh;

/// The sizes.
#[derive(Clone, Debug)]
pub(crate) struct ConvEncoderConfig {
    /// Channels of the grid before the first merge, and after each.
    pub(crate) widths: [usize; N_MERGES + 1],
    /// Width of the decoder.
    pub(crate) d_model: usize,
}

/// Patches to a grid of features; each stage convolves and merges. The mean and the maximum of each channel of a last convolution are
/// the features.
#[derive(Module, Debug)]
pub(crate) struct ConvEncoder {
    stem: Conv3,
    stages: Vec<Stage>,
    last_norm: LayerNorm,
    last: Conv3,
    norm: LayerNorm,
}

/// A residual convolution, then four neighbours to one.
#[derive(Module, Debug)]
struct Stage {
    norm: LayerNorm,
    conv: Conv3,
    merge_norm: LayerNorm,
    merge: Linear,
    side: usize,
}

/// A convolution over 3 x 3 places of a grid, as one linear layer over the nine neighbours' channels.
#[derive(Module, Debug)]
struct Conv3 {
    linear: Linear,
}

/// The encoder, and a projector to the decoder's width.
pub(crate) type ConnectedConvEncoder = ConnectedEncoder<ConvEncoder, Mlp>;

impl ConvEncoderConfig {
    /// Random weights.
    pub(crate) fn build(&self, device: &Device) -> ConnectedConvEncoder {
        let linear = |d_in: usize, d_out| {
            LinearConfig::new(d_in, d_out).with_bias(true).with_std((d_in as f64).sqrt().recip()).init(device)
        };
        let conv = |d_in, d_out| Conv3 { linear: linear(9 * d_in, d_out) };
        let norm = |d| LayerNormConfig::new(d).init(device);
        let stage = |i: usize| {
            let (d, d_next) = (self.widths[i], self.widths[i + 1]);
            let (conv, merge) = (conv(d, d), linear(4 * d, d_next));
            Stage { norm: norm(d), conv, merge_norm: norm(4 * d), merge, side: GRID >> i }
        };
        let d_last = self.widths[N_MERGES];
        let encoder = ConvEncoder {
            stem: conv(D_PATCH, self.widths[0]),
            stages: (0..N_MERGES).map(stage).collect(),
            last_norm: norm(d_last),
            last: conv(d_last, d_last),
            norm: norm(2 * d_last),
        };
        let connector = MlpConfig::new(2 * d_last, self.d_model, self.d_model, Activation::Gelu).init(device);
        ConnectedEncoder { encoder, connector }
    }
}

impl VisionEncoder for ConvEncoder {
    fn encode<'a>(&'a self, images: &[&PixelValues], blocks: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
        let device = self.norm.weight.val().device();
        let values: Vec<f32> = images.iter().flat_map(|image| image.values.iter().copied()).collect();
        let patches = Tensor::<3>::from_data(TensorData::new(values, [images.len(), N_PATCHES, D_PATCH]), &device);
        let mut x = self.stem.forward(patches, GRID);
        for stage in &self.stages {
            // Through `run_block`, so that the trainer can checkpoint the activations.
            x = run_block(blocks, stage, vec![x], |stage, x| stage.forward(x[0].clone()));
        }
        let x = self.last.forward(ACTIVATION.apply(self.last_norm.forward(x)), GRID >> N_MERGES);
        let x = ACTIVATION.apply(x);
        let pooled = Tensor::cat(vec![x.clone().mean_dim(1), x.max_dim(1)], 2);
        self.norm.forward(pooled).flatten(0, 1)
    }
}

impl Stage {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, _, d] = x.dims();
        let x = x.clone() + self.conv.forward(ACTIVATION.apply(self.norm.forward(x)), self.side);
        let half = self.side / 2;
        let fours = x.reshape([batch, half, 2, half, 2, d]).permute([0, 1, 3, 2, 4, 5]);
        self.merge.forward(ACTIVATION.apply(self.merge_norm.forward(fours.reshape([batch, half * half, 4 * d]))))
    }
}

impl Conv3 {
    fn forward(&self, x: Tensor<3>, side: usize) -> Tensor<3> {
        let [batch, n, d] = x.dims();
        let device = x.device();
        let grid: Tensor<4> = x.reshape([batch, side, side, d]);
        // A border of zeros.
        let line = Tensor::zeros([batch, 1, side, d], &device);
        let grid = Tensor::cat(vec![line.clone(), grid, line], 1);
        let line = Tensor::zeros([batch, side + 2, 1, d], &device);
        let grid = Tensor::cat(vec![line.clone(), grid, line], 2);
        let neighbours = (0..9).map(|i| grid.clone().narrow(1, i / 3, side).narrow(2, i % 3, side)).collect();
        self.linear.forward(Tensor::cat(neighbours, 3).reshape([batch, n, 9 * d]))
    }
}

/// Images at one size cut into patches. Bytes become numbers from -2 to 2, 0 where a channel has its median: what lies before a plain
/// background stands out, and the background adds nothing to what is pooled.
#[derive(Debug)]
pub(crate) struct SquarePatches;

impl ImageProcessor for SquarePatches {
    fn layout(&self, width: u32, height: u32) -> Result<ImageLayout, PreprocessError> {
        match width.min(height) {
            0 => Err(PreprocessError::NoPixels { width, height }),
            _ => Ok(ImageLayout { n_patches: N_PATCHES, ..ImageLayout::embedded(N_TOKENS, vec![N_PATCHES, D_PATCH]) }),
        }
    }

    fn process(&self, image: &RgbImage) -> Result<PixelValues, PreprocessError> {
        let layout = self.layout(image.width(), image.height())?;
        let scaled = resize_bicubic(image, SIDE as u32, SIDE as u32)?;
        let medians = [0, 1, 2].map(|channel| median(&scaled, channel));
        let mut values = Vec::with_capacity(N_PATCHES * D_PATCH);
        for top in (0..SIDE).step_by(PATCH) {
            for left in (0..SIDE).step_by(PATCH) {
                for (y, x) in (top..top + PATCH).flat_map(|y| (left..left + PATCH).map(move |x| (y, x))) {
                    let pixel = scaled.get_pixel(x as u32, y as u32).0;
                    values.extend((0..3).map(|i| (f32::from(pixel[i]) - medians[i]) / 127.5));
                }
            }
        }
        Ok(PixelValues::new(values, layout))
    }
}

/// The median of a channel's bytes, the lower of two.
fn median(image: &RgbImage, channel: usize) -> f32 {
    let mut bytes: Vec<u8> = image.pixels().map(|pixel| pixel.0[channel]).collect();
    bytes.sort_unstable();
    f32::from(bytes[(bytes.len() - 1) / 2])
}

impl VisionConfig for ConvEncoderConfig {
    fn image_processor(&self, _folder: &Path) -> Result<Arc<dyn ImageProcessor>, ModelError> {
        Ok(Arc::new(SquarePatches))
    }

    fn n_blocks(&self) -> usize {
        N_MERGES
    }

    /// Two operations for each weight and place of the grid.
    fn forward_flops(&self, size: &ExampleSize) -> f64 {
        let patches = size.patches as f64;
        let width = |i: usize| self.widths[i] as f64;
        let stage = |i: usize| (18.0 * width(i) * width(i) + 2.0 * width(i) * width(i + 1)) / 4f64.powi(i as i32);
        let stages: f64 = (0..N_MERGES).map(stage).sum();
        let last = width(N_MERGES);
        let d_model = self.d_model as f64;
        let convolution = 18.0 * last * last / 4f64.powi(N_MERGES as i32);
        let connector = size.images as f64 * 2.0 * (2.0 * last + d_model) * d_model;
        patches * (18.0 * D_PATCH as f64 * width(0) + stages + convolution) + connector
    }
}
