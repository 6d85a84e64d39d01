use std::sync::Arc;

use adamllm_core::{ImageRef, RecordId};
use adamllm_vision::PatchesRef;

/// How many rows an image becomes: decided from its size alone, and the same number for the placeholders in the text
/// and for the rows that the tower gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TileLayout {
    /// Frames, rows and columns of patches.
    pub patches: [usize; 3],
    /// Patches on the side of a merged row.
    pub merge: usize,
}

impl TileLayout {
    /// The grid of merged rows.
    pub fn merged(&self) -> [usize; 3] {
        let [frames, height, width] = self.patches;
        [frames, height / self.merge, width / self.merge]
    }

    /// Rows in the decoder's sequence.
    pub fn n_rows(&self) -> usize {
        self.merged().iter().product()
    }

    /// Patches that the tower reads.
    pub fn n_patches(&self) -> usize {
        self.patches.iter().product()
    }
}

/// One image, ready for the tower.
#[derive(Clone, Debug)]
pub struct EncodedImage {
    /// Which image.
    pub image: ImageRef,
    /// How it is cut.
    pub layout: TileLayout,
    /// `n_patches * d_patch` values, in the order that the tower reads.
    pub pixels: Arc<Vec<f32>>,
}

impl EncodedImage {
    /// The values and their grid.
    pub fn patches(&self) -> PatchesRef<'_> {
        PatchesRef { values: &self.pixels, grid: self.layout.patches }
    }
}

/// A conversation or prompt as the model reads it: tokens with expanded placeholders, and pixels.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The row's id.
    pub id: RecordId,
    /// Token ids.
    pub tokens: Vec<u32>,
    /// For each token, whether predicting it counts for the loss.
    pub targets: Vec<bool>,
    /// The images, in the order of their placeholders.
    pub images: Vec<EncodedImage>,
    /// Where each image's placeholders begin.
    pub image_starts: Vec<usize>,
}

impl Encoded {
    /// Tokens that count for the loss. The first token cannot: nothing stands before it.
    pub fn n_targets(&self) -> usize {
        self.targets.iter().skip(1).filter(|t| **t).count()
    }
}
