//! Conversations to examples: what each preset writes and supervises, what each policy keeps, and that a measured example is the
//! encoded one. The formats are LLaMA-Factory's and Open-LLaVA-NeXT's.

use std::path::{Path, PathBuf};

use adamllm_core::{Conversation, CoreError, ImageStore, MemoryImages, Message, RgbImage, Role, Supervision};
use adamllm_data::FolderImages;
use adamllm_model::{
    Encoded, Encoder, Encoding, ImageLimit, ModelError, ModelFolder, Preset, Processor, RopeMode, SpanKind, Truncation,
};
use adamllm_nn::ImageLayout;

const FAMILIES: [&str; 7] = [
    "qwen2_vl/model",
    "qwen2_5_vl/model",
    "qwen3_vl/model",
    "llava_next/model",
    "mllama/model",
    "smolvlm/model",
    "idefics3/model",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name)
}

fn processor(folder: &str) -> Processor {
    Processor::read(&ModelFolder::open(fixture(folder)).expect("opens")).expect("reads")
}

fn images() -> MemoryImages {
    let mut images = MemoryImages::new();
    for (name, width, height) in [("wide.png", 200, 60), ("tall.png", 50, 180), ("large.png", 400, 300)] {
        images.insert(name, RgbImage::new(width, height));
    }
    images
}

/// Requests and replies in turn, an image for each marker.
fn conversation(turns: &[&str], images: &[&str]) -> Conversation {
    let role = |i: usize| if i.is_multiple_of(2) { Role::User } else { Role::Assistant };
    let messages = turns.iter().enumerate().map(|(i, text)| Message::new(role(i), *text)).collect();
    Conversation::new(messages, images.iter().map(|&image| image.into()).collect())
}

fn two_turns() -> Conversation {
    conversation(&["<image>\nWhat is it?", "A cat.", "Its colour?", "Red."], &["wide.png"])
}

fn encode(processor: &Processor, encoding: Encoding, example: &Conversation) -> Result<Encoded, ModelError> {
    Encoder::new(processor, encoding).expect("settings of this model").encode(example, &images())
}

fn preset(preset: Preset) -> Encoding {
    Encoding { preset, ..Encoding::default() }
}

/// The example's text, supervised parts between `»` and `«`, images as their number.
fn shown(encoded: &Encoded, processor: &Processor) -> String {
    let mut text = String::new();
    let mut supervised = false;
    for span in &encoded.spans {
        if span.target != supervised {
            text.push_str(if span.target { "»" } else { "«" });
            supervised = span.target;
        }
        match span.kind {
            SpanKind::Image(image) => text.push_str(&format!("[{image}]")),
            _ => text.push_str(&processor.text().decode(&encoded.tokens[span.tokens.clone()], true).expect("decodes")),
        }
    }
    if supervised { text + "«" } else { text }
}

fn shown_by(folder: &str, encoding: Encoding, example: &Conversation) -> String {
    let processor = processor(folder);
    shown(&encode(&processor, encoding, example).expect("encodes"), &processor)
}

#[test]
fn qwen2_vl_before_and_after_january_2025() {
    let by = |p| shown_by("qwen2_vl/model", preset(p), &two_turns());
    let opening = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n\
        <|vision_start|>[0]<|vision_end|>\nWhat is it?<|im_end|>\n<|im_start|>assistant\n";
    let next = "<|im_start|>user\nIts colour?<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(
        by(Preset::LlamaFactory091Qwen2Vl),
        format!("{opening}»A cat.<|im_end|>«\n{next}»Red.<|im_end|>«"),
        "the line feed belongs to the next request, and the example ends with the end of the turn"
    );
    assert_eq!(
        by(Preset::LlamaFactory092Qwen2Vl),
        format!("{opening}»A cat.<|im_end|>\n«{next}»Red.<|im_end|>\n«"),
        "the line feed is supervised"
    );
}

/// The placeholders of an image are as many as its merged patches, between its two border tokens.
#[test]
fn qwen2_vl_image_tokens() {
    let processor = processor("qwen2_vl/model");
    let encoded = encode(&processor, preset(Preset::LlamaFactory092Qwen2Vl), &two_turns()).expect("encodes");
    let patches = &encoded.images[0].layout().metadata;
    let start = encoded.image_starts[0];
    let n = patches.iter().product::<usize>() / 4;
    let text = |token: usize| processor.text().token_text(encoded.tokens[token]).expect("a token");
    assert_eq!((text(start - 1).as_str(), text(start + n).as_str()), ("<|vision_start|>", "<|vision_end|>"));
    assert!((start..start + n).all(|token| text(token) == "<|image_pad|>" && encoded.is_image(token)));
}

