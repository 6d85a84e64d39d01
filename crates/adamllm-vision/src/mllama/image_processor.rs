//! Llama 3.2 Vision ("Mllama", Grattafiori et al. 2024, arXiv 2407.21783, section 7): up to four tiles on the canvas
//! that loses the least.

use image::RgbImage;
use serde::Serialize;

use crate::preprocess::json::{Edges, SharedFields, image_processor, invalid, member};
use crate::preprocess::tiles::{Tiles, on_canvas};
use crate::preprocess::{Normalisation, PassOrder, PreprocessError, Resampling, resize};

/// What `preprocessor_config.json` or `processor_config.json` says about images.
#[derive(Clone, Debug, PartialEq)]
pub struct MllamaImageConfig {
    /// Side of a tile in pixels.
    pub tile: u32,
    /// At most this many tiles.
    pub max_tiles: u32,
    /// Bytes to floats.
    pub normalisation: Normalisation,
    /// Interpolation.
    pub resampling: Resampling,
    /// Which axis is resized first; config files do not say.
    pub pass_order: PassOrder,
}

impl Default for MllamaImageConfig {
    /// Llama-3.2-11B-Vision.
    fn default() -> Self {
        Self {
            tile: 560,
            max_tiles: 4,
            normalisation: Normalisation::CLIP,
            resampling: Resampling::Bilinear,
            pass_order: PassOrder::Pillow,
        }
    }
}

/// The side that transformers' class has where a file names none.
const CLASS_SIDE: u32 = 224;

/// How many tiles an image is cut into, and what the model's embedding tables call that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct TileGrid {
    /// Tiles from top to bottom.
    pub rows: u32,
    /// Tiles from left to right.
    pub columns: u32,
    /// The index of `(rows, columns)` in [`MllamaImageConfig::grids`], counted from 1 (0 stands for no image).
    pub aspect_ratio_id: u32,
}

impl TileGrid {
    /// Tiles with image.
    pub fn n_tiles(&self) -> usize {
        self.rows as usize * self.columns as usize
    }
}

impl MllamaImageConfig {
    /// Reads a `preprocessor_config.json` or the image part of a `processor_config.json`.
    ///
    /// # Errors
    /// [`PreprocessError::Config`].
    pub fn from_json(text: &str) -> Result<Self, PreprocessError> {
        let processor = image_processor(text)?;
        let (shared, default) = (SharedFields::of(&processor)?, Self::default());
        let size = member::<Edges>(&processor, "size", "a side in pixels, or a square")?;
        if matches!(size, Some(Edges::Shortest { .. })) {
            return Err(invalid("size", "a height and a width", &processor["size"]));
        }
        if member(&processor, "do_pad", "true or false")? == Some(false) {
            return Err(invalid("do_pad", "true", "false"));
        }
        // What a file leaves out is what transformers' class says, not what the published checkpoints do.
        let config = Self {
            tile: size.map_or(Ok(CLASS_SIDE), |size| size.side("size"))?,
            max_tiles: member(&processor, "max_image_tiles", "a number of tiles")?.unwrap_or(default.max_tiles),
            normalisation: shared.normalisation(Normalisation::HALF)?,
            resampling: shared.resampling(default.resampling)?,
            pass_order: default.pass_order,
        };
        if !(1..=64).contains(&config.max_tiles) {
            return Err(invalid("max_image_tiles", "1 to 64", config.max_tiles));
        }
        Ok(config)
    }

    /// All grids of at most `max_tiles` tiles, as `(rows, columns)`, in the order of the model's embedding tables.
    pub fn grids(&self) -> Vec<(u32, u32)> {
        let n = self.max_tiles;
        let pairs = (1..=n).flat_map(|rows| (1..=n).map(move |columns| (rows, columns)));
        pairs.filter(|(rows, columns)| rows * columns <= n).collect()
    }

    /// The grid for an image of this size: the smallest enlargement where the image fits into some canvas, else the
    /// smallest reduction; among equals the smallest canvas.
    ///
    /// # Errors
    /// [`PreprocessError::NoPixels`].
    pub fn grid_from_size(&self, width: u32, height: u32) -> Result<TileGrid, PreprocessError> {
        if width == 0 || height == 0 {
            return Err(PreprocessError::NoPixels { width, height });
        }
        let scale = |(rows, columns): (u32, u32)| {
            let vertical = f64::from(rows * self.tile) / f64::from(height);
            let horizontal = f64::from(columns * self.tile) / f64::from(width);
            horizontal.min(vertical)
        };
        let grids = self.grids();
        let enlargements = grids.iter().map(|&grid| scale(grid)).filter(|&scale| scale >= 1.0);
        let chosen = enlargements.reduce(f64::min);
        let chosen = chosen.or_else(|| grids.iter().map(|&grid| scale(grid)).reduce(f64::max));
        let fitting = grids.iter().zip(1..).filter(|&(&grid, _)| Some(scale(grid)) == chosen);
        let best = fitting.min_by_key(|&(&(rows, columns), _)| rows * columns);
        let (&(rows, columns), aspect_ratio_id) =
            best.ok_or_else(|| invalid("max_image_tiles", "at least 1", self.max_tiles))?;
        Ok(TileGrid { rows, columns, aspect_ratio_id })
    }

    /// Scales an image into the upper left corner of its canvas, normalises it (the black rest too) and cuts it.
    ///
    /// # Errors
    /// As [`MllamaImageConfig::grid_from_size`] and [`resize`].
    pub fn tiles(&self, image: &RgbImage) -> Result<(Tiles, TileGrid), PreprocessError> {
        let grid = self.grid_from_size(image.width(), image.height())?;
        let canvas = (grid.columns * self.tile, grid.rows * self.tile);
        let size = self.fitted(image.dimensions(), canvas);
        let scaled = resize(image, size, self.resampling, self.pass_order)?;
        let mut tiles = Tiles::new(self.tile);
        tiles.push_grid(&on_canvas(&scaled, canvas, (0, 0)), &self.normalisation.table());
        Ok((tiles, grid))
    }

    /// Width and height of the scaled image on its canvas.
    ///
    /// # Errors
    /// As [`MllamaImageConfig::grid_from_size`].
    pub fn scaled_size(&self, width: u32, height: u32) -> Result<(u32, u32), PreprocessError> {
        let grid = self.grid_from_size(width, height)?;
        Ok(self.fitted((width, height), (grid.columns * self.tile, grid.rows * self.tile)))
    }

    /// Width and height of the scaled image: neither side longer than the canvas, and enlarged only until a side
    /// reaches the tile's.
    fn fitted(&self, (width, height): (u32, u32), (canvas_width, canvas_height): (u32, u32)) -> (u32, u32) {
        let target_width = width.clamp(self.tile, canvas_width);
        let target_height = height.clamp(self.tile, canvas_height);
        let scale_h = f64::from(target_height) / f64::from(height);
        let scale_w = f64::from(target_width) / f64::from(width);
        let scaled = |side: u32, scale: f64, limit: u32| ((f64::from(side) * scale) as u32).max(1).min(limit);
        if scale_w < scale_h {
            (target_width, scaled(height, scale_w, target_height))
        } else {
            (scaled(width, scale_h, target_width), target_height)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_in_the_order_of_the_embedding_tables() {
        let grids = MllamaImageConfig::default().grids();
        assert_eq!(grids, [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (3, 1), (4, 1)]);
    }
}
