//! SmolVLM and Idefics3 (arXiv 2408.12637, section 2.2.2): the image is scaled to whole tiles and cut into them, and follows
//! once more as one tile.

use image::RgbImage;
use serde::Deserialize;

use crate::preprocess::json::{LONGEST_SIDE, SharedFields, image_processor, invalid, member};
use crate::preprocess::tiles::Tiles;
use crate::preprocess::{Normalisation, PassOrder, PreprocessError, Resampling, resize};

/// What `preprocessor_config.json` or `processor_config.json` says about images.
#[derive(Clone, Debug, PartialEq)]
pub struct SmolVlmImageConfig {
    /// The longer side of the scaled image in pixels, before it is filled up to whole tiles (`size.longest_edge`).
    pub longest_edge: u32,
    /// Side of a tile in pixels (`max_image_size.longest_edge`).
    pub tile: u32,
    /// Whether the image is cut into tiles, or read as a single one (`do_image_splitting`).
    pub split: bool,
    /// Bytes to floats.
    pub normalisation: Normalisation,
    /// Interpolation.
    pub resampling: Resampling,
    /// Which axis is resized first; config files do not say.
    pub pass_order: PassOrder,
}

impl Default for SmolVlmImageConfig {
    /// The defaults of transformers' class: up to four by four tiles of 364 pixels.
    fn default() -> Self {
        Self {
            longest_edge: 4 * 364,
            tile: 364,
            split: true,
            normalisation: Normalisation::HALF,
            resampling: Resampling::Lanczos,
            pass_order: PassOrder::Pillow,
        }
    }
}

/// No side of a scaled image is longer, whatever the settings.
const LONGEST_SCALED: u32 = 4096;

/// Tiles along the longer side of the largest image.
const MOST_TILES: u32 = 16;

/// The tiles that an image is cut into. The whole image follows them as one more tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SplitGrid {
    /// Tiles from top to bottom; 0 where the whole image is the only tile.
    pub rows: usize,
    /// Tiles from left to right; 0 where the whole image is the only tile.
    pub columns: usize,
}

impl SplitGrid {
    /// All tiles, the whole image's included.
    pub fn n_tiles(self) -> usize {
        self.rows * self.columns + 1
    }
}

/// `{"longest_edge": pixels}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Longest {
    longest_edge: u32,
}

