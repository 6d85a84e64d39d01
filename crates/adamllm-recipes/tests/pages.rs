//! The pages of a whole run: their numbers are those of the run's files, a run that goes on leaves the same page, and in a browser they
//! fit, can be read in light and dark, and their filters filter.
#![cfg(feature = "train")]

mod browser;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use adamllm_core::{InstructionTask, LedgerEntry, jsonl};
use adamllm_eval::{Outcome, Report, read_outcomes, read_predictions, read_report};
use adamllm_model::{LocalModel, ModelFolder};
use adamllm_recipes::adapt::{AblationSettings, Adaptation};
use adamllm_recipes::benchmarks::open_description;
use adamllm_recipes::compare::{RunComparison, write_comparison};
use adamllm_recipes::{AdaptReport, AdaptSettings, RunOptions, adapt};
use adamllm_synth::{RunSummary, Variant};
use adamllm_train::StepMetrics;
use burn::tensor::Device;
use serde_json::Value;

const N_PAIRS: usize = 60;
const N_QUESTIONS: usize = 40;
/// Of the general benchmark.
const N_GENERAL: usize = 24;

fn mini() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mini");
    beside.canonicalize().expect("the mini world")
}

/// The first pairs of the mini world, some with faults, and some of its questions.
fn settings(folder: &Path) -> AdaptSettings {
    let slides = mini().join("slides");
    let text = |name: &str| std::fs::read_to_string(slides.join(name)).expect("reads");
    let mut pairs: Vec<Value> = serde_json::from_str(&text("captions.json")).expect("JSON");
    pairs.truncate(N_PAIRS);
    pairs[3]["images"] = serde_json::json!(["images/<gone> & away.png"]);
    pairs[7]["images"] = serde_json::json!(["images/gone.png"]);
    let captions = folder.join("captions.json");
    std::fs::write(&captions, serde_json::to_string(&pairs).expect("JSON")).expect("written");

    AdaptSettings {
        captions,
        images: slides,
        benchmark: Some(some_questions("slides", N_QUESTIONS, folder)),
        retain: vec![some_questions("general", N_GENERAL, &folder.join("general"))],
        judge_prompt: Some(mini().join("judge_prompt.txt")),
        epochs: 4.0,
        batch_size: 16,
        micro_batch_size: 16,
        learning_rate: 1e-3,
        ..AdaptSettings::default()
    }
}

/// A description of some of a mini benchmark's questions, in a folder.
fn some_questions(name: &str, n: usize, folder: &Path) -> PathBuf {
    let source = mini().join(name);
    std::fs::create_dir_all(folder).expect("a folder");
    let text = |name: &str| std::fs::read_to_string(source.join(name)).expect("reads");
    let questions: Vec<String> = text("benchmark.jsonl").lines().step_by(4).take(n).map(str::to_owned).collect();
    std::fs::write(folder.join("benchmark.jsonl"), questions.join("\n")).expect("written");
    let images = format!("images = {:?}", source.display().to_string());
    let description = text("benchmark.toml").replace("n_examples = 180", &format!("n_examples = {n}"));
    let path = folder.join("benchmark.toml");
    std::fs::write(&path, description.replace("images = \".\"", &images)).expect("written");
    path
}

fn run(settings: &AdaptSettings, out: &Path, resume: bool) -> AdaptReport {
    let (device, models) = (Device::flex(), mini().join("models"));
    let open = |name: &str| {
        let folder = ModelFolder::open(models.join(name)).expect("opens");
        let images = adamllm_data::images_at(&settings.images).expect("opens").into();
        LocalModel::load(&folder, settings.dtype.into(), &device, images).expect("loads")
    };
    let base = ModelFolder::open(models.join("base")).expect("opens");
    let options = RunOptions { resume, ..RunOptions::new(out) };
    adapt(settings, &base, (open("synthesizer"), open("judge")), &device, &options, &mut ()).expect("runs")
}