#[test]
fn mllama_as_llama_factory() {
    let header = |role: &str| format!("<|start_header_id|>{role}<|end_header_id|>\n\n");
    let (user, assistant, system) = (header("user"), header("assistant"), header("system"));
    let turns = format!(
        "{user}[0]\nWhat is it?<|eot_id|>{assistant}»A cat.<|eot_id|>«{user}Its colour?<|eot_id|>{assistant}»Red.<|eot_id|>«"
    );
    let by = |example: &Conversation| shown_by("mllama/model", preset(Preset::LlamaFactoryMllama), example);
    assert_eq!(by(&two_turns()), format!("<|begin_of_text|>{turns}"), "no system line of its own");
    let mut with_system = two_turns();
    with_system.messages.insert(0, Message::new(Role::System, "Be brief."));
    assert_eq!(by(&with_system), format!("<|begin_of_text|>{system}Be brief.<|eot_id|>{turns}"));
    let middle = conversation(&["See <image> there.", "Yes."], &["tall.png"]);
    assert!(by(&middle).contains("See [0] there."), "the image stays where it stands");
    let encoded = encode(&processor("mllama/model"), preset(Preset::LlamaFactoryMllama), &two_turns());
    let encoded = encoded.expect("encodes");
    let image = encoded.spans.iter().find(|span| span.kind == SpanKind::Image(0)).expect("an image");
    assert_eq!(image.tokens.len(), 1, "one token whatever the size");
}

const LLAVA_SYSTEM: &str = "You are a helpful language and vision assistant. You are able to understand the visual \
    content that the user provides, and assist the user with a variety of tasks using natural language.";

#[test]
fn llava_llama_3_with_and_without_its_second_begin() {
    let header = |role: &str| format!("<|start_header_id|>{role}<|end_header_id|>\n\n");
    let (user, assistant, system) = (header("user"), header("assistant"), header("system"));
    let begin = "<|begin_of_text|>";
    let rest = format!(
        "{system}{LLAVA_SYSTEM}<|eot_id|>{user}[0]\nWhat is it?<|eot_id|>{assistant}»A cat.<|eot_id|>«{user}Its \
         colour?<|eot_id|>{assistant}»Red.<|eot_id|>«"
    );
    let by = |p, example: &Conversation| shown_by("llava_next/model", preset(p), example);
    assert_eq!(by(Preset::LlavaLlama3, &two_turns()), format!("{begin}{rest}"));
    assert_eq!(by(Preset::LlavaLlama3DoubleBos, &two_turns()), format!("{begin}{begin}{rest}"));
    for request in ["<image>\n\nWhat is it?", "What is it?\n<image>", " <image> What is it? "] {
        let example = conversation(&[request, "A cat.", "Its colour?", "Red."], &["wide.png"]);
        assert_eq!(
            by(Preset::LlavaLlama3, &example),
            format!("{begin}{rest}"),
            "{request:?}: the image goes to the front"
        );
    }
    let two = conversation(&["<image><image>\nWhich?", "The first."], &["wide.png", "tall.png"]);
    let error =
        encode(&processor("llava_next/model"), preset(Preset::LlavaLlama3), &two).expect_err("one image a turn");
    assert!(matches!(error, ModelError::Core(CoreError::ImageCount { markers: 1, images: 2, .. })), "{error}");
}

#[test]
fn all_after_the_first_exchange_is_supervised_for_the_synthesizer() {
    let with = |preset| Encoding { preset, supervision: Supervision::AfterFirstExchange, ..Encoding::default() };
    let llava = shown_by("llava_next/model", with(Preset::LlavaLlama3), &two_turns());
    let (before, supervised) = llava.split_once('»').expect("something is supervised");
    assert!(before.ends_with("A cat.<|eot_id|>"), "{before}");
    assert_eq!(
        supervised,
        "<|start_header_id|>user<|end_header_id|>\n\nIts colour?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n\
         Red.<|eot_id|><|end_of_text|>«"
    );
    let qwen = shown_by("qwen2_vl/model", with(Preset::ChatTemplate), &two_turns());
    let (before, supervised) = qwen.split_once('»').expect("something is supervised");
    assert!(before.ends_with("A cat.<|im_end|>"), "{before}");
    assert_eq!(
        supervised,
        "\n<|im_start|>user\nIts colour?<|im_end|>\n<|im_start|>assistant\nRed.<|im_end|><|endoftext|>«"
    );
}

