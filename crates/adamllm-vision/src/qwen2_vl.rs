//! The vision tower of Qwen2-VL (arXiv 2409.12191; model card Qwen/Qwen2-VL-2B-Instruct): patches of any picture size,
//! 2-D rotary positions, and a merger that joins 2 x 2 patches into one row for the decoder.

use adamllm_nn::{
    Activation, LayerNorm, LayerNormConfig, Linear, LinearConfig, Mlp, MlpConfig, RotaryTable, apply_rotary, attend,
};
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// The sizes of a [`Qwen2VlTower`].
#[derive(Config, Debug, PartialEq)]
pub struct Qwen2VlTowerConfig {
    /// Blocks.
    pub n_layers: usize,
    /// Width of the tower.
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
    /// Frames in a patch; a picture is repeated.
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
pub struct Qwen2VlTower {
    /// A convolution whose kernel is its stride, as a linear layer: `[d_vision, n_channels * frames * patch * patch]`.
    pub patch_embedding: Linear,
    /// The blocks.
    pub blocks: Vec<VisionBlock>,
    /// Joins neighbouring patches.
    pub merger: PatchMerger,
    /// The sizes.
    #[module(skip)]
    pub config: Qwen2VlTowerConfig,
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

/// The patches of one picture, on the host.
#[derive(Clone, Copy, Debug)]
pub struct PatchesRef<'a> {
    /// `n_patches * d_patch` values, patch by patch, the patches of a merged row next to each other.
    pub values: &'a [f32],
    /// Frames, rows and columns of patches.
    pub grid: [usize; 3],
}

impl Qwen2VlTowerConfig {
    /// A tower with normally distributed weights, made when first used.
    pub fn init(&self, device: &Device) -> Qwen2VlTower {
        let d_merged = self.d_vision * self.merge_size * self.merge_size;
        Qwen2VlTower {
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

impl Qwen2VlTower {
    /// The rows of all pictures, in the pictures' order. Pictures of equal grid go through the tower together; no
    /// picture sees another.
    ///
    /// # Shapes
    /// - output: `[sum of n_rows, d_model]`
    ///
    /// # Panics
    /// If a picture's values do not fill its grid, or `pictures` is empty.
    pub fn encode(&self, pictures: &[PatchesRef], dtype: DType, device: &Device) -> Tensor<2> {
        let groups = group_by_grid(pictures);
        let encoded: Vec<Tensor<2>> =
            groups.iter().map(|(grid, members)| self.encode_equal(pictures, *grid, members, dtype, device)).collect();
        if groups.len() == 1 {
            return encoded.into_iter().next().expect("one group");
        }
        Tensor::cat(encoded, 0).select(0, self.original_order(pictures, &groups, device))
    }

    fn encode_equal(
        &self,
        pictures: &[PatchesRef],
        grid: [usize; 3],
        members: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Tensor<2> {
        let [frames, height, width] = grid;
        // Attention is within a frame, so a frame is a row of the batch.
        let (batch, n_patches) = (members.len() * frames, height * width);
        let d_patch = self.config.d_patch();
        let mut values = Vec::with_capacity(batch * n_patches * d_patch);
        members.iter().for_each(|&m| values.extend_from_slice(pictures[m].values));
        let data = TensorData::new(values, [batch, n_patches, d_patch]);
        let patches = Tensor::<3>::from_data(data, (device, dtype));

        let rotary = self.rotary(batch, [height, width], device);
        let mut x = self.patch_embedding.forward(patches);
        for block in &self.blocks {
            x = block.forward(x, &rotary);
        }
        self.merger.forward(x, self.config.merge_size)
    }

    /// Angles of row and column, each for a quarter of the head, in the order of the patches.
    fn rotary(&self, batch: usize, [height, width]: [usize; 2], device: &Device) -> RotaryTable {
        let d_head = self.config.d_vision / self.config.n_heads;
        let frequencies: Vec<f32> =
            (0..d_head / 4).map(|i| 10_000f64.powf(-4.0 * i as f64 / d_head as f64) as f32).collect();
        let places = merge_order(height, width, self.config.merge_size);
        let mut angles = Vec::with_capacity(batch * places.len() * d_head / 2);
        for _ in 0..batch {
            for [row, column] in &places {
                angles.extend(frequencies.iter().map(|f| *row as f32 * f));
                angles.extend(frequencies.iter().map(|f| *column as f32 * f));
            }
        }
        RotaryTable::new(&angles, [batch, places.len()], d_head, device)
    }

    fn original_order(&self, pictures: &[PatchesRef], groups: &[Group], device: &Device) -> Tensor<1, Int> {
        let mut starts = vec![0; pictures.len()];
        let mut next = 0;
        for (grid, members) in groups {
            for &m in members {
                starts[m] = next;
                next += self.config.n_rows(*grid);
            }
        }
        let rows = pictures.iter().zip(starts).flat_map(|(p, start)| start..start + self.config.n_rows(p.grid));
        let rows: Vec<i32> = rows.map(|row| row as i32).collect();
        let n = rows.len();
        Tensor::from_data(TensorData::new(rows, [n]), device)
    }
}

type Group = ([usize; 3], Vec<usize>);

/// Picture numbers by grid, groups in the order of first appearance.
fn group_by_grid(pictures: &[PatchesRef]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (i, picture) in pictures.iter().enumerate() {
        match groups.iter_mut().find(|(grid, _)| *grid == picture.grid) {
            Some((_, members)) => members.push(i),
            None => groups.push((picture.grid, vec![i])),
        }
    }
    groups
}

/// `[row, column]` of each patch: merged rows one after the other, each with its own patches in reading order.
fn merge_order(height: usize, width: usize, merge: usize) -> Vec<[usize; 2]> {
    let mut places = Vec::with_capacity(height * width);
    for top in (0..height).step_by(merge) {
        for left in (0..width).step_by(merge) {
            for row in top..top + merge {
                places.extend((left..left + merge).map(|column| [row, column]));
            }
        }
    }
    places
}

impl VisionBlock {
    /// `[batch, n_patches, d_vision]` to the same.
    fn forward(&self, x: Tensor<3>, rotary: &RotaryTable) -> Tensor<3> {
        let [batch, n_patches, d_vision] = x.dims();
        let qkv = self.qkv.forward(self.norm1.forward(x.clone()));
        let qkv = qkv.reshape([batch, n_patches, 3 * self.n_heads, d_vision / self.n_heads]).swap_dims(1, 2);
        let part = |i: usize| qkv.clone().narrow(1, i * self.n_heads, self.n_heads);
        let (query, key) = (apply_rotary(part(0), rotary), apply_rotary(part(1), rotary));
        let x = x + self.projection.forward(attend(query, key, part(2), None));
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
    fn merged_patches_stand_together() {
        let expected = [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [0, 3], [1, 2], [1, 3]];
        assert_eq!(merge_order(2, 4, 2), expected);
    }

    #[test]
    fn pictures_do_not_see_each_other_and_keep_their_order() {
        let device = Device::flex();
        let config = Qwen2VlTowerConfig::tiny();
        let tower = config.init(&device);
        let picture = |n: usize, phase: f32| -> Vec<f32> {
            (0..n * config.d_patch()).map(|i| (i as f32 * 0.37 + phase).sin()).collect()
        };
        let (a, b, c) = (picture(16, 0.0), picture(8, 1.0), picture(16, 2.0));
        let pictures = [
            PatchesRef { values: &a, grid: [1, 4, 4] },
            PatchesRef { values: &b, grid: [1, 2, 4] },
            PatchesRef { values: &c, grid: [1, 4, 4] },
        ];
        let together = tower.encode(&pictures, DType::F32, &device);
        let alone = pictures.map(|p| tower.encode(&[p], DType::F32, &device));
        let difference = (together - Tensor::cat(alone.to_vec(), 0)).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-5, "{difference}");
    }
}
