use std::ops::Range;

use adamllm_language::{PictureView, Positions};
use adamllm_nn::{AttentionMask, Batch, BlockRunner, Direct, Objective, cross_entropy};
use burn::tensor::{Int, Tensor, TensorData};

use crate::mllama::picture_spans;
use crate::qwen2_vl::multimodal_positions;
use crate::{Encoded, EncodedImage, ImageRows, ModelInput, Processor, TileLayout, VisionLanguageModel};

/// On which side short rows are filled up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// For generation: all rows end in the same column.
    Left,
    /// For training: all rows begin in the first.
    Right,
}

/// Rows of equal length, on the host.
#[derive(Clone, Debug)]
pub struct VlmBatch {
    tokens: Vec<u32>,
    dims: [usize; 2],
    positions: Positions,
    /// Left padding of each row.
    padding: Vec<usize>,
    /// The position behind each row's last token.
    next_positions: Vec<i32>,
    images: Vec<EncodedImage>,
    image_rows: ImageRows,
    /// `[place of the predicting row, token to predict]`.
    targets: Vec<[usize; 2]>,
    n_tokens: usize,
}

impl VlmBatch {
    /// Pads rows to the longest. An image that several rows share (the same [`adamllm_core::ImageRef`]) is kept once.
    ///
    /// # Panics
    /// If `rows` is empty.
    pub fn collate(rows: &[&Encoded], side: Padding, processor: &Processor) -> Self {
        let seq = rows.iter().map(|row| row.tokens.len()).max().expect("at least one row");
        let mut batch = Self {
            tokens: Vec::with_capacity(rows.len() * seq),
            dims: [rows.len(), seq],
            positions: Positions::plain(0, 0..0),
            padding: Vec::new(),
            next_positions: Vec::new(),
            images: Vec::new(),
            image_rows: no_image_rows(rows, processor),
            targets: Vec::new(),
            n_tokens: rows.iter().map(|row| row.tokens.len()).sum(),
        };
        let mut columns = Vec::with_capacity(rows.len() * seq);
        for row in rows {
            let missing = seq - row.tokens.len();
            let (left, right) = if side == Padding::Left { (missing, 0) } else { (0, missing) };
            let (at, next) = row_positions(row, processor);
            batch.push_images(row, left);
            batch.push_targets(row, left);
            batch.tokens.extend(std::iter::repeat_n(0, left).chain(row.tokens.iter().copied()));
            batch.tokens.extend(std::iter::repeat_n(0, right));
            columns.extend(std::iter::repeat_n([0; 3], left).chain(at).chain(std::iter::repeat_n([0; 3], right)));
            batch.padding.push(left);
            batch.next_positions.push(next);
        }
        let n = rows.len();
        batch.positions = match processor.config().decoder.rope.mrope_section {
            Some(_) => Positions::MRope { batch: n, at: columns },
            None => Positions::Plain { batch: n, at: columns.into_iter().map(|[p, ..]| p).collect() },
        };
        batch
    }

    fn push_images(&mut self, row: &Encoded, left: usize) {
        let start_of_row = self.tokens.len() + left;
        let images: Vec<usize> = row.images.iter().map(|image| self.place_of(image)).collect();
        match &mut self.image_rows {
            ImageRows::Spliced(places) => {
                for ((image, start), index) in row.images.iter().zip(&row.image_starts).zip(images) {
                    let first: usize = self.images[..index].iter().map(|i| i.layout.n_rows()).sum();
                    places.extend((0..image.layout.n_rows()).map(|i| [start_of_row + start + i, first + i]));
                }
            }
            ImageRows::Attended { slots, view } => {
                let open = row.images.iter().map(|image| open_rows(&image.layout));
                let placed: Vec<_> = row.image_starts.iter().copied().zip(open).collect();
                view.spans.push(picture_spans(&placed, row.tokens.len()));
                view.padding.push(left);
                view.lengths.push(row.tokens.len());
                slots.push(images);
            }
        }
    }

    /// The image's place among the batch's images; an image that is there already is not added again.
    fn place_of(&mut self, image: &EncodedImage) -> usize {
        let known = self.images.iter().position(|i| i.image == image.image && i.layout == image.layout);
        known.unwrap_or_else(|| {
            self.images.push(image.clone());
            self.images.len() - 1
        })
    }