fn page(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_pages_of_a_run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (settings, out) = (settings(folder.path()), folder.path().join("out"));
    let report = run(&settings, &out, false);
    assert_eq!(report.page, out.join("index.html"));
    let index = page(&report.page);
    says_what_the_files_say(&index, &out);
    names_what_went_in(&index, &settings);

    let [base, post_trained] = ["evaluation/base", "evaluation/post-trained"].map(|name| out.join(name));
    let compared = RunComparison::of(&base, &post_trained, &Default::default()).expect("two runs");
    let opened = open_description(&folder.path().join("benchmark.toml")).expect("opens");
    let compare = folder.path().join("compare");
    let comparison = write_comparison(&compared, [&base, &post_trained], &[opened], &[], &compare).expect("writes");
    says_what_was_kept(&index, &report, &out);
    assert!(page(&comparison).contains(&format!("<b>{N_QUESTIONS}</b><span>questions in both</span>")));

    let below = |name: &str| out.join(name);
    let pages = [
        report.page.clone(),
        below("synthesis/report.html"),
        below("training/training.html"),
        below("evaluation/base/report.html"),
        below("evaluation/post-trained/report.html"),
        below("evaluation/comparison.html"),
        below("evaluation/retained/mini-general/comparison.html"),
        comparison,
    ];
    for path in &pages {
        let html = page(path);
        for outside in ["http://", "https://", "@import", "url("] {
            let html = html.replace("http://www.w3.org/2000/svg", "");
            assert!(!html.contains(outside), "{}: {outside}", path.display());
        }
        // Images as base64 may spell anything: a number is a word of its own.
        for wrong in [">NaN", " NaN", "\"NaN", ":NaN", "<gone>"] {
            assert!(!html.contains(wrong), "{}: {wrong}", path.display());
        }
    }
    for dark in [false, true] {
        looks_right(&pages, dark);
    }

    run(&settings, &out, true);
    assert!(page(&report.page) == index, "a run that goes on leaves the same page");
    shows_ablations(&settings, &out, &report);
}

/// The front page shows the table that the ablations left.
fn shows_ablations(settings: &AdaptSettings, out: &Path, report: &AdaptReport) {
    let base = ModelFolder::open(mini().join("models/base")).expect("opens");
    let (device, options) = (Device::flex(), RunOptions { resume: true, ..RunOptions::new(out) });
    let job = Adaptation::new(settings, &base, &device, &options).expect("opens");
    let ablations = AblationSettings { variants: vec![Variant::CaptionOnly], n_seeds: 1 };
    let table = job.ablate(&ablations, &mut ()).expect("runs").table();
    let page = page(&job.write_pages(report).expect("writes"));
    assert!(page.contains("Without one of its parts"));
    for line in table.lines().filter(|line| !line.starts_with("|---")) {
        let tag = if line.contains("variant") { "th" } else { "td" };
        let cells = line.trim_matches('|').split('|').map(|cell| format!("<{tag}>{}</{tag}>", cell.trim()));
        assert!(page.contains(&cells.collect::<String>()), "{line}");
    }
}

