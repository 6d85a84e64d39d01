use std::sync::Arc;

use adamllm_core::random::named_stream;
use adamllm_core::{
    Completion, Decoding, Finish, Generate, ImageRef, ImageStore, Prompt, Sampling, ScoreRequest, TurnMarkers,
};
use adamllm_language::{
    DecodeRequest, DecodedSequence, Decoder, EndReason, PromptRequest, Sampler, SamplingRule, decode,
};
use adamllm_nn::{FrozenForm, LanguageBackbone, VisionEncoder};
use adamllm_vision::preprocess::PixelRange;
use burn::tensor::{DType, Device, TensorData, activation};

use crate::image_cache::ImageCache;
use crate::{
    AutoVisionEncoder, Encoded, FrozenLayers, GenerationDefaults, ModelError, ModelFolder, Padding, Processor,
    VisionLanguageModel, VlmBatch,
};

/// A model in this process, with its processor and its source of images.
///
/// ```no_run
/// use std::sync::Arc;
/// use adamllm_core::{Decoding, Generate, MemoryImages, Prompt, RgbImage};
/// use adamllm_model::{LocalModel, ModelFolder};
/// use burn::tensor::{DType, Device};
///
/// let mut images = MemoryImages::new();
/// images.insert("red.png", RgbImage::from_pixel(64, 64, [200, 0, 0].into()));
/// let folder = ModelFolder::open("Qwen2-VL-2B-Instruct")?;
/// let model = LocalModel::load(&folder, DType::F32, &Device::default(), Arc::new(images))?;
/// let prompt = Prompt::ask(&"red.png".into(), "Which color is this?");
/// for answer in model.generate(&[prompt], &Decoding::greedy(16)) {
///     println!("{}", answer?.text);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct LocalModel<V: VisionEncoder = AutoVisionEncoder, L: LanguageBackbone = Decoder> {
    model: VisionLanguageModel<V, L>,
    processor: Processor,
    images: Arc<dyn ImageStore>,
    identity: String,
    limits: BatchLimits,
}

/// How much goes through the model at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Prompts in a batch.
    pub prompts: usize,
    /// Tokens in a batch, padding and room for the answers included.
    pub tokens: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { prompts: 16, tokens: 32_768 }
    }
}

impl<V: VisionEncoder, L: LanguageBackbone> std::fmt::Debug for LocalModel<V, L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalModel").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl LocalModel {
    /// Reads a model folder.
    ///
    /// # Errors
    /// As [`ModelFolder::load`] and [`Processor::read`].
    pub fn load(
        folder: &ModelFolder,
        dtype: DType,
        device: &Device,
        images: Arc<dyn ImageStore>,
    ) -> Result<Self, ModelError> {
        Self::load_frozen(folder, dtype, None, device, images)
    }

    /// As [`LocalModel::load`], with every linear layer in a smaller form, embedding and output head as they stand in the file; `None` for all weights in
    /// `dtype`.
    ///
    /// # Errors
    /// As [`LocalModel::load`].
    pub fn load_frozen(
        folder: &ModelFolder,
        dtype: DType,
        form: Option<FrozenForm>,
        device: &Device,
        images: Arc<dyn ImageStore>,
    ) -> Result<Self, ModelError> {
        let processor = Processor::read(folder)?;
        // The weights are hashed for the identity while they are read: both want every page of the files.
        let (fingerprint, model) = std::thread::scope(|scope| {
            let fingerprint = scope.spawn(|| folder.fingerprint());
            let model = match form {
                None => folder.load(dtype, device),
                Some(form) => folder.load_frozen(dtype, device, &FrozenLayers::all(form), &mut ()),
            };
            (fingerprint.join().expect("hashing does not panic"), model)
        });
        let model = model?;
        // Weights in 8 and 4 bits give other answers; those in the file's form do not.
        let form = form.filter(|form| *form != FrozenForm::Stored).map(|form| format!(":{form:?}")).unwrap_or_default();
        let identity = format!("{}:{}:{dtype:?}{form}", folder.config().family.as_str(), fingerprint?);
        Ok(Self::new(model, processor, images, identity))
    }
}

