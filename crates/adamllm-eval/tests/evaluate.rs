//! A run from questions to report on disk: killed and resumed, corrupted, shown as a page.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adamllm_core::testing::{CancelledAfter, ScriptedError, ScriptedModel};
use adamllm_core::{CoreError, Decoding, MemoryImages, Progress, Prompt, RecordId, RgbImage};
use adamllm_eval::{
    Benchmark, BenchmarkDescription, BootstrapConfig, CorruptedBenchmark, Corruption, DescribedBenchmark, EvalError,
    Example, HtmlOptions, HtmlRun, HtmlSection, JsonExamples, Outcome, PredictOptions, Prediction, SampledBenchmark,
    Scored, compare, evaluate, files, html_report, read_predictions, read_report, score_all,
};
use serde_json::json;

fn slides() -> DescribedBenchmark {
    let mut images = MemoryImages::new();
    for i in 0..10u8 {
        images.insert(format!("{i}.png"), RgbImage::from_fn(32, 24, |x, y| image::Rgb([i / 2 * 20, x as u8, y as u8])));
    }
    let records = (0..40).map(|i| {
        let label = if i % 2 == 0 { "yes" } else { "no" };
        let record = json!({"id": format!("q{i}"), "image": format!("{}.png", i / 4), "label": label,
                         "question": format!("Is cell number {i} </script><b> round?")});
        record.as_object().cloned().expect("an object")
    });
    let description = BenchmarkDescription::from_toml("name = \"slides\"\nanswer = \"closed\"").expect("valid");
    let records = JsonExamples::from_records("slides.jsonl", records);
    DescribedBenchmark::new(description, Box::new(records)).expect("fits").with_images(Arc::new(images))
}

fn question(prompt: &Prompt) -> &str {
    match prompt {
        Prompt::Chat { conversation, .. } => &conversation.messages[0].content,
        Prompt::Text(text) => text,
    }
}

/// Says yes, except to every third question.
fn model(pause: Duration) -> ScriptedModel {
    ScriptedModel::new(move |prompt| {
        std::thread::sleep(pause);
        let number: u32 = question(prompt).split(' ').find_map(|word| word.parse().ok()).unwrap_or(0);
        Ok(if number.is_multiple_of(3) { "It is normal.".into() } else { "Yes, it is".into() })
    })
}

fn run(folder: &Path, pause: Duration) -> Scored {
    let options = PredictOptions { batch_size: 2, ..PredictOptions::default() };
    evaluate(&model(pause), &slides(), folder, &options, &mut ()).expect("runs")
}

#[test]
fn a_cancelled_run_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = PredictOptions { batch_size: 2, ..PredictOptions::default() };
    let asked = |progress: &mut dyn Progress| {
        let model = model(Duration::ZERO);
        evaluate(&model, &slides(), folder.path(), &options, progress).map(|scored| scored.report)
    };
    let error = asked(&mut CancelledAfter(12)).expect_err("is stopped");
    assert!(matches!(error, EvalError::Core(CoreError::Cancelled)), "{error}");
    let report = asked(&mut ()).expect("goes on");
    assert_eq!((report.overall.n, report.run.and_then(|run| run.n_asked)), (40, Some(28)));
}

#[test]
fn a_model_that_is_gone_ends_the_run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gone = |prompt: &Prompt| {
        let number: u32 = question(prompt).split(' ').find_map(|word| word.parse().ok()).unwrap_or(0);
        if number < 4 { Ok("Yes.".into()) } else { Err(ScriptedError("connection refused".into())) }
    };
    let options = PredictOptions { batch_size: 2, ..PredictOptions::default() };
    let error = evaluate(&ScriptedModel::new(gone), &slides(), folder.path(), &options, &mut ()).expect_err("ends");
    assert!(
        error.to_string().contains("failed on 32 consecutive prompts")
            && error.to_string().contains("connection refused")
    );
    let scored = run(folder.path(), Duration::ZERO);
    assert_eq!((scored.outcomes.len(), scored.report.run.and_then(|run| run.n_asked)), (40, Some(36)));
}

const CHILD: &str = "ADAMLLM_EVAL_TEST_FOLDER";

/// The child of the next test: it works slowly in the folder that it is given, until it is killed.
#[test]
fn slow_run() {
    if let Ok(folder) = std::env::var(CHILD) {
        run(Path::new(&folder), Duration::from_millis(40));
    }
}

