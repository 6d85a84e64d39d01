use std::fmt;
use std::sync::Arc;

use adamllm_nn::{ImageLayout, PixelValues};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::PreprocessError;

/// How many pixels an image has after it is resized, where a run sets it in place of a folder's `min_pixels` and `max_pixels`: what
/// qwen-vl-utils takes for each image. `None` keeps the folder's bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PixelRange {
    /// The fewest: a smaller image is scaled up.
    pub min_pixels: Option<u64>,
    /// The most: a larger image is scaled down.
    pub max_pixels: Option<u64>,
}

impl PixelRange {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Turns decoded images into what one vision encoder reads. Whoever brings an encoder of their own writes one of these.
pub trait ImageProcessor: fmt::Debug + Send + Sync {
    /// How an image of this size is cut: from its header alone.
    ///
    /// # Errors
    /// [`PreprocessError`] for a size that cannot be cut.
    fn layout(&self, width: u32, height: u32) -> Result<ImageLayout, PreprocessError>;

    /// Resizes, normalises and cuts a decoded image; as [`ImageProcessor::layout`] says of its size.
    ///
    /// # Errors
    /// As [`ImageProcessor::layout`].
    fn process(&self, image: &RgbImage) -> Result<PixelValues, PreprocessError>;

    /// The same processor with the largest budget of pixels for each image with which all of `sizes` (width, height) together
    /// need at most `room` placeholders. `None` where no budget is small enough, and for processors that cut every image into
    /// tiles of one size.
    fn shrunk(&self, _sizes: &[(u32, u32)], _room: usize) -> Option<Arc<dyn ImageProcessor>> {
        None
    }

    /// The same processor with other bounds of an image's pixels. `None` for processors that have no such bounds: those that cut
    /// every image into tiles of one size.
    ///
    /// # Errors
    /// [`PreprocessError::Config`] for bounds that no image can keep.
    fn with_pixel_range(&self, _range: PixelRange) -> Option<Result<Arc<dyn ImageProcessor>, PreprocessError>> {
        None
    }
}
