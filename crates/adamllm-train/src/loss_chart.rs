//! The losses of a run as charts: `loss.svg`, and `training.html`, one file that needs no network.

use std::collections::BTreeSet;
use std::path::Path;

use adamllm_core::jsonl;
use adamllm_report::chart::{COLOURS, Series, Size, bounds, lines, standalone};
use adamllm_report::{Page, head};
use maud::{Markup, html};

use crate::{StepMetrics, TrainError, ValidationMetrics};

/// A run as its files record it.
struct TrainingLog {
    steps: Vec<StepMetrics>,
    validation: Vec<ValidationMetrics>,
}

/// Draws `loss.svg` and `training.html` from a run's `metrics.jsonl`, and from `validation.jsonl` where it has one, and
/// writes both beside them.
///
/// # Errors
/// [`TrainError::Core`]: there are no metrics, or a file cannot be written.
pub fn draw_training(run: &Path) -> Result<(), TrainError> {
    let log = TrainingLog::read(run)?;
    adamllm_core::write_atomically(run.join("loss.svg"), standalone(log.loss_chart(), Size::WIDE))?;
    adamllm_core::write_atomically(run.join("training.html"), log.page())?;
    Ok(())
}

/// The losses of a run as a part of a page with [`adamllm_report::STYLE`]: what the run read, the loss of all targets, and that of
/// each source and task.
///
/// # Errors
/// As [`draw_training`].
pub fn training_summary(run: &Path) -> Result<Markup, TrainError> {
    let log = TrainingLog::read(run)?;
    Ok(html! { p { (log.facts()) "." } (log.loss_chart()) (log.group_charts()) (log.group_table()) })
}

impl TrainingLog {
    fn read(run: &Path) -> Result<Self, TrainError> {
        let evaluated = run.join("validation.jsonl");
        let validation = if evaluated.exists() { jsonl::read_all(evaluated)? } else { Vec::new() };
        Ok(Self { steps: jsonl::read_all(run.join("metrics.jsonl"))?, validation })
    }

    fn of(&self, value: impl Fn(&StepMetrics) -> Option<f64>) -> Vec<(f64, f64)> {
        let counted = self.steps.iter().filter(|step| !step.skipped);
        counted.filter_map(|step| Some((step.step as f64, value(step)?))).collect()
    }

    /// Every step's loss, its moving average in front, and what held-out examples said.
    fn loss_chart(&self) -> Markup {
        let losses = self.of(|step| Some(step.loss));
        let mean = moving_average(&losses);
        let mut series = vec![
            Series { name: "each step".into(), colour: "faint", dots: false, points: losses },
            Series { name: "moving average".into(), colour: COLOURS[0], dots: false, points: mean },
        ];
        if !self.validation.is_empty() {
            let points = self.validation.iter().map(|entry| (entry.step as f64, entry.loss)).collect();
            series.push(Series { name: "held out".into(), colour: COLOURS[1], dots: true, points });
        }
        lines("loss per target token, nats", &series, Size::WIDE, None)
    }

    fn groups(&self) -> BTreeSet<&String> {
        self.steps.iter().flat_map(|step| step.losses.keys()).collect()
    }

    /// The moving average of each group's loss, a chart for each, all on the same axis; nothing where the batches named none.
    fn group_charts(&self) -> Markup {
        let of_group = |group: &String| moving_average(&self.of(|step| Some(step.losses.get(group)?.loss)));
        let groups: Vec<_> = self.groups().into_iter().map(|group| (group, of_group(group))).collect();
        let range = bounds(groups.iter().flat_map(|(_, points)| points).map(|(_, y)| *y));
        let mut charts = Vec::new();
        for (i, (group, points)) in groups.into_iter().enumerate() {
            let line = Series { name: String::new(), colour: COLOURS[i % COLOURS.len()], dots: false, points };
            charts.push(lines(&format!("loss, {group}"), &[line], Size::SMALL, range));
        }
        multiples(charts)
    }

    fn page(&self) -> String {
        let single = |title: &str, points| {
            lines(title, &[Series { name: String::new(), colour: COLOURS[0], dots: false, points }], Size::SMALL, None)
        };
        let rate = |title: &str, counted: fn(&StepMetrics) -> usize| {
            single(title, self.of(|step| Some(step.per_second(counted(step)))))
        };

        let charts = [
            single("learning rate", self.of(|step| Some(step.lr))),
            single("gradient norm before clipping", self.of(|step| Some(step.grad_norm))),
            rate("tokens per second", |step| step.tokens),
            rate("target tokens per second", |step| step.targets),
            rate("images per second", |step| step.images),
            single("peak memory, GB", self.of(|step| Some(step.peak_bytes? as f64 / 1e9))),
        ];

        let seconds: f64 = self.steps.iter().map(|step| step.step_s).sum();

        let page = Page {
            title: "Training",
            lead: html! { p { (self.facts()) (format!("; {seconds:.0} s inside the steps.")) } },
            main: html! {
                h2 { "Loss" } (self.loss_chart()) (self.group_charts()) (self.group_table())
                h2 { "Steps" } (multiples(charts))
            },
            ..Page::default()
        };
        page.to_html()
    }

