//! What the vision encoders of the Qwen2-VL families share: images as grids of patches, and the position of each patch.

use adamllm_nn::{ImageFeatures, Linear, PixelValues, RotaryTable, apply_rotary, index_tensor};
use burn::tensor::{Device, Tensor, TensorData};

/// Frames, rows and columns of an image's patches, as [`Qwen2VlImageConfig`](crate::preprocess::Qwen2VlImageConfig) notes them.
///
/// # Panics
/// If the image was cut for another encoder.
fn patch_grid(image: &PixelValues) -> [usize; 3] {
    let metadata = &image.layout.metadata;
    metadata.as_slice().try_into().unwrap_or_else(|_| panic!("expected a grid of patches, got {metadata:?}"))
}

/// The features of all images in their own order, where images of equal grid go through the encoder together.
/// `encode(grid, group)` gives the features of the images whose indices are in `group`, one after the other, `[n, d_model]`.
pub(crate) fn encode_by_grid(
    images: &[&PixelValues],
    mut encode: impl FnMut([usize; 3], &[usize]) -> Tensor<2>,
) -> Tensor<2> {
    encode_each_by_grid(images, |grid, group| encode(grid, group).into()).features
}

/// As [`encode_by_grid`], for encoders that have features for the decoder's layers too.
pub(crate) fn encode_each_by_grid(
    images: &[&PixelValues],
    mut encode: impl FnMut([usize; 3], &[usize]) -> ImageFeatures,
) -> ImageFeatures {
    let groups = group_by_grid(images);
    let encoded: Vec<ImageFeatures> = groups.iter().map(|(grid, group)| encode(*grid, group)).collect();
    if groups.len() == 1 {
        return encoded.into_iter().next().expect("one group");
    }
    let n_each = encoded.iter().zip(&groups).map(|(encoded, (_, group))| encoded.features.dims()[0] / group.len());
    let order = original_order(images.len(), &groups, &n_each.collect::<Vec<_>>());
    let order = index_tensor(order, &encoded[0].features.device());
    ImageFeatures::cat(encoded).map(|features| features.select(0, order.clone()))
}

type Group = ([usize; 3], Vec<usize>);

/// Indices of images by grid, groups in the order of first appearance.
fn group_by_grid(images: &[&PixelValues]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (i, image) in images.iter().enumerate() {
        let of_image = patch_grid(image);
        match groups.iter_mut().find(|(grid, _)| *grid == of_image) {
            Some((_, group)) => group.push(i),
            None => groups.push((of_image, vec![i])),
        }
    }
    groups
}

/// For each feature in the images' order, its index among the groups' features.
fn original_order(n_images: usize, groups: &[Group], n_each: &[usize]) -> Vec<i32> {
    let mut indices = vec![0..0; n_images];
    let mut next = 0;
    for ((_, group), &n) in groups.iter().zip(n_each) {
        for &image in group {
            indices[image] = next..next + n as i32;
            next += n as i32;
        }
    }
    indices.into_iter().flatten().collect()
}

/// The patches of images of one grid, `[n_images * frames, height * width, d_patch]`, where and as the patch embedding's weight
/// is: attention is within a frame, so a frame is a batch element.
///
/// # Panics
/// If an image's values do not fill its grid.
pub(crate) fn gather_patches(
    images: &[&PixelValues],
    group: &[usize],
    [frames, height, width]: [usize; 3],
    patch_embedding: &Linear,
) -> Tensor<3> {
    let weight = patch_embedding.weight.val();
    let [_, d_patch] = weight.dims();
    let (batch, n_patches) = (group.len() * frames, height * width);
    let mut values = Vec::with_capacity(batch * n_patches * d_patch);
    group.iter().for_each(|&m| values.extend_from_slice(&images[m].values));
    let options = (&weight.device(), weight.dtype());
    Tensor::from_data(TensorData::new(values, [batch, n_patches, d_patch]), options)
}

/// `[row, column]` of each patch: merged squares one after the other, each with its own patches in reading order.
pub(crate) fn merge_order(height: usize, width: usize, merge: usize) -> Vec<[usize; 2]> {
    let mut positions = Vec::with_capacity(height * width);
    for top in (0..height).step_by(merge) {
        for left in (0..width).step_by(merge) {
            for row in top..top + merge {
                positions.extend((left..left + merge).map(|column| [row, column]));
            }
        }
    }
    positions
}

/// Angles of row and column, each for a quarter of the head, the same in each batch element.
pub(crate) fn grid_rotary(positions: &[[usize; 2]], batch: usize, d_head: usize, device: &Device) -> RotaryTable {
    let frequencies: Vec<f32> =
        (0..d_head / 4).map(|i| 10_000f64.powf(-4.0 * i as f64 / d_head as f64) as f32).collect();
    let mut angles = Vec::with_capacity(batch * positions.len() * d_head / 2);
    for _ in 0..batch {
        for [row, column] in positions {
            angles.extend(frequencies.iter().map(|f| *row as f32 * f));
            angles.extend(frequencies.iter().map(|f| *column as f32 * f));
        }
    }
    RotaryTable::new(&angles, [batch, positions.len()], d_head, device)
}

/// `[batch, n_patches, 3 * d_vision]` to query, key (both rotated) and value, each `[batch, n_heads, n_patches, d_head]`.
pub(crate) fn split_heads(qkv: Tensor<3>, n_heads: usize, rotary: &RotaryTable) -> [Tensor<4>; 3] {
    let [batch, n_patches, d_qkv] = qkv.dims();
    let qkv = qkv.reshape([batch, n_patches, 3 * n_heads, d_qkv / 3 / n_heads]).swap_dims(1, 2);
    let part = |i: usize| qkv.clone().narrow(1, i * n_heads, n_heads);
    [apply_rotary(part(0), rotary), apply_rotary(part(1), rotary), part(2)]
}

#[cfg(test)]
pub(crate) mod testing {
    use adamllm_nn::ImageLayout;

    use super::*;

    /// An image of this grid of patches, four of which become a feature.
    pub(crate) fn image(grid: [usize; 3], d_patch: usize, phase: f32) -> PixelValues {
        let shape = vec![grid.iter().product(), d_patch];
        let values = (0..shape[0] * shape[1]).map(|i| (i as f32 * 0.37 + phase).sin()).collect();
        let layout = ImageLayout { metadata: grid.to_vec(), ..ImageLayout::embedded(shape[0] / 4, shape) };
        PixelValues::new(values, layout)
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
}
