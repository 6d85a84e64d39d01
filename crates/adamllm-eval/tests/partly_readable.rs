//! Benchmarks with an example that cannot be read, and benchmarks that fail as a whole: the one costs itself, the other ends the work.

use adamllm_core::{CoreError, Decoding, RecordId};
use adamllm_eval::{
    Benchmark, BenchmarkDescription, CorruptedBenchmark, Corruption, DescribedBenchmark, EvalError, Example,
    HtmlOptions, HtmlRun, HtmlSection, JsonExamples, Outcome, Prediction, SampledBenchmark, html_report, read_log,
    score_all,
};
use serde_json::{Value, json};

/// What happens to example 1.
#[derive(Clone, Copy, PartialEq)]
enum Second {
    Read,
    Unreadable,
    Fails,
}

/// Six questions about an image each.
struct Six(DescribedBenchmark, Second);

fn six(second: Second) -> Six {
    let record = |i: usize| {
        let label = if i.is_multiple_of(2) { "yes" } else { "no" };
        let record = json!({"id": format!("q{i}"), "image": format!("{i}.png"), "label": label,
            "question": format!("Is cell {i} round?")});
        record.as_object().cloned().expect("an object")
    };
    let description = BenchmarkDescription::from_toml("name = \"six\"\nanswer = \"closed\"").expect("valid");
    let records = JsonExamples::from_records("six.jsonl", (0..6).map(record));
    Six(DescribedBenchmark::new(description, Box::new(records)).expect("fits"), second)
}

impl Benchmark for Six {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn example(&self, index: usize) -> Result<Example, EvalError> {
        match (index, self.1) {
            (1, Second::Unreadable) => {
                Err(CoreError::ImageMissing { image: "1.png".into(), location: "here".into() }.into())
            }
            (1, Second::Fails) => Err(CoreError::io("read", "six.jsonl")(std::io::Error::other("gone")).into()),
            _ => self.0.example(index),
        }
    }
    fn decoding(&self) -> Decoding {
        Decoding::greedy(17)
    }
}

fn answers() -> Vec<Prediction> {
    (0..6).map(|i| Prediction::new(RecordId::given(format!("q{i}")), "yes")).collect()
}

fn outcomes() -> Vec<Outcome> {
    score_all(&six(Second::Read), &answers()).expect("scores").outcomes
}

fn is_io(error: &EvalError) -> bool {
    matches!(error, EvalError::Core(CoreError::Io { .. }))
}

#[test]
fn a_sample_passes_over_what_cannot_be_read() {
    let outcomes = outcomes();
    let benchmark = six(Second::Unreadable);
    let sample = SampledBenchmark::with_images(&benchmark, &outcomes, 6, 0).expect("drawn");
    let ids: Vec<String> = (0..sample.len()).map(|i| sample.example(i).expect("reads").id.to_string()).collect();
    assert_eq!(ids, ["q0", "q2", "q3", "q4", "q5"], "in the benchmark's order");
    assert_eq!(sample.question(1).expect("reads").id, RecordId::given("q2"));
    assert_eq!((sample.decoding().max_new_tokens, sample.is_empty(), sample.images().is_none()), (17, false, true));
    assert!(SampledBenchmark::with_images(&benchmark, &[], 6, 0).expect("drawn").is_empty());
    assert_eq!(
        SampledBenchmark::with_images(&benchmark, &outcomes[..2], 6, 0).expect("drawn").len(),
        1,
        "answered ones"
    );
    let error = SampledBenchmark::with_images(&six(Second::Fails), &outcomes, 6, 0).expect_err("the file is gone");
    assert!(is_io(&error), "{error}");
}

#[test]
fn another_image_is_looked_for_among_those_that_can_be_read() {
    let other = |second: Second, index: usize, seed: u64| -> Result<String, EvalError> {
        let benchmark = six(second);
        let wrong = CorruptedBenchmark::new(&benchmark, Corruption::WrongImage, seed);
        wrong.example(index).map(|example| example.images[0].to_string())
    };
    let mut fails = 0;
    for seed in 0..20 {
        let image = other(Second::Unreadable, 0, seed).expect("five of six can be read");
        assert!(image != "0.png" && image != "1.png", "{image}");
        fails += usize::from(other(Second::Fails, 0, seed).is_err_and(|error| is_io(&error)));
    }
    assert!(fails > 0, "a file that is gone is no missing image");
}

#[test]
fn a_page_goes_without_what_cannot_be_read() {
    let outcomes = outcomes();
    let predictions = answers();
    let report = score_all(&six(Second::Read), &predictions).expect("scores").report;
    let page = |second: Second| {
        let benchmark = six(second);
        let runs = vec![HtmlRun { name: "a", report: &report, outcomes: &outcomes, predictions: &predictions }];
        html_report("t", &[HtmlSection { benchmark: &benchmark, runs }], &HtmlOptions::default())
    };
    let text = page(Second::Unreadable).expect("a page");
    assert!(
        text.contains("\"n_answered\":5") && text.contains("Is cell 2 round?") && !text.contains("Is cell 1 round?")
    );
    assert!(is_io(&page(Second::Fails).expect_err("the file is gone")));
}

#[test]
fn a_log_names_the_example_that_cannot_be_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("samples_six_2026-01-01.jsonl");
    let line = |doc_id: usize, filter: &str| -> String {
        let asked = format!("Is cell {doc_id} round?");
        let sample: Value = json!({"doc_id": doc_id, "target": "", "arguments": [[asked, {}]], "resps": [["yes"]],
            "filtered_resps": ["yes"], "filter": filter});
        sample.to_string()
    };
    std::fs::write(&path, [line(0, "none"), line(1, "none"), line(2, "none")].join("\n")).expect("written");
    let (predictions, rejected) = read_log(&path, &six(Second::Unreadable)).expect("reads");
    assert_eq!(predictions.iter().map(|answer| answer.id.as_str()).collect::<Vec<_>>(), ["q0", "q2"]);
    assert!(
        rejected.len() == 1 && rejected[0].detail.contains("example 1 of the benchmark cannot be read"),
        "{rejected:?}"
    );
    assert!(is_io(&read_log(&path, &six(Second::Fails)).expect_err("the file is gone")));
}
