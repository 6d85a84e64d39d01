use std::sync::Arc;

use adamllm_core::{ImageRef, RecordId};
use adamllm_vision::preprocess::{AnyresLayout, TileGrid};
use adamllm_vision::{PatchesRef, TiledImage, TilesRef};
use serde::Serialize;

use crate::{RopeMode, Span, SpanKind};

/// How an image is cut: decided from its size alone. The placeholders in the text and the rows that the vision side gives
/// both follow from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TileLayout {
    /// A grid of patches of the image's own shape (Qwen2-VL, Qwen2.5-VL).
    Patches {
        /// Frames, rows and columns of patches.
        patches: [usize; 3],
        /// Patches on the side of a merged row.
        merge: usize,
    },
    /// The whole image and the tiles of a canvas without its padding (LLaVA-NeXT).
    Anyres(AnyresLayout),
    /// Tiles for cross-attention (Mllama): the sequence holds one placeholder whatever the size.
    Tiled {
        /// The grid of tiles.
        grid: TileGrid,
        /// Rows of a tile.
        rows_per_tile: usize,
        /// Tiles that the encoder reads, missing ones included.
        max_tiles: usize,
    },
}

impl TileLayout {
    /// The grid of merged rows, for families with three-axis positions.
    pub fn merged(&self) -> Option<[usize; 3]> {
        match *self {
            Self::Patches { patches: [frames, height, width], merge } => Some([frames, height / merge, width / merge]),
            Self::Anyres(_) | Self::Tiled { .. } => None,
        }
    }

    /// Placeholders in the decoder's sequence.
    pub fn n_placeholders(&self) -> usize {
        if matches!(self, Self::Tiled { .. }) { 1 } else { self.n_rows() }
    }

    /// Rows that the vision side gives, those of missing tiles included.
    pub fn n_rows(&self) -> usize {
        match self {
            Self::Patches { .. } => self.merged().into_iter().flatten().product(),
            Self::Anyres(layout) => layout.n_rows(),
            Self::Tiled { rows_per_tile, max_tiles, .. } => rows_per_tile * max_tiles,
        }
    }

    /// Patches that the encoder reads.
    pub fn n_patches(&self) -> usize {
        match self {
            Self::Patches { patches, .. } => patches.iter().product(),
            Self::Anyres(layout) => layout.n_tiles() * layout.side * layout.side,
            Self::Tiled { rows_per_tile, max_tiles, .. } => (rows_per_tile - 1) * max_tiles,
        }
    }
}

/// One image, ready for the encoder.
#[derive(Clone, Debug)]
pub struct EncodedImage {
    /// Which image.
    pub image: ImageRef,
    /// How it is cut.
    pub layout: TileLayout,
    /// The values of all patches or tiles, in the order that the encoder reads.
    pub pixels: Arc<Vec<f32>>,
}

impl EncodedImage {
    /// The values and their grid of patches.
    ///
    /// # Panics
    /// If the image was cut for another family.
    pub(crate) fn patches(&self) -> PatchesRef<'_> {
        let TileLayout::Patches { patches, .. } = self.layout else {
            panic!("a grid of patches, got {:?}", self.layout)
        };
        PatchesRef { values: &self.pixels, grid: patches }
    }

    /// The values as tiles, and where their rows go.
    ///
    /// # Panics
    /// If the image was cut for another family.
    pub(crate) fn anyres(&self) -> (TilesRef<'_>, &AnyresLayout) {
        let TileLayout::Anyres(layout) = &self.layout else { panic!("anyres tiles, got {:?}", self.layout) };
        (TilesRef { values: &self.pixels, n_tiles: layout.n_tiles() }, layout)
    }

    /// The values as tiles on their grid.
    ///
    /// # Panics
    /// If the image was cut for another family.
    pub(crate) fn tiled(&self) -> TiledImage<'_> {
        let TileLayout::Tiled { grid, .. } = self.layout else { panic!("a grid of tiles, got {:?}", self.layout) };
        let tiles = TilesRef { values: &self.pixels, n_tiles: grid.n_tiles() };
        TiledImage { tiles, aspect_ratio_id: grid.aspect_ratio_id }
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
    /// Runs of tokens of one kind, from the first to the last.
    pub spans: Vec<Span>,
    /// The images, in the order of their placeholders.
    pub images: Vec<EncodedImage>,
    /// Where each image's placeholders begin.
    pub image_starts: Vec<usize>,
    /// Where the row comes from, for the log.
    pub source: Option<Arc<str>>,
    /// For each message, the exchange that it belongs to, for the log.
    pub tasks: Vec<Option<Arc<str>>>,
    /// The positions that the decoder shall see.
    pub rope: RopeMode,
}

impl Encoded {
    /// Tokens that count for the loss. The first token cannot: nothing stands before it.
    pub fn n_targets(&self) -> usize {
        self.targets.iter().skip(1).filter(|t| **t).count()
    }

    /// The span of a token; `None` behind the last.
    pub fn span_of(&self, token: usize) -> Option<&Span> {
        let at = self.spans.partition_point(|span| span.tokens.end <= token);
        self.spans.get(at)
    }

    /// The exchange that a token belongs to, where its message names one.
    pub fn task_of(&self, token: usize) -> Option<&Arc<str>> {
        self.tasks.get(self.span_of(token)?.message?)?.as_ref()
    }

    /// Whether a token is an image's placeholder.
    pub fn is_image(&self, token: usize) -> bool {
        self.span_of(token).is_some_and(|span| matches!(span.kind, SpanKind::Image(_)))
    }
}
