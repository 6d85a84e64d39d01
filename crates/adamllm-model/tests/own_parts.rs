//! Parts that this crate does not bring: a backbone of one's own after a real encoder, an encoder of one's own before a real
//! decoder, and a family from outside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use adamllm_core::{
    Conversation, Decoding, Generate, ImageRef, MemoryImages, Message, Prompt, RgbImage, Role, Supervision,
};
use adamllm_model::family::{ConfigFile, ModelFamily, PartKeys};
use adamllm_model::{
    Encoder, Encoding, Families, Family, LocalModel, ModelConfig, ModelError, ModelFolder, ModelPart, Padding,
    Processor, VisionConfig, VisionLanguageModel, VlmBatch,
};
use adamllm_nn::{
    BackboneInput, BlockExecutor, Eager, ExampleSize, ImageLayout, KeyValueCache, LanguageBackbone, Linear,
    LinearConfig, LoraConfig, Objective, Parameters, PixelValues, VisionEncoder, run_block, snapshots,
};
use adamllm_vision::preprocess::{ImageProcessor, PreprocessError};
use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use rand::{RngExt as _, SeedableRng as _};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn images() -> MemoryImages {
    let mut images = MemoryImages::new();
    for (name, phase) in [("a.png", 3), ("b.png", 7)] {
        let mut image = RgbImage::new(64, 48);
        image.enumerate_pixels_mut().for_each(|(x, y, p)| p.0 = [(x * phase) as u8, (y * 5) as u8, (x + y) as u8]);
        images.insert(name, image);
    }
    images
}

fn conversation(request: &str, reply: &str, images: &[&str]) -> Conversation {
    let message = |role, content: &str| Message::new(role, content);
    let messages = vec![message(Role::User, request), message(Role::Assistant, reply)];
    Conversation::new(messages, images.iter().map(|&name| ImageRef::from(name)).collect())
}

/// Weights between -1 and 1 times `scale`, the same in every run: random ones would now and then answer both images alike.
fn weights(shape: [usize; 2], scale: f32, seed: u64, device: &Device) -> Param<Tensor<2>> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let values = (0..shape[0] * shape[1]).map(|_| rng.random_range(-scale..scale)).collect();
    Param::from_tensor(Tensor::from_data(TensorData::new::<f32, _>(values, shape), device))
}

fn linear(d_input: usize, d_output: usize, seed: u64, device: &Device) -> Linear {
    Linear {
        weight: weights([d_output, d_input], 0.8, seed, device).into(),
        ..LinearConfig::new(d_input, d_output).init(device)
    }
}

/// A bag of words: what has been read so far, averaged, through one layer. Nothing of it is a transformer.
#[derive(Module, Debug)]
struct BagOfWords {
    words: Param<Tensor<2>>,
    mix: Linear,
    head: Linear,
}

#[derive(Debug)]
struct Sums {
    sum: Option<Tensor<3>>,
    length: usize,
}

impl KeyValueCache for Sums {
    fn len(&self) -> usize {
        self.length
    }
}

impl BagOfWords {
    fn new(vocab_size: usize, d_model: usize, device: &Device) -> Self {
        Self {
            words: weights([vocab_size, d_model], 1.7, 1, device),
            mix: linear(d_model, d_model, 2, device),
            head: linear(d_model, vocab_size, 3, device),
        }
    }

    fn mixed(&self, sums: Tensor<3>) -> Tensor<3> {
        self.mix.forward(sums).tanh()
    }
}

impl LanguageBackbone for BagOfWords {
    type Cache = Sums;

    fn embed(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        burn::tensor::module::embedding(self.words.val(), tokens)
    }

    fn forward<'a>(&'a self, input: BackboneInput, blocks: &mut dyn BlockExecutor<'a>) -> Tensor<3> {
        let sums = input.embeddings.cumsum(1);
        run_block(blocks, self, vec![sums], |backbone, x| backbone.mixed(x[0].clone()))
    }

    fn forward_cached(&self, input: BackboneInput, cache: &mut Sums) -> Tensor<3> {
        let [batch, seq, d_model] = input.embeddings.dims();
        let sums = match cache.sum.take() {
            Some(past) => input.embeddings.cumsum(1) + past,
            None => input.embeddings.cumsum(1),
        };
        cache.sum = Some(sums.clone().slice([0..batch, seq - 1..seq, 0..d_model]));
        cache.length += seq;
        self.mixed(sums)
    }

    fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        self.head.forward(hidden)
    }

    fn cache(&self, _capacity: usize) -> Sums {
        Sums { sum: None, length: 0 }
    }

    fn linear_layers_mut(&mut self) -> Vec<(String, &mut Linear)> {
        vec![("mix".into(), &mut self.mix)]
    }

    fn device(&self) -> Device {
        self.words.val().device()
    }

    fn dtype(&self) -> DType {
        self.words.val().dtype()
    }
}

