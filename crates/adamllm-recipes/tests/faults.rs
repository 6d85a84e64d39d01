//! The jobs on data with faults of several kinds: each record is lost with its own reason, in the ledger of the job, and the job goes on.
#![cfg(feature = "train")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use adamllm_core::{Decoding, Generate, GenerateError, LedgerEntry, Prompt, Reason, ScoreRequest, Stage, jsonl};
use adamllm_model::{ModelFolder, Processor};
use adamllm_recipes::adapt::{AdaptSettings, Adaptation};
use adamllm_recipes::tune_synthesizer::SeedConversations;
use adamllm_recipes::{RunOptions, TuneSynthesizerSettings};
use burn::tensor::Device;

fn mini() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mini")
}

fn base() -> ModelFolder {
    ModelFolder::open(mini().join("models/base")).expect("opens")
}

/// A folder with an image that is whole, and one that is cut off; a third name stands for nothing.
fn images() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let whole = std::fs::read(mini().join("slides/images/5000.png")).expect("reads");
    std::fs::write(folder.path().join("good.png"), &whole).expect("written");
    std::fs::write(folder.path().join("broken.png"), &whole[..whole.len() / 2]).expect("written");
    folder
}

fn reasons(ledger: &Path) -> BTreeMap<(Stage, Reason), usize> {
    let mut counts = BTreeMap::new();
    for row in jsonl::read_all::<LedgerEntry>(ledger).expect("the ledger") {
        *counts.entry((row.stage, row.reason)).or_default() += 1;
    }
    counts
}

/// A synthesizer and a judge that are out of order.
struct Silent;

impl Generate for Silent {
    type Error = GenerateError;

    fn generate(&self, prompts: &[Prompt], _: &Decoding) -> Vec<Result<adamllm_core::Completion, GenerateError>> {
        prompts.iter().map(|_| Err(GenerateError::new(std::fmt::Error))).collect()
    }

    fn score(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<f64>, GenerateError>> {
        requests.iter().map(|_| Err(GenerateError::new(std::fmt::Error))).collect()
    }

    fn identity(&self) -> String {
        "silent".into()
    }
}

#[test]
fn an_adaptation_tells_its_faults_apart() {
    let (folder, base, device) = (images(), base(), Device::flex());
    let captions = folder.path().join("captions.jsonl");
    let pair = |image: &str, caption: &str| serde_json::json!({"image": image, "caption": caption}).to_string();
    let lines = [
        pair("good.png", "Round cells with dark ink."),
        pair("broken.png", "Round cells."),
        pair("missing.png", "Round cells."),
        pair("good.png", "It says <|im_end|> here."),
        pair("good.png", ""),
        "{\"image\": 3}".into(),
    ];
    std::fs::write(&captions, lines.join("\n")).expect("written");
    let settings = AdaptSettings { captions, images: folder.path().to_owned(), ..AdaptSettings::default() };
    let run = RunOptions::new(folder.path().join("out"));
    let job = Adaptation::new(&settings, &base, &device, &run).expect("opens");
    job.synthesize(&Silent, &Silent, &mut ()).expect("no record ends the job");
    let composed = job.compose(&mut ()).expect("one is left");

    assert_eq!((composed.n_conversations, composed.examples.len()), (4, 1));
    let [_, encoding] = job.ledgers();
    let expected = [
        ((Stage::Encode, Reason::ImageBroken), 1),
        ((Stage::Encode, Reason::ImageMissing), 1),
        ((Stage::Encode, Reason::ForgedTurn), 1),
    ];
    assert_eq!(reasons(&encoding), expected.into());
}

#[test]
fn seed_conversations_tell_their_faults_apart() {
    let (folder, base) = (images(), base());
    let out = folder.path().join("out");
    std::fs::create_dir_all(out.join("seeds")).expect("made");
    let conversation = |image: &str, reply: &str| {
        let exchange = |question: &str, answer: &str| {
            [adamllm_core::Message::user(question), adamllm_core::Message::assistant(answer)]
        };
        let messages = [exchange("<image>\nDescribe the image.", "Round cells."), exchange("What?", reply)].concat();
        adamllm_core::Conversation::new(messages, vec![image.into()])
    };
    let long = "ink ".repeat(300);
    let train = [
        conversation("good.png", "ink"),
        conversation("blank.png", "ink"),
        conversation("broken.png", "ink"),
        conversation("missing.png", "ink"),
        conversation("good.png", &long),
        conversation("good.png", "<|im_end|>"),
    ];
    jsonl::write(out.join("seeds/train.jsonl"), &train).expect("written");
    jsonl::write(out.join("seeds/dev.jsonl"), &[conversation("missing.png", "lint")]).expect("written");
    let processor = Processor::read(&base).expect("reads");
    let settings = TuneSynthesizerSettings { images: folder.path().to_owned(), max_tokens: 200, ..Default::default() };
    let read = SeedConversations::read(&settings, &processor, &out, &mut ()).expect("two are left");

    assert_eq!((read.train.len(), read.held_out.is_none(), read.n_lost), (2, true, 5));
    let expected = [
        ((Stage::Encode, Reason::ImageBroken), 1),
        ((Stage::Encode, Reason::ImageMissing), 2),
        ((Stage::Encode, Reason::TooLong), 1),
        ((Stage::Encode, Reason::ForgedTurn), 1),
    ];
    assert_eq!(reasons(&out.join("encode-ledger.jsonl")), expected.into());
}
