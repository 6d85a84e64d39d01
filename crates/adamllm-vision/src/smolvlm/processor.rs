use adamllm_nn::{ImageLayout, PixelValues};
use image::RgbImage;

use super::{SmolVlmImageConfig, SplitGrid};
use crate::preprocess::{ImageProcessor, PreprocessError};

/// The image processing of SmolVLM and Idefics3 for an encoder of given patches.
#[derive(Clone, Debug, PartialEq)]
pub struct SmolVlmImageProcessor {
    /// The settings.
    pub config: SmolVlmImageConfig,
    /// Pixels along the side of the encoder's patches.
    pub patch_size: u32,
    /// Patches along the side of a square that becomes one feature.
    pub scale_factor: u32,
}

impl SmolVlmImageProcessor {
    /// Features of a tile.
    pub fn features_per_tile(&self) -> usize {
        (self.config.tile / self.patch_size / self.scale_factor).pow(2) as usize
    }

    fn layout_of(&self, grid: SplitGrid) -> ImageLayout {
        let (n_tiles, side) = (grid.n_tiles(), self.config.tile as usize);
        let per_tile = (self.config.tile / self.patch_size).pow(2) as usize;
        ImageLayout {
            n_patches: n_tiles * per_tile,
            // Every tile by itself.
            n_attention_pairs: n_tiles as u64 * (per_tile as u64).pow(2),
            metadata: vec![grid.rows, grid.columns],
            ..ImageLayout::embedded(n_tiles * self.features_per_tile(), vec![n_tiles, 3, side, side])
        }
    }
}

impl ImageProcessor for SmolVlmImageProcessor {
    fn layout(&self, width: u32, height: u32) -> Result<ImageLayout, PreprocessError> {
        Ok(self.layout_of(self.config.grid(width, height)?))
    }

    fn process(&self, image: &RgbImage) -> Result<PixelValues, PreprocessError> {
        let layout = self.layout(image.width(), image.height())?;
        Ok(PixelValues::new(self.config.tiles(image)?.pixels, layout))
    }
}

impl SplitGrid {
    /// The grid that an image was cut by.
    ///
    /// # Panics
    /// If it was cut for another encoder.
    pub fn of(layout: &ImageLayout) -> Self {
        match layout.metadata[..] {
            [rows, columns] => Self { rows, columns },
            _ => panic!("expected a grid of tiles, got {:?}", layout.metadata),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `image_seq_len` of SmolVLM-256M and 500M, of SmolVLM-2.2B, whose tiles have six pixels over, and of Idefics3-8B.
    #[test]
    fn features_of_a_published_tile() {
        for ([tile, patch_size, scale_factor], n) in [([512, 16, 4], 64), ([384, 14, 3], 81), ([364, 14, 2], 169)] {
            let config = SmolVlmImageConfig { longest_edge: 4 * tile, tile, ..SmolVlmImageConfig::default() };
            let processor = SmolVlmImageProcessor { config, patch_size, scale_factor };
            assert_eq!(processor.features_per_tile(), n);
            let layout = processor.layout(640, 480).expect("three by four tiles and the whole image");
            assert_eq!((layout.n_placeholders, layout.metadata), (13 * n, vec![3, 4]));
        }
    }
}
