//! Every number of the page against the records that it counts.

use adamllm_core::{ImageRef, Ledger, MemoryImages, Reason, RgbImage, Stage};

use adamllm_report::chart::Bar;

use super::*;
use crate::{SweepPoint, TaskTriplet};

fn pair(i: usize, caption: &str) -> ImageCaption {
    ImageCaption::new(format!("{i}.png"), caption)
}

fn judged(pair: &ImageCaption, question: &str, verdict: Verdict, p: Option<f64>) -> Judged {
    let triplet =
        TaskTriplet::new(pair.id.clone(), pair.image.clone(), question, "A long answer of six words.", "Short.");
    let rest = p.map(|p| (1.0 - p) / 2.0);
    Judged { verdict, p_yes: p, p_no: rest, p_open: rest, ..Judged::unjudged(triplet) }
}

/// Six pairs: three tasks, one inconsistent, one open, one whose image is missing.
fn run() -> (tempfile::TempDir, Vec<ImageCaption>, MemoryImages) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| folder.path().join(name);
    let pairs: Vec<ImageCaption> = (0..6).map(|i| pair(i, &"word ".repeat(i + 1))).collect();
    let verdicts = [
        ("How many cells are there?", Verdict::Consistent, 0.9),
        ("How many dishes?", Verdict::Consistent, 0.8),
        ("Is there ink?", Verdict::Unjudged, 0.7),
        ("Is it round?", Verdict::Inconsistent, 0.2),
        ("Describe the mood.", Verdict::Open, 0.1),
    ];
    let all: Vec<Judged> =
        pairs.iter().zip(verdicts).map(|(pair, (q, verdict, p))| judged(pair, q, verdict, Some(p))).collect();
    jsonl::write(file("judged.jsonl"), &all).expect("written");
    let tasks: Vec<InstructionTask> = all[..3].iter().map(|judged| crate::combine(judged, 0)).collect();
    jsonl::write(file("tasks.jsonl"), &tasks).expect("written");
    let mut ledger = Ledger::create(file("ledger.jsonl")).expect("created");
    let mut drop =
        |i: usize, stage, reason, detail: &str| ledger.drop_record(&pairs[i].id, stage, reason, detail).expect("noted");
    drop(3, Stage::Judge, Reason::Inconsistent, "no");
    drop(4, Stage::Judge, Reason::Open, "");
    drop(5, Stage::Read, Reason::ImageMissing, "5.png is gone");
    let summary = RunSummary {
        records_in: 6,
        triplets: 5,
        consistent: 2,
        inconsistent: 1,
        open: 1,
        unjudged: 1,
        records_out: 3,
        ledger_entries: 3,
        ledger: ledger.causes(),
        ..RunSummary::default()
    };
    fs::write(file("summary.json"), serde_json::to_string(&summary).expect("JSON")).expect("written");
    let mut images = MemoryImages::new();
    for i in 0..5 {
        images.insert(format!("{i}.png"), RgbImage::from_pixel(400, 100, image::Rgb([9, 9, 9])));
    }
    (folder, pairs, images)
}

/// The texts of a page's SVG with a class.
fn texts<'a>(svg: &'a str, class: &str) -> Vec<&'a str> {
    let start = format!("<text class=\"{class}\"");
    svg.split(&start).skip(1).filter_map(|rest| rest.split('>').nth(1)?.split('<').next()).collect()
}

fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let rest = page.split(&format!("<h2>{heading}</h2>")).nth(1).expect("a section");
    rest.split("</section>").next().expect("its end")
}

