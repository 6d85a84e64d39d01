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

    /// Patches along the side of a tile.
    pub(crate) fn side(self) -> usize {
        self.tile / self.patch
    }

    /// All tiles' patches in reading order, `[n_tiles, n_patches, d_patch]`: what a convolution whose kernel is its stride
    /// reads. `values` holds whole tiles.
    ///
    /// # Panics
    /// If the values do not fill a whole number of tiles.
    pub(crate) fn patches(self, values: Vec<f32>, dtype: DType, device: &Device) -> Tensor<3> {
        let (side, n_pixels) = (self.side(), self.n_channels * self.tile * self.tile);
        assert!(values.len().is_multiple_of(n_pixels), "{} values are no whole tiles of {n_pixels}", values.len());
        let n_tiles = values.len() / n_pixels;
        let shape = [n_tiles, self.n_channels, side, self.patch, side, self.patch];
        let tiles = Tensor::<6>::from_data(TensorData::new(values, shape), (device, dtype));
        tiles.permute([0, 2, 4, 1, 3, 5]).reshape([n_tiles, side * side, self.d_patch()])
    }
}