    fn facts(&self) -> String {
        let sum = |value: fn(&StepMetrics) -> usize| self.steps.iter().map(value).sum::<usize>();
        let ends = match self.steps.as_slice() {
            [first, .., last] => format!("loss {:.4} to {:.4}", first.loss, last.loss),
            _ => "too few steps for a course".into(),
        };
        let best = self.validation.iter().rfind(|entry| entry.best);
        let held_out = best
            .map_or(String::new(), |entry| format!("; best held-out loss {:.4} after step {}", entry.loss, entry.step));
        format!(
            "{} steps, {} tokens of which {} targets, {} images; {ends}{held_out}; {} steps skipped",
            self.steps.len(),
            sum(|step| step.tokens),
            sum(|step| step.targets),
            sum(|step| step.images),
            self.steps.iter().filter(|step| step.skipped).count(),
        )
    }

    /// The first and the last loss of each group: the mean over the first and the last tenth of the steps, by targets.
    fn group_table(&self) -> Markup {
        let groups = self.groups();
        let tenth = self.steps.len().div_ceil(10);
        let (first, last) = (&self.steps[..tenth], &self.steps[self.steps.len() - tenth..]);
        let targets = |group: &String| -> usize {
            self.steps.iter().filter_map(|step| Some(step.losses.get(group)?.targets)).sum()
        };
        html! {
            @if !groups.is_empty() {
                table {
                    (head(&["source or task", "targets", "loss, first tenth", "loss, last tenth"]))
                    tbody {
                        @for group in groups {
                            tr { td { (group) } td { (targets(group)) } td { (mean_loss(first, group)) } td { (mean_loss(last, group)) } }
                        }
                    }
                }
            }
        }
    }
}

/// A group's loss over some steps; a dash where it is in none of them.
fn mean_loss(steps: &[StepMetrics], group: &str) -> String {
    let of = steps.iter().filter(|step| !step.skipped).filter_map(|step| step.losses.get(group));
    let (sum, targets) = of.fold((0.0, 0), |(sum, n), of| (sum + of.loss * of.targets as f64, n + of.targets));
    if targets == 0 { "–".into() } else { format!("{:.4}", sum / targets as f64) }
}

/// Small charts beside each other, as many as fit.
fn multiples(charts: impl IntoIterator<Item = Markup>) -> Markup {
    let mut charts = charts.into_iter().peekable();
    html! {
        @if charts.peek().is_some() {
            div class="multiples" { @for chart in charts { figure { (chart) } } }
        }
    }
}

