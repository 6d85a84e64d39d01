//! The report of a run: whole, self-contained, and alive in a browser where one is installed.

mod scripted;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use adamllm_core::testing::ScriptedModel;
use adamllm_core::{ImageCaption, Prompt, jsonl};
use adamllm_synth::{
    ConsistencyFilter, FilterConfig, Judged, ReportConfig, RunSummary, Sweep, SynthesisRun, Synthesizer, Verdict,
    write_report,
};
use scripted::{captions, images, synthesizer};

const EVIL: &str = "5 cells </script><script>document.title='broken'</script> & <b>bold</b> @@examples@@";

fn pairs() -> Vec<ImageCaption> {
    let mut pairs = captions();
    pairs.push(ImageCaption::new("5.png", EVIL));
    pairs
}

/// A run whose judge is scored, and its report with a sweep over labels.
fn report(folder: &Path) -> (RunSummary, String) {
    let judge = ScriptedModel::new(|_| Ok(String::new())).with_score(|prompt, continuation| {
        let Prompt::Text(text) = prompt else { return f64::NAN };
        let digits: u32 =
            text.rsplit("Question: ").next().unwrap_or_default().chars().filter_map(|c| c.to_digit(10)).sum();
        match continuation {
            " Yes" => f64::from(digits % 7),
            " No" => f64::from(digits % 4),
            _ => f64::from(digits % 3),
        }
    });
    let (writer, images) = (synthesizer(), images());
    let filter = ConsistencyFilter::with_config(&judge, FilterConfig::scored(0.5)).expect("valid");
    let summary = SynthesisRun::new(folder, &images).run(pairs(), &Synthesizer::new(&writer), &filter, &mut ());
    let judged = jsonl::read_all::<Judged>(folder.join("judged.jsonl")).expect("reads");
    let label = |judged: &Judged| if judged.p_yes > Some(0.6) { Verdict::Consistent } else { Verdict::Inconsistent };
    let labels: HashMap<_, _> =
        judged.iter().step_by(3).map(|judged| (judged.triplet.id.clone(), label(judged))).collect();
    let sweep = Sweep::over(judged, &labels);
    let config = ReportConfig { title: "Cells & dishes".into(), max_examples: 60, ..ReportConfig::default() };
    let path = write_report(folder, pairs(), &images, Some(&sweep), &config).expect("writes");
    (summary.expect("runs"), std::fs::read_to_string(path).expect("reads"))
}

#[test]
fn the_page_is_whole_and_loads_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (summary, page) = report(folder.path());
    assert!(page.contains("<title>Cells &amp; dishes</title>"));
    assert!(page.contains(&format!("<b>{}</b><span>tasks out</span>", summary.records_out)));
    assert!(page.contains("Suggested threshold: 0."));
    let data = page.split("id=\"examples\">").nth(1).and_then(|rest| rest.split("</script>").next());
    let cards: Vec<serde_json::Value> = serde_json::from_str(data.expect("the examples")).expect("JSON");
    assert!((56..=60).contains(&cards.len()), "{}", cards.len());
    let outcomes: std::collections::BTreeSet<_> = cards.iter().filter_map(|card| card["outcome"].as_str()).collect();
    assert!(outcomes.is_superset(&["kept", "inconsistent", "no triplet", "forged turn", "image missing"].into()));
    let thumbnails =
        cards.iter().filter(|card| card["thumbnail"].as_str().is_some_and(|p| p.starts_with("data:image/jpeg")));
    assert!(thumbnails.count() > 40);
    for outside in ["http://", "https://", "src=\"", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

/// The page's numbers about itself, as a browser leaves them after the scripts ran.
fn in_browser(page: &Path, state: &str) -> Option<HashMap<String, String>> {
    let browser = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok())?;
    let url = format!("file://{}#{state}", page.display());
    let profile = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .output()
        .expect("the browser runs");
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let body = dom.split("<body").nth(1)?.split('>').next()?.to_owned();
    let title = dom.split("<title>").nth(1)?.split("</title>").next()?.to_owned();
    let attributes = body.split("data-").skip(1).filter_map(|part| part.split_once("=\""));
    let mut found: HashMap<_, _> = attributes
        .map(|(name, rest)| (name.to_owned(), rest.split('"').next().unwrap_or_default().to_owned()))
        .collect();
    found.insert("title".into(), title);
    Some(found)
}

#[test]
fn images_load_and_filters_work_in_a_browser() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_, page) = report(folder.path());
    let data = page.split("id=\"examples\">").nth(1).and_then(|rest| rest.split("</script>").next());
    let cards: Vec<serde_json::Value> = serde_json::from_str(data.expect("the examples")).expect("JSON");
    let path = folder.path().join("report.html");
    let Some(all) = in_browser(&path, "") else { return };
    let n_images = cards.iter().filter(|card| card["thumbnail"].is_string()).count();
    assert_eq!(all["images"], n_images.to_string());
    assert!(!all.contains_key("broken"));
    assert_eq!(all["shown"], cards.len().to_string());
    assert_eq!(all["title"], "Cells &amp; dishes", "no text of a record runs as a script");
    let kept = cards.iter().filter(|card| card["outcome"] == "kept").count();
    assert_eq!(in_browser(&path, "outcome=kept").expect("a browser")["shown"], kept.to_string());
    let silent = cards.iter().filter(|card| card["caption"].as_str().is_some_and(|c| c.contains("silent"))).count();
    let found = in_browser(&path, "outcome=no%20triplet&words=silent").expect("a browser");
    assert_eq!(found["shown"], silent.to_string());
}