/// LLaVA-NeXT's tokens by size, with the published canvases and the encoder of 336 pixels.
#[test]
fn llava_next_tokens_by_size() {
    let config = adamllm_vision::preprocess::LlavaNextImageConfig::default();
    for ((width, height), expected) in [
        ((336, 336), 1176),
        ((410, 273), 1464),
        ((640, 480), 2340),
        ((1024, 768), 2340),
        ((1000, 300), 2182),
        ((300, 1000), 2232),
        ((672, 672), 2928),
    ] {
        assert_eq!(config.layout(width, height, 14).expect("ordinary").n_features(), expected, "{width}x{height}");
    }
}

#[test]
fn an_empty_system_line_is_the_default_one() {
    let mut example = two_turns();
    example.messages.insert(0, Message::new(Role::System, ""));
    let by = |example: &Conversation| shown_by("qwen2_vl/model", preset(Preset::LlamaFactory092Qwen2Vl), example);
    assert_eq!(by(&example), by(&two_turns()));
    example.messages[0].content = "Be brief.".into();
    assert!(by(&example).starts_with("<|im_start|>system\nBe brief.<|im_end|>\n"));
}

/// The fixture's model folder with a tokenizer whose last merge joins two line feeds.
fn joining_line_feeds() -> Processor {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for entry in std::fs::read_dir(fixture("qwen2_vl/model")).expect("lists") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, folder.path().join(path.file_name().expect("a name"))).expect("copies");
    }
    let path = folder.path().join("tokenizer.json");
    let mut file: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).expect("reads")).expect("JSON");
    let vocab = file["model"]["vocab"].as_object_mut().expect("a vocabulary");
    let last = vocab.len() as u64 - 1;
    vocab.retain(|_, id| id.as_u64() != Some(last));
    vocab.insert("ĊĊ".into(), last.into());
    *file["model"]["merges"].as_array_mut().expect("merges").last_mut().expect("one") = serde_json::json!(["Ċ", "Ċ"]);
    std::fs::write(&path, file.to_string()).expect("writes");
    Processor::read(&ModelFolder::open(folder.path()).expect("opens")).expect("reads")
}

/// Texts that would merge across a border do not: every string is tokenised by itself.
#[test]
fn strings_are_tokenised_one_by_one() {
    let processor = joining_line_feeds();
    let example = conversation(&["Why", "\n\nwhy not", "n", " n"], &[]);
    let encoded = encode(&processor, preset(Preset::LlamaFactory091Qwen2Vl), &example).expect("encodes");
    let strings = [
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
        "<|im_start|>user\nWhy<|im_end|>\n<|im_start|>assistant\n",
        "\n\nwhy not",
        "<|im_end|>",
        "\n",
        "<|im_start|>user\nn<|im_end|>\n<|im_start|>assistant\n",
        " n",
        "<|im_end|>",
    ];
    let apart = strings.map(|text| processor.text().encode(text, false).expect("encodes")).concat();
    assert_eq!(encoded.tokens, apart);
    assert_ne!(encoded.tokens, processor.text().encode(&strings.concat(), false).expect("encodes"));
}

#[test]
fn which_replies_count() {
    let by = |supervision| {
        let encoding = Encoding { supervision, ..preset(Preset::LlamaFactory092Qwen2Vl) };
        shown_by("qwen2_vl/model", encoding, &two_turns())
    };
    let last = by(Supervision::LastReply);
    assert_eq!(last.split_once('»').expect("supervised").1, "Red.<|im_end|>\n«");
    let all = by(Supervision::Everything);
    assert!(all.starts_with("»<|im_start|>system") && all.contains("»<|vision_end|>") && all.contains("«[0]"), "{all}");
    assert_eq!(all.matches('«').count(), 2, "all but the image: {all}");
}

