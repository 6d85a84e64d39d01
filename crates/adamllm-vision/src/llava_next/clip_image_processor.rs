//! CLIP (Radford et al. 2021): the shorter side to a fixed length, then the square in the middle.

use image::RgbImage;

use crate::preprocess::json::{Edges, SharedFields, image_processor, member};
use crate::preprocess::tiles::{Tiles, on_canvas};
use crate::preprocess::{Normalisation, PassOrder, PreprocessError, Resampling, resize};

/// What a CLIP `preprocessor_config.json` says about images.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipImageConfig {
    /// The shorter side is scaled to this many pixels.
    pub shortest_edge: u32,
    /// Side of the square that is cut out.
    pub crop: u32,
    /// Bytes to floats.
    pub normalisation: Normalisation,
    /// Interpolation.
    pub resampling: Resampling,
    /// Which axis is resized first; config files do not say.
    pub pass_order: PassOrder,
}

impl Default for ClipImageConfig {
    /// ViT-L/14 at 224 pixels.
    fn default() -> Self {
        Self {
            shortest_edge: 224,
            crop: 224,
            normalisation: Normalisation::CLIP,
            resampling: Resampling::Bicubic,
            pass_order: PassOrder::Pillow,
        }
    }
}

impl ClipImageConfig {
    /// Reads a `preprocessor_config.json` or the image part of a `processor_config.json`.
    ///
    /// # Errors
    /// [`PreprocessError::Config`].
    pub fn from_json(text: &str) -> Result<Self, PreprocessError> {
        let processor = image_processor(text)?;
        let side = |field| member::<Edges>(&processor, field, "a side in pixels, or a square");
        let (shared, default) = (SharedFields::of(&processor)?, Self::default());
        Ok(Self {
            shortest_edge: side("size")?.map_or(Ok(default.shortest_edge), |size| size.side("size"))?,
            crop: side("crop_size")?.map_or(Ok(default.crop), |size| size.side("crop_size"))?,
            normalisation: shared.normalisation(default.normalisation)?,
            resampling: shared.resampling(default.resampling)?,
            pass_order: default.pass_order,
        })
    }

    /// Width and height of the scaled image before the crop.
    ///
    /// # Errors
    /// [`PreprocessError::NoPixels`].
    pub fn scaled_size(&self, width: u32, height: u32) -> Result<(u32, u32), PreprocessError> {
        if width == 0 || height == 0 {
            return Err(PreprocessError::NoPixels { width, height });
        }
        let edge = u64::from(self.shortest_edge);
        let long = |long: u32, short: u32| ((edge * u64::from(long)) as f64 / f64::from(short)) as u32;
        Ok(match width <= height {
            true => (self.shortest_edge, long(height, width)),
            false => (long(width, height), self.shortest_edge),
        })
    }

    /// Scales, crops and normalises an image: one tile.
    ///
    /// # Errors
    /// As [`ClipImageConfig::scaled_size`] and [`resize`].
    pub fn tile(&self, image: &RgbImage) -> Result<Tiles, PreprocessError> {
        let (width, height) = self.scaled_size(image.width(), image.height())?;
        let mut scaled = resize(image, (width, height), self.resampling, self.pass_order)?;
        if width < self.crop || height < self.crop {
            let canvas = (width.max(self.crop), height.max(self.crop));
            scaled = on_canvas(&scaled, canvas, ((canvas.0 - width).div_ceil(2), (canvas.1 - height).div_ceil(2)));
        }
        let corner = ((scaled.width() - self.crop) / 2, (scaled.height() - self.crop) / 2);
        let mut tile = Tiles::new(self.crop);
        tile.push(&scaled, corner, &self.normalisation.table());
        Ok(tile)
    }
}
