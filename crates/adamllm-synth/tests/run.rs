//! A whole run over files: accounting, resuming, cache keys, shards.

mod scripted;

use std::cell::Cell;
use std::path::Path;

use adamllm_core::testing::{CancelledAfter, ScriptedError, ScriptedModel};
use adamllm_core::{
    Completion, CoreError, Decoding, Generate, ImageCaption, LedgerEntry, Progress, Prompt, Reason, RecordId,
    ScoreRequest, Shard, Stage, TurnMarkers, jsonl,
};
use adamllm_synth::hygiene::HygieneConfig;
use adamllm_synth::{
    ConsistencyFilter, InputRecord, RunConfig, RunSummary, SynthError, SynthesisRun, Synthesizer, SynthesizerConfig,
    Variant, kept_pairs,
};
use scripted::{captions, grey, images as all_images, judge, synthesizer};

/// Counts what it is asked.
struct Counted<G> {
    inner: G,
    name: &'static str,
    prompts: Cell<usize>,
}

impl<G: Generate> Counted<G> {
    fn new(inner: G, name: &'static str) -> Self {
        Self { inner, name, prompts: Cell::new(0) }
    }
}

impl<G: Generate> Generate for Counted<G> {
    type Error = G::Error;
    fn generate(&self, prompts: &[Prompt], options: &Decoding) -> Vec<Result<Completion, G::Error>> {
        self.prompts.set(self.prompts.get() + prompts.len());
        self.inner.generate(prompts, options)
    }
    fn score(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<f64>, G::Error>> {
        self.inner.score(requests)
    }
    fn identity(&self) -> String {
        self.name.into()
    }
    fn turn_markers(&self) -> Option<TurnMarkers> {
        self.inner.turn_markers()
    }
}

fn run(folder: &Path, records: Vec<InputRecord>, shard: Shard) -> RunSummary {
    let (writer, reader, images) = (synthesizer(), judge(), all_images());
    let run = SynthesisRun::new(folder, &images).with_config(config()).expect("valid").with_shard(shard);
    run.run(records, &Synthesizer::new(&writer), &ConsistencyFilter::new(&reader), &mut ()).expect("runs")
}

fn config() -> RunConfig {
    RunConfig { batch_size: 7, seed: 3, hygiene: Some(HygieneConfig::default()), ..RunConfig::default() }
}

fn records() -> Vec<InputRecord> {
    captions().into_iter().map(InputRecord::Pair).collect()
}

#[test]
fn every_record_is_accounted_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut records = records();
    records.push(records[0].clone());
    let summary = run(folder.path(), records, Shard::WHOLE);
    assert_eq!(summary.records_in, summary.records_out + summary.ledger_entries);
    assert_eq!(summary.records_in, 101);
    assert!(summary.consistent > 0 && summary.inconsistent > 0 && summary.open > 0 && summary.unclear > 0);
    let verdicts = summary.consistent + summary.inconsistent + summary.open + summary.unclear;
    assert_eq!(summary.triplets, verdicts);
    assert_eq!(summary.records_out, summary.consistent);
    let reasons: Vec<_> = summary.ledger.keys().map(String::as_str).collect();
    let expected = [
        "judge/inconsistent",
        "judge/open",
        "judge/unclear_verdict",
        "propose/empty_caption",
        "propose/forged_turn",
        "propose/image_missing",
        "propose/model_error",
        "propose/no_triplet",
        "read/duplicate_id",
    ];
    assert_eq!(reasons, expected);
    assert!(summary.files.iter().all(|file| file.exists()));
    let ledger = jsonl::read_all::<LedgerEntry>(folder.path().join("ledger.jsonl")).expect("reads");
    assert_eq!(ledger.len() as u64, summary.ledger_entries);
    let no_triplet = ledger.iter().filter(|entry| entry.reason == Reason::NoTriplet).count();
    let quarantine = jsonl::read_all::<serde_json::Value>(folder.path().join("quarantine.jsonl")).expect("reads");
    assert_eq!(quarantine.len(), no_triplet);
}