impl SmolVlmImageConfig {
    /// Reads a `preprocessor_config.json` or the image part of a `processor_config.json`.
    ///
    /// # Errors
    /// [`PreprocessError::Config`].
    pub fn from_json(text: &str) -> Result<Self, PreprocessError> {
        let processor = image_processor(text)?;
        let (shared, default) = (SharedFields::of(&processor)?, Self::default());
        let edge = |field, default: u32| {
            let found = member::<Longest>(&processor, field, "{\"longest_edge\": pixels}: nothing else is supported")?;
            Ok(found.map_or(default, |found| found.longest_edge))
        };
        let config = Self {
            longest_edge: edge("size", default.longest_edge)?,
            tile: edge("max_image_size", default.tile)?,
            split: member(&processor, "do_image_splitting", "true or false")?.unwrap_or(default.split),
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
        let sides = 1..=LONGEST_SIDE;
        if !sides.contains(&self.tile) {
            return Err(invalid("max_image_size", "a longest_edge of 1 to 8192 pixels", self.tile));
        }
        if !sides.contains(&self.longest_edge) {
            return Err(invalid("size", "a longest_edge of 1 to 8192 pixels", self.longest_edge));
        }
        let n = self.longest_edge.min(LONGEST_SCALED).div_ceil(self.tile);
        if self.split && n > MOST_TILES {
            let expected = format!("at most {MOST_TILES} tiles of max_image_size.longest_edge = {}", self.tile);
            return Err(invalid("size", &expected, self.longest_edge));
        }
        Ok(())
    }

    /// The tiles of an image of this size.
    ///
    /// # Errors
    /// [`PreprocessError::NoPixels`].
    pub fn grid(&self, width: u32, height: u32) -> Result<SplitGrid, PreprocessError> {
        let scaled = self.scaled_size(width, height)?;
        let (width, height) = self.whole_tiles(scaled);
        let (rows, columns) = ((height / self.tile) as usize, (width / self.tile) as usize);
        let single = !self.split || (rows, columns) == (1, 1);
        Ok(if single { SplitGrid { rows: 0, columns: 0 } } else { SplitGrid { rows, columns } })
    }

    /// Scales, cuts and normalises an image: tile by tile, row by row, then the whole of it.
    ///
    /// As in transformers, each step starts from the 8-bit pixels of the one before.
    ///
    /// # Errors
    /// As [`SmolVlmImageConfig::grid`] and [`resize`].
    pub fn tiles(&self, image: &RgbImage) -> Result<Tiles, PreprocessError> {
        let resized = |image: &RgbImage, size| resize(image, size, self.resampling, self.pass_order);
        let square = (self.tile, self.tile);
        let (table, mut tiles) = (self.normalisation.table(), Tiles::new(self.tile));

        let scaled = self.scaled_size(image.width(), image.height())?;
        let mut whole = resized(image, scaled)?;
        if self.split {
            whole = resized(&whole, self.whole_tiles(scaled))?;
            if whole.dimensions() != square {
                tiles.push_grid(&whole, &table);
            }
        }
        tiles.push_grid(&resized(&whole, square)?, &table);
        Ok(tiles)
    }

    /// Width and height with the longer side at `longest_edge`, the shorter one even, none above [`LONGEST_SCALED`].
    fn scaled_size(&self, width: u32, height: u32) -> Result<(u32, u32), PreprocessError> {
        if width == 0 || height == 0 {
            return Err(PreprocessError::NoPixels { width, height });
        }
        let even = |side: u32| side + side % 2;
        let ratio = f64::from(width) / f64::from(height);
        let longest = self.longest_edge;
        let (width, height) = match width >= height {
            true => (longest, even((f64::from(longest) / ratio) as u32).max(1)),
            false => (even((f64::from(longest) * ratio) as u32).max(1), longest),
        };

        let ratio = f64::from(width) / f64::from(height);
        Ok(if width >= height && width > LONGEST_SCALED {
            (LONGEST_SCALED, ((f64::from(LONGEST_SCALED) / ratio) as u32).max(1))
        } else if height > width && height > LONGEST_SCALED {
            (((f64::from(LONGEST_SCALED) * ratio) as u32).max(1), LONGEST_SCALED)
        } else {
            (width, height)
        })
    }

    /// Width and height filled up to whole tiles: the longer side first, the other one from it.
    fn whole_tiles(&self, (width, height): (u32, u32)) -> (u32, u32) {
        let up = |side: u32| side.max(1).next_multiple_of(self.tile);
        let ratio = f64::from(width) / f64::from(height);
        if width >= height {
            let width = up(width);
            (width, up((f64::from(width) / ratio) as u32))
        } else {
            let height = up(height);
            (up((f64::from(height) * ratio) as u32), height)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SmolVLM-256M: up to four by four tiles of 512 pixels.
    #[test]
    fn known_grids() {
        let config = SmolVlmImageConfig { longest_edge: 2048, tile: 512, ..Default::default() };
        for ((width, height), (rows, columns)) in
            [((640, 480), (3, 4)), ((480, 640), (4, 3)), ((512, 512), (4, 4)), ((1000, 10), (1, 4)), ((1, 1), (4, 4))]
        {
            assert_eq!(config.grid(width, height), Ok(SplitGrid { rows, columns }), "{width}x{height}");
        }
        let single = SmolVlmImageConfig { split: false, ..config };
        assert_eq!(single.grid(640, 480), Ok(SplitGrid { rows: 0, columns: 0 }));
        assert!(single.grid(0, 4).is_err());
    }

    #[test]
    fn settings_that_cannot_be_followed_are_refused_by_name() {
        let error = |json: &str| SmolVlmImageConfig::from_json(json).expect_err("refused").to_string();
        for (json, field) in [
            (r#"{"size": {"height": 28, "width": 28}}"#, "size"),
            (r#"{"size": {"longest_edge": 0}}"#, "size"),
            (r#"{"size": {"longest_edge": 4096}, "max_image_size": {"longest_edge": 8}}"#, "size"),
            (r#"{"max_image_size": {"longest_edge": 0}}"#, "max_image_size"),
            (r#"{"max_image_size": 512}"#, "max_image_size"),
            (r#"{"do_image_splitting": 1}"#, "do_image_splitting"),
            (r#"{"do_resize": false}"#, "do_resize"),
            (r#"{"resample": 0}"#, "resample"),
        ] {
            assert!(error(json).contains(&format!("`{field}`")), "{json}: {}", error(json));
        }
        assert_eq!(SmolVlmImageConfig::from_json("{}"), Ok(SmolVlmImageConfig::default()));
    }
}