#[test]
fn examples_out_of_order_are_refused() {
    let processor = processor("qwen2_vl/model");
    let user = |text: &str| Message::user(text);
    let reply = |text: &str| Message::assistant(text);
    for (messages, of_message, said) in [
        (vec![reply("A"), user("B")], vec![], "role user in turn 1"),
        (vec![user("A"), user("B")], vec![], "role assistant in turn 2"),
        (vec![user("A"), reply("B"), reply("C")], vec![], "role user in turn 3"),
        (vec![user("A"), reply("B"), user("C")], vec![], "a reply to every turn"),
        (vec![user("A <image>"), reply("B <image>")], vec!["wide.png"], "2 image markers"),
        (vec![user("A"), reply("B")], vec!["wide.png"], "0 image markers"),
        (vec![user("A<|im_end|>"), reply("B")], vec![], "<|im_end|>"),
    ] {
        let example = Conversation::new(messages, of_message.into_iter().map(Into::into).collect());
        let error =
            encode(&processor, preset(Preset::LlamaFactory091Qwen2Vl), &example).expect_err("refused").to_string();
        assert!(error.contains(said), "{error}");
    }
    let in_reply = conversation(&["A", "B <image>"], &["wide.png"]);
    let encoded = encode(&processor, preset(Preset::LlamaFactory091Qwen2Vl), &in_reply).expect("an image in a reply");
    assert!(!encoded.targets[encoded.image_starts[0]], "an image is never supervised");
}

#[test]
fn presets_of_another_family_are_refused() {
    let encoder = |folder: &str, p| Encoder::new(&processor(folder), preset(p)).map(drop);
    let error = encoder("mllama/model", Preset::LlamaFactory091Qwen2Vl).expect_err("another family");
    assert!(matches!(error, ModelError::Encoding { field: "preset", .. }), "{error}");
    encoder("llava_next/model", Preset::LlavaLlama3).expect("its own");
}

#[test]
fn several_images_and_none() {
    for folder in FAMILIES {
        let processor = processor(folder);
        let example = conversation(
            &["<image> and <image>?", "Yes.", "And <image>?", "No."],
            &["wide.png", "tall.png", "wide.png"],
        );
        let encoded = encode(&processor, Encoding::default(), &example).expect("encodes");
        let kinds: Vec<_> = encoded.spans.iter().filter(|s| matches!(s.kind, SpanKind::Image(_))).collect();
        assert_eq!(kinds.len(), 3, "{folder}");
        assert_eq!(kinds.iter().map(|span| span.message).collect::<Vec<_>>(), [Some(0), Some(0), Some(2)]);
        let text = encode(&processor, Encoding::default(), &conversation(&["Hi", "Hello."], &[])).expect("encodes");
        assert!(text.images.is_empty() && text.n_targets() > 0);
    }
}

#[test]
fn names_for_the_log() {
    let messages = vec![
        Message::user("Hi").of_task("caption"),
        Message::assistant("A cat.").of_task("caption"),
        Message::user("Why?"),
        Message::assistant("So.").of_task("synthetic"),
    ];
    let example = Conversation { source: Some("food".into()), ..Conversation::new(messages, vec![]) };
    let encoding = Encoding { rope: RopeMode::Linear, ..Encoding::default() };
    let encoded = encode(&processor("qwen2_vl/model"), encoding, &example).expect("encodes");
    assert_eq!((encoded.source.as_deref(), encoded.rope), (Some("food"), RopeMode::Linear));
    let supervised = (0..encoded.tokens.len()).filter(|&token| encoded.targets[token]);
    let mut tasks: Vec<_> = supervised.map(|token| encoded.task_of(token).expect("named").as_ref()).collect();
    tasks.dedup();
    assert_eq!(tasks, ["caption", "synthetic"]);
}

fn limited(max_tokens: usize, truncation: Truncation) -> Encoding {
    Encoding { max_tokens: Some(max_tokens), truncation, ..Encoding::default() }
}

#[test]
fn too_long_examples_are_refused_by_default() {
    let processor = processor("qwen2_vl/model");
    let n = encode(&processor, Encoding::default(), &two_turns()).expect("encodes").tokens.len();
    encode(&processor, limited(n, Truncation::DropSample), &two_turns()).expect("just fits");
    let error = encode(&processor, limited(n - 1, Truncation::DropSample), &two_turns()).expect_err("too long");
    assert!(matches!(error, ModelError::TooLong { tokens, limit, .. } if tokens == n && limit == n - 1), "{error}");
}