impl<V: VisionEncoder, L: LanguageBackbone> LocalModel<V, L> {
    /// Joins parts that are already in memory. `identity` must change whenever the weights do.
    pub fn new(
        model: VisionLanguageModel<V, L>,
        processor: Processor,
        images: Arc<dyn ImageStore>,
        identity: String,
    ) -> Self {
        let text = processor.text();
        let generation = text.generation();
        if let Some(taken) = generation.summary() {
            // A warning, since it makes the answers others than those of plain greedy decoding.
            tracing::warn!(
                "answers follow the folder's generation settings where a request says nothing else: {taken}"
            );
        }
        if generation.do_sample {
            tracing::info!(
                "the folder's generation settings ask for random draws; answers are greedy unless a request draws"
            );
        }
        // What the answers depend on beside weights and request: the folder's defaults, and the date in its template.
        let mut identity = format!("{identity}:{}", generation.identity());
        if let Some(variant) = text.template().and_then(crate::ChatTemplate::variant) {
            identity = format!("{identity}:{variant}");
        }
        let range = processor.pixel_range();
        if !range.is_empty() {
            let PixelRange { min_pixels, max_pixels } = range;
            identity = format!("{identity}:pixels {min_pixels:?} to {max_pixels:?}");
        }
        Self { model, processor, images, identity, limits: BatchLimits::default() }
    }