/// Over a fiftieth of the points to either side.
fn moving_average(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = points.len() / 50;
    let mean = |i: usize| {
        let near = &points[i.saturating_sub(reach)..(i + reach + 1).min(points.len())];
        near.iter().map(|(_, y)| y).sum::<f64>() / near.len() as f64
    };
    points.iter().enumerate().map(|(i, (x, _))| (*x, mean(i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GroupLoss;

    fn step(step: usize, loss: f64) -> StepMetrics {
        let (tokens, targets, images) = (100, 40, 2);
        StepMetrics {
            step,
            epoch: 0,
            loss,
            lr: 1e-5,
            grad_norm: 1.0,
            tokens,
            targets,
            images,
            losses: std::collections::BTreeMap::new(),
            step_s: 0.5,
            peak_bytes: Some(1_000_000_000),
            skipped: false,
        }
    }

    fn drawn(steps: &[StepMetrics], validation: &[ValidationMetrics]) -> [String; 2] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        jsonl::write(folder.path().join("metrics.jsonl"), steps).expect("written");
        if !validation.is_empty() {
            jsonl::write(folder.path().join("validation.jsonl"), validation).expect("written");
        }
        draw_training(folder.path()).expect("drawn");
        ["training.html", "loss.svg"].map(|name| std::fs::read_to_string(folder.path().join(name)).expect("there"))
    }

    fn line_lengths(svg: &str) -> Vec<usize> {
        let curves = svg.split("points=\"").skip(1).filter_map(|rest| rest.split('"').next());
        curves.map(|line| line.split_whitespace().count()).collect()
    }

    #[test]
    fn a_run_becomes_one_page_with_all_its_charts() {
        let steps: Vec<_> = (1..=200).map(|i| step(i, 3.0 / i as f64)).collect();
        let [page, svg] = drawn(&steps, &[]);
        assert_eq!(
            (page.matches("<svg").count(), page.matches("<figure>").count()),
            (7, 6),
            "small ones below the loss"
        );
        assert!(page.contains("200 steps, 20000 tokens of which 8000 targets, 400 images; loss 3.0000 to 0.0150"));
        assert!(!page.contains("NaN") && !page.contains("src="), "nothing from elsewhere, and no broken number");
        assert!(page.contains("<title>Training</title>") && page.contains("; 100 s inside the steps"));
        assert_eq!(line_lengths(&svg), [200, 200]);
    }

    #[test]
    fn held_out_examples_and_groups_have_curves_of_their_own() {
        let mut steps: Vec<_> = (1..=40).map(|i| step(i, 3.0 / i as f64)).collect();
        for step in &mut steps {
            step.losses.insert("caption".into(), GroupLoss { loss: 2.0, targets: 30 });
            if step.step % 2 == 0 {
                step.losses.insert("synthetic".into(), GroupLoss { loss: step.step as f64, targets: 10 });
            }
        }
        let point = |step, loss, best| ValidationMetrics { step, loss, best };
        let [page, svg] = drawn(&steps, &[point(20, 1.0, true), point(40, 1.5, false)]);
        assert_eq!(page.matches("<svg").count(), 9);
        assert!(page.contains(">loss, synthetic</text>"));
        assert_eq!(line_lengths(&svg), [40, 40, 2]);
        assert!(page.contains("best held-out loss 1.0000 after step 20"));
        // The last tenth is steps 37 to 40: the mean of 38 and 40.
        assert!(page.contains("<tr><td>synthetic</td><td>200</td><td>3.0000</td><td>39.0000</td></tr>"), "{page}");
        assert!(page.contains("<tr><td>caption</td><td>1200</td><td>2.0000</td><td>2.0000</td></tr>"));
    }

    #[test]
    fn a_run_of_one_step_is_drawn_too() {
        let [page, svg] = drawn(&[step(1, 2.0)], &[]);
        assert!(svg.contains("<circle") && !svg.contains("NaN") && !page.contains("NaN"));
    }
    #[test]
    fn a_moving_average_reaches_a_fiftieth_to_either_side() {
        let squares: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i), f64::from(i * i))).collect();
        let mean = moving_average(&squares);
        assert_eq!(mean.len(), 100);
        // Two to either side: (48² + 49² + 50² + 51² + 52²) / 5; at the ends what there is.
        assert_eq!(mean[50], (50.0, 2502.0));
        assert_eq!((mean[0], mean[99]), ((0.0, (0.0 + 1.0 + 4.0) / 3.0), (99.0, (9409.0 + 9604.0 + 9801.0) / 3.0)));
        assert_eq!(moving_average(&squares[..49]), squares[..49], "of few points each is its own");
    }

    #[test]
    fn a_group_s_loss_is_weighted_by_targets_without_skipped_steps() {
        let with = |number, loss, targets| {
            let mut step = step(number, 1.0);
            step.losses.insert("caption".into(), GroupLoss { loss, targets });
            step
        };
        let skipped = StepMetrics { skipped: true, ..with(3, 90.0, 40) };
        let steps = [with(1, 2.0, 10), with(2, 5.0, 30), skipped];
        assert_eq!(mean_loss(&steps, "caption"), "4.2500");
        assert_eq!(mean_loss(&steps[2..], "caption"), "–");
        assert_eq!(mean_loss(&steps, "synthetic"), "–");
        let [page, svg] = drawn(&steps, &[]);
        assert!(page.contains("; 1 steps skipped"), "{page}");
        assert_eq!(line_lengths(&svg), [2, 2], "a skipped step has no loss");
    }

    #[test]
    fn the_best_of_the_held_out_losses_is_the_last_that_was_the_best_so_far() {
        let steps: Vec<_> = (1..=4).map(|i| step(i, 1.0)).collect();
        let point = |step, loss, best| ValidationMetrics { step, loss, best };
        let [page, _] = drawn(&steps, &[point(2, 1.5, true), point(3, 0.75, true), point(4, 0.875, false)]);
        assert!(page.contains("best held-out loss 0.7500 after step 3"), "{page}");
        let [page, _] = drawn(&steps[..1], &[]);
        assert!(page.contains("too few steps for a course") && !page.contains("held-out"));
    }

    #[test]
    fn a_summary_is_the_first_part_of_the_page() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut steps: Vec<_> = (1..=20).map(|i| step(i, 2.0)).collect();
        steps[3].losses.insert("caption".into(), GroupLoss { loss: 2.0, targets: 7 });
        jsonl::write(folder.path().join("metrics.jsonl"), &steps).expect("written");
        let summary = training_summary(folder.path()).expect("reads").into_string();
        assert!(summary.starts_with("<p>20 steps, 2000 tokens of which 800 targets, 40 images;"), "{summary}");
        assert_eq!(summary.matches("<svg").count(), 2, "the loss, and that of the only group");
        assert!(summary.contains("<tr><td>caption</td><td>7</td><td>–</td><td>–</td></tr>"));
        assert!(training_summary(&folder.path().join("none")).is_err());
    }
}