#[test]
fn tail_turns_go_with_their_images() {
    for folder in FAMILIES {
        let processor = processor(folder);
        let turns = ["<image>\nWhat?", "A cat.", "And <image>?", "A dog.", "Why?", "So."];
        let example = conversation(&turns, &["wide.png", "tall.png"]);
        let one = conversation(&turns[..2], &["wide.png"]);
        let alone = encode(&processor, Encoding::default(), &one).expect("encodes");
        let n = alone.tokens.len();
        let kept =
            encode(&processor, limited(n, Truncation::DropTailTurns), &example).expect("the first exchange fits");
        assert_eq!((&kept.tokens, &kept.targets, kept.images.len()), (&alone.tokens, &alone.targets, 1), "{folder}");
        assert_eq!((kept.tasks.len(), &kept.id), (2, &example.id));
        let error =
            encode(&processor, limited(n - 1, Truncation::DropTailTurns), &example).expect_err("nothing is left");
        assert!(matches!(error, ModelError::TooLong { .. }), "{error}");
    }
    // The synthesizer learns nothing of the first exchange, so that one alone will not do.
    let encoding = Encoding { supervision: Supervision::AfterFirstExchange, ..limited(40, Truncation::DropTailTurns) };
    let example = conversation(&["Hi", "A cat.", &"Why? ".repeat(40), "So."], &[]);
    let error = encode(&processor("qwen2_vl/model"), encoding, &example).expect_err("no target");
    assert!(matches!(error, ModelError::TooLong { .. }), "{error}");
}

#[test]
fn images_shrink_until_the_example_fits() {
    let processor = processor("qwen2_vl/model");
    let example = conversation(&["<image> and <image>?", "Yes."], &["large.png", "wide.png"]);
    let whole = encode(&processor, Encoding::default(), &example).expect("encodes");
    let images = |encoded: &Encoded| encoded.images.iter().map(|i| i.layout().n_placeholders).collect::<Vec<_>>();
    let words = whole.tokens.len() - images(&whole).iter().sum::<usize>();
    for room in [8, 10, 15, 20, 26] {
        let small = encode(&processor, limited(words + room, Truncation::ShrinkImages), &example).expect("fits");
        assert!(small.tokens.len() <= words + room, "{room}: {:?}", images(&small));
        assert_eq!(small.targets.iter().filter(|t| **t).count(), whole.targets.iter().filter(|t| **t).count());
    }
    let error = encode(&processor, limited(words + 1, Truncation::ShrinkImages), &example).expect_err("two images");
    assert!(matches!(error, ModelError::TooLong { .. }), "{error}");
}

/// The request keeps its head, the reply too, and an image that would be cut is an error of the example.
#[test]
fn cut_as_llama_factory() {
    let processor = processor("qwen2_vl/model");
    let text = |n: usize| "z ".repeat(n);
    let example = conversation(&[&text(60), &text(40)], &[]);
    let by = |max_tokens| Encoding {
        preset: Preset::LlamaFactory091Qwen2Vl,
        ..limited(max_tokens, Truncation::LlamaFactory)
    };
    let whole = encode(&processor, preset(Preset::LlamaFactory091Qwen2Vl), &example).expect("encodes");
    let source = whole.targets.iter().position(|target| *target).expect("a reply");
    let target = whole.tokens.len() - source;
    let room = whole.tokens.len() / 2;
    let of_reply = (room as f64 * (target as f64 / (source + target) as f64)) as usize;
    let cut = encode(&processor, by(room), &example).expect("encodes");
    let expected = [&whole.tokens[..room - of_reply], &whole.tokens[source..source + of_reply]].concat();
    assert_eq!(cut.tokens, expected);
    assert_eq!(cut.targets.iter().filter(|t| **t).count(), of_reply, "no end of turn is put after a cut reply");

    let late = format!("{}<image>", text(60));
    let example = conversation(&[&late, "Yes."], &["wide.png"]);
    let error = encode(&processor, by(40), &example).expect_err("the image is cut");
    assert!(matches!(&error, ModelError::ImageCut { image, limit: 40, .. } if image == "wide.png"), "{error}");
    let second = conversation(&[&text(60), "Yes.", "<image>", "No."], &["wide.png"]);
    let error = encode(&processor, by(50), &second).expect_err("the image is left out").to_string();
    assert!(error.contains("wide.png"), "{error}");
    let error = encode(&processor, by(1), &two_turns()).expect_err("no target, and the image gone").to_string();
    assert!(error.contains("wide.png"), "{error}");
}