fn says_what_the_files_say(index: &str, out: &Path) {
    let json = std::fs::read(out.join("synthesis/summary.json")).expect("reads");
    let summary: RunSummary = serde_json::from_slice(&json).expect("a summary");
    let tasks: Vec<InstructionTask> = jsonl::read_all(out.join("synthesis/tasks.jsonl")).expect("reads");
    let n_triplets = jsonl::read_all::<Value>(out.join("synthesis/triplets.jsonl")).expect("reads").len();
    let n_conversations = jsonl::read_all::<Value>(out.join("conversations.jsonl")).expect("reads").len();
    let step = |name: &str, n: usize| {
        let line = index.split("<li>").find(|line| line.starts_with(&format!("<span>{name}</span>"))).expect(name);
        assert!(line.contains(&format!("<span class=\"n\">{n}</span>")), "{name}: expected {n} in {line}");
    };
    step("pairs", N_PAIRS);
    step("triplets", n_triplets);
    step("judged consistent", summary.consistent as usize);
    step("tasks", tasks.len());
    step("conversations", n_conversations);
    assert!(!tasks.is_empty() && summary.inconsistent > 0, "a run with both");

    // The ledger by reason, and the cards that stand for each reason.
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for name in ["synthesis/ledger.jsonl", "encode-ledger.jsonl"] {
        for entry in jsonl::read_all::<LedgerEntry>(out.join(name)).expect("reads") {
            let words = |code: String| code.replace('_', " ");
            *reasons.entry(format!("{} / {}", words(entry.stage.code()), words(entry.reason.code()))).or_default() += 1;
            if name.starts_with("synthesis") {
                *outcomes.entry(words(entry.reason.code())).or_default() += 1;
            }
        }
    }
    assert!(reasons.len() >= 3, "{reasons:?}");
    for (reason, n) in &reasons {
        assert!(index.contains(&format!("<td>{reason}</td><td>{n}</td>")), "{reason}: {n}");
    }
    outcomes.insert("kept".into(), tasks.len());
    for (outcome, n) in &outcomes {
        let shown = index.matches(&format!("data-group=\"{outcome}\"")).count();
        assert!(shown > 0 && index.contains(&format!(">{outcome} ({shown} of {n})</option>")), "{outcome}: {n}");
    }

    let steps: Vec<StepMetrics> = jsonl::read_all(out.join("training/metrics.jsonl")).expect("reads");
    let (first, last) = (&steps[0], &steps[steps.len() - 1]);
    assert!(index.contains(&format!("<b>{}</b><span>steps</span>", steps.len())));
    assert!(index.contains(&format!("loss {:.4} to {:.4}", first.loss, last.loss)));

    // Scores and answers.
    let of = |name: &str| -> (Report, Vec<Outcome>) {
        let folder = out.join("evaluation").join(name);
        (
            read_report(folder.join("report.json")).expect("reads"),
            read_outcomes(folder.join("outcomes.jsonl")).expect("reads"),
        )
    };
    let ((base, before), (post_trained, after)) = (of("base"), of("post-trained"));
    for (report, tile) in [(&base, "base, strict"), (&post_trained, "post-trained, strict")] {
        let strict = report.overall.strict.expect("a score");
        let interval = strict.interval.expect("an interval");
        assert!(index.contains(&format!("<b>{:.1}</b><span>{tile}</span>", strict.mean)), "{tile}");
        assert!(
            index.contains(&format!("<td>{:.1}</td><td>{:.1}–{:.1}</td>", strict.mean, interval.low, interval.high))
        );
    }
    let pairs = || before.iter().zip(&after);
    let better = pairs().filter(|(a, b)| b.strict > a.strict).count();
    let worse = pairs().filter(|(a, b)| b.strict < a.strict).count();
    assert!(better > 0);
    for (group, n) in [("better", better), ("worse", worse)] {
        assert!(
            n == 0 || index.contains(&format!(" of {n})</option>")) && index.contains(&format!(">{group} (")),
            "{group}: {n}"
        );
    }
    let (predictions, _) = read_predictions(out.join("evaluation/post-trained/predictions.jsonl")).expect("reads");
    let texts = predictions.iter().filter(|p| index.contains(&format!("<div class=\"text\">{}</div>", p.answer)));
    assert!(texts.count() >= 4, "answers stand beside their images");
}

