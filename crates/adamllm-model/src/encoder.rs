use std::sync::Arc;

use adamllm_core::{Conversation, CoreError, ImageRef, ImageStore, RgbImage, Role, Supervision};
use adamllm_nn::{ExampleSize, ImageLayout};
use adamllm_vision::preprocess::ImageProcessor;

use crate::draft::{Draft, Sequence};
use crate::image_limit::Shape;
use crate::processor::{layout_of, process, unusable};
use crate::text::Piece;
use crate::training_formats;
use crate::truncation::kept;
use crate::{Encoded, EncodedImage, Encoding, ModelError, Preset, Processor, Truncation};

/// Conversations to training examples by one set of rules: ids, loss mask and the offsets of images come from one pass.
///
/// Where a published tool had a trap, the preset does not copy it: special tokens' texts in a message are refused
/// ([`ModelError::SpecialTokenInText`]), not read as tokens, and Open-LLaVA-NeXT's habit of masking a whole example whose turns do not
/// tokenise alike together and apart has no counterpart.
///
/// ```no_run
/// use adamllm_core::{Conversation, MemoryImages, Message};
/// use adamllm_model::{Encoder, Encoding, ModelFolder, Padding, Processor, VlmBatch};
///
/// let processor = Processor::read(&ModelFolder::open("Qwen2-VL-2B-Instruct")?)?;
/// let encoder = Encoder::new(&processor, Encoding { max_tokens: Some(2048), ..Encoding::default() })?;
/// let messages = vec![Message::user("What is a cell?"), Message::assistant("The smallest unit of life.")];
/// let encoded = encoder.encode(&Conversation::new(messages, vec![]), &MemoryImages::new())?;
/// let batch = VlmBatch::collate(&[&encoded], Padding::Right, &processor);
/// # let _ = batch;
/// # Ok::<(), adamllm_model::ModelError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Encoder<'a> {
    processor: &'a Processor,
    encoding: Encoding,
    placeholder: String,
}

/// An encoded example whose images have not been read yet.
struct Plan {
    sequence: Sequence,
    layouts: Vec<ImageLayout>,
    /// Turns and images that are kept, from the first on.
    n_messages: usize,
    n_images: usize,
    /// Cuts the images, where not the model's own processor does.
    images: Option<Arc<dyn ImageProcessor>>,
}

impl<'a> Encoder<'a> {
    /// Checks the settings against the model.
    ///
    /// # Errors
    /// [`ModelError::Encoding`]; [`ModelError::TokenMissing`] where the tokenizer lacks a token that the preset writes.
    pub fn new(processor: &'a Processor, encoding: Encoding) -> Result<Self, ModelError> {
        encoding.validate(processor.config())?;
        training_formats::check(encoding.preset, processor.text())?;
        let placeholder = processor.image_token().and_then(|token| processor.text().token_text(token));
        Ok(Self { processor, encoding, placeholder: placeholder.unwrap_or_default() })
    }

    /// The settings.
    pub fn encoding(&self) -> &Encoding {
        &self.encoding
    }

    /// A training example.
    ///
    /// # Errors
    /// One conversation's faults: [`ModelError::Core`] (turns out of order, image count, an image that is missing or broken),
    /// [`ModelError::SpecialTokenInText`], [`ModelError::Template`], [`ModelError::NoVision`], [`ModelError::Image`],
    /// [`ModelError::TooLong`], [`ModelError::ImageCut`], [`ModelError::NoTargets`].
    pub fn encode(&self, conversation: &Conversation, store: &dyn ImageStore) -> Result<Encoded, ModelError> {
        self.processor.check(conversation)?;

        let decoded = conversation.images.iter().map(|image| Ok(store.open(image)?));
        let decoded: Vec<_> = decoded.collect::<Result<_, ModelError>>()?;
        let sizes: Vec<_> = decoded.iter().map(|image| image.dimensions()).collect();
        let plan = self.plan(conversation, &sizes)?;

        // Truncation may have taken the last turns, and their images with them.
        let mut images = Vec::with_capacity(plan.n_images);
        for (image, decoded) in conversation.images.iter().zip(&decoded).take(plan.n_images) {
            images.push(self.encode_image(self.cutter(plan.images.as_deref(), image)?, image, decoded)?);
        }

        let Sequence { tokens, targets, spans, image_starts } = plan.sequence;
        let task = |message: &adamllm_core::Message| message.task.as_deref().map(Arc::from);
        Ok(Encoded {
            id: conversation.id.clone(),
            tokens,
            targets,
            spans,
            images,
            image_starts,
            source: conversation.source.as_deref().map(Arc::from),
            tasks: conversation.messages[..plan.n_messages].iter().map(task).collect(),
            rope: self.encoding.rope,
        })
    }