#[test]
fn an_example_without_targets_is_an_error_unless_allowed() {
    let processor = processor("qwen2_vl/model");
    let one = conversation(&["Hi", "Hello."], &[]);
    let encoding = Encoding { supervision: Supervision::AfterFirstExchange, ..preset(Preset::LlamaFactory091Qwen2Vl) };
    // The end of the text after the first exchange is in the loss, which is a target.
    assert_eq!(encode(&processor, encoding, &one).expect("encodes").n_targets(), 1);
    let encoding = Encoding { max_tokens: Some(1), truncation: Truncation::LlamaFactory, ..Encoding::default() };
    let error = encode(&processor, encoding.clone(), &one).expect_err("no target");
    assert!(matches!(error, ModelError::NoTargets { .. }), "{error}");
    let allowed = Encoding { allow_no_targets: true, ..encoding };
    assert_eq!(encode(&processor, allowed, &one).expect("allowed").tokens.len(), 1);
    let open = conversation(&["Hi"], &[]);
    assert!(matches!(encode(&processor, Encoding::default(), &open), Err(ModelError::NoTargets { .. })));
}

#[test]
fn images_are_limited_before_they_are_cut() {
    let processor = processor("mllama/model");
    let example = conversation(&["<image>", "Yes."], &["large.png"]);
    let pixels = |image_limit| {
        let encoded = encode(&processor, Encoding { image_limit, ..Encoding::default() }, &example).expect("encodes");
        encoded.images[0].layout().clone()
    };
    assert_eq!(pixels(ImageLimit::LlamaFactory091), pixels(ImageLimit::None), "small enough");
}

/// Headers give the size that decoding gives, the turned images of cameras included.
#[test]
fn headers_give_the_size_of_the_upright_image() {
    let store = FolderImages::new(fixture("images"));
    let mut n = 0;
    for entry in std::fs::read_dir(fixture("images")).expect("lists") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        if name.ends_with(".png") || name.ends_with(".jpg") {
            let image = name.as_str().into();
            assert_eq!(
                store.size(&image).expect("a header"),
                store.open(&image).expect("opens").dimensions(),
                "{name}"
            );
            n += 1;
        }
    }
    assert!(n >= 10);
}

/// Opens no image: what is measured must be found in headers.
struct HeadersOnly(MemoryImages);

impl ImageStore for HeadersOnly {
    fn open(&self, image: &adamllm_core::ImageRef) -> Result<RgbImage, CoreError> {
        panic!("{image} is opened for its size")
    }

    fn size(&self, image: &adamllm_core::ImageRef) -> Result<(u32, u32), CoreError> {
        self.0.size(image)
    }
}

fn presets(folder: &str) -> Vec<Preset> {
    let all = [
        Preset::ChatTemplate,
        Preset::LlamaFactory091Qwen2Vl,
        Preset::LlamaFactory092Qwen2Vl,
        Preset::LlamaFactoryMllama,
        Preset::LlavaLlama3,
        Preset::LlavaLlama3DoubleBos,
    ];
    let processor = processor(folder);
    all.into_iter().filter(|&p| Encoder::new(&processor, preset(p)).is_ok()).collect()
}

mod random_examples {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    #[derive(Clone, Debug)]
    struct Case {
        turns: Vec<(String, Option<&'static str>)>,
        limit: usize,
        truncation: Truncation,
        supervision: Supervision,
        preset: usize,
        image_limit: ImageLimit,
    }

    fn case() -> impl Strategy<Value = Case> {
        let image =
            prop_oneof![2 => Just(None), 1 => select(&["wide.png", "tall.png", "large.png"][..]).prop_map(Some)];
        let turn = ("[a-z ,.\n]{0,40}", image);
        let policies =
            [Truncation::DropSample, Truncation::DropTailTurns, Truncation::ShrinkImages, Truncation::LlamaFactory];
        let masks =
            [Supervision::Replies, Supervision::LastReply, Supervision::Everything, Supervision::AfterFirstExchange];
        let limits = [ImageLimit::None, ImageLimit::LlamaFactory090, ImageLimit::LlamaFactory092];
        (
            proptest::collection::vec((turn.clone(), turn), 1..4),
            1_usize..220,
            select(policies.to_vec()),
            select(masks.to_vec()),
            0_usize..8,
            select(limits.to_vec()),
        )
            .prop_map(|(exchanges, limit, truncation, supervision, preset, image_limit)| Case {
                turns: exchanges.into_iter().flat_map(|(a, b)| [a, b]).collect(),
                limit,
                truncation,
                supervision,
                preset,
                image_limit,
            })
    }

