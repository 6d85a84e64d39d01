//! What each preset writes and supervises.

use adamllm_core::{Conversation, CoreError, Message, Role, Supervision};
use adamllm_model::{Encoder, Encoding, ModelError, ModelFolder, Preset, Processor, RopeMode, SpanKind};

use crate::support::{conversation, encode, fixture, preset, processor, shown_by, two_turns};

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