#[test]
fn a_killed_run_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let whole = tempfile::tempdir().expect("a temporary folder");
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["slow_run", "--exact"])
        .env(CHILD, folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    let journal = folder.path().join(files::JOURNAL);
    let lines = || std::fs::read(&journal).map_or(0, |bytes| bytes.iter().filter(|&&byte| byte == b'\n').count());
    let start = Instant::now();
    while lines() < 6 && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("SIGKILL");
    child.wait().expect("ends");
    let done = lines();
    assert!((6..40).contains(&done), "{done} answers before the kill");
    assert!(!folder.path().join(files::REPORT).exists());

    let start = std::fs::read(&journal).expect("reads");
    let (resumed, fresh) = (run(folder.path(), Duration::ZERO), run(whole.path(), Duration::ZERO));
    assert!(std::fs::read(&journal).expect("reads").starts_with(&start), "no answer was asked for again");
    assert_eq!(resumed.outcomes, fresh.outcomes);
    for file in [files::PREDICTIONS, files::OUTCOMES] {
        let of = |folder: &Path| std::fs::read(folder.join(file)).expect("reads");
        assert_eq!(of(folder.path()), of(whole.path()), "{file}");
    }
    let report = read_report(folder.path().join(files::REPORT)).expect("reads");
    assert_eq!(report, resumed.report);
    assert_eq!((report.overall.n, report.overall.n_clusters), (40, 5), "ten names, five images");
    let info = report.run.expect("what was run");
    assert_eq!((info.model.as_str(), info.dataset.is_some(), info.images.is_some()), ("scripted", true, true));
}

/// A benchmark that scores in its own way: by the length of the answer.
struct ByLength(DescribedBenchmark);

impl Benchmark for ByLength {
    fn name(&self) -> &str {
        "by length"
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn example(&self, index: usize) -> Result<Example, EvalError> {
        self.0.example(index)
    }

    fn decoding(&self) -> Decoding {
        self.0.decoding()
    }

    fn score(&self, example: &Example, answer: &str) -> Outcome {
        Outcome { strict: answer.len() as f64, ..self.0.score(example, answer) }
    }
}

#[test]
fn what_wraps_a_benchmark_scores_as_it_does() {
    let benchmark = ByLength(slides());
    let predictions: Vec<_> = (0..40).map(|i| Prediction::new(RecordId::given(format!("q{i}")), "12345")).collect();
    let outcomes = score_all(&benchmark, &predictions).expect("scores").outcomes;
    let blank = CorruptedBenchmark::new(&benchmark, Corruption::Blank, 1);
    let sample = SampledBenchmark::with_images(&blank, &outcomes, 7, 1).expect("drawn");
    for (wrapped, n) in [(&blank as &dyn Benchmark, 40), (&sample, 7)] {
        let scored = score_all(wrapped, &predictions).expect("scores");
        assert_eq!((scored.report.benchmark.as_str(), scored.outcomes.len()), (wrapped.name(), n));
        assert!(scored.outcomes.iter().all(|outcome| outcome.strict == 5.0));
    }
    let ids = |outcomes: &[Outcome]| outcomes.iter().map(|outcome| outcome.id.clone()).collect::<Vec<_>>();
    let chosen = sample.outcomes(&outcomes);
    assert_eq!(ids(&chosen), ids(&score_all(&sample, &predictions).expect("scores").outcomes));
    let other = SampledBenchmark::with_images(&blank, &outcomes, 7, 2).expect("drawn");
    assert_ne!(ids(&other.outcomes(&outcomes)), ids(&chosen), "the seed draws");
}

#[test]
fn an_image_that_changes_changes_the_data_set() {
    let folders = [0, 1].map(|_| tempfile::tempdir().expect("a temporary folder"));
    let intact = slides();
    let blank = CorruptedBenchmark::new(&intact, Corruption::Blank, 1);
    let hashes = [&intact as &dyn Benchmark, &blank].map(|benchmark| {
        let folder = folders[usize::from(benchmark.name() != "slides")].path();
        let scored = evaluate(&model(Duration::ZERO), benchmark, folder, &PredictOptions::default(), &mut ());
        scored.expect("runs").report.run.and_then(|run| run.images).expect("images at hand")
    });
    assert_ne!(hashes[0], hashes[1]);
}

#[test]
fn corrupted_benchmarks_compare_with_intact_ones() {
    let intact = slides();
    let before = intact.example(5).expect("an example");
    for corruption in [Corruption::Blank, Corruption::Blur { sigma: 2.0 }, Corruption::Noise { deviation: 30.0 }] {
        let corrupted = CorruptedBenchmark::new(&intact, corruption, 3);
        let pixels = |benchmark: &dyn Benchmark| benchmark.images().expect("a store").open(&before.images[0]);
        let (a, b) = (pixels(&intact).expect("opens"), pixels(&corrupted).expect("opens"));
        assert_eq!(a.dimensions(), b.dimensions());
        assert_ne!(a, b, "{corruption:?}");
        assert_eq!(pixels(&corrupted).expect("opens"), b, "the same each time");
    }
    let wrong = CorruptedBenchmark::new(&intact, Corruption::WrongImage, 3);
    let after = wrong.example(5).expect("an example");
    assert_ne!(after.images, before.images);
    assert_eq!((after.id.clone(), after.cluster()), (before.id.clone(), before.cluster()));
    let shuffled = CorruptedBenchmark::new(&intact, Corruption::ShuffledWords, 3).example(5).expect("an example");
    assert_ne!(shuffled.prompt, before.prompt);

    let folder = tempfile::tempdir().expect("a temporary folder");
    let scored = evaluate(&model(Duration::ZERO), &wrong, folder.path(), &PredictOptions::default(), &mut ());
    let scored = scored.expect("runs");
    assert_eq!(scored.report.benchmark, "slides (wrong-image)");
    let whole = run(tempfile::tempdir().expect("a temporary folder").path(), Duration::ZERO);
    let comparison = compare(&whole.outcomes, &scored.outcomes, &BootstrapConfig::default());
    assert_eq!((comparison.overall.n, comparison.only_first), (40, 0));
    assert!(comparison.regressions().is_empty(), "a model that looks at no image loses nothing");
}

#[test]
fn odd_lines_of_a_predictions_file_cost_themselves() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("predictions.jsonl");
    let lines: [&[u8]; 5] = [
        b"{\"id\": \"q0\", \"pred\": \"yes\"}",
        b"{\"id\": \"q1\"}",
        b"{\"id\": \"q\xff\", \"answer\": \"a\"}",
        b"[1",
        b"",
    ];
    std::fs::write(&path, lines.join(&b'\n')).expect("writes");
    let (predictions, rejected) = read_predictions(&path).expect("reads");
    assert_eq!((predictions.len(), rejected.len()), (1, 3));
    assert!(rejected[1].detail.contains("record 3"), "{}", rejected[1].detail);
    let scored = score_all(&slides(), &predictions).expect("scores");
    assert_eq!((scored.report.overall.n, scored.report.unanswered), (1, 39));
}

