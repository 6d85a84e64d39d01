use std::path::{Path, PathBuf};

use adamllm_core::{ImageStore, Stage};
use adamllm_eval::{Comparison, image_data_url};
use adamllm_report::head;
use adamllm_synth::Variant;
use adamllm_train::training_summary;
use maud::{Markup, html};

use super::answers::{image_of, shortened};
use super::funnel::Funnel;
use super::inputs::Inputs;
use super::{Page, count, ledger, records};
use crate::RecipeError;
use crate::adapt::{AblationReport, AdaptReport, AdaptSettings, Sample};
use crate::benchmarks::OpenedBenchmark;
use crate::compare::RunComparison;

/// What an adaptation's page is made of.
pub(crate) struct Adapted<'a> {
    pub(crate) settings: &'a AdaptSettings,
    pub(crate) base: &'a Path,
    pub(crate) images: &'a dyn ImageStore,
    pub(crate) report: &'a AdaptReport,
    /// Where the method was compared without its parts.
    pub(crate) ablations: Option<AblationReport>,
    /// Both models' answers and the questions, where there is a benchmark.
    pub(crate) evaluation: Option<(&'a RunComparison, &'a OpenedBenchmark)>,
    pub(crate) folder: &'a Path,
}

impl Adapted<'_> {
    /// Writes the page into the run's folder.
    pub(crate) fn write(&self) -> Result<PathBuf, RecipeError> {
        let Self { settings, report, folder, .. } = *self;
        let title = format!("{} adapted to {}", name(self.base), settings.captions.display());
        let training = training_summary(&folder.join("training"))?;
        let samples = html! {
            @if !report.samples.is_empty() {
                div class="cards" { @for sample in &report.samples { (self.sample(sample)) } }
            }
        };
        let synthesis = folder.join("synthesis");
        let cards = records::cards(&synthesis, &settings.captions, self.images, settings.seed, &report.synthesis)?;
        let ledgers = [
            "synthesis/ledger.jsonl",
            "encode-ledger.jsonl",
            "evaluation/base/ledger.jsonl",
            "evaluation/post-trained/ledger.jsonl",
        ];
        let retained = report.kept.iter().map(|kept| crate::files::safe_name(&kept.benchmark));
        let retained: Vec<String> = retained.map(|name| format!("evaluation/retained/{name}")).collect();
        let of_retained = |name: &String| ["base", "post-trained"].map(|model| format!("{name}/{model}/ledger.jsonl"));
        let ledgers = ledgers.map(str::to_owned).into_iter().chain(retained.iter().flat_map(of_retained));
        let ledgers: Vec<PathBuf> = ledgers.map(|name| folder.join(name)).collect();

        let mut page = Page::new(&title, &self.lead())
            .tiles(self.tiles())
            .section("inputs", "What went in", &self.inputs().html())
            .section("funnel", "From pairs to tasks", &self.funnels()?)
            .section("samples", "Records on their way", &cards)
            .section("training", "Training", &training);
        if let Some((compared, opened)) = self.evaluation {
            page = super::compare::scores(page, compared, std::slice::from_ref(opened))?;
        }
        if let Some(ablations) = &self.ablations {
            page = page.section("ablations", "Without one of its parts", &without(ablations));
        }
        let page = super::kept::section(page, &report.kept, ["the base", "the post-trained model"]);
        let page = page.section("descriptions", "What both models say about the first images", &samples).section(
            "ledger",
            "Ledger by reason",
            &ledger::by_reason(ledgers.iter().map(PathBuf::as_path))?,
        );
        let retained: Vec<String> = retained.iter().map(|name| format!("{name}/comparison.html")).collect();
        let mut links = vec![
            ("synthesis/report.html", "synthesis: records with images and filters, charts over all of them"),
            ("training/training.html", "training: losses, rates and memory of every step"),
            ("evaluation/comparison.html", "both models question by question, with filters"),
            ("evaluation/base/report.html", "the base's answers"),
            ("evaluation/post-trained/report.html", "the post-trained model's answers"),
            ("conversations.jsonl", "what was trained on"),
            ("model", "the post-trained model, a Hugging Face folder like the base"),
            ("ablations.json", "the method without one of its parts"),
            ("quickstart.json", "all the numbers above"),
        ];
        links.extend(
            retained.iter().map(|path| (path.as_str(), "a general benchmark, both models question by question")),
        );
        Ok(page.links(folder, &links).write(folder)?)
    }

    /// What came of it, in a sentence.
    fn lead(&self) -> String {
        let RunSteps { pairs, tasks, encoded, steps } = self.steps();
        let made = format!(
            "{pairs} image-caption pairs became {tasks} tasks; {encoded} conversations were trained on in {steps} steps."
        );

        let forgotten: Vec<_> = self.report.kept.iter().filter(|kept| kept.is_worse()).collect();
        let forgotten: String =
            forgotten.iter().map(|kept| format!(" {}", kept.sentence("the base", "the post-trained model"))).collect();

        let strict = self.report.comparison.as_ref().and_then(strict);
        let Some((n, score)) = strict else { return made + &forgotten };

        let verdict = if score.is_gain() {
            "better, beyond chance"
        } else if score.is_regression() {
            "worse, beyond chance"
        } else {
            "no clear difference"
        };

        format!(
            "{made} On {n} held-out questions the strict score went from {:.1} to {:.1}: {verdict}.{forgotten}",
            score.first, score.second
        )
    }

    fn steps(&self) -> RunSteps {
        let report = self.report;
        RunSteps {
            pairs: count(report.synthesis.records_in),
            tasks: count(report.synthesis.records_out),
            encoded: count(report.encoded as u64),
            steps: count(report.steps as u64),
        }
    }

    fn tiles(&self) -> Vec<(&'static str, String)> {
        let RunSteps { pairs, tasks, encoded, steps } = self.steps();
        let mut tiles = vec![("pairs", pairs), ("tasks", tasks), ("conversations", encoded), ("steps", steps)];
        if let Some((_, score)) = self.report.comparison.as_ref().and_then(strict) {
            tiles.push(("base, strict", format!("{:.1}", score.first)));
            tiles.push(("post-trained, strict", format!("{:.1}", score.second)));
            tiles.push(("difference (95 % interval)", score.shown_difference()));
        }
        tiles
    }

    fn inputs(&self) -> Inputs {
        let settings = self.settings;
        let mut inputs = Inputs::default()
            .path("captions", &settings.captions)
            .path("images", &settings.images)
            .path("base", self.base)
            .name("synthesizer", &self.report.asked[0])
            .name("judge", &self.report.asked[1]);
        for (what, file) in [("judge's prompt", &settings.judge_prompt), ("benchmark", &settings.benchmark)] {
            inputs = file.iter().fold(inputs, |inputs, file| inputs.path(what, file));
        }
        inputs = settings.retain.iter().fold(inputs, |inputs, file| inputs.path("benchmark to retain", file));
        inputs.settings(settings)
    }

    fn funnels(&self) -> Result<Markup, RecipeError> {
        let report = self.report;
        let tasks = Funnel::synthesis(&report.synthesis, Variant::Full).html();
        let n = (report.encoded + report.encode_ledger_entries) as u64;
        let causes = ledger::causes([&*self.folder.join("encode-ledger.jsonl")])?;
        let encoded = Funnel::new("conversations", n, &causes, &[(Stage::Encode, "trained on")]).html();
        let note =
            "Each pair with a readable image becomes one conversation: its caption, and its task where it has one.";
        Ok(html! { (tasks) p class="note" { (note) } (encoded) })
    }

    fn sample(&self, sample: &Sample) -> Markup {
        let url = image_data_url(self.images, &sample.image, 192).ok();
        let lines = [("caption", &sample.caption), ("base", &sample.before), ("post-trained", &sample.after)];
        html! {
            article class="card" {
                (image_of(url, sample.image.as_str()))
                dl { @for (name, text) in lines { dt { (name) } dd { (shortened(text, 600)) } } }
            }
        }
    }
}

/// The table of ablations.
fn without(ablations: &AblationReport) -> Markup {
    let cells = ablations.cells();
    let (names, lines) = cells.split_first().map_or((&[][..], &[][..]), |(names, lines)| (&names[..], lines));
    let note = format!(
        "The base trained again without a part of the method, {} seeds each (paper, tables 4 and 5). Strict scores; the intervals are of the \
         difference, over images.",
        ablations.seeds.len()
    );
    html! {
        p class="note" { (note) }
        table {
            (head(&names.iter().map(String::as_str).collect::<Vec<_>>()))
            tbody { @for cells in lines { tr { @for cell in cells { td { (cell) } } } } }
        }
    }
}

/// Counts, as the page says them.
struct RunSteps {
    pairs: String,
    tasks: String,
    encoded: String,
    steps: String,
}

/// The questions of all types together, and their strict scores.
fn strict(comparison: &Comparison) -> Option<(usize, &adamllm_eval::PairedScore)> {
    Some((comparison.overall.n, comparison.overall.strict.as_ref()?))
}

fn name(folder: &Path) -> String {
    folder.file_name().map_or_else(|| folder.display().to_string(), |name| name.to_string_lossy().into_owned())
}
