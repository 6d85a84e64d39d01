//! LLaVA-NeXT (Liu et al. 2024, "LLaVA-NeXT: Improved reasoning, OCR, and world knowledge"): the whole image as one
//! tile, and again cut into tiles on the grid that suits its shape ("anyres").

use std::ops::Range;

use image::RgbImage;
use serde::Serialize;

use crate::preprocess::json::{Edges, SharedFields, image_processor, invalid, member};
use crate::preprocess::tiles::{Tiles, on_canvas};
use crate::preprocess::{Normalisation, PassOrder, PreprocessError, Resampling, resize};

/// What `preprocessor_config.json` or `processor_config.json` says about images.
#[derive(Clone, Debug, PartialEq)]
pub struct LlavaNextImageConfig {
    /// Side of a tile in pixels.
    pub tile: u32,
    /// The canvases to choose from, as `(height, width)` in pixels; the first of equals is taken.
    pub pinpoints: Vec<(u32, u32)>,
    /// Bytes to floats.
    pub normalisation: Normalisation,
    /// Interpolation.
    pub resampling: Resampling,
    /// Which axis is resized first; config files do not say.
    pub pass_order: PassOrder,
}

impl Default for LlavaNextImageConfig {
    /// CLIP ViT-L/14 at 336 pixels, up to four tiles.
    fn default() -> Self {
        Self {
            tile: 336,
            pinpoints: vec![(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)],
            normalisation: Normalisation::CLIP,
            resampling: Resampling::Bicubic,
            pass_order: PassOrder::Pillow,
        }
    }
}

/// The side that transformers' class has where a file names none.
const CLASS_SIDE: u32 = 224;

/// Tiles of the largest canvas.
const MOST_TILES: u64 = 256;

/// Where an image's features stand: the whole image's square first, then the canvas without its padding.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct AnyresLayout {
    /// Tiles from top to bottom.
    pub tile_rows: usize,
    /// Tiles from left to right.
    pub tile_columns: usize,
    /// Features along the side of a tile (24 for 336 pixels in patches of 14).
    pub side: usize,
    /// Rows of the canvas, counted in features, that hold image.
    pub rows: Range<usize>,
    /// Columns of the canvas that hold image.
    pub columns: Range<usize>,
}

impl AnyresLayout {
    /// All tiles, the whole image's included.
    pub fn n_tiles(&self) -> usize {
        1 + self.tile_rows * self.tile_columns
    }

    /// Tokens in the language model's sequence: the whole image's square, then every canvas row with a line break
    /// (`image_newline`) after it.
    pub fn n_features(&self) -> usize {
        self.side * self.side + self.rows.len() * (self.columns.len() + 1)
    }
}

impl LlavaNextImageConfig {
    /// Reads a `preprocessor_config.json` or the image part of a `processor_config.json`.
    ///
    /// # Errors
    /// [`PreprocessError::Config`].
    pub fn from_json(text: &str) -> Result<Self, PreprocessError> {
        let processor = image_processor(text)?;
        let (shared, default) = (SharedFields::of(&processor)?, Self::default());
        let side = |field| member::<Edges>(&processor, field, "a side in pixels, or a square");
        // What a file leaves out is what transformers' class says, not what the published checkpoints do.
        let tile = side("crop_size")?.map_or(Ok(CLASS_SIDE), |size| size.side("crop_size"))?;
        let whole = side("size")?.map_or(Ok(CLASS_SIDE), |size| size.side("size"))?;
        if whole != tile {
            return Err(invalid("size", &format!("crop_size ({tile})"), whole));
        }
        let config = Self {
            tile,
            pinpoints: member(&processor, "image_grid_pinpoints", "pairs of height and width in pixels")?
                .unwrap_or(default.pinpoints),
            normalisation: shared.normalisation(default.normalisation)?,
            resampling: shared.resampling(default.resampling)?,
            pass_order: default.pass_order,
        };
        config.validate().map(|()| config)
    }

    /// Checks the settings against each other: whoever changes them calls this again.
    ///
    /// # Errors
    /// [`PreprocessError::Config`].
    pub fn validate(&self) -> Result<(), PreprocessError> {
        let tiles = |side: u32| (side > 0 && side.is_multiple_of(self.tile)).then_some(u64::from(side / self.tile));
        let many =
            |&(h, w): &(u32, u32)| tiles(h).zip(tiles(w)).is_none_or(|(rows, columns)| rows * columns > MOST_TILES);
        let fits = |pinpoint: &&(u32, u32)| many(pinpoint);
        if self.tile == 0 || self.pinpoints.is_empty() {
            return Err(invalid("image_grid_pinpoints", "at least one canvas", format!("{:?}", self.pinpoints)));
        }
        match self.pinpoints.iter().find(fits) {
            Some(pinpoint) => {
                let expected = format!("multiples of the tile ({}), at most {MOST_TILES} tiles", self.tile);
                Err(invalid("image_grid_pinpoints", &expected, format!("{pinpoint:?}")))
            }
            None => Ok(()),
        }
    }