/// One feature for each quarter of an image: its mean colours through one layer.
#[derive(Module, Debug)]
struct MeanColours {
    layer: Linear,
}

#[derive(Debug)]
struct Quarters;

impl ImageProcessor for Quarters {
    fn layout(&self, width: u32, height: u32) -> Result<ImageLayout, PreprocessError> {
        match width.min(height) {
            0 | 1 => Err(PreprocessError::NoPixels { width, height }),
            _ => Ok(ImageLayout::embedded(4, vec![4, 3])),
        }
    }

    fn process(&self, image: &RgbImage) -> Result<PixelValues, PreprocessError> {
        let layout = self.layout(image.width(), image.height())?;
        let (w, h) = (image.width() / 2, image.height() / 2);
        let mut values = Vec::with_capacity(12);
        for (x, y) in [(0, 0), (w, 0), (0, h), (w, h)] {
            for channel in 0..3 {
                let pixels = (y..y + h).flat_map(|y| (x..x + w).map(move |x| (x, y)));
                let sum: f32 = pixels.map(|(x, y)| f32::from(image.get_pixel(x, y).0[channel])).sum();
                values.push(sum / (w * h) as f32 / 255.0 - 0.5);
            }
        }
        Ok(PixelValues::new(values, layout))
    }
}

impl VisionEncoder for MeanColours {
    fn encode<'a>(&'a self, images: &[&PixelValues], blocks: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
        let device = self.layer.weight.val().device();
        let values: Vec<f32> = images.iter().flat_map(|image| image.values.iter().copied()).collect();
        let pixels = Tensor::<3>::from_data(TensorData::new(values, [images.len(), 4, 3]), &device);
        run_block(blocks, &self.layer, vec![pixels], |layer, x| layer.forward(x[0].clone())).flatten(0, 1)
    }
}

#[derive(Debug)]
struct MeanColoursConfig;

impl VisionConfig for MeanColoursConfig {
    fn image_processor(&self, _folder: &Path) -> Result<Arc<dyn ImageProcessor>, ModelError> {
        Ok(Arc::new(Quarters))
    }

    fn n_blocks(&self) -> usize {
        1
    }

    fn forward_flops(&self, size: &ExampleSize) -> f64 {
        size.patches as f64 * 6.0
    }
}

fn batch(processor: &Processor, supervision: Supervision, conversations: &[Conversation]) -> VlmBatch {
    let encoder = Encoder::new(processor, Encoding { supervision, ..Encoding::default() }).expect("fits");
    let encoded: Vec<_> = conversations.iter().map(|c| encoder.encode(c, &images()).expect("encodes")).collect();
    VlmBatch::collate(&encoded.iter().collect::<Vec<_>>(), Padding::Right, processor)
}

/// Generation by the cache equals choosing the argmax of whole passes, and an image changes what is written.
#[test]
fn a_backbone_of_ones_own_after_a_real_encoder() {
    let folder = ModelFolder::open(fixtures().join("qwen2_vl/model")).expect("opens");
    let device = Device::flex();
    let processor = Processor::read(&folder).expect("reads");
    let vision = folder.load_vision(DType::F32, &device).expect("loads");
    let decoder = &folder.config().decoder;
    let backbone = BagOfWords::new(decoder.vocab_size + decoder.n_extra_embeddings, decoder.d_model, &device);
    let model = VisionLanguageModel::new(Some(vision), backbone);

    // One loss, and parts, for training.
    let examples = [conversation("<image> What?", "Red.", &["a.png"]), conversation("<image>", "Blue.", &["b.png"])];
    let trained = batch(&processor, Supervision::Replies, &examples);
    assert!(model.loss_sum(&trained).into_scalar::<f32>().is_finite());
    assert!(model.uses("language.words", &trained) && model.uses("vision.patch_embedding.weight", &trained));
    assert!(Parameters::of(&model).names().iter().all(|name| ModelPart::of(name).is_some()));

    let prompt = |image: &str| {
        let request = Message::new(Role::User, "<image> What is it?");
        Prompt::chat(vec![request], vec![ImageRef::from(image)])
    };
    let local = LocalModel::new(model, processor, Arc::new(images()), "bag-of-words".into());
    let prompts = [prompt("a.png"), prompt("b.png")];
    let options = Decoding { model_defaults: false, min_new_tokens: 6, ..Decoding::greedy(6) };
    let answers: Vec<Vec<u32>> =
        local.generate(&prompts, &options).into_iter().map(|answer| answer.expect("answers").tokens).collect();
    assert_ne!(answers[0], answers[1], "the images differ");
    for (prompt, answer) in prompts.iter().zip(&answers) {
        let mut encoded = local.processor().encode_prompt(prompt, &images()).expect("encodes");
        let end_tokens = local.processor().text().end_tokens();
        for &token in answer {
            let mut logits = local.last_logits(&encoded);
            end_tokens.iter().for_each(|&end| logits[end as usize] = f32::NEG_INFINITY);
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("a vocabulary");
            assert_eq!(best as u32, token);
            encoded.tokens.push(token);
            encoded.targets.push(false);
        }
    }
}

