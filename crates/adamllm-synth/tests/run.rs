//! A whole run over files: accounting, resuming, cache keys, shards.

mod scripted;

use std::cell::Cell;
use std::path::Path;

use adamllm_core::{
    Completion, Decoding, Generate, LedgerRow, Prompt, Reason, ScoreRequest, Shard, TurnMarkers, jsonl,
};
use adamllm_synth::{ConsistencyFilter, InputRow, RunConfig, RunSummary, SynthesisRun, Synthesizer};
use scripted::{captions, grey, judge, pictures, synthesizer};

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

fn run(folder: &Path, rows: Vec<InputRow>, shard: Shard) -> RunSummary {
    let (writer, reader, images) = (synthesizer(), judge(), pictures());
    let config = RunConfig { batch_size: 7, seed: 3 };
    let run = SynthesisRun::new(folder, &images).with_config(config).expect("valid").with_shard(shard);
    run.run(rows, &Synthesizer::new(&writer), &ConsistencyFilter::new(&reader), &mut ()).expect("runs")
}

fn rows() -> Vec<InputRow> {
    captions().into_iter().map(InputRow::Pair).collect()
}

#[test]
fn every_row_is_accounted_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut rows = rows();
    rows.push(rows[0].clone());
    let summary = run(folder.path(), rows, Shard::WHOLE);
    assert_eq!(summary.rows_in, summary.rows_out + summary.ledger_rows);
    assert_eq!(summary.rows_in, 101);
    assert!(summary.consistent > 0 && summary.inconsistent > 0 && summary.open > 0 && summary.unclear > 0);
    let verdicts = summary.consistent + summary.inconsistent + summary.open + summary.unclear;
    assert_eq!(summary.triplets, verdicts);
    assert_eq!(summary.rows_out, summary.consistent);
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
    let ledger = jsonl::read_all::<LedgerRow>(folder.path().join("ledger.jsonl")).expect("reads");
    assert_eq!(ledger.len() as u64, summary.ledger_rows);
    let no_triplet = ledger.iter().filter(|row| row.reason == Reason::NoTriplet).count();
    let quarantine = jsonl::read_all::<serde_json::Value>(folder.path().join("quarantine.jsonl")).expect("reads");
    assert_eq!(quarantine.len(), no_triplet);
}

#[test]
fn a_resumed_run_asks_only_what_changed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut images = pictures();
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
    assert!(again > failed && again <= failed + with_image, "another picture: {again}");
    assert_eq!(ask(&images, ["writer", "reader"], false), (proposed, judged), "starting anew");
}

#[test]
fn shards_split_the_run() {
    let whole = tempfile::tempdir().expect("a temporary folder");
    let summary = run(whole.path(), rows(), Shard::WHOLE);
    let parts: Vec<_> = (0..3)
        .map(|i| {
            let folder = tempfile::tempdir().expect("a temporary folder");
            run(folder.path(), rows(), Shard::new(i, 3).expect("in range"))
        })
        .collect();
    assert_eq!(parts.iter().map(|part| part.rows_in).sum::<u64>(), summary.rows_in);
    assert_eq!(parts.iter().map(|part| part.rows_out).sum::<u64>(), summary.rows_out);
    assert!(parts.iter().all(|part| part.rows_in < 60));
}
