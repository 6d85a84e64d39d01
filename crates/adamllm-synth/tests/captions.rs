//! Images alone: captions that a model writes first, killed and resumed; and a budget that stops a run, which goes on with the same bytes.

mod scripted;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use adamllm_core::testing::{ScriptedError, ScriptedModel};
use adamllm_core::{
    Budget, Budgeted, Decoding, ImageCaption, ImageRef, LedgerEntry, Limits, MemoryImages, Prompt, Reason, Stage, jsonl,
};
use adamllm_synth::{
    CAPTIONS_FILE, CaptionCounts, Captioner, CaptionerConfig, ConsistencyFilter, RunConfig, RunSummary, SynthError,
    SynthesisRun, Synthesizer, caption_images, captioned_images,
};
use scripted::{captions, images as all_images, judge, synthesizer};

/// Ten images and one that is not there.
fn names() -> Vec<ImageRef> {
    (0..10).map(|i| format!("{i}.png")).chain(["gone.png".to_owned()]).map(ImageRef::from).collect()
}

/// Says something of each image; nothing of the second, and fails on the third while `fails`.
fn captioner(asked: &Arc<AtomicUsize>, fails: bool) -> Captioner<ScriptedModel> {
    let asked = asked.clone();
    let model = ScriptedModel::new(move |prompt| {
        asked.fetch_add(1, Ordering::SeqCst);
        let Prompt::Chat { conversation, .. } = prompt else { return Err(ScriptedError("expected a chat".into())) };
        assert!(conversation.messages[0].content.contains("Say what is there."), "{conversation:?}");
        match conversation.images[0].as_str() {
            "1.png" => Ok(" \n".into()),
            "2.png" if fails => Err(ScriptedError("out of memory".into())),
            name => Ok(format!(" {} cells\n", name.trim_end_matches(".png"))),
        }
    });
    let config = CaptionerConfig { prompt: "Say what is there.\n".into(), ..CaptionerConfig::default() };
    Captioner::with_config(model, config).expect("valid")
}

fn caption(folder: &Path, asked: &Arc<AtomicUsize>, fails: bool, resume: bool) -> CaptionCounts {
    let how = (3, resume);
    caption_images(folder, &names(), &all_images(), &captioner(asked, fails), how, &mut ()).expect("runs")
}

#[test]
fn captions_come_first_and_everything_is_accounted_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let asked = Arc::new(AtomicUsize::new(0));
    let counts = caption(folder.path(), &asked, true, false);
    assert_eq!(counts, CaptionCounts { images: 11, captions: 8, ledger_entries: 3 });
    let pairs: Vec<ImageCaption> = jsonl::read_all(folder.path().join(CAPTIONS_FILE)).expect("pairs");
    assert_eq!(pairs[0], ImageCaption::new("0.png", "0 cells"));

    // The paper's path goes on with them, and its ledger has the images without a caption.
    let images = all_images();
    let (writer, reader) = (Synthesizer::new(synthesizer()), ConsistencyFilter::new(judge()));
    let run = SynthesisRun::new(folder.path(), &images);
    let records = captioned_images(folder.path()).expect("captioned");
    let summary = run.run(records, &writer, &reader, &mut ()).expect("runs");
    assert_eq!((summary.records_in, summary.records_in), (11, summary.records_out + summary.ledger_entries));
    assert!(summary.records_out > 0);
    let ledger: Vec<LedgerEntry> = jsonl::read_all(folder.path().join("ledger.jsonl")).expect("a ledger");
    let lost = ledger.iter().filter(|entry| entry.stage == Stage::Caption);
    let lost: Vec<_> = lost.map(|entry| (entry.id.as_str(), entry.reason)).collect();
    assert_eq!(
        lost,
        [("1.png", Reason::EmptyCaption), ("2.png", Reason::ModelError), ("gone.png", Reason::ImageMissing)]
    );
}