    /// Other limits for a batch.
    pub fn with_limits(mut self, limits: BatchLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The weights.
    pub fn model(&self) -> &VisionLanguageModel<V, L> {
        &self.model
    }

    /// The processor.
    pub fn processor(&self) -> &Processor {
        &self.processor
    }

    /// Where images come from.
    pub fn images(&self) -> &dyn ImageStore {
        &*self.images
    }

    /// What the model's folder recommends for answers. Requests follow it unless they say otherwise; whether they draw at
    /// random, and how long answers may be, is always the request's to say.
    pub fn generation_defaults(&self) -> &GenerationDefaults {
        self.processor.text().generation()
    }

    /// [`Generate::generate`] that hands every new piece of text over as it is written: `on_text(prompt, text so far)`.
    pub fn generate_with(
        &self,
        prompts: &[Prompt],
        options: &Decoding,
        mut on_text: impl FnMut(usize, &str),
    ) -> Vec<Result<Completion, ModelError>> {
        // Without the model's defaults only its end tokens remain.
        let none = GenerationDefaults::default();
        let defaults = if options.model_defaults { self.generation_defaults() } else { &none };
        let mut answers: Vec<Option<Result<Completion, ModelError>>> = prompts.iter().map(|_| None).collect();
        let mut ready = Vec::new();
        let mut cache = ImageCache::default();
        for (i, prompt) in prompts.iter().enumerate() {
            let prepared =
                defaults.rules(options.repetition_penalty).and_then(|_| self.prepare(prompt, options, &mut cache));
            match prepared {
                Ok(encoded) => ready.push((i, encoded)),
                Err(error) => answers[i] = Some(Err(error)),
            }
        }
        let batches = schedule(ready, self.limits, options.max_new_tokens);
        cache.expect(batches.iter().map(|batch| distinct_images(batch)));
        for batch in batches {
            for (i, completion) in self.run(&batch, prompts, (options, defaults), &mut cache, &mut on_text) {
                answers[i] = Some(completion);
            }
        }
        answers.into_iter().map(|answer| answer.expect("every prompt is either refused or scheduled")).collect()
    }

    fn prepare(&self, prompt: &Prompt, options: &Decoding, cache: &mut ImageCache) -> Result<Encoded, ModelError> {
        let open = |image: &ImageRef| cache.encode(image, &self.processor, &*self.images);
        let encoded = self.processor.encode_prompt_with(prompt, open)?;
        self.check_context(&encoded, options.max_new_tokens, options.max_context)?;
        Ok(encoded)
    }

    fn check_context(&self, encoded: &Encoded, new: usize, limit: Option<usize>) -> Result<(), ModelError> {
        let model_limit = self.processor.config().max_context;
        let limit = limit.map_or(model_limit, |limit| limit.min(model_limit));
        let prompt = encoded.tokens.len();
        // An answer may be shorter than its limit, so only a prompt that leaves no room at all is refused.
        if prompt + new.min(1) > limit {
            return Err(ModelError::ContextOverflow { record: encoded.id.to_string(), prompt, new, limit });
        }
        Ok(())
    }

    fn run(
        &self,
        batch: &[(usize, Encoded)],
        prompts: &[Prompt],
        (options, defaults): (&Decoding, &GenerationDefaults),
        cache: &mut ImageCache,
        on_text: &mut impl FnMut(usize, &str),
    ) -> Vec<(usize, Result<Completion, ModelError>)> {
        let examples: Vec<&Encoded> = batch.iter().map(|(_, encoded)| encoded).collect();
        let collated = VlmBatch::collate(&examples, Padding::Left, &self.processor);

        let limit = self.processor.config().max_context.min(options.max_context.unwrap_or(usize::MAX));

        let requests = batch.iter().enumerate().map(|(b, (i, encoded))| {
            let n_tokens = encoded.tokens.len();
            let max_new_tokens = options.max_new_tokens.min(limit.saturating_sub(n_tokens));
            let next_position = collated.next_positions()[b];
            let sampler = sampler(options, defaults, &prompts[*i]);

            let mut request = PromptRequest::new(&encoded.tokens, next_position, max_new_tokens, sampler);
            request.padding = collated.padding()[b];
            request.min_new_tokens = match options.min_new_tokens {
                0 => defaults.min_new_tokens_for(n_tokens),
                n => n,
            };
            request
        });

        // A text of several turns goes on after the end of a turn.
        let through = self.processor.text().end_tokens_through_turns();
        let end_tokens = if options.through_turns { &through } else { self.processor.text().end_tokens() };

        // Each image goes through the encoder once, however many prompts of the batch have it.
        let embedded =
            collated.with_input(|input| self.model.embed_with(input, cache.features(input.images, &self.model)));

        let mut request =
            DecodeRequest::new(embedded.embeddings, collated.positions().clone(), requests.collect(), end_tokens);
        (request.layer_features, request.images) = (embedded.layer_features, embedded.images);

        // Over the whole text, since a stop string may lie across tokens.
        let stop = |b: usize, tokens: &[u32]| {
            let text = self.processor.text().decode(tokens, options.keep_special_tokens).unwrap_or_default();
            on_text(batch[b].0, &text);
            options.stop.iter().any(|stop| text.contains(stop.as_str()))
        };

        let answers = decode(&self.model.language, request, stop);
        let complete = |((i, encoded), answer): (&(usize, Encoded), DecodedSequence)| {
            (*i, self.complete(encoded, &answer, options, end_tokens))
        };

        batch.iter().zip(answers).map(complete).collect()
    }

    fn complete(
        &self,
        encoded: &Encoded,
        answer: &DecodedSequence,
        options: &Decoding,
        end_tokens: &[u32],
    ) -> Result<Completion, ModelError> {
        // The token that ended the answer is no part of its text, unless special tokens are asked for.
        let ended = answer.tokens.last().is_some_and(|t| end_tokens.contains(t)) && !options.keep_special_tokens;
        let tokens = &answer.tokens[..answer.tokens.len() - usize::from(ended)];
        let mut text = self.processor.text().decode(tokens, options.keep_special_tokens)?;
        if let Some(end) = options.stop.iter().filter_map(|stop| text.find(stop.as_str())).min() {
            text.truncate(end);
        }
        let finish = if answer.end == EndReason::Stop { Finish::Stop } else { Finish::Length };
        Ok(Completion::new(text).ended_by(finish).with_tokens(answer.tokens.clone(), encoded.tokens.len()))
    }

    /// Log-probabilities of one request's continuations: one pass if each is a single token, else a pass for each.
    fn score_one(&self, request: &ScoreRequest) -> Result<Vec<f64>, ModelError> {
        let encoded = self.processor.encode_prompt(&request.prompt, &*self.images)?;
        let text = self.processor.text();
        let continuations: Vec<Vec<u32>> =
            request.continuations.iter().map(|c| text.encode(c, false)).collect::<Result<_, _>>()?;
        let longest = continuations.iter().map(Vec::len).max().unwrap_or(0);
        self.check_context(&encoded, longest, None)?;
        if continuations.iter().all(|c| c.len() == 1) {
            return Ok(self.next_token_log_probabilities(&encoded, &continuations));
        }
        continuations.iter().map(|c| Ok(self.continuation_log_probability(&encoded, c))).collect()
    }

    fn next_token_log_probabilities(&self, encoded: &Encoded, tokens: &[Vec<u32>]) -> Vec<f64> {
        let logits = self.last_logits(encoded);
        let log_probabilities: Vec<f32> = activation::log_softmax(
            burn::tensor::Tensor::<1>::from_data(
                TensorData::new(logits.clone(), [logits.len()]),
                &self.model.device().without_autodiff(),
            ),
            0,
        )
        .into_data()
        .try_to_vec()
        .expect("f32");
        tokens.iter().map(|t| f64::from(log_probabilities[t[0] as usize])).collect()
    }

    /// The logits of the token after a prompt, in f32.
    pub fn last_logits(&self, encoded: &Encoded) -> Vec<f32> {
        let batch = VlmBatch::collate(&[encoded], Padding::Left, &self.processor);
        let hidden = batch.with_input(|input| self.model.hidden(input, batch.padding()));
        let [_, seq, _] = hidden.dims();
        let logits = self.model.language.logits(hidden.narrow(1, seq - 1, 1).flatten(0, 1));
        logits.into_data().convert::<f32>().try_into_vec().expect("converted")
    }

    fn continuation_log_probability(&self, prompt: &Encoded, continuation: &[u32]) -> f64 {
        let mut whole = prompt.clone();
        whole.targets = vec![false; whole.tokens.len()];
        whole.tokens.extend_from_slice(continuation);
        whole.targets.extend(std::iter::repeat_n(true, continuation.len()));
        if continuation.is_empty() {
            return 0.0;
        }
        let batch = VlmBatch::collate(&[&whole], Padding::Right, &self.processor);
        f64::from(self.model.target_log_probabilities(&batch).sum().into_scalar::<f32>())
    }
}

impl<V: VisionEncoder, L: LanguageBackbone> Generate for LocalModel<V, L> {
    type Error = ModelError;