/// Low-rank adapters go on the layers that the backbone names.
#[test]
fn adapters_beside_the_layers_of_a_backbone_of_ones_own() {
    let device = Device::flex().autodiff();
    let model = VisionLanguageModel::<MeanColours, BagOfWords>::new(None, BagOfWords::new(20, 8, &device));
    let lora = |target: &str| LoraConfig::new(2, 4.0).with_targets([target]);
    let adapted = model.clone().with_lora(&lora("mix")).expect("names a layer");
    assert!(Parameters::of(&adapted).names().contains(&"language.mix.lora.a"));
    let error = model.with_lora(&lora("query")).expect_err("names none").to_string();
    assert!(error.contains("query") && error.contains("mix"), "{error}");
}

/// An encoder of one's own before a text-only folder's decoder: examples with images, the same loss packed and padded, a gradient
/// for the encoder, and a folder that holds both and loads again.
#[test]
fn an_encoder_of_ones_own_before_a_folders_decoder() {
    let base = ModelFolder::open(fixtures().join("llama/model")).expect("opens");
    let token = Processor::read(&base).expect("reads").text().required_token("<|reserved_special_token_4|>");
    let token = token.expect("a token that no text needs");
    let folder = base.clone().with_vision(Arc::new(MeanColoursConfig), token);
    let device = Device::flex().autodiff();
    let d_model = folder.config().decoder.d_model;
    let encoder = || MeanColours { layer: linear(3, d_model, 4, &device) };
    let language = folder.load_language(DType::F32, &device).expect("loads");
    let model = VisionLanguageModel::new(Some(encoder()), language);

    let processor = Processor::read(&folder).expect("reads");
    let flops = folder.config().flops(&ExampleSize { patches: 4, images: 1, ..ExampleSize::default() });
    assert_eq!(flops.encoder, 3.0 * 24.0);
    let encode =
        |conversation: &Conversation| processor.encode(conversation, Supervision::Replies, &images()).expect("encodes");
    let examples = [
        conversation("<image> What colour is it?", "Red.", &["a.png"]),
        conversation("<image><image> And these?", "Blue and green.", &["b.png", "a.png"]),
        conversation("No image?", "None.", &[]),
    ];
    let encoded: Vec<_> = examples.iter().map(encode).collect();
    assert_eq!(encoded[1].images.iter().map(|image| image.layout().n_placeholders).sum::<usize>(), 8);
    let all: Vec<_> = encoded.iter().collect();
    let (padded, packed) = (VlmBatch::collate(&all, Padding::Right, &processor), VlmBatch::pack(&all, &processor));
    let losses = [&padded, &packed].map(|batch| model.loss_sum(batch));
    let gradients = losses[0].backward();
    let gradient = model.vision.as_ref().expect("there").layer.weight.val().grad(&gradients).expect("trained");
    assert!(gradient.abs().max().into_scalar::<f32>() > 0.0);
    let [padded_loss, packed_loss] = losses.map(|loss| loss.into_scalar::<f32>());
    assert!((padded_loss - packed_loss).abs() < 1e-3 * padded_loss, "{padded_loss} {packed_loss}");

    let out = tempfile::tempdir().expect("a folder");
    folder.save_new(&model, DType::F32, out.path()).expect("saves");
    let saved = ModelFolder::open(out.path()).expect("opens");
    // The plain model has no field for the encoder: that is an error, not another model.
    assert!(matches!(saved.load(DType::F32, &device), Err(ModelError::Weights { .. })));
    let saved = saved.with_vision(Arc::new(MeanColoursConfig), token);
    assert!(matches!(saved.load(DType::F32, &device), Err(ModelError::OwnVisionEncoder { .. })));
    let skeleton = VisionLanguageModel::new(Some(encoder()), saved.config().decoder.init(&device));
    let again = saved.load_into(skeleton, DType::F32).expect("loads");
    for (a, b) in snapshots(&model).iter().zip(&snapshots(&again)) {
        assert_eq!((&a.info.name, a.read()), (&b.info.name, b.read()));
    }
}