#[test]
fn the_page_counts_what_the_files_hold() {
    let (folder, pairs, images) = run();
    let path = write_report(folder.path(), pairs, &images, None, &ReportConfig::default()).expect("writes");
    let page = fs::read_to_string(path).expect("reads");
    for (name, n) in [
        ("records in", 6),
        ("triplets", 5),
        ("consistent", 2),
        ("inconsistent", 1),
        ("open", 1),
        ("unclear", 0),
        ("unjudged", 1),
        ("tasks out", 3),
        ("in the ledger", 3),
    ] {
        assert!(page.contains(&format!("<b>{n}</b><span>{name}</span>")), "{name}: {n}");
    }
    let ledger = section(&page, "What became of the records");
    assert_eq!(texts(ledger, "label"), ["tasks out", "image missing", "inconsistent", "open"]);
    assert_eq!(texts(ledger, "count"), ["3", "1", "1", "1"]);

    // Of each kind, how many were kept: consistent, or not judged.
    let mut counts: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    let kinds =
        ["How many cells are there?", "How many dishes?", "Is there ink?", "Is it round?", "Describe the mood."];
    for (i, question) in kinds.into_iter().enumerate() {
        let [whole, kept] = counts.entry(TaskType::of(question).as_str()).or_default();
        (*whole, *kept) = (*whole + 1, *kept + usize::from(i < 3));
    }
    let kinds = section(&page, "Kinds of tasks (dark: kept)");
    let expected: BTreeMap<&str, String> = counts
        .into_iter()
        .map(|(kind, [whole, kept])| {
            (kind, if kept == whole || kept == 0 { whole.to_string() } else { format!("{kept} of {whole}") })
        })
        .collect();
    let shown: BTreeMap<&str, String> =
        texts(kinds, "label").into_iter().zip(texts(kinds, "count").into_iter().map(str::to_owned)).collect();
    assert_eq!(shown, expected);

    let lengths = section(&page, "Lengths in words");
    for caption in [
        "Caption: 3.5 words on average",
        "Informative answer: 6.0 words on average",
        "Precise answer: 1.0 words on average",
        "Question: 3.4 words on average",
    ] {
        assert!(lengths.contains(caption), "{caption}");
    }
}

#[test]
fn cards_say_what_became_of_their_records() {
    let (folder, pairs, images) = run();
    let cards = record_cards(folder.path(), pairs.clone(), &images, &ReportConfig::default()).expect("reads");
    assert_eq!(cards.len(), 6);
    for ((i, card), pair) in cards.iter().enumerate().zip(&pairs) {
        assert_eq!((&card.id, &card.image, &card.caption), (&pair.id.to_string(), &format!("{i}.png"), &pair.caption));
        assert_eq!(
            (card.thumbnail.is_some(), card.instruction.is_some(), card.response.is_some()),
            (i < 5, i < 3, i < 3),
            "{i}"
        );
    }
    let outcomes: Vec<&str> = cards.iter().map(|card| card.outcome.as_str()).collect();
    assert_eq!(outcomes, ["kept", "kept", "kept", "inconsistent", "open", "image missing"]);
    let details: Vec<Option<&str>> = cards.iter().map(|card| card.detail.as_deref()).collect();
    assert_eq!(details, [None, None, None, Some("no"), None, Some("5.png is gone")]);
    let first = &cards[0];
    assert_eq!(first.question.as_deref(), Some("How many cells are there?"));
    assert_eq!(
        (first.informative.as_deref(), first.precise.as_deref()),
        (Some("A long answer of six words."), Some("Short."))
    );
    let [yes, no, open] = first.p.expect("scored");
    assert!((yes - 0.9).abs() < 1e-9 && (no - 0.05).abs() < 1e-9 && (open - 0.05).abs() < 1e-9);
    assert_eq!(first.kind, Some(TaskType::of("How many cells are there?").as_str()));
    let tasks: Vec<InstructionTask> = jsonl::read_all(folder.path().join("tasks.jsonl")).expect("reads");
    for (card, task) in cards.iter().zip(tasks) {
        assert_eq!(
            (card.instruction.as_ref(), card.response.as_ref()),
            (Some(&task.instruction), Some(&task.response))
        );
    }

    // Room for three: of every outcome one; the same seed draws the same.
    let few = ReportConfig { max_examples: 4, ..ReportConfig::default() };
    let draw = |config: &ReportConfig| record_cards(folder.path(), pairs.clone(), &images, config).expect("reads");
    let shown: Vec<String> = draw(&few).iter().map(|card| card.outcome.clone()).collect();
    assert_eq!(shown, ["kept", "inconsistent", "open", "image missing"]);
    assert_eq!(draw(&few), draw(&few));
    let kept = |seed: u64| draw(&ReportConfig { seed, ..few.clone() })[0].id.clone();
    assert!((1..20).any(|seed| kept(seed) != kept(0)), "another seed draws others");
}

