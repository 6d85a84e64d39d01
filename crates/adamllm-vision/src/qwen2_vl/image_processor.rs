//! Qwen2-VL, Qwen2.5-VL and Qwen3-VL (Wang et al. 2024, arXiv 2409.12191, section 2.1): any size, cut into patches.

use image::RgbImage;
use serde::Deserialize;
use serde_json::{Value, json};

use super::smart_resize;
use crate::preprocess::json::{SharedFields, image_processor, invalid, member};
use crate::preprocess::{Normalisation, PassOrder, PreprocessError, Resampling, resize};

/// What `preprocessor_config.json` or `processor_config.json` says about images.
#[derive(Clone, Debug, PartialEq)]
pub struct Qwen2VlImageConfig {
    /// Side of a patch in pixels.
    pub patch_size: u32,
    /// Frames in a patch; an image is repeated to fill them.
    pub temporal_patch_size: u32,
    /// Patches along the side of the square that the merger makes into one feature of the language model.
    pub merge_size: u32,
    /// Smaller images are scaled up to this many pixels.
    pub min_pixels: u64,
    /// Larger images are scaled down to this many pixels.
    pub max_pixels: u64,
    /// Bytes to floats.
    pub normalisation: Normalisation,
    /// Interpolation.
    pub resampling: Resampling,
    /// Which axis is resized first; config files do not say.
    pub pass_order: PassOrder,
}

impl Default for Qwen2VlImageConfig {
    /// Transformers' defaults: 56 * 56 to 28 * 28 * 1280 pixels. The published checkpoints allow 12845056.
    fn default() -> Self {
        Self {
            patch_size: 14,
            temporal_patch_size: 2,
            merge_size: 2,
            min_pixels: 56 * 56,
            max_pixels: 28 * 28 * 1280,
            normalisation: Normalisation::CLIP,
            resampling: Resampling::Bicubic,
            pass_order: PassOrder::Pillow,
        }
    }
}

/// The largest `min_pixels`: every image becomes at least as large.
const MOST_MIN_PIXELS: u64 = 1 << 26;

/// An image's patches: how many in time, height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PatchGrid {
    /// Temporal patches; 1 for an image.
    pub t: u32,
    /// Patches from top to bottom.
    pub h: u32,
    /// Patches from left to right.
    pub w: u32,
}

impl PatchGrid {
    /// All patches.
    pub fn n_patches(&self) -> usize {
        self.t as usize * self.h as usize * self.w as usize
    }

    /// Features that reach the language model: one for each square of `merge_size` x `merge_size` patches.
    pub fn n_features(&self, merge_size: u32) -> usize {
        self.n_patches() / (merge_size as usize * merge_size as usize)
    }
}

/// An image ready for the vision encoder.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Patches {
    /// `[n_patches, channels * temporal_patch_size * patch_size * patch_size]`, row-major. The patches of a merge square
    /// follow each other; squares go left to right, then down.
    pub pixels: Vec<f32>,
    /// The grid that the patches were cut from.
    pub grid: PatchGrid,
}

impl Qwen2VlImageConfig {
    /// Reads a `preprocessor_config.json` (`min_pixels`, `max_pixels`) or transformers 5's `processor_config.json`
    /// (`image_processor.size.shortest_edge` and `.longest_edge`, which also count pixels).
    ///
    /// # Errors
    /// [`PreprocessError::Config`].
    pub fn from_json(text: &str) -> Result<Self, PreprocessError> {
        let processor = image_processor(text)?;
        let shared = SharedFields::of(&processor)?;
        let default = Self::default();

        let side = |field| member(&processor, field, "a whole number of pixels or patches");
        let pixels = |field| member(&processor, field, "a whole number of pixels");
        if member(&processor, "do_center_crop", "true or false")? == Some(true) {
            return Err(invalid("do_center_crop", "false", "true"));
        }

        let size: Size = member(&processor, "size", "numbers of pixels by name")?.unwrap_or_default();
        let config = Self {
            patch_size: side("patch_size")?.unwrap_or(default.patch_size),
            temporal_patch_size: side("temporal_patch_size")?.unwrap_or(default.temporal_patch_size),
            merge_size: side("merge_size")?.unwrap_or(default.merge_size),
            min_pixels: pixels("min_pixels")?.or(size.smallest()).unwrap_or(default.min_pixels),
            max_pixels: pixels("max_pixels")?.or(size.largest()).unwrap_or(default.max_pixels),
            normalisation: shared.normalisation(default.normalisation)?,
            resampling: shared.resampling(default.resampling)?,
            pass_order: default.pass_order,
        };

        config.validate().map(|()| config)
    }