/// A family whose files are Llama's under another name and another prefix.
#[derive(Debug)]
struct Renamed;

impl ModelFamily for Renamed {
    fn model_types(&self) -> &'static [&'static str] {
        &["renamed_llama"]
    }

    fn config(&self, file: &ConfigFile) -> Result<ModelConfig, ModelError> {
        static NONE: std::sync::LazyLock<serde_json::Map<String, serde_json::Value>> =
            std::sync::LazyLock::new(serde_json::Map::new);
        let fields = file.text_fields(&NONE)?;
        let (decoder, max_context) = adamllm_model::family::text::decoder(&fields, adamllm_model::family::text::LLAMA)?;
        fields.finish(&[])?;
        Ok(ModelConfig::text_only(Family::new(&Renamed), decoder, max_context))
    }

    fn keys(&self) -> &'static [PartKeys] {
        const KEYS: &[PartKeys] = &[PartKeys::language("core.", "core.", &[]), PartKeys::head("output.", &[])];
        KEYS
    }
}

#[test]
fn a_family_from_outside() {
    let source = fixtures().join("llama/model");
    let folder = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(&source).expect("lists") {
        let path = entry.expect("lists").path();
        std::fs::copy(&path, folder.path().join(path.file_name().expect("a name"))).expect("copies");
    }
    let config = std::fs::read_to_string(source.join("config.json")).expect("reads");
    let mut config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    config["model_type"] = "renamed_llama".into();
    std::fs::write(folder.path().join("config.json"), config.to_string()).expect("writes");
    let error = ModelFolder::open(folder.path()).expect_err("not registered").to_string();
    assert!(error.contains("renamed_llama") && error.contains("qwen2_vl"), "{error}");

    // The weights under the family's own keys.
    let bytes = std::fs::read(source.join("model.safetensors")).expect("reads");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("whole");
    let renamed = |key: &str| match key.strip_prefix("lm_head.") {
        Some(rest) => format!("output.{rest}"),
        None => key.replacen("model.", "core.", 1),
    };
    let views: Vec<_> = tensors.tensors().into_iter().map(|(key, view)| (renamed(&key), view)).collect();
    let content = safetensors::serialize(views, None).expect("serialises");
    std::fs::write(folder.path().join("model.safetensors"), content).expect("writes");

    let families = Families::default().with(&Renamed);
    let device = Device::flex();
    let load = |folder: ModelFolder| {
        let model = folder.load(DType::F32, &device).expect("loads");
        let processor = Processor::read(&folder).expect("reads");
        let trained = batch(&processor, Supervision::Replies, &[conversation("Hello", "Goodbye.", &[])]);
        model.loss_sum(&trained).into_scalar::<f32>()
    };
    let own = load(ModelFolder::open_with(folder.path(), &families).expect("registered"));
    assert_eq!(own, load(ModelFolder::open(source).expect("opens")));
}

/// Blocks of an encoder of one's own run through whoever runs the model's.
#[test]
fn the_executor_runs_the_blocks_of_an_encoder_of_ones_own() {
    struct Counting(usize);
    impl<'a> BlockExecutor<'a> for Counting {
        fn block(&mut self, inputs: Vec<Tensor<3>>, trained: bool, forward: adamllm_nn::BlockFn<'a>) -> Tensor<3> {
            self.0 += 1;
            Eager.block(inputs, trained, forward)
        }
    }
    let encoder = MeanColours { layer: LinearConfig::new(3, 8).init(&Device::flex()) };
    let pixels = Quarters.process(&RgbImage::new(4, 4)).expect("large enough");
    let mut counting = Counting(0);
    assert_eq!(encoder.encode(&[&pixels, &pixels], &mut counting).dims(), [8, 8]);
    assert_eq!(counting.0, 1);
}