fn html_run<'a>(name: &'a str, scored: &'a Scored, predictions: &'a [Prediction]) -> HtmlRun<'a> {
    HtmlRun { name, report: &scored.report, outcomes: &scored.outcomes, predictions }
}

/// The page of two runs, the second of which answers one question more rightly.
fn page() -> String {
    let benchmark = slides();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let scored = run(folder.path(), Duration::ZERO);
    let (predictions, _) = read_predictions(folder.path().join(files::PREDICTIONS)).expect("reads");
    let mut better = predictions.clone();
    let missed = scored.outcomes.iter().position(|outcome| outcome.unparsed).expect("one is unreadable");
    better[missed].answer = scored.outcomes[missed].expected.clone();
    let rescored = score_all(&benchmark, &better).expect("scores");
    let runs = vec![html_run("base <b>", &scored, &predictions), html_run("tuned", &rescored, &better)];
    html_report("A & B", &[HtmlSection { benchmark: &benchmark, runs }], &HtmlOptions::default()).expect("a page")
}

#[test]
fn a_page_holds_everything_and_nothing_breaks_out() {
    let page = page();
    assert_eq!(page.matches("</script>").count(), 2, "its own two");
    assert!(page.contains("<title>A &amp; B</title>") && page.contains("base &lt;b&gt;"));
    assert!(!page.contains("http://") && !page.contains("https://"), "nothing from elsewhere");
    let data = page.split("id=\"data\">").nth(1).and_then(|rest| rest.split("</script>").next()).expect("data");
    let data: serde_json::Value = serde_json::from_str(data).expect("parses");
    let examples = data["benchmarks"][0]["examples"].as_array().expect("a list");
    assert_eq!((examples.len(), &data["benchmarks"][0]["n_answered"]), (40, &json!(40)));
    for image in examples.iter().flat_map(|example| example["images"].as_array().expect("a list")) {
        let url = data["images"][image.as_str().expect("a key")].as_str().expect("an image");
        assert!(url.starts_with("data:image/jpeg;base64,"));
    }
}

/// Runs the page's script where a Chromium is at hand.
#[test]
fn the_browser_filters_examples() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("report.html");
    std::fs::write(&file, page()).expect("writes");
    let cards = |view: &str| -> Option<usize> {
        let output = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"])
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .arg(format!("file://{}#{view}", file.display()))
            .stderr(Stdio::null())
            .output()
            .ok()?;
        Some(String::from_utf8_lossy(&output.stdout).matches("<article").count())
    };
    let Some(all) = cards("") else { return };
    assert_eq!(all, 24, "the first page of forty");
    assert_eq!(cards("runs=1"), Some(1));
    assert_eq!(cards("unparsed=1"), Some(14));
    assert_eq!(cards("scorings=1&text=number+21+"), Some(1));
}