fn says_what_was_kept(index: &str, report: &AdaptReport, out: &Path) {
    let [kept] = &report.kept[..] else { panic!("one general benchmark: {:?}", report.kept) };
    let runs = ["base", "post-trained"].map(|name| out.join("evaluation/retained/mini-general").join(name));
    let read = runs.each_ref().map(|run| read_outcomes(run.join("outcomes.jsonl")).expect("reads"));
    let mean = |outcomes: &[Outcome]| outcomes.iter().map(|o| o.strict).sum::<f64>() / outcomes.len() as f64;
    assert_eq!(read.each_ref().map(Vec::len), [N_GENERAL; 2]);
    let score = kept.strict().expect("a score");
    assert!((score.difference - (mean(&read[1]) - mean(&read[0]))).abs() < 1e-9);
    let interval = score.interval.expect("several images");
    let line = format!(
        "<td>mini-general</td><td>{N_GENERAL}</td><td>{:.1}</td><td>{:.1}</td><td>{:+.1}</td><td>{:+.1} to {:+.1}</td>",
        score.first, score.second, score.difference, interval.low, interval.high
    );
    assert!(index.contains("<section id=\"kept\">") && index.contains(&line), "{line}");
    assert_eq!(index.contains("Forgotten: "), interval.high < 0.0);

    // Two runs side by side say the same of it, and name a task that is not there.
    let compared = RunComparison::of(&runs[0], &runs[1], &Default::default()).expect("two runs");
    let again = compared.kept(["mini-general"]).expect("a task");
    assert_eq!(again[0].comparison, kept.comparison);
    let error = compared.kept(["mini-slides"]).expect_err("no such task").to_string();
    assert!(error.contains("mini-slides") && error.contains("mini-general"), "{error}");
    let page_of = write_comparison(&compared, [&runs[0], &runs[1]], &[], &again, &out.join("kept")).expect("writes");
    assert!(page(&page_of).contains(&line));
}

fn names_what_went_in(index: &str, settings: &AdaptSettings) {
    let escaped = |path: &Path| path.display().to_string().replace('&', "&amp;");
    for path in [&settings.captions, &settings.images, settings.benchmark.as_ref().expect("set")] {
        assert!(index.contains(&format!("<td>{}</td>", escaped(path))), "{}", path.display());
    }
    assert!(index.contains("<dt>learning_rate</dt><dd>0.001</dd>") && index.contains("<dt>epochs</dt><dd>4.0</dd>"));
    for report in [
        "synthesis/report.html",
        "training/training.html",
        "evaluation/comparison.html",
        "evaluation/base/report.html",
        "evaluation/post-trained/report.html",
    ] {
        assert!(index.contains(&format!("<a href=\"{report}\">")), "{report}");
    }
}

/// Each page in a browser, at the widths of a phone, a tablet and a desk.
fn looks_right(pages: &[PathBuf], dark: bool) {
    let Some(measured) = browser::measure(pages, &[390, 800, 1300], dark) else { return };
    assert_eq!(measured.len(), pages.len() * 3);
    for page in &measured {
        let what = format!("{} at {} pixels, dark: {dark}", page.page.display(), page.width);
        assert_eq!(page.dark, dark, "{what}");
        assert!(page.overflow <= 0, "{what}: {} pixels too wide, {}", page.overflow, page.widest);
        assert!(page.contrast.n > 20, "{what}");
        assert!(page.contrast.ratio >= 4.5, "{what}: contrast {:.2} of {:?}", page.contrast.ratio, page.contrast.text);
    }
    for page in measured.iter().filter(|page| page.page.ends_with("index.html")) {
        for link in &page.links {
            assert!(page.page.with_file_name(link).exists(), "{}: {link}", page.page.display());
        }
        assert!(page.filters.iter().filter(|filter| !filter.value.is_empty()).count() >= 2);
        for filter in &page.filters {
            let wanted = filter.text.split(['(', ' ']).filter_map(|word| word.parse::<usize>().ok()).next();
            assert_eq!(Some(filter.n), wanted, "{}: {:?}", page.page.display(), filter);
        }
    }
    for page in measured.iter().filter(|page| page.page.ends_with("comparison.html") && page.width == 1300) {
        let n =
            |id: &str, value: &str| page.filters.iter().find(|f| f.id == id && f.value == value).map(|filter| filter.n);
        let types = ["closed", "open", "choice"].map(|value| n("f-type", value).unwrap_or(0));
        assert_eq!(n("f-type", ""), Some(24.min(N_QUESTIONS)), "a page of cards");
        assert!(types.iter().filter(|n| **n > 0 && **n < N_QUESTIONS).count() >= 2, "{:?}", page.filters);
    }
}