    fn example(case: &Case) -> Conversation {
        let images: Vec<&str> = case.turns.iter().filter_map(|(_, image)| *image).collect();
        let texts = case.turns.iter().map(|(text, image)| match image {
            Some(_) => format!("<image>\n{text}"),
            None => text.clone(),
        });
        let texts: Vec<String> = texts.collect();
        conversation(&texts.iter().map(String::as_str).collect::<Vec<_>>(), &images)
    }

    fn check(folder: &str, case: &Case) {
        let processor = processor(folder);
        let presets = presets(folder);
        let encoding = Encoding {
            preset: presets[case.preset % presets.len()],
            supervision: case.supervision,
            max_tokens: Some(case.limit),
            truncation: case.truncation,
            image_limit: case.image_limit,
            ..Encoding::default()
        };
        let Ok(encoder) = Encoder::new(&processor, encoding) else { return };
        let example = example(case);
        let measured = encoder.example_size(&example, &HeadersOnly(images()));
        let encoded = encoder.encode(&example, &images());
        let (measured, encoded) = match (measured, encoded) {
            (Ok(measured), Ok(encoded)) => (measured, encoded),
            (Err(a), Err(b)) => return assert_eq!(a.to_string(), b.to_string()),
            (a, b) => panic!("measured {a:?}, encoded {b:?}"),
        };
        assert!(encoded.tokens.len() <= case.limit);
        assert_eq!(encoded.tokens.len(), encoded.targets.len());
        assert!(encoded.n_targets() > 0);
        let image_token = processor.image_token().expect("reads images");
        let mut end = 0;
        let mut n_images = 0;
        for span in &encoded.spans {
            assert_eq!(span.tokens.start, end, "spans follow each other");
            end = span.tokens.end;
            assert!(!span.tokens.is_empty());
            assert!(encoded.targets[span.tokens.clone()].iter().all(|&target| target == span.target));
            if let SpanKind::Image(image) = span.kind {
                assert_eq!(image, n_images);
                assert_eq!(encoded.image_starts[image], span.tokens.start);
                let placeholders = encoded.tokens[span.tokens.clone()].iter().filter(|&&token| token == image_token);
                assert_eq!(
                    encoded.images[image].layout().n_placeholders,
                    placeholders.count(),
                    "whole, with its pixels"
                );
                assert!(!span.target);
                n_images += 1;
            }
        }
        assert_eq!((end, n_images), (encoded.tokens.len(), encoded.images.len()));
        for (token, id) in encoded.tokens.iter().enumerate() {
            assert!(*id != image_token || encoded.is_image(token), "no placeholder outside an image");
        }
        for image in &encoded.images {
            assert_eq!(image.pixels.values.len(), image.layout().pixel_shape.iter().product::<usize>());
        }
        assert_eq!((measured.tokens, measured.targets), (encoded.tokens.len(), encoded.n_targets()));
        let sum = |of: fn(&ImageLayout) -> usize| encoded.images.iter().map(|i| of(i.layout())).sum::<usize>();
        assert_eq!((measured.images, measured.patches), (n_images, sum(|layout| layout.n_patches)));
        assert_eq!(measured.image_features, sum(|layout| layout.n_features));
        let steady = matches!(case.supervision, Supervision::Replies | Supervision::Everything);
        if case.truncation != Truncation::LlamaFactory && steady {
            let whole = Encoding { max_tokens: None, ..encoder.encoding().clone() };
            let whole =
                Encoder::new(&processor, whole).expect("as before").encode(&example, &images()).expect("encodes");
            assert!(encoded.n_targets() <= whole.n_targets(), "targets are those of the whole example, or fewer");
            if case.truncation != Truncation::ShrinkImages {
                assert!(whole.tokens.starts_with(&encoded.tokens) && whole.targets.starts_with(&encoded.targets));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn hold_together(case in case()) {
            FAMILIES.iter().for_each(|folder| check(folder, &case));
        }
    }
}
