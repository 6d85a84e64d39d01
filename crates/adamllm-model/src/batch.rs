use std::ops::Range;

use adamllm_language::{ImageSpan, ImageView, Positions};
use adamllm_nn::{AttentionMask, Batch, BlockExecutor, Eager, Objective, cross_entropy};
use burn::tensor::{Int, Tensor, TensorData};

use crate::mllama::picture_spans;
use crate::qwen2_vl::multimodal_positions;
use crate::{Encoded, EncodedImage, ImageRows, ModelInput, Processor, RopeMode, TileLayout, VisionLanguageModel};

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
    /// The lengths of the sequences, where they stand one behind the other in a single row.
    packed: Option<Vec<usize>>,
    /// Names of the groups of targets, and for each target its group.
    groups: Vec<String>,
    target_groups: Vec<u16>,
}

impl VlmBatch {
    /// Pads rows to the longest. An image that several rows share (the same [`adamllm_core::ImageRef`]) is kept once.
    ///
    /// # Panics
    /// If `rows` is empty.
    pub fn collate(rows: &[&Encoded], side: Padding, processor: &Processor) -> Self {
        let seq = rows.iter().map(|row| row.tokens.len()).max().expect("at least one row");
        let mut batch = Self::empty([rows.len(), seq], rows, processor);
        let mut columns = Vec::with_capacity(rows.len() * seq);
        for row in rows {
            let missing = seq - row.tokens.len();
            let (left, right) = if side == Padding::Left { (missing, 0) } else { (0, missing) };
            batch.push_images(row, left);
            batch.push_targets(row, left);
            batch.tokens.extend(std::iter::repeat_n(0, left).chain(row.tokens.iter().copied()));
            batch.tokens.extend(std::iter::repeat_n(0, right));
            let (at, next) = row_positions(row, processor);
            columns.extend(std::iter::repeat_n([0; 3], left).chain(at).chain(std::iter::repeat_n([0; 3], right)));
            batch.padding.push(left);
            batch.next_positions.push(next);
        }
        batch.with_positions(columns, processor)
    }

    /// Puts rows one behind the other in a single one, without padding. No token sees another row's, positions begin anew with
    /// each, and loss and gradients are those of [`VlmBatch::collate`].
    ///
    /// # Panics
    /// If `rows` is empty.
    pub fn pack(rows: &[&Encoded], processor: &Processor) -> Self {
        assert!(!rows.is_empty(), "at least one row");
        let lengths: Vec<usize> = rows.iter().map(|row| row.tokens.len()).collect();
        let mut batch = Self::empty([1, lengths.iter().sum()], rows, processor);
        let mut columns = Vec::with_capacity(batch.n_tokens);
        if let ImageRows::Attended { slots, view } = &mut batch.image_rows {
            (*slots, view.spans, view.lengths) = (vec![vec![]], vec![vec![]], vec![batch.n_tokens]);
            (view.padding, view.starts) = (vec![0], vec![vec![]]);
        }
        for row in rows {
            batch.push_packed_images(row);
            batch.push_targets(row, 0);
            batch.tokens.extend_from_slice(&row.tokens);
            let (at, next) = row_positions(row, processor);
            columns.extend(at);
            batch.next_positions = vec![next];
        }
        batch.padding = vec![0];
        batch.packed = Some(lengths);
        batch.with_positions(columns, processor)
    }

    fn empty(dims: [usize; 2], rows: &[&Encoded], processor: &Processor) -> Self {
        Self {
            tokens: Vec::with_capacity(dims[0] * dims[1]),
            dims,
            positions: Positions::plain(0, 0..0),
            padding: Vec::new(),
            next_positions: Vec::new(),
            images: Vec::new(),
            image_rows: no_image_rows(rows, processor),
            targets: Vec::new(),
            n_tokens: rows.iter().map(|row| row.tokens.len()).sum(),
            packed: None,
            groups: Vec::new(),
            target_groups: Vec::new(),
        }
    }

    fn with_positions(mut self, columns: Vec<[i32; 3]>, processor: &Processor) -> Self {
        let batch = self.dims[0];
        self.positions = match processor.config().decoder.rope.mrope_section {
            Some(_) => Positions::MRope { batch, at: columns },
            None => Positions::Plain { batch, at: columns.into_iter().map(|[p, ..]| p).collect() },
        };
        self
    }