    fn generate(&self, prompts: &[Prompt], options: &Decoding) -> Vec<Result<Completion, ModelError>> {
        self.generate_with(prompts, options, |_, _| ())
    }

    fn score(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<f64>, ModelError>> {
        requests.iter().map(|request| self.score_one(request)).collect()
    }

    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn turn_markers(&self) -> Option<TurnMarkers> {
        self.processor.text().turn_markers().cloned()
    }
}

/// The images that a batch's prompts ask about, each once.
fn distinct_images(batch: &[(usize, Encoded)]) -> Vec<&ImageRef> {
    let mut images: Vec<&ImageRef> =
        batch.iter().flat_map(|(_, prompt)| prompt.images.iter().map(|i| &i.image)).collect();
    images.sort();
    images.dedup();
    images
}

/// Prompts of similar length together, within the limits.
fn schedule(
    mut ready: Vec<(usize, Encoded)>,
    limits: BatchLimits,
    max_new_tokens: usize,
) -> Vec<Vec<(usize, Encoded)>> {
    ready.sort_by_key(|(i, encoded)| (encoded.tokens.len(), *i));
    let mut batches: Vec<Vec<(usize, Encoded)>> = Vec::new();
    for (i, encoded) in ready {
        let width = encoded.tokens.len() + max_new_tokens;
        let fits = |batch: &Vec<_>| batch.len() < limits.prompts && (batch.len() + 1) * width <= limits.tokens;
        match batches.last_mut().filter(|batch| fits(batch)) {
            Some(batch) => batch.push((i, encoded)),
            None => batches.push(vec![(i, encoded)]),
        }
    }
    batches
}

/// A sampler whose stream depends on the seed and the prompt, never on the batch.
fn sampler(options: &Decoding, defaults: &GenerationDefaults, prompt: &Prompt) -> Sampler {
    let (rule, seed) = match options.sampling {
        Sampling::Greedy => (SamplingRule::Greedy, 0),
        Sampling::Random { temperature, top_k, top_p, seed } => {
            (SamplingRule::Random { temperature, top_k, top_p }, seed)
        }
    };
    let name = match prompt {
        Prompt::Chat { conversation, open } => format!("{}:{}", open.as_str(), conversation.content_id()),
        Prompt::Text(text) => adamllm_core::RecordId::of("text-prompt", [text.as_str()]).to_string(),
    };
    // Settings that are refused were refused before the prompt was encoded.
    let rules = defaults.rules(options.repetition_penalty).unwrap_or_default();
    Sampler::new(rule, named_stream(seed, "sampling", &name), rules)
}
