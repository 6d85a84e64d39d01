use adamllm_nn::{ImageLayout, PixelValues};
use image::RgbImage;

use super::{MllamaEncoderConfig, MllamaImageConfig, TileGrid};
use crate::preprocess::{ImageProcessor, PreprocessError};

/// Llama 3.2 Vision's image processing for an encoder of given sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct MllamaImageProcessor {
    /// The settings.
    pub config: MllamaImageConfig,
    /// Features of a tile.
    pub features_per_tile: usize,
}

impl MllamaImageProcessor {
    /// The processor for an encoder.
    pub fn new(config: MllamaImageConfig, encoder: &MllamaEncoderConfig) -> Self {
        Self { config, features_per_tile: encoder.features_per_tile() }
    }

    /// One placeholder whatever the size; features of missing tiles are padding.
    fn layout_of(&self, grid: TileGrid) -> ImageLayout {
        let (side, max_tiles) = (self.config.tile as usize, self.config.max_tiles as usize);
        let n_features = self.features_per_tile * max_tiles;
        ImageLayout {
            n_placeholders: 1,
            n_features,
            n_unpadded_features: self.features_per_tile * grid.n_tiles(),
            n_patches: (self.features_per_tile - 1) * max_tiles,
            n_attention_pairs: (n_features as u64).pow(2),
            feature_grid: None,
            pixel_shape: vec![grid.n_tiles(), 3, side, side],
            metadata: [grid.rows, grid.columns, grid.aspect_ratio_id].map(|n| n as usize).to_vec(),
        }
    }
}

impl TileGrid {
    /// The grid that an image was cut by.
    ///
    /// # Panics
    /// If it was cut for another encoder.
    pub(crate) fn of(layout: &ImageLayout) -> Self {
        match layout.metadata[..] {
            [rows, columns, id] => Self { rows: rows as u32, columns: columns as u32, aspect_ratio_id: id as u32 },
            _ => panic!("expected a grid of tiles, got {:?}", layout.metadata),
        }
    }
}

impl ImageProcessor for MllamaImageProcessor {
    fn layout(&self, width: u32, height: u32) -> Result<ImageLayout, PreprocessError> {
        Ok(self.layout_of(self.config.grid_from_size(width, height)?))
    }

    fn process(&self, image: &RgbImage) -> Result<PixelValues, PreprocessError> {
        let (tiles, grid) = self.config.tiles(image)?;
        Ok(PixelValues::new(tiles.pixels, self.layout_of(grid)))
    }
}
