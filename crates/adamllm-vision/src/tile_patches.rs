use burn::tensor::{DType, Device, Tensor, TensorData};

/// How tiles are cut into patches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TileCut {
    pub(crate) n_channels: usize,
    /// Side of a tile in pixels.
    pub(crate) tile: usize,
    /// Side of a patch in pixels.
    pub(crate) patch: usize,
}

impl TileCut {
    /// Values in one patch.
    pub(crate) fn d_patch(self) -> usize {
        self.n_channels * self.patch * self.patch
    }

    /// Whole patches along the side of a tile.
    pub(crate) fn side(self) -> usize {
        self.tile / self.patch
    }

    /// All tiles' patches in reading order, `[n_tiles, n_patches, d_patch]`: what a convolution whose kernel is its stride
    /// reads, which passes over pixels at the right and lower edge that fill no patch. `values` holds whole tiles.
    ///
    /// # Panics
    /// If the values do not fill a whole number of tiles.
    pub(crate) fn patches(self, values: Vec<f32>, dtype: DType, device: &Device) -> Tensor<3> {
        let (side, n_pixels) = (self.side(), self.n_channels * self.tile * self.tile);
        assert!(values.len().is_multiple_of(n_pixels), "{} values are no whole tiles of {n_pixels}", values.len());
        let n_tiles = values.len() / n_pixels;
        let shape = [n_tiles, self.n_channels, side, self.patch, side, self.patch];
        let values = self.without_rest(values);
        let tiles = Tensor::<6>::from_data(TensorData::new(values, shape), (device, dtype));
        tiles.permute([0, 2, 4, 1, 3, 5]).reshape([n_tiles, side * side, self.d_patch()])
    }

    /// The pixels of whole patches.
    fn without_rest(self, values: Vec<f32>) -> Vec<f32> {
        let used = self.side() * self.patch;
        if used == self.tile {
            return values;
        }
        let channels = values.chunks_exact(self.tile * self.tile);
        channels
            .flat_map(|channel| channel.chunks_exact(self.tile).take(used).flat_map(|row| &row[..used]))
            .copied()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_that_fill_no_patch_are_passed_over() {
        let cut = TileCut { n_channels: 1, tile: 5, patch: 2 };
        let values = (0..25).map(|i| i as f32).collect();
        let got: Vec<f32> = cut.patches(values, DType::F32, &Device::flex()).into_data().try_to_vec().expect("f32");
        assert_eq!(got, [0, 1, 5, 6, 2, 3, 7, 8, 10, 11, 15, 16, 12, 13, 17, 18].map(|i| i as f32));
    }
}