#[test]
fn a_resumed_run_asks_only_what_changed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut images = all_images();
    let ask = |images: &_, names: [&'static str; 2], resume| {
        let (writer, reader) = (Counted::new(synthesizer(), names[0]), Counted::new(judge(), names[1]));
        let run = SynthesisRun::new(folder.path(), images).resuming(resume);
        run.run(captions(), &Synthesizer::new(&writer), &ConsistencyFilter::new(&reader), &mut ()).expect("runs");
        (writer.prompts.get(), reader.prompts.get())
    };
    let (proposed, judged) = ask(&images, ["writer", "reader"], true);
    assert!(proposed > judged && judged > 30);
    let failed = captions().iter().filter(|pair| pair.caption.contains("fails")).count();
    assert_eq!(ask(&images, ["writer", "reader"], true), (failed, 0), "only failures are tried again");
    assert_eq!(ask(&images, ["writer", "other reader"], true), (failed, judged), "another judge");
    assert_eq!(ask(&images, ["other writer", "reader"], true).0, proposed, "another synthesizer");
    images.insert("4.png", grey(200));
    let with_image = captions().iter().filter(|p| p.image.as_str() == "4.png").count();
    let (again, _) = ask(&images, ["writer", "reader"], true);
    assert!(again > failed && again <= failed + with_image, "another image: {again}");
    assert_eq!(ask(&images, ["writer", "reader"], false), (proposed, judged), "starting anew");
}

#[test]
fn a_cancelled_run_goes_on_where_it_was() {
    let folders = [0, 1].map(|_| tempfile::tempdir().expect("a temporary folder"));
    let ask = |folder: &Path, progress: &mut dyn Progress| {
        let (images, writer, reader) = (all_images(), synthesizer(), judge());
        let run = SynthesisRun::new(folder, &images).with_config(config()).expect("valid").resuming(true);
        run.run(captions(), &Synthesizer::new(&writer), &ConsistencyFilter::new(&reader), progress)
    };
    let whole = ask(folders[0].path(), &mut ()).expect("runs");
    // In the first stage, between the stages, in the second, in the third.
    for done in [20, 98, 105, 175] {
        let error = ask(folders[1].path(), &mut CancelledAfter(done)).expect_err("is stopped");
        assert!(matches!(error, SynthError::Core(CoreError::Cancelled)), "{error}");
    }
    let resumed = ask(folders[1].path(), &mut ()).expect("goes on");
    assert_eq!((resumed.triplets, resumed.ledger), (whole.triplets, whole.ledger));
    for file in ["tasks.jsonl", "judged.jsonl", "ledger.jsonl"] {
        let [a, b] = [0, 1].map(|i| std::fs::read(folders[i].path().join(file)).expect("written"));
        assert_eq!(a, b, "{file}");
    }
}

#[test]
fn a_model_that_is_gone_ends_the_run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (images, reader) = (all_images(), judge());
    let gone = Counted::new(ScriptedModel::new(|_| Err(ScriptedError("connection refused".into()))), "gone");
    let run = SynthesisRun::new(folder.path(), &images).with_config(config()).expect("valid");
    let ended = run.run(captions(), &Synthesizer::new(&gone), &ConsistencyFilter::new(&reader), &mut ());
    let error = ended.expect_err("ends");
    assert!(matches!(error, SynthError::Core(CoreError::ModelFails { .. })), "{error}");
    assert!(gone.prompts.get() < 50, "{} prompts", gone.prompts.get());
}

/// Notes what it is asked, and answers in another process.
struct Later(ScriptedModel);

impl Generate for Later {
    type Error = ScriptedError;
    fn generate(&self, prompts: &[Prompt], options: &Decoding) -> Vec<Result<Completion, ScriptedError>> {
        self.0.generate(prompts, options)
    }
    fn score(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<f64>, ScriptedError>> {
        self.0.score(requests)
    }
    fn identity(&self) -> String {
        "later".into()
    }
    fn answers_later(&self) -> bool {
        true
    }
}

#[test]
fn a_model_that_answers_later_is_asked_everything() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (images, reader) = (all_images(), judge());
    let later = Later(ScriptedModel::new(|_| Err(ScriptedError("waiting".into()))));
    let run = SynthesisRun::new(folder.path(), &images).with_config(config()).expect("valid");
    let ended = run.run(captions(), &Synthesizer::new(&later), &ConsistencyFilter::new(&reader), &mut ());
    assert_eq!(ended.expect("goes through all").triplets, 0);
}

