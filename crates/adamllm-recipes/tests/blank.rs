//! Whether a model looks at its images: asked by every evaluation, on a sample.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use adamllm_core::{Completion, Decoding, Generate, ImageStore, Prompt, ScoreRequest};
use adamllm_eval::Corruption;
use adamllm_recipes::evaluate::{BlankSample, EvaluationReport, EvaluationSettings, evaluate};

/// Says whether an image is red, or says yes without looking.
struct Answerer<'a> {
    images: Arc<dyn ImageStore>,
    looks: bool,
    n_asked: &'a AtomicUsize,
}

impl Generate for Answerer<'_> {
    type Error = std::fmt::Error;

    fn generate(&self, prompts: &[Prompt], _: &Decoding) -> Vec<Result<Completion, Self::Error>> {
        self.n_asked.fetch_add(prompts.len(), Ordering::Relaxed);
        let red = |prompt: &Prompt| {
            let image = self.images.open(&prompt.images()[0]).expect("an image");
            image.get_pixel(0, 0).0 == [255, 0, 0]
        };
        let answer = |prompt: &Prompt| if !self.looks || red(prompt) { "Yes." } else { "No." };
        prompts.iter().map(|prompt| Ok(Completion::new(answer(prompt)))).collect()
    }

    fn score(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<f64>, Self::Error>> {
        requests.iter().map(|_| Err(std::fmt::Error)).collect()
    }

    fn identity(&self) -> String {
        format!("looks: {}", self.looks)
    }
}

/// Two hundred questions about a hundred images, half of them red.
fn settings(folder: &Path) -> EvaluationSettings {
    let mut records = String::new();
    for i in 0..100 {
        let colour = if i % 2 == 0 { [255, 0, 0] } else { [0, 0, 255] };
        let name = format!("{i}.png");
        let mut image = image::RgbImage::from_pixel(4, 4, image::Rgb(colour));
        image.put_pixel(3, 3, image::Rgb([i; 3])); // No two are the same.
        image.save(folder.join(&name)).expect("written");
        for (n, label) in [if i % 2 == 0 { "yes" } else { "no" }; 2].into_iter().enumerate() {
            records += &format!(
                "{{\"id\":\"{i}-{n}\",\"image\":\"{name}\",\"question\":\"Is {name} red, for the {n}th time?\",\"label\":\"{label}\"}}\n"
            );
        }
    }
    std::fs::write(folder.join("questions.jsonl"), records).expect("written");
    let description = "name = \"red\"\nexamples = \"questions.jsonl\"\nimages = \".\"\nanswer = \"closed\"\n";
    std::fs::write(folder.join("red.toml"), description).expect("written");
    let mut settings = EvaluationSettings { html: true, ..EvaluationSettings::default() };
    settings.benchmarks.descriptions.push(folder.join("red.toml"));
    settings
}

fn run(settings: &EvaluationSettings, out: &Path, looks: bool) -> (EvaluationReport, usize) {
    let n_asked = AtomicUsize::new(0);
    let open = |images| Ok(Answerer { images, looks, n_asked: &n_asked });
    let report = evaluate(settings, out, open, &mut ()).expect("runs");
    (report, n_asked.into_inner())
}

fn only(report: &EvaluationReport) -> &BlankSample {
    assert_eq!(report.blank.keys().collect::<Vec<_>>(), ["red"]);
    &report.blank["red"]
}

#[test]
fn a_model_that_looks_and_one_that_does_not() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = settings(folder.path());

    let (report, n_asked) = run(&settings, &folder.path().join("looks"), true);
    let blank = only(&report);
    assert_eq!((n_asked, blank.comparison.overall.n), (300, 100), "all questions, and a hundred over white images");
    let strict = blank.strict().expect("scores");
    assert!(blank.images_add() && strict.first == 100.0 && (30.0..70.0).contains(&strict.second), "{strict:?}");
    assert!(strict.interval.is_some(), "white images are not one cluster");
    assert!(blank.sentence().starts_with("It looks at the images of red (100 questions): 100.0 with the images"));

    let (report, _) = run(&settings, &folder.path().join("blind"), false);
    let blank = only(&report);
    assert!(!blank.images_add() && blank.strict().is_some_and(|strict| strict.difference == 0.0));
    assert!(blank.sentence().contains("add nothing beyond chance (100 questions)"));
    let page = std::fs::read_to_string(folder.path().join("blind/index.html")).expect("a page");
    assert!(
        page.contains("Does it look at the image?") && page.contains("class=\"bad\">The images of red add nothing")
    );
}

#[test]
fn a_run_that_goes_on_asks_nothing_twice() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (settings, out) = (settings(folder.path()), folder.path().join("out"));
    let (first, _) = run(&settings, &out, true);
    let (again, n_asked) = run(&settings, &out, true);
    assert_eq!((n_asked, only(&again).comparison.clone()), (0, only(&first).comparison.clone()));
}

#[test]
fn how_many_are_asked_can_be_chosen() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let few = EvaluationSettings { limit: Some(20), ..settings(folder.path()) };
    let (report, n_asked) = run(&few, &folder.path().join("few"), true);
    assert_eq!((n_asked, only(&report).comparison.overall.n), (40, 20), "the sample is of what was asked");

    let none = EvaluationSettings { blank_sample: 0, ..few.clone() };
    let (report, n_asked) = run(&none, &folder.path().join("none"), true);
    assert!(report.blank.is_empty() && n_asked == 20);

    // All of them were asked over white images: that is the answer.
    let all = EvaluationSettings { corruptions: vec![Corruption::Blank], blank_sample: 10, ..few };
    let (report, n_asked) = run(&all, &folder.path().join("all"), true);
    assert_eq!((n_asked, only(&report).comparison.overall.n), (40, 20));
}