#[test]
fn long_texts_are_cut_and_short_ones_are_not() {
    let (short, long) = ("é".repeat(1200), "é".repeat(1201));
    assert_eq!(shortened(&short), short);
    assert_eq!(shortened(&long), format!("{short} \u{2026}"));
}

#[test]
fn thumbnails_keep_their_shape() {
    let (_, _, images) = run();
    let size = |side: u32| {
        use base64::Engine;
        let url = thumbnail::data_url(&images, &ImageRef::from("0.png"), side).expect("an image");
        let bytes = url.strip_prefix("data:image/jpeg;base64,").expect("a JPEG");
        let bytes = base64::engine::general_purpose::STANDARD.decode(bytes).expect("base64");
        image::load_from_memory(&bytes).expect("decodes").into_rgb8().dimensions()
    };
    assert_eq!([size(100), size(400), size(800), size(2)], [(100, 25), (400, 100), (400, 100), (2, 1)]);
}

#[test]
fn lengths_are_counted_in_doubling_bins() {
    let mut lengths = lengths::Lengths::default();
    assert_eq!((lengths.mean(), lengths.bars()), (0.0, vec![Bar::new("0", 0, 0)]));
    for n in [1, 2, 3, 4, 7, 8, 5000] {
        lengths.add(&"w ".repeat(n));
    }
    assert!((lengths.mean() - 5025.0 / 7.0).abs() < 1e-9);
    let bars = lengths.bars();
    let named = |name: &str| bars.iter().find(|bar| bar.label == name).map(|bar| bar.whole);
    assert_eq!(
        ["1", "2\u{2013}3", "4\u{2013}7", "8\u{2013}15", "1024+"].map(named),
        [Some(1), Some(2), Some(2), Some(1), Some(1)]
    );
    assert_eq!((bars.len(), bars.iter().map(|bar| bar.whole).sum::<u64>(), bars[0].label.as_str()), (11, 7, "1"));
}