    /// How large the example of [`Encoder::encode`] is, from the headers of its images.
    ///
    /// # Errors
    /// As [`Encoder::encode`], as far as an image's header shows them.
    pub fn example_size(&self, conversation: &Conversation, store: &dyn ImageStore) -> Result<ExampleSize, ModelError> {
        self.processor.check(conversation)?;
        let sizes = conversation.images.iter().map(|image| Ok(store.size(image)?));
        let sizes: Vec<_> = sizes.collect::<Result<_, ModelError>>()?;
        let plan = self.plan(conversation, &sizes)?;
        let (tokens, targets) = (plan.sequence.tokens.len(), plan.sequence.n_targets());
        let mut size = ExampleSize { tokens, targets, ..ExampleSize::default() };
        plan.layouts.iter().for_each(|layout| size.add_image(layout));
        Ok(size)
    }

    /// What cuts an image: the budget that an example shares, or the model's own processor.
    fn cutter<'p>(
        &'p self,
        shared: Option<&'p dyn ImageProcessor>,
        image: &ImageRef,
    ) -> Result<&'p dyn ImageProcessor, ModelError> {
        shared.map_or_else(|| self.processor.processor_for(image), Ok)
    }

    fn encode_image(
        &self,
        processor: &dyn ImageProcessor,
        image: &ImageRef,
        decoded: &RgbImage,
    ) -> Result<EncodedImage, ModelError> {
        let limited = self.encoding.image_limit.apply(decoded, self.shape()).map_err(|e| unusable(image, e))?;
        process(processor, image, &limited)
    }

    /// The example within the limit. `sizes` are those of the conversation's images, upright.
    fn plan(&self, conversation: &Conversation, sizes: &[(u32, u32)]) -> Result<Plan, ModelError> {
        let mut plan = self.whole(conversation, sizes)?;
        let limit = self.encoding.max_tokens.unwrap_or(usize::MAX);
        let tokens = plan.sequence.tokens.len();
        if tokens > limit {
            plan = match self.encoding.truncation {
                Truncation::DropSample => return Err(too_long(conversation, tokens, limit)),
                Truncation::DropTailTurns => self.without_tail(conversation, sizes, tokens, limit)?,
                Truncation::ShrinkImages => self.with_small_images(conversation, sizes, plan, limit)?,
                Truncation::LlamaFactory => self.cut(conversation, plan, limit)?,
            };
        }
        if plan.sequence.n_targets() == 0 && !self.encoding.allow_no_targets {
            return Err(ModelError::NoTargets { record: conversation.id.to_string() });
        }
        Ok(plan)
    }

    /// The example, however long.
    fn whole(&self, conversation: &Conversation, sizes: &[(u32, u32)]) -> Result<Plan, ModelError> {
        let draft = self.draft(conversation)?;
        let (markers, images) = (draft.n_images(self.processor), sizes.len());
        if markers != images {
            return Err(CoreError::ImageCount { record: conversation.id.to_string(), markers, images }.into());
        }
        self.laid_out(conversation, &draft, sizes, None)
    }

    fn laid_out(
        &self,
        conversation: &Conversation,
        draft: &Draft,
        sizes: &[(u32, u32)],
        images: Option<Arc<dyn ImageProcessor>>,
    ) -> Result<Plan, ModelError> {
        let mut layouts = Vec::with_capacity(sizes.len());
        for (image, &size) in conversation.images.iter().zip(sizes) {
            let processor = self.cutter(images.as_deref(), image)?;
            layouts.push(layout_of(processor, image, self.limited(size))?);
        }
        let tokens = layouts.iter().map(|layout| self.processor.image_tokens(layout));
        let sequence = draft.expand(&tokens.collect::<Result<Vec<_>, _>>()?, self.processor);
        Ok(Plan { sequence, n_messages: conversation.messages.len(), n_images: layouts.len(), layouts, images })
    }

    fn limited(&self, size: (u32, u32)) -> (u32, u32) {
        self.encoding.image_limit.steps(size, self.shape()).last().copied().unwrap_or(size)
    }

    fn shape(&self) -> Shape {
        let keeps = self.processor.config().vision.as_ref().is_some_and(|vision| vision.keeps_image_shape());
        if keeps { Shape::Merged } else { Shape::Any }
    }

    fn draft(&self, conversation: &Conversation) -> Result<Draft, ModelError> {
        let supervision = self.encoding.supervision;
        let text = self.processor.text();
        let mut draft = Draft::default();

        match self.encoding.preset {
            Preset::ChatTemplate => {
                let segments = self.processor.segments(conversation, supervision)?;
                for Piece { tokens, message, target } in text.encode_segments(&segments)? {
                    draft.push(tokens, message, target);
                }
            }
            preset => {
                for segment in training_formats::segments(preset, conversation, supervision, &self.placeholder)? {
                    draft.push(text.encode(&segment.text, false)?, segment.message, segment.target);
                }
            }
        }

        // The synthesizer must learn to end its text after the last turn too (paper, section 3.1).
        if supervision == Supervision::AfterFirstExchange
            && let Some(end) = text.end_of_text()
        {
            draft.push(vec![end], conversation.messages.len().checked_sub(1), true);
        }

        Ok(draft)
    }

    fn without_tail(
        &self,
        conversation: &Conversation,
        sizes: &[(u32, u32)],
        tokens: usize,
        limit: usize,
    ) -> Result<Plan, ModelError> {
        let mut shorter = conversation.clone();
        while let Some(last_user) = shorter.messages.iter().rposition(|message| message.role == Role::User) {
            // The last request goes with its reply: what is left ends with a reply.
            shorter.messages.truncate(last_user);
            if !shorter.messages.iter().any(|message| message.role == Role::Assistant) {
                break;
            }

            shorter.images.truncate(shorter.n_image_markers());
            let plan = self.whole(&shorter, &sizes[..shorter.images.len()])?;
            if plan.sequence.tokens.len() <= limit {
                // What is even shorter has no more targets.
                let has_targets = plan.sequence.n_targets() > 0;
                return if has_targets { Ok(plan) } else { Err(too_long(conversation, tokens, limit)) };
            }
        }

        Err(too_long(conversation, tokens, limit))
    }

    fn with_small_images(
        &self,
        conversation: &Conversation,
        sizes: &[(u32, u32)],
        plan: Plan,
        limit: usize,
    ) -> Result<Plan, ModelError> {
        let tokens = plan.sequence.tokens.len();
        let words = tokens - plan.layouts.iter().map(|layout| layout.n_placeholders).sum::<usize>();
        let fault = || too_long(conversation, tokens, limit);
        let room = limit.checked_sub(words).ok_or_else(fault)?;
        let sizes: Vec<_> = sizes.iter().map(|&size| self.limited(size)).collect();
        let small = self.processor.image_processor().and_then(|processor| processor.shrunk(&sizes, room));
        let small = small.ok_or_else(fault)?;
        // The sizes are limited already, which a second time changes nothing.
        self.laid_out(conversation, &self.draft(conversation)?, &sizes, Some(small))
    }

    fn cut(&self, conversation: &Conversation, plan: Plan, limit: usize) -> Result<Plan, ModelError> {
        let is_reply = |message: usize| conversation.messages[message].role == Role::Assistant;
        let exchanges = plan.sequence.exchanges(is_reply);
        let from_last = self.encoding.supervision == Supervision::LastReply;
        let ranges = kept(&exchanges, limit, from_last);
        let image_cut = |image: usize| ModelError::ImageCut {
            record: conversation.id.to_string(),
            image: conversation.images[image].to_string(),
            limit,
        };
        let sequence = plan.sequence.keep(&ranges).map_err(image_cut)?;
        Ok(Plan { sequence, ..plan })
    }
}

fn too_long(conversation: &Conversation, tokens: usize, limit: usize) -> ModelError {
    ModelError::TooLong { record: conversation.id.to_string(), tokens, limit }
}