    /// The images of a row that goes behind those that are there.
    fn push_packed_images(&mut self, row: &Encoded) {
        if matches!(self.image_rows, ImageRows::Spliced(_)) {
            return self.push_images(row, 0);
        }
        let start = self.tokens.len();
        let images: Vec<usize> = row.images.iter().map(|image| self.place_of(image)).collect();
        let ImageRows::Attended { slots, view } = &mut self.image_rows else { unreachable!("spliced rows are done") };
        view.spans[0].extend(row_spans(row).into_iter().map(|span| ImageSpan {
            first: start + span.first,
            end: start + span.end,
            ..span
        }));
        view.starts[0].push(start);
        slots[0].extend(images);
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
                view.spans.push(row_spans(row));
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
        for (i, _) in counted {
            self.targets.push([start_of_row + i - 1, row.tokens[i] as usize]);
            self.push_group(row, i);
        }
    }

    /// Notes the group of a target. Targets of rows that name neither a source nor an exchange have the group "other", where any
    /// other row of the batch names one.
    fn push_group(&mut self, row: &Encoded, token: usize) {
        let name = match (row.source.as_deref(), row.task_of(token).map(AsRef::as_ref)) {
            (Some(source), Some(task)) => format!("{source}/{task}"),
            (Some(name), None) | (None, Some(name)) => name.to_owned(),
            (None, None) => "other".to_owned(),
        };
        let known = self.groups.iter().rposition(|group| *group == name);
        let group = known.unwrap_or_else(|| {
            self.groups.push(name);
            self.groups.len() - 1
        });
        self.target_groups.push(u16::try_from(group).expect("fewer groups than 65,536"));
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
    let view = ImageView { slot, spans: Vec::new(), padding: Vec::new(), lengths: Vec::new(), starts: Vec::new() };
    ImageRows::Attended { slots: Vec::new(), view }
}

/// Which of a row's tokens see which of its images.
fn row_spans(row: &Encoded) -> Vec<ImageSpan> {
    let open = row.images.iter().map(|image| open_rows(&image.layout));
    let placed: Vec<_> = row.image_starts.iter().copied().zip(open).collect();
    picture_spans(&placed, row.tokens.len())
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
        (Some(_), Some(token)) if row.rope == RopeMode::MRope => {
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

    fn groups(&self) -> &[String] {
        if self.groups == ["other"] { &[] } else { &self.groups }
    }

    fn target_groups(&self) -> &[u16] {
        if self.groups == ["other"] { &[] } else { &self.target_groups }
    }
}

impl VisionLanguageModel {
    /// The log-probability of each target token, `[n_targets]`, in f32. Only the rows that predict a target pass
    /// through the head.
    ///
    /// # Panics
    /// If the batch has no target.
    pub fn target_log_probabilities(&self, batch: &VlmBatch) -> Tensor<1> {
        let rows = self.target_hidden_states(batch, &mut Eager);
        self.token_losses(rows, batch, 0..batch.targets.len()).neg()
    }
}

impl Objective for VisionLanguageModel {
    type Batch = VlmBatch;

    /// The hidden states that predict a target.
    ///
    /// # Panics
    /// If the batch has no target.
    fn target_hidden_states<'a>(&'a self, batch: &VlmBatch, blocks: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
        let n = batch.targets.len();
        assert!(n > 0, "a batch without targets has no loss");
        let device = self.device();
        let mask = match &batch.packed {
            Some(lengths) => Some(AttentionMask::packed(std::slice::from_ref(lengths), batch.dims[1], &device)),
            None => AttentionMask::causal(&batch.padding, 0, batch.dims[1], &device),
        };
        let hidden = batch.with_input(|input| self.hidden_in_blocks(input, mask, blocks));
        let places: Vec<i32> = batch.targets.iter().map(|[place, _]| *place as i32).collect();
        let places = Tensor::<1, Int>::from_data(TensorData::new(places, [n]), &device);
        hidden.flatten::<2>(0, 1).select(0, places)
    }

    /// Parameters of the vision side and of cross-attention layers have no part in batches without images, and those that the
    /// encoder keeps for the files' sake have none in any.
    fn uses(&self, parameter: &str, batch: &VlmBatch) -> bool {
        let has_images = batch.n_images() > 0;
        match parameter.strip_prefix("vision.") {
            Some(parameter) => has_images && self.vision.as_ref().is_some_and(|vision| vision.uses(parameter)),
            None => has_images || !parameter.starts_with("language.cross_layers."),
        }
    }

    /// The cross-entropy of each target, in nats.
    fn token_losses(&self, hidden: Tensor<2>, batch: &VlmBatch, range: Range<usize>) -> Tensor<1> {
        let targets: Vec<u32> = batch.targets[range].iter().map(|[_, token]| *token as u32).collect();
        cross_entropy(self.language.logits(hidden), &targets)
    }
}
