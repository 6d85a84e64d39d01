use std::ops::Range;

use adamllm_nn::{
    AttentionMask, Batch, BlockExecutor, CrossAttentionView, Eager, ImageLayout, ImageSpan, LanguageBackbone,
    Objective, ParameterKind, Positions, VisionEncoder, cross_entropy, index_tensor,
};
use burn::tensor::Tensor;

use crate::{Encoded, EncodedImage, ImageInjection, ModelInput, Processor, RopeMode, VisionLanguageModel};

/// On which side short sequences are padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// For generation: all sequences end in the same column.
    Left,
    /// For training: all sequences start in the first.
    Right,
}

/// Sequences of equal length, on the host: what [`VisionLanguageModel`]s of any encoder and backbone read.
#[derive(Clone, Debug)]
pub struct VlmBatch {
    tokens: Vec<u32>,
    dims: [usize; 2],
    positions: Positions,
    /// Left padding of each batch element.
    padding: Vec<usize>,
    /// The position after the last token of each batch element.
    next_positions: Vec<i32>,
    images: Vec<EncodedImage>,
    injection: ImageInjection,
    /// `[index of the predicting token, token to predict]`.
    targets: Vec<[usize; 2]>,
    n_tokens: usize,
    /// The lengths of the sequences, where they follow each other in a single batch element.
    packed: Option<Vec<usize>>,
    /// Names of the groups of targets, and for each target its group.
    groups: Vec<String>,
    target_groups: Vec<u16>,
}

impl VlmBatch {
    /// Pads examples to the longest. An image that several examples share (the same [`adamllm_core::ImageRef`]) is kept once.
    ///
    /// # Panics
    /// If `examples` is empty.
    pub fn collate(examples: &[&Encoded], side: Padding, processor: &Processor) -> Self {
        let seq = examples.iter().map(|example| example.tokens.len()).max().expect("at least one example");
        let mut batch = Self::empty([examples.len(), seq], examples, processor);
        let mut columns = Vec::with_capacity(examples.len() * seq);
        for example in examples {
            let missing = seq - example.tokens.len();
            let (left, right) = if side == Padding::Left { (missing, 0) } else { (0, missing) };
            batch.push_images(example, left, processor);
            batch.push_targets(example, left);
            batch.tokens.extend(std::iter::repeat_n(0, left).chain(example.tokens.iter().copied()));
            batch.tokens.extend(std::iter::repeat_n(0, right));
            let (position_ids, next) = example_positions(example, processor);
            columns.extend(
                std::iter::repeat_n([0; 3], left).chain(position_ids).chain(std::iter::repeat_n([0; 3], right)),
            );
            batch.padding.push(left);
            batch.next_positions.push(next);
        }
        batch.with_positions(columns, processor)
    }

    /// Packs examples one after the other into a single batch element, without padding. No token attends to another example's,
    /// positions start anew with each, and loss and gradients are those of [`VlmBatch::collate`].
    ///
    /// # Panics
    /// If `examples` is empty.
    pub fn pack(examples: &[&Encoded], processor: &Processor) -> Self {
        assert!(!examples.is_empty(), "at least one example");

        let lengths: Vec<usize> = examples.iter().map(|example| example.tokens.len()).collect();
        let mut batch = Self::empty([1, lengths.iter().sum()], examples, processor);
        let mut columns = Vec::with_capacity(batch.n_tokens);

        // One batch element holds all examples: their images stand in one list of slots, and `starts` tells whose they
        // are.
        if let ImageInjection::CrossAttended { slots, view } = &mut batch.injection {
            (*slots, view.spans, view.lengths) = (vec![vec![]], vec![vec![]], vec![batch.n_tokens]);
            (view.padding, view.starts) = (vec![0], vec![vec![]]);
        }

        for example in examples {
            batch.push_packed_images(example, processor);
            batch.push_targets(example, 0);
            batch.tokens.extend_from_slice(&example.tokens);
            let (position_ids, next) = example_positions(example, processor);
            columns.extend(position_ids);
            // The last example's is left: what would follow the batch element follows that.
            batch.next_positions = vec![next];
        }

        batch.padding = vec![0];
        batch.packed = Some(lengths);
        batch.with_positions(columns, processor)
    }

