//! How large images are: bounds of a run's own.

use adamllm::model::{ModelFolder, PixelRange};

/// How large images are for a model in this process.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct PixelArguments {
    /// The fewest pixels of an image after resizing, in place of the model folder's `min_pixels`
    #[arg(long)]
    pub min_pixels: Option<u64>,
    /// The most, in place of the model folder's `max_pixels`: fewer pixels are fewer image tokens
    #[arg(long)]
    pub max_pixels: Option<u64>,
}

impl PixelArguments {
    /// The folder with these bounds in place of its own.
    pub fn of(self, folder: ModelFolder) -> ModelFolder {
        let Self { min_pixels, max_pixels } = self;
        folder.with_pixel_range(PixelRange { min_pixels, max_pixels })
    }
}
