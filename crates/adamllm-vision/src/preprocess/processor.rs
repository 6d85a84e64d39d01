use std::fmt;
use std::sync::Arc;

use adamllm_nn::{ImageLayout, PixelValues};
use image::RgbImage;

use super::PreprocessError;

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
}