#[test]
fn shards_merge_to_the_whole_run() {
    let mut records = records();
    records.insert(50, records[2].clone());
    records.push(records[0].clone());
    records.insert(3, InputRecord::Dropped(dropped("captions.json record 4")));
    // The same words about the same image, under another id: hygiene drops it in the whole run and when merging.
    if let InputRecord::Pair(pair) = &records[0] {
        records.push(InputRecord::Pair(ImageCaption { id: RecordId::given("same words"), ..pair.clone() }));
    }
    let whole = tempfile::tempdir().expect("a temporary folder");
    let summary = run(whole.path(), records.clone(), Shard::WHOLE);
    assert_eq!(summary.ledger["combine/duplicate"], 1);
    for n_shards in [1, 3, 8] {
        let folders: Vec<_> = (0..n_shards).map(|_| tempfile::tempdir().expect("a temporary folder")).collect();
        let parts = (0..).zip(&folders).map(|(i, folder)| {
            run(folder.path(), records.clone(), Shard::new(i, n_shards).expect("in range")).records_in
        });
        assert_eq!(parts.sum::<u64>(), summary.records_in);
        let (merged, images) = (tempfile::tempdir().expect("a temporary folder"), all_images());
        let shards: Vec<_> = folders.iter().map(|folder| folder.path()).collect();
        let run = SynthesisRun::new(merged.path(), &images).with_config(config()).expect("valid");
        let again = run.merge(records.clone(), &shards).expect("merges");
        assert_eq!(again.records_out, summary.records_out);
        for name in ["triplets", "judged", "tasks", "ledger", "quarantine"] {
            let content = |folder: &Path| std::fs::read_to_string(folder.join(format!("{name}.jsonl"))).expect("reads");
            assert!(content(merged.path()) == content(whole.path()), "{name} of {n_shards} shards");
        }
    }
}

fn dropped(id: &str) -> LedgerEntry {
    LedgerEntry::new(RecordId::given(id), Stage::Read, Reason::InvalidJson, "not JSON")
}

#[test]
fn variants_leave_out_what_they_leave_out() {
    let (writer, reader, images) = (synthesizer(), judge(), all_images());
    let (synthesizer, judge) = (Synthesizer::new(&writer), ConsistencyFilter::new(&reader));
    let outcome = |variant: Variant| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = RunConfig { variant, ..RunConfig::default() };
        let run = SynthesisRun::new(folder.path(), &images).with_config(config).expect("valid");
        let summaries = [
            run.run(captions(), &synthesizer, &judge, &mut ()),
            run.run_unfiltered(captions(), &synthesizer, &mut ()),
            run.run_by_rule(captions(), &mut ()),
        ];
        summaries.into_iter().find_map(Result::ok)
    };
    let full = outcome(Variant::Full).expect("runs");
    let unfiltered = outcome(Variant::NoFilter).expect("runs");
    assert_eq!((unfiltered.records_out, unfiltered.unjudged), (full.triplets, full.triplets));
    assert_eq!(outcome(Variant::PreciseOnly).expect("runs").records_out, full.triplets);
    let rules = outcome(Variant::RuleBased).expect("runs");
    assert_eq!((rules.records_in, rules.records_out, rules.triplets), (100, 90, 0));
    assert!(outcome(Variant::CaptionOnly).is_none(), "there is nothing to synthesize");
}

#[test]
fn other_decoding_is_another_answer() {
    let (folder, images) = (tempfile::tempdir().expect("a temporary folder"), all_images());
    let ask = |max_new_tokens: usize, caption: &str| {
        let (writer, reader) = (Counted::new(synthesizer(), "writer"), Counted::new(judge(), "reader"));
        let standard = SynthesizerConfig::default();
        let decoding = Decoding { max_new_tokens, ..standard.decoding.clone() };
        let writing = Synthesizer::with_config(&writer, SynthesizerConfig { decoding, ..standard }).expect("valid");
        let run = SynthesisRun::new(folder.path(), &images).resuming(true);
        let pairs = [ImageCaption::new("1.png", "1 cell"), ImageCaption::new("2.png", caption)];
        run.run(pairs, &writing, &ConsistencyFilter::new(&reader), &mut ()).expect("runs");
        writer.prompts.get()
    };
    assert_eq!([ask(512, "2 cells"), ask(512, "2 cells")], [2, 0]);
    assert_eq!(ask(256, "2 cells"), 2, "other decoding options");
    assert_eq!(ask(256, "3 cells"), 1, "another caption: its record only");
    assert_eq!(ask(512, "2 cells"), 0, "the old answers are still there");
}

#[test]
fn sound_pairs_go_on_to_training_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut records = captions();
    records.extend([records[0].clone(), records[1].clone()]);
    let summary = run(folder.path(), records.iter().cloned().map(InputRecord::Pair).collect(), Shard::WHOLE);
    let kept = kept_pairs(folder.path(), records.clone()).expect("opens");
    let kept: Vec<_> = kept.collect::<Result<_, _>>().expect("reads");
    let n_tasks = kept.iter().filter(|(_, task)| task.is_some()).count() as u64;
    assert_eq!(n_tasks, summary.records_out, "every task finds its pair");
    assert!(kept.iter().flat_map(|(pair, task)| Some((pair, task.as_ref()?))).all(|(pair, task)| task.pair == pair.id));
    let lost = ["propose/empty_caption", "propose/forged_turn", "propose/image_missing", "read/duplicate_id"];
    let n_lost: u64 = lost.iter().map(|reason| summary.ledger[*reason]).sum();
    assert_eq!(kept.len() as u64, summary.records_in - n_lost);
}