    /// The canvas, `(height, width)` in pixels, that keeps the most of an image's pixels and wastes the least.
    ///
    /// # Errors
    /// [`PreprocessError::NoPixels`].
    pub fn canvas(&self, width: u32, height: u32) -> Result<(u32, u32), PreprocessError> {
        if width == 0 || height == 0 {
            return Err(PreprocessError::NoPixels { width, height });
        }
        let (w, h) = (f64::from(width), f64::from(height));
        let mut best: Option<((u32, u32), u64, u64)> = None;
        for &(canvas_height, canvas_width) in &self.pinpoints {
            let scale = (f64::from(canvas_width) / w).min(f64::from(canvas_height) / h);
            let scaled = (w * scale) as u64 * (h * scale) as u64;
            let kept = scaled.min(u64::from(width) * u64::from(height));
            let wasted = u64::from(canvas_width) * u64::from(canvas_height) - kept;
            if best.is_none_or(|(_, most, least)| kept > most || (kept == most && wasted < least)) {
                best = Some(((canvas_height, canvas_width), kept, wasted));
            }
        }
        best.map(|(canvas, ..)| canvas).ok_or_else(|| invalid("image_grid_pinpoints", "at least one canvas", "none"))
    }

    /// The layout of an image of this size, with `patch` pixels along the side of the encoder's patches.
    ///
    /// # Errors
    /// As [`LlavaNextImageConfig::canvas`]; [`PreprocessError::Config`] where patches do not fit into a tile.
    pub fn layout(&self, width: u32, height: u32, patch: u32) -> Result<AnyresLayout, PreprocessError> {
        let canvas = self.canvas(width, height)?;
        let side = self.tile.checked_div(patch).filter(|&side| side > 0);
        let side = side.ok_or_else(|| invalid("patch_size", &format!("1 to {}", self.tile), patch))? as usize;
        let (tile_rows, tile_columns) = ((canvas.0 / self.tile) as usize, (canvas.1 / self.tile) as usize);
        let (rows, columns) = unpadded((width, height), (tile_rows * side, tile_columns * side));
        Ok(AnyresLayout { tile_rows, tile_columns, side, rows, columns })
    }

    /// Scales, pads, cuts and normalises an image: the whole of it first, then the canvas tile by tile.
    ///
    /// # Errors
    /// As [`LlavaNextImageConfig::canvas`] and [`resize`].
    pub fn tiles(&self, image: &RgbImage) -> Result<Tiles, PreprocessError> {
        let (width, height) = image.dimensions();
        let canvas = self.canvas(width, height)?;
        let (scaled_width, scaled_height) = fitted((width, height), canvas);
        let scaled = resize(image, (scaled_width, scaled_height), self.resampling, self.pass_order)?;
        let corner = ((canvas.1 - scaled_width) / 2, (canvas.0 - scaled_height) / 2);
        let whole = resize(image, (self.tile, self.tile), self.resampling, self.pass_order)?;
        let table = self.normalisation.table();
        let mut tiles = Tiles::new(self.tile);
        tiles.push_grid(&whole, &table);
        tiles.push_grid(&on_canvas(&scaled, (canvas.1, canvas.0), corner), &table);
        Ok(tiles)
    }
}

/// Width and height of the image scaled into the canvas `(height, width)`, rounded up.
fn fitted((width, height): (u32, u32), canvas: (u32, u32)) -> (u32, u32) {
    let (w, h) = (f64::from(width), f64::from(height));
    let (scale_w, scale_h) = (f64::from(canvas.1) / w, f64::from(canvas.0) / h);
    if scale_w < scale_h {
        (canvas.1, ((h * scale_w).ceil() as u32).clamp(1, canvas.0))
    } else {
        (((w * scale_h).ceil() as u32).clamp(1, canvas.1), canvas.0)
    }
}

/// Rows and columns of the feature canvas that remain when the padding is cut off: the same number on both sides, so one
/// row or column of padding may stay.
fn unpadded((width, height): (u32, u32), (n_rows, n_columns): (usize, usize)) -> (Range<usize>, Range<usize>) {
    let (w, h) = (f64::from(width), f64::from(height));
    let (rows, columns) = (n_rows as f64, n_columns as f64);
    if w / h > columns / rows {
        let kept = truncated_to_seven_digits(h * (columns / w));
        let padding = (n_rows - kept.min(n_rows)) / 2;
        (padding..n_rows - padding, 0..n_columns)
    } else {
        let kept = truncated_to_seven_digits(w * (rows / h));
        let padding = (n_columns - kept.min(n_columns)) / 2;
        (0..n_rows, padding..n_columns - padding)
    }
}

/// Python's `int(round(value, 7))`.
fn truncated_to_seven_digits(value: f64) -> usize {
    let digits = format!("{value:.7}");
    digits.split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Token counts of the original implementation for ViT-L/336.
    #[test]
    fn known_token_counts() {
        let config = LlavaNextImageConfig::default();
        let known = [
            ((336, 336), 1176),
            ((410, 273), 1464),
            ((640, 480), 2340),
            ((1024, 768), 2340),
            ((1000, 300), 2182),
            ((300, 1000), 2232),
            ((672, 672), 2928),
        ];
        for ((width, height), n) in known {
            assert_eq!(config.layout(width, height, 14).expect("a layout").n_features(), n, "{width}x{height}");
        }
    }

    #[test]
    fn seven_digits_are_rounded_before_the_rest_is_cut_off() {
        assert_eq!(truncated_to_seven_digits(23.999_999_99), 24);
        assert_eq!(truncated_to_seven_digits(23.999_999_9), 23);
        assert_eq!(truncated_to_seven_digits(0.4), 0);
    }
}