    fn empty(dims: [usize; 2], examples: &[&Encoded], processor: &Processor) -> Self {
        Self {
            tokens: Vec::with_capacity(dims[0] * dims[1]),
            dims,
            positions: Positions::plain(0, 0..0),
            padding: Vec::new(),
            next_positions: Vec::new(),
            images: Vec::new(),
            injection: no_images(examples, processor),
            targets: Vec::new(),
            n_tokens: examples.iter().map(|example| example.tokens.len()).sum(),
            packed: None,
            groups: Vec::new(),
            target_groups: Vec::new(),
        }
    }

    fn with_positions(mut self, columns: Vec<[i32; 3]>, processor: &Processor) -> Self {
        let batch = self.dims[0];
        self.positions = match processor.config().decoder.rope.mrope_section {
            Some(_) => Positions::MRope { batch, position_ids: columns },
            None => Positions::Plain { batch, position_ids: columns.into_iter().map(|[p, ..]| p).collect() },
        };
        self
    }

    /// The images of an example that is packed after others.
    fn push_packed_images(&mut self, example: &Encoded, processor: &Processor) {
        if matches!(self.injection, ImageInjection::Embedded(_)) {
            return self.push_images(example, 0, processor);
        }
        let start = self.tokens.len();
        let images: Vec<usize> = example.images.iter().map(|image| self.index_of(image)).collect();
        let ImageInjection::CrossAttended { slots, view } = &mut self.injection else {
            unreachable!("embedded ones are done")
        };
        view.spans[0].extend(image_spans(example).into_iter().map(|span| ImageSpan {
            first: start + span.first,
            end: start + span.end,
            ..span
        }));
        view.starts[0].push(start);
        slots[0].extend(images);
    }

    fn push_images(&mut self, example: &Encoded, left: usize, processor: &Processor) {
        let start_of_example = self.tokens.len() + left;
        let images: Vec<usize> = example.images.iter().map(|image| self.index_of(image)).collect();
        match &mut self.injection {
            ImageInjection::Embedded(indices) => {
                for ((image, start), index) in example.images.iter().zip(&example.image_starts).zip(images) {
                    let first: usize = self.images[..index].iter().map(|i| i.layout().n_features).sum();
                    // What a family writes between an image's placeholders has no features.
                    let is_placeholder = |&token: &usize| Some(example.tokens[token]) == processor.image_token();
                    let placeholders = (*start..example.tokens.len()).filter(is_placeholder);
                    let features = first..first + image.layout().n_features;
                    indices.extend(placeholders.zip(features).map(|(token, i)| [start_of_example + token, i]));
                }
            }
            ImageInjection::CrossAttended { slots, view } => {
                view.spans.push(image_spans(example));
                view.padding.push(left);
                view.lengths.push(example.tokens.len());
                slots.push(images);
            }
        }
    }

    /// The image's index among the batch's images; an image that is there already is not added again.
    fn index_of(&mut self, image: &EncodedImage) -> usize {
        let known = self.images.iter().position(|i| i.image == image.image && i.layout() == image.layout());
        known.unwrap_or_else(|| {
            self.images.push(image.clone());
            self.images.len() - 1
        })
    }

    fn push_targets(&mut self, example: &Encoded, left: usize) {
        let start_of_example = self.tokens.len() + left;
        let counted = example.targets.iter().enumerate().skip(1).filter(|(_, target)| **target);
        for (i, _) in counted {
            self.targets.push([start_of_example + i - 1, example.tokens[i] as usize]);
            self.push_group(example, i);
        }
    }

    /// Notes the group of a target. Targets of examples that name neither a source nor a task have the group "other", where any
    /// other example of the batch names one.
    fn push_group(&mut self, example: &Encoded, token: usize) {
        let name = match (example.source.as_deref(), example.task_of(token).map(AsRef::as_ref)) {
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

    /// Left padding of each example.
    pub fn padding(&self) -> &[usize] {
        &self.padding
    }

    /// The position after the last token of each batch element.
    pub fn next_positions(&self) -> &[i32] {
        &self.next_positions
    }

    /// `batch * seq` positions.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// `batch * seq` token ids, padding included.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The images, each once.
    pub fn images(&self) -> &[EncodedImage] {
        &self.images
    }

    /// How image features reach the backbone.
    pub fn injection(&self) -> &ImageInjection {
        &self.injection
    }

    /// `[index of the predicting token among batch * seq, token to predict]` of each target.
    pub fn targets(&self) -> &[[usize; 2]] {
        &self.targets
    }

    /// The lengths of packed sequences; `None` where every batch element is one sequence.
    pub fn packed_lengths(&self) -> Option<&[usize]> {
        self.packed.as_deref()
    }

    /// Which tokens attend to which in the backbone.
    pub fn mask(&self, device: &burn::tensor::Device) -> Option<AttentionMask> {
        match &self.packed {
            Some(lengths) => Some(AttentionMask::packed(std::slice::from_ref(lengths), self.dims[1], device)),
            None => AttentionMask::causal(&self.padding, 0, self.dims[1], device),
        }
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
            injection: &self.injection,
        })
    }
}