#[test]
fn the_yield_is_the_share_above_the_threshold() {
    let (folder, pairs, images) = run();
    let point = |threshold: f64, n: u64| {
        let share = |value: f64| crate::Proportion { successes: 0, n, value, low: 0.0, high: 1.0 };
        let (precision, recall, agreement) = (share(0.75), share(1.0), share(0.5));
        SweepPoint { threshold, kept: 0, kept_share: 0.0, precision, recall, agreement, weighted_agreement: 0.0 }
    };
    let points = vec![point(0.0, 0), point(0.5, 4)];
    let sweep = Sweep { n_scored: 5, n_labelled: 4, suggested: Some(0.25), points };
    let page = |sweep: Option<&Sweep>| {
        let path =
            write_report(folder.path(), pairs.clone(), &images, sweep, &ReportConfig::default()).expect("writes");
        section(&fs::read_to_string(path).expect("reads"), "Yield over the threshold").to_owned()
    };
    let plain = page(None);
    let line = |svg: &str, class: &str| -> Vec<String> {
        let line =
            svg.split(&format!("<polyline class=\"{class}\" points=\"")).nth(1).and_then(|rest| rest.split('"').next());
        line.map_or(Vec::new(), |line| line.split(' ').map(str::to_owned).collect())
    };
    // Five probabilities, 0.1 0.2 0.7 0.8 0.9: all above 0, three above 0.5, none above 1. An axis of 390 by 260 from (40, 270).
    let kept = line(&plain, "kept");
    assert_eq!(
        (kept.len(), kept[0].as_str(), kept[50].as_str(), kept[100].as_str()),
        (101, "40.0,10.0", "235.0,114.0", "430.0,270.0")
    );
    assert!(!plain.contains("Suggested") && !plain.contains("class=\"mark\"") && !plain.contains("precision"));

    let labelled = page(Some(&sweep));
    assert_eq!(line(&labelled, "precision"), ["235.0,75.0"], "where people labelled");
    assert_eq!(line(&labelled, "agreement"), ["40.0,140.0", "235.0,140.0"]);
    assert!(
        labelled.contains("Suggested threshold: 0.25")
            && labelled.contains("class=\"mark\" x1=\"137.5\" x2=\"137.5\" y1=\"10\" y2=\"270\"")
    );
    assert_eq!(texts(&labelled, "count"), ["share kept", "precision, by people", "agreement"]);
    assert_eq!(texts(&labelled, "label"), ["0%", "25%", "50%", "75%", "100%"]);
    let unlabelled = Sweep { n_labelled: 0, ..sweep };
    assert!(line(&page(Some(&unlabelled)), "agreement").is_empty());
}

#[test]
fn a_judge_that_writes_has_no_curve_and_unjudged_is_shown_where_there_is_any() {
    let (folder, pairs, images) = run();
    let question = "Is there ink?";
    let all: Vec<Judged> = pairs.iter().map(|pair| judged(pair, question, Verdict::Consistent, None)).collect();
    jsonl::write(folder.path().join("judged.jsonl"), &all).expect("written");
    let mut summary = read_summary(&folder.path().join("summary.json")).expect("reads");
    summary.unjudged = 0;
    summary.ledger.insert("judge/open".into(), 7);
    fs::write(folder.path().join("summary.json"), serde_json::to_string(&summary).expect("JSON")).expect("written");
    let path = write_report(folder.path(), pairs, &images, None, &ReportConfig::default()).expect("writes");
    let page = fs::read_to_string(path).expect("reads");
    assert!(section(&page, "Yield over the threshold").contains("there are no probabilities"));
    let ledger = section(&page, "What became of the records");
    assert_eq!(
        texts(ledger, "label"),
        ["tasks out", "open", "image missing", "inconsistent"],
        "the most frequent first"
    );
    assert!(page.contains("<span>unclear</span>") && !page.contains("<span>unjudged</span>"));
}

#[test]
fn outcomes_with_few_records_leave_their_room_to_the_others() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pairs: Vec<ImageCaption> = (0..22).map(|i| pair(i, "A cell.")).collect();
    let all: Vec<Judged> = pairs.iter().map(|pair| judged(pair, "How many?", Verdict::Consistent, None)).collect();
    jsonl::write(folder.path().join("judged.jsonl"), &all).expect("written");
    let tasks: Vec<InstructionTask> = all[2..].iter().map(|judged| crate::combine(judged, 0)).collect();
    jsonl::write(folder.path().join("tasks.jsonl"), &tasks).expect("written");
    let mut ledger = Ledger::create(folder.path().join("ledger.jsonl")).expect("created");
    ledger.drop_record(&pairs[0].id, Stage::Judge, Reason::Inconsistent, "no").expect("noted");
    ledger.drop_record(&pairs[1].id, Stage::Judge, Reason::Open, "").expect("noted");
    let config = ReportConfig { max_examples: 12, ..ReportConfig::default() };
    let cards = record_cards(folder.path(), pairs, &MemoryImages::new(), &config).expect("reads");
    let n = |outcome: &str| cards.iter().filter(|card| card.outcome == outcome).count();
    assert_eq!(["inconsistent", "open", "kept"].map(n), [1, 1, 10]);
}
