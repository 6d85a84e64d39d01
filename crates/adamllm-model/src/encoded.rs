use std::sync::Arc;

use adamllm_core::{ImageRef, RecordId};
use adamllm_nn::{ImageLayout, PixelValues};

use crate::{RopeMode, Span, SpanKind};

/// One image, ready for the vision encoder.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EncodedImage {
    /// Which image.
    pub image: ImageRef,
    /// Its pixel values, and how it is cut.
    pub pixels: PixelValues,
}

impl EncodedImage {
    /// How the image is cut.
    pub fn layout(&self) -> &ImageLayout {
        &self.pixels.layout
    }
}

/// A conversation or prompt as the model reads it: tokens with expanded placeholders, and pixels.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Encoded {
    /// The example's id.
    pub id: RecordId,
    /// Token ids.
    pub tokens: Vec<u32>,
    /// For each token, whether predicting it counts for the loss.
    pub targets: Vec<bool>,
    /// Runs of tokens of one kind, from the first to the last.
    pub spans: Vec<Span>,
    /// The images, in the order of their placeholders.
    pub images: Vec<EncodedImage>,
    /// Where each image's tokens begin: its placeholders, and what the family writes between and around them.
    pub image_starts: Vec<usize>,
    /// Where the example comes from, for the log.
    pub source: Option<Arc<str>>,
    /// For each message, the task that it belongs to, for the log.
    pub tasks: Vec<Option<Arc<str>>>,
    /// The positions that the decoder gets.
    pub rope: RopeMode,
}

impl Encoded {
    /// Tokens that count for the loss. The first token cannot: nothing precedes it.
    pub fn n_targets(&self) -> usize {
        self.targets.iter().skip(1).filter(|t| **t).count()
    }

    /// The span of a token; `None` after the last.
    pub fn span_of(&self, token: usize) -> Option<&Span> {
        let index = self.spans.partition_point(|span| span.tokens.end <= token);
        self.spans.get(index)
    }

    /// The task that a token belongs to, where its message names one.
    pub fn task_of(&self, token: usize) -> Option<&Arc<str>> {
        self.tasks.get(self.span_of(token)?.message?)?.as_ref()
    }

    /// Whether a token is one of an image's.
    pub fn is_image(&self, token: usize) -> bool {
        self.span_of(token).is_some_and(|span| matches!(span.kind, SpanKind::Image(_)))
    }
}