/// How this family's image features reach the backbone, before any example is added.
fn no_images(examples: &[&Encoded], processor: &Processor) -> ImageInjection {
    if !processor.config().vision.as_ref().is_some_and(|vision| vision.is_cross_attended()) {
        return ImageInjection::Embedded(Vec::new());
    }
    let mut images = examples.iter().flat_map(|example| &example.images);
    let n_features = images.next().map_or(0, |image| image.layout().n_features);
    ImageInjection::CrossAttended { slots: Vec::new(), view: CrossAttentionView { n_features, ..Default::default() } }
}

/// Which of an example's tokens attend to which of its images.
fn image_spans(example: &Encoded) -> Vec<ImageSpan> {
    let unpadded = example.images.iter().map(|image| image.layout().n_unpadded_features);
    let images: Vec<_> = example.image_starts.iter().copied().zip(unpadded).collect();
    ImageSpan::of_images(&images, example.tokens.len())
}

/// Positions in the three-axis form, equal axes for plain ones, and the next position.
fn example_positions(example: &Encoded, processor: &Processor) -> (Vec<[i32; 3]>, i32) {
    match processor.image_token() {
        Some(token) if example.rope == RopeMode::MRope => {
            let images: Vec<&ImageLayout> = example.images.iter().map(EncodedImage::layout).collect();
            processor.config().family.positions(&example.tokens, token, &images)
        }
        _ => {
            let n = example.tokens.len() as i32;
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

impl<V: VisionEncoder, L: LanguageBackbone> VisionLanguageModel<V, L> {
    /// The log-probability of each target token, `[n_targets]`, in f32. Only the hidden states that predict a target pass
    /// through the head.
    ///
    /// # Panics
    /// If the batch has no target.
    pub fn target_log_probabilities(&self, batch: &VlmBatch) -> Tensor<1> {
        let hidden = self.target_hidden_states(batch, &mut Eager);
        self.token_losses(hidden, batch, 0..batch.targets.len()).neg()
    }
}

impl<V: VisionEncoder, L: LanguageBackbone> Objective for VisionLanguageModel<V, L> {
    type Batch = VlmBatch;

    /// The hidden states that predict a target.
    ///
    /// # Panics
    /// If the batch has no target.
    fn target_hidden_states<'a>(&'a self, batch: &VlmBatch, blocks: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
        let n = batch.targets.len();
        assert!(n > 0, "a batch without targets has no loss");
        let device = self.device();
        let hidden = batch.with_input(|input| self.hidden_with(input, batch.mask(&device), blocks));
        let indices = batch.targets.iter().map(|[index, _]| *index as i32).collect();
        hidden.flatten::<2>(0, 1).select(0, index_tensor(indices, &device))
    }

    /// Parameters of the vision encoder and of cross-attention layers have no part in batches without images, and those that an
    /// encoder keeps for the files' sake have none in any.
    fn uses(&self, parameter: &str, batch: &VlmBatch) -> bool {
        let has_images = batch.n_images() > 0;
        match (parameter.strip_prefix("vision."), parameter.strip_prefix("language.")) {
            (Some(name), _) => has_images && self.vision.as_ref().is_some_and(|vision| vision.uses(name)),
            (_, Some(name)) => self.language.uses(name, has_images),
            _ => true,
        }
    }

    fn parameter_kind(&self, parameter: &str) -> ParameterKind {
        let of_vision = parameter.strip_prefix("vision.").zip(self.vision.as_ref());
        let of_vision = of_vision.map(|(name, vision)| vision.parameter_kind(name));
        let of_language = || parameter.strip_prefix("language.").map(|name| self.language.parameter_kind(name));
        of_vision.or_else(of_language).unwrap_or(ParameterKind::Hidden)
    }

    /// The cross-entropy of each target, in nats.
    fn token_losses(&self, hidden: Tensor<2>, batch: &VlmBatch, range: Range<usize>) -> Tensor<1> {
        let targets: Vec<u32> = batch.targets[range].iter().map(|[_, token]| *token as u32).collect();
        cross_entropy(self.language.logits(hidden), &targets)
    }
}
