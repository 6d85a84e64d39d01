//! Synthesis from images alone: what a captioner wrote goes the way of any pairs, and the cost of it is known before.
#![cfg(feature = "train")]

use std::path::Path;
use std::sync::Arc;

use adamllm_core::{Budget, Completion, Decoding, Generate, Limits, Prompt, ScoreRequest};
use adamllm_recipes::synthesize::{CallEstimate, SynthesisOptions, caption, estimate};
use adamllm_recipes::{RecipeError, SynthesisSettings, synthesize};
use adamllm_synth::{SynthError, Variant};

/// Says what an image is called; fails on one, and on the one that it cannot read.
struct Namer;

impl Generate for Namer {
    type Error = std::fmt::Error;

    fn generate(&self, prompts: &[Prompt], _: &Decoding) -> Vec<Result<Completion, Self::Error>> {
        let answer = |prompt: &Prompt| match prompt.images() {
            [image] if ["fails.png", "broken.png"].contains(&image.as_str()) => Err(std::fmt::Error),
            [image] => Ok(Completion::new(format!("A slide that is called {image}. It shows a round cell."))),
            _ => Err(std::fmt::Error),
        };
        prompts.iter().map(answer).collect()
    }

    fn score(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<f64>, Self::Error>> {
        requests.iter().map(|_| Err(std::fmt::Error)).collect()
    }

    fn identity(&self) -> String {
        "namer".into()
    }
}

/// Four images of the mini world, one that the captioner fails on, and one that is none.
fn settings(folder: &Path) -> SynthesisSettings {
    let images = folder.join("images");
    std::fs::create_dir_all(images.join("below")).expect("folders");
    let mini = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mini/slides/images");
    for (i, name) in ["a.png", "b.png", "fails.png", "below/c.PNG"].into_iter().enumerate() {
        std::fs::copy(mini.join(format!("000{i}.png")), images.join(name)).expect("copied");
    }
    std::fs::write(images.join("broken.png"), "no image").expect("written");
    std::fs::write(images.join("notes.txt"), "no image").expect("written");
    SynthesisSettings { images, images_only: true, variant: Variant::RuleBased, ..SynthesisSettings::default() }
}

fn options(folder: &Path, limits: Limits) -> SynthesisOptions {
    SynthesisOptions {
        out: folder.join("out"),
        resume: true,
        budget: Arc::new(Budget::new(limits)),
        ..SynthesisOptions::default()
    }
}

#[test]
fn captions_of_a_model_go_the_way_of_any_captions() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (settings, options) = (settings(folder.path()), options(folder.path(), Limits::default()));
    let captioned = caption(&settings, &options, &Namer, &mut ()).expect("captions");
    assert_eq!((captioned.captioner.as_str(), captioned.counts.images), ("namer", 5));
    assert_eq!((captioned.counts.captions, captioned.counts.ledger_entries), (3, 2));

    let report = synthesize::<Namer, Namer>(&settings, &options, None, None, &mut ()).expect("runs");
    let summary = &report.summary;
    assert_eq!((summary.records_in, summary.records_out, summary.ledger_entries), (5, 3, 2), "{:?}", summary.ledger);
    assert_eq!((summary.ledger["caption/model_error"], summary.ledger["caption/image_broken"]), (1, 1));
    assert_eq!(report.spent.requests, 5);

    let read = |name: &str| std::fs::read_to_string(options.out.join(name)).expect(name);
    assert!(read("conversations.jsonl").contains("below/c.PNG"));
    assert!(read("README.md").contains("| captioner | namer |"), "{}", read("README.md"));
    let page = read("index.html");
    assert!(page.contains("a captioner wrote the captions first") && page.contains("<span>captioned</span>"));
    assert!(page.contains("<td>captioner</td><td>namer</td>"));
}

#[test]
fn a_budget_ends_captioning_and_the_next_one_goes_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = SynthesisSettings { batch_size: 2, ..settings(folder.path()) };
    let limits = Limits { max_requests: Some(2), max_tokens: None };
    let ended = caption(&settings, &options(folder.path(), limits), &Namer, &mut ());
    assert!(matches!(ended, Err(RecipeError::Synth(SynthError::Stopped { .. }))), "{ended:?}");
    let options = options(folder.path(), Limits::default());
    assert_eq!(caption(&settings, &options, &Namer, &mut ()).expect("captions").counts.captions, 3);
    assert_eq!(options.budget.spent().requests, 3, "what was answered is not asked for again");
}

#[test]
fn the_cost_is_known_before() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let prompt = folder.path().join("prompt.txt");
    std::fs::write(&prompt, "12345678").expect("written");
    let settings = SynthesisSettings {
        variant: Variant::Full,
        caption_prompt: Some(prompt),
        caption_tokens: 10,
        ..settings(folder.path())
    };
    let options = options(folder.path(), Limits::default());
    let before = estimate(&settings, &options).expect("counts");
    // Four images, one that cannot be read; 2 tokens of text for each.
    let (width, height) = settings.open_images().expect("opens").size(&"a.png".into()).expect("an image");
    let image_tokens = u64::from(width.div_ceil(28) * height.div_ceil(28));
    assert!(image_tokens > 1);
    let prompt_tokens = 4 * image_tokens + 5 * 2;
    assert_eq!(before.captioner, CallEstimate { requests: 5, prompt_tokens, answer_tokens: 50 });
    assert_eq!((before.records, before.synthesizer.requests, before.judge.requests), (5, 5, 5));
    assert_eq!(before.total.requests, 15);

    caption(&settings, &options, &Namer, &mut ()).expect("captions");
    let after = estimate(&settings, &options).expect("counts");
    assert_eq!((after.captioner.requests, after.records, after.synthesizer.requests), (0, 3, 3));
}

#[test]
fn a_place_without_images_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = SynthesisSettings { images: folder.path().to_owned(), images_only: true, ..Default::default() };
    let error = caption(&settings, &options(folder.path(), Limits::default()), &Namer, &mut ());
    assert!(matches!(error, Err(RecipeError::NoImages { .. })), "{error:?}");
}