#[test]
fn a_captioning_that_goes_on_asks_only_what_is_left() {
    let [folder, whole] = [0, 1].map(|_| tempfile::tempdir().expect("a temporary folder"));
    let asked = Arc::new(AtomicUsize::new(0));
    caption(folder.path(), &asked, true, false);
    assert_eq!(asked.swap(0, Ordering::SeqCst), 10);
    let journal = folder.path().join("work/caption.jsonl");
    let bytes = std::fs::read(&journal).expect("reads");
    std::fs::write(&journal, &bytes[..bytes.len() - 4]).expect("writes");
    let counts = caption(folder.path(), &asked, false, true);
    assert_eq!((asked.swap(0, Ordering::SeqCst), counts.captions), (2, 9), "the torn one, and the one that failed");
    caption(whole.path(), &asked, false, false);
    let of = |folder: &Path| std::fs::read(folder.join(CAPTIONS_FILE)).expect("reads");
    assert_eq!(of(folder.path()), of(whole.path()));
    asked.store(0, Ordering::SeqCst);
    caption(folder.path(), &asked, false, false);
    assert_eq!(asked.load(Ordering::SeqCst), 10, "without resume it starts anew");
}

#[test]
fn a_caption_that_is_cut_is_dropped() {
    let image = ImageRef::from("0.png");
    let config = CaptionerConfig { decoding: Decoding::greedy(5), ..CaptionerConfig::default() };
    let captioner = Captioner::with_config(ScriptedModel::new(|_| Ok(String::new())), config).expect("valid");
    let mut said = adamllm_core::Completion::new("Ten cells and");
    assert!(captioner.read(&image, &said).is_ok());
    said.finish = adamllm_core::Finish::Length;
    let error = captioner.read(&image, &said).expect_err("cut");
    assert_eq!(
        (error.reason(), error.to_string()),
        (Reason::TooLong, "0.png: the caption did not end within 5 tokens".into())
    );
    for (prompt, n) in [(" ", 5), ("Say.", 0)] {
        let config = CaptionerConfig { prompt: prompt.into(), decoding: Decoding::greedy(n) };
        assert!(matches!(
            Captioner::with_config(ScriptedModel::new(|_| Ok(String::new())), config),
            Err(SynthError::Config { .. })
        ));
    }
}

fn run(folder: &Path, images: &MemoryImages, budget: &Budget) -> Result<RunSummary, SynthError> {
    let config = RunConfig { batch_size: 7, ..RunConfig::default() };
    let run = SynthesisRun::new(folder, images).with_config(config).expect("valid").resuming(true);
    let writer = Synthesizer::new(Budgeted::new(synthesizer(), budget));
    let reader = ConsistencyFilter::new(Budgeted::new(judge(), budget));
    run.run(captions(), &writer, &reader, &mut ())
}

#[test]
fn a_run_stops_when_its_budget_is_used_up_and_goes_on_to_the_same_bytes() {
    let [folder, whole] = [0, 1].map(|_| tempfile::tempdir().expect("a temporary folder"));
    let images = all_images();
    let unlimited = Budget::default();
    let summary = run(whole.path(), &images, &unlimited).expect("runs");
    let needed = unlimited.spent().requests;

    // A record that fails is asked about in every run, so each has to have room for those before it.
    let (mut runs, mut spent) = (0u32, 0);
    let resumed = loop {
        let budget = Budget::new(Limits { max_requests: Some(40), max_tokens: None });
        let ended = run(folder.path(), &images, &budget);
        spent += budget.spent().requests;
        runs += 1;
        match ended {
            Ok(summary) => break summary,
            Err(SynthError::Stopped { cause }) => {
                assert_eq!(budget.spent().requests, 40);
                assert!(cause.starts_with("the budget is used up: 40 of 40 requests"), "{cause}");
                assert!(!folder.path().join("tasks.jsonl").exists(), "nothing looks finished");
            }
            Err(error) => panic!("{error}"),
        }
        assert!(runs < 20, "it goes on");
    };
    assert!(runs > 3, "{runs} runs");
    let again = 5 * u64::from(runs);
    assert!(
        (needed..=needed + again).contains(&spent),
        "{spent} requests for {needed}: what was answered is not paid for twice"
    );
    assert_eq!((resumed.records_in, &resumed.ledger), (summary.records_in, &summary.ledger));
    for file in ["triplets", "judged", "tasks", "ledger", "quarantine"] {
        let of = |folder: &Path| std::fs::read(folder.join(format!("{file}.jsonl"))).expect("reads");
        assert!(of(folder.path()) == of(whole.path()), "{file}");
    }
}
