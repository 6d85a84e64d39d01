//! Learned position embeddings of a square grid, for tiles of another number of patches: each patch takes the position at its
//! fraction of the side (NaViT, Dehghani et al. 2023, arXiv 2307.06304, as Idefics3 reads it).

/// For each patch of a tile of `n` by `n` patches, in reading order, its position among `side` by `side`.
///
/// The fractions and the borders between the positions are rounded to 32 bits, as in transformers. Where both fall on
/// the same number, the last bit decides, which in torch depends on the processor; for a tile as large as the grid of any
/// published model the positions are those of the grid.
pub(super) fn bucketed(n: usize, side: usize) -> Vec<i32> {
    let along: Vec<usize> = buckets(n, side);
    along.iter().flat_map(|row| along.iter().map(move |column| (row * side + column) as i32)).collect()
}

/// The position of each of `n` patches along one axis of `side` positions: as many borders as are not past the patch.
fn buckets(n: usize, side: usize) -> Vec<usize> {
    let width = 1.0 / side as f64;
    let n_borders = ((1.0 - width) / width).ceil() as usize;
    let borders: Vec<f32> = (0..n_borders).map(|i| (width + i as f64 * width) as f32).collect();
    let step = 1.0 / n as f32;
    let last = (1.0 - 1e-6) as f32;
    (0..n).map(|i| borders.partition_point(|border| *border <= (i as f32 * step).min(last)).min(side - 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from torch's `bucketize`.
    #[test]
    fn patches_take_the_position_at_their_fraction() {
        assert_eq!(buckets(6, 8), [0, 1, 2, 4, 5, 6]);
        assert_eq!(buckets(4, 3), [0, 0, 1, 2]);
        assert_eq!(buckets(1, 5), [0]);
        assert_eq!(bucketed(2, 4), [0, 2, 8, 10]);
    }

    /// The grids of Idefics3-8B, SmolVLM-2.2B, and SmolVLM-256M and 500M.
    #[test]
    fn tiles_of_published_models_take_each_position_once() {
        for side in [26, 27, 32] {
            assert_eq!(buckets(side, side), (0..side).collect::<Vec<_>>());
        }
    }
}