    fn push_targets(&mut self, row: &Encoded, left: usize) {
        let start_of_row = self.tokens.len() + left;
        let counted = row.targets.iter().enumerate().skip(1).filter(|(_, target)| **target);
        self.targets.extend(counted.map(|(i, _)| [start_of_row + i - 1, row.tokens[i] as usize]));
    }

    /// Left padding of each row.
    pub fn padding(&self) -> &[usize] {
        &self.padding
    }

    /// The position behind each row's last token.
    pub fn next_positions(&self) -> &[i32] {
        &self.next_positions
    }

    /// `batch * seq` positions.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// `[batch, seq]`.
    pub fn dims(&self) -> [usize; 2] {
        self.dims
    }

    /// Calls `read` with the batch as the model takes it.
    pub fn with_input<T>(&self, read: impl FnOnce(&ModelInput) -> T) -> T {
        read(&ModelInput {
            tokens: &self.tokens,
            dims: self.dims,
            positions: &self.positions,
            images: &self.images,
            image_rows: &self.image_rows,
        })
    }
}

/// How this family's image rows reach the decoder, before any row is added.
fn no_image_rows(rows: &[&Encoded], processor: &Processor) -> ImageRows {
    if !processor.config().vision.as_ref().is_some_and(crate::VisionConfig::is_cross_attended) {
        return ImageRows::Spliced(Vec::new());
    }
    let slot = rows.iter().flat_map(|row| &row.images).map(|image| image.layout.n_rows()).next().unwrap_or(0);
    let view = PictureView { slot, spans: Vec::new(), padding: Vec::new(), lengths: Vec::new() };
    ImageRows::Attended { slots: Vec::new(), view }
}

/// Rows of an image that belong to tiles that it has.
fn open_rows(layout: &TileLayout) -> usize {
    match layout {
        TileLayout::Tiled { grid, rows_per_tile, .. } => grid.n_tiles() * rows_per_tile,
        other => other.n_rows(),
    }
}

/// Positions in the three-axis form, equal axes for plain ones.
fn row_positions(row: &Encoded, processor: &Processor) -> (Vec<[i32; 3]>, i32) {
    match (processor.config().decoder.rope.mrope_section, processor.image_token()) {
        (Some(_), Some(token)) => {
            let grids: Vec<_> = row.images.iter().filter_map(|image| image.layout.merged()).collect();
            multimodal_positions(&row.tokens, token, &grids)
        }
        _ => {
            let n = row.tokens.len() as i32;
            ((0..n).map(|p| [p; 3]).collect(), n)
        }
    }
}

impl Batch for VlmBatch {
    fn n_targets(&self) -> usize {
        self.targets.len()
    }

    fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    fn n_images(&self) -> usize {
        self.images.len()
    }
}

impl VisionLanguageModel {
    /// The log-probability of each target token, `[n_targets]`, in f32. Only the rows that predict a target pass
    /// through the head.
    ///
    /// # Panics
    /// If the batch has no target.
    pub fn target_log_probabilities(&self, batch: &VlmBatch) -> Tensor<1> {
        let rows = self.target_rows(batch, &mut Direct);
        self.losses(rows, batch, 0..batch.targets.len()).neg()
    }
}

impl Objective for VisionLanguageModel {
    type Batch = VlmBatch;

    /// The hidden states that predict a target.
    ///
    /// # Panics
    /// If the batch has no target.
    fn target_rows<'a>(&'a self, batch: &VlmBatch, blocks: &mut dyn BlockRunner<'a>) -> Tensor<2> {
        let n = batch.targets.len();
        assert!(n > 0, "a batch without targets has no loss");
        let device = self.device();
        let mask = AttentionMask::causal(&batch.padding, 0, batch.dims[1], &device);
        let hidden = batch.with_input(|input| self.hidden_in_blocks(input, mask, blocks));
        let places: Vec<i32> = batch.targets.iter().map(|[place, _]| *place as i32).collect();
        let places = Tensor::<1, Int>::from_data(TensorData::new(places, [n]), &device);
        hidden.flatten::<2>(0, 1).select(0, places)
    }

    /// The cross-entropy of each target, in nats.
    fn losses(&self, rows: Tensor<2>, batch: &VlmBatch, range: Range<usize>) -> Tensor<1> {
        let targets: Vec<u32> = batch.targets[range].iter().map(|[_, token]| *token as u32).collect();
        cross_entropy(self.language.logits(rows), &targets)
    }
}