    /// The config as a `preprocessor_config.json` that every version of transformers reads.
    pub fn to_json(&self) -> Value {
        json!({
            "do_convert_rgb": true,
            "do_normalize": true,
            "do_rescale": true,
            "do_resize": true,
            "image_mean": self.normalisation.mean,
            "image_processor_type": "Qwen2VLImageProcessor",
            "image_std": self.normalisation.std,
            "max_pixels": self.max_pixels,
            "merge_size": self.merge_size,
            "min_pixels": self.min_pixels,
            "patch_size": self.patch_size,
            "processor_class": "Qwen2VLProcessor",
            "resample": self.resampling.pillow_code(),
            "rescale_factor": self.normalisation.rescale,
            "temporal_patch_size": self.temporal_patch_size,
        })
    }

    pub(super) fn validate(&self) -> Result<(), PreprocessError> {
        let sizes = [
            ("patch_size", self.patch_size, 1024),
            ("temporal_patch_size", self.temporal_patch_size, 16),
            ("merge_size", self.merge_size, 16),
        ];
        if let Some((field, got, max)) = sizes.into_iter().find(|&(_, size, max)| size == 0 || size > max) {
            return Err(invalid(field, &format!("1 to {max}"), got));
        }
        // A small image is scaled up to `min_pixels`; a large one is scaled down whatever `max_pixels` says.
        let max = self.max_pixels.min(MOST_MIN_PIXELS);
        if self.min_pixels == 0 || self.min_pixels > max {
            let expected = format!("1 to {max} (max_pixels is {})", self.max_pixels);
            return Err(invalid("min_pixels", &expected, self.min_pixels));
        }
        Ok(())
    }

    /// Both sides of a resized image are multiples of this many pixels.
    pub fn factor(&self) -> u32 {
        self.patch_size * self.merge_size
    }

    /// The grid of an image of this size; no pixel is needed.
    ///
    /// # Errors
    /// As [`smart_resize`].
    pub fn grid_from_size(&self, width: u32, height: u32) -> Result<PatchGrid, PreprocessError> {
        let (height, width) = smart_resize(height, width, self.factor(), self.min_pixels, self.max_pixels)?;
        Ok(PatchGrid { t: 1, h: height / self.patch_size, w: width / self.patch_size })
    }

    /// Tokens that an image of this size takes in the language model's sequence.
    ///
    /// # Errors
    /// As [`smart_resize`].
    pub fn n_features(&self, width: u32, height: u32) -> Result<usize, PreprocessError> {
        self.grid_from_size(width, height).map(|grid| grid.n_features(self.merge_size))
    }

    /// Numbers in one patch.
    pub fn patch_length(&self) -> usize {
        3 * self.temporal_patch_size as usize * (self.patch_size as usize).pow(2)
    }

    /// Scales, normalises and cuts an image.
    ///
    /// # Errors
    /// As [`smart_resize`] and [`resize`].
    pub fn patches(&self, image: &RgbImage) -> Result<Patches, PreprocessError> {
        let (width, height) = image.dimensions();
        let grid = self.grid_from_size(width, height)?;
        let size = (grid.w * self.patch_size, grid.h * self.patch_size);
        let resized = resize(image, size, self.resampling, self.pass_order)?;
        Ok(Patches { pixels: self.cut(&resized, grid), grid })
    }

    fn cut(&self, image: &RgbImage, grid: PatchGrid) -> Vec<f32> {
        let table = self.normalisation.table();
        let merge = self.merge_size;
        let mut pixels = Vec::with_capacity(grid.n_patches() * self.patch_length());
        for square_y in (0..grid.h).step_by(merge as usize) {
            for square_x in (0..grid.w).step_by(merge as usize) {
                for y in square_y..square_y + merge {
                    for x in square_x..square_x + merge {
                        self.push_patch(&mut pixels, image, &table, (x, y));
                    }
                }
            }
        }
        pixels
    }

    /// `[channel, frame, y, x]`, every frame the same.
    fn push_patch(&self, pixels: &mut Vec<f32>, image: &RgbImage, table: &[[f32; 256]; 3], (x, y): (u32, u32)) {
        let side = self.patch_size as usize;
        let stride = image.width() as usize * 3;
        let corner = y as usize * side * stride + x as usize * side * 3;
        let bytes = &image.as_raw()[corner..];
        for (channel, floats) in table.iter().enumerate() {
            let frame = pixels.len();
            for row in 0..side {
                let row = &bytes[row * stride..][..side * 3];
                pixels.extend(row.chunks_exact(3).map(|pixel| floats[usize::from(pixel[channel])]));
            }
            for _ in 1..self.temporal_patch_size {
                pixels.extend_from_within(frame..frame + side * side);
            }
        }
    }
}

/// `size` has had two spellings.
#[derive(Default, Deserialize)]
struct Size {
    shortest_edge: Option<u64>,
    longest_edge: Option<u64>,
    min_pixels: Option<u64>,
    max_pixels: Option<u64>,
}

impl Size {
    fn smallest(&self) -> Option<u64> {
        self.shortest_edge.or(self.min_pixels)
    }

    fn largest(&self) -> Option<u64> {
        self.longest_edge.or(self.max_pixels)
    }
}
