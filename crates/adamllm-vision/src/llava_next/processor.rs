use adamllm_nn::{ImageLayout, PixelValues};
use image::RgbImage;

use super::{AnyresLayout, LlavaNextImageConfig};
use crate::preprocess::{ImageProcessor, PreprocessError};

/// LLaVA-NeXT's image processing for an encoder of given patches.
#[derive(Clone, Debug, PartialEq)]
pub struct LlavaNextImageProcessor {
    /// The settings.
    pub config: LlavaNextImageConfig,
    /// Pixels along the side of the encoder's patches.
    pub patch_size: u32,
}

impl LlavaNextImageProcessor {
    fn layout_of(&self, layout: &AnyresLayout) -> ImageLayout {
        let (n_tiles, per_tile, side) = (layout.n_tiles(), layout.side * layout.side, self.config.tile as usize);
        ImageLayout {
            n_patches: n_tiles * per_tile,
            // Every tile by itself, with its class feature.
            n_attention_pairs: n_tiles as u64 * ((per_tile + 1) as u64).pow(2),
            metadata: layout.to_metadata(),
            ..ImageLayout::embedded(layout.n_features(), vec![n_tiles, 3, side, side])
        }
    }
}

impl ImageProcessor for LlavaNextImageProcessor {
    fn layout(&self, width: u32, height: u32) -> Result<ImageLayout, PreprocessError> {
        Ok(self.layout_of(&self.config.layout(width, height, self.patch_size)?))
    }

    fn process(&self, image: &RgbImage) -> Result<PixelValues, PreprocessError> {
        let layout = self.layout(image.width(), image.height())?;
        Ok(PixelValues::new(self.config.tiles(image)?.pixels, layout))
    }
}

impl AnyresLayout {
    fn to_metadata(&self) -> Vec<usize> {
        let Self { tile_rows, tile_columns, side, rows, columns } = self;
        vec![*tile_rows, *tile_columns, *side, rows.start, rows.end, columns.start, columns.end]
    }

    /// The layout that an image was cut by.
    ///
    /// # Panics
    /// If it was cut for another encoder.
    pub(crate) fn of(layout: &ImageLayout) -> Self {
        match layout.metadata[..] {
            [tile_rows, tile_columns, side, top, bottom, left, right] => {
                Self { tile_rows, tile_columns, side, rows: top..bottom, columns: left..right }
            }
            _ => panic!("expected tiles of a canvas, got {:?}", layout.metadata),
        }
    }
}
