//! The course of a run as pictures: `loss.svg`, and `training.html`, one file that needs no network.

use std::fmt::Write;
use std::path::Path;

use adamllm_core::jsonl;

use crate::{StepMetrics, TrainError};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
/// Room for the numbers left of and below the axes.
const MARGIN: [f64; 2] = [64.0, 34.0];

/// One curve of a chart.
struct Curve<'a> {
    colour: &'a str,
    /// `(x, y)`, by rising x.
    points: Vec<(f64, f64)>,
}

/// Draws `loss.svg` and `training.html` from a run's `metrics.jsonl`, and writes both beside it.
///
/// # Errors
/// [`TrainError::Core`]: there are no metrics, or a file cannot be written.
pub fn draw_training(run: &Path) -> Result<(), TrainError> {
    let steps: Vec<StepMetrics> = jsonl::read_all(run.join("metrics.jsonl"))?;
    adamllm_core::write_atomically(run.join("loss.svg"), loss_chart(&steps))?;
    adamllm_core::write_atomically(run.join("training.html"), page(&steps))?;
    Ok(())
}

fn of(steps: &[StepMetrics], value: impl Fn(&StepMetrics) -> f64) -> Vec<(f64, f64)> {
    steps.iter().filter(|step| !step.skipped).map(|step| (step.step as f64, value(step))).collect()
}

/// The loss of every step, and its moving average over a fiftieth of the run in front.
fn loss_chart(steps: &[StepMetrics]) -> String {
    let losses = of(steps, |step| step.loss);
    let mean = moving_average(&losses, losses.len() / 50);
    chart(
        "loss per target token, nats",
        &[Curve { colour: "#b9c6d8", points: losses }, Curve { colour: "#1f5fa8", points: mean }],
    )
}

fn moving_average(points: &[(f64, f64)], reach: usize) -> Vec<(f64, f64)> {
    let mean = |i: usize| {
        let near = &points[i.saturating_sub(reach)..(i + reach + 1).min(points.len())];
        near.iter().map(|(_, y)| y).sum::<f64>() / near.len() as f64
    };
    points.iter().enumerate().map(|(i, (x, _))| (*x, mean(i))).collect()
}

fn page(steps: &[StepMetrics]) -> String {
    let rate = |value: fn(&StepMetrics) -> usize| of(steps, |step| value(step) as f64 / step.step_s.max(1e-9));
    let single = |title: &str, points| chart(title, &[Curve { colour: "#1f5fa8", points }]);
    let memory = steps.iter().filter_map(|step| Some((step.step as f64, step.peak_bytes? as f64 / 1e9))).collect();
    let charts = [
        loss_chart(steps),
        single("learning rate", of(steps, |step| step.lr)),
        single("gradient norm before clipping", of(steps, |step| step.grad_norm)),
        single("tokens per second", rate(|step| step.tokens)),
        single("target tokens per second", rate(|step| step.targets)),
        single("images per second", rate(|step| step.images)),
        single("peak memory, GB", memory),
    ];
    let sum = |value: fn(&StepMetrics) -> usize| steps.iter().map(value).sum::<usize>();
    let seconds: f64 = steps.iter().map(|step| step.step_s).sum();
    let ends = match steps {
        [first, .., last] => format!("loss {:.4} to {:.4}", first.loss, last.loss),
        _ => "too few steps for a course".into(),
    };
    let facts = format!(
        "{} steps, {} tokens of which {} targets, {} images, {seconds:.0} s; {ends}; {} steps skipped",
        steps.len(),
        sum(|step| step.tokens),
        sum(|step| step.targets),
        sum(|step| step.images),
        steps.iter().filter(|step| step.skipped).count(),
    );
    let style = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:760px;color:#222}svg{max-width:100%;height:auto}";
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Training</title><style>{style}</style>\
         <h1>Training</h1><p>{facts}.</p>{}</html>\n",
        charts.concat()
    )
}

/// A line chart with round numbers on both axes.
fn chart(title: &str, curves: &[Curve]) -> String {
    let all = || curves.iter().flat_map(|curve| &curve.points).filter(|(_, y)| y.is_finite());
    let bounds = |value: fn(&(f64, f64)) -> f64| {
        let (low, high) = all().map(value).fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            (0.0, 1.0)
        } else if low == high {
            (low, low + low.abs().max(1.0) * 0.5)
        } else {
            (low, high)
        }
    };
    let ((left, right), (low, high)) = (bounds(|p| p.0), bounds(|p| p.1));
    let low = if low > 0.0 && low < high / 2.0 { 0.0 } else { low };
    let x = |value: f64| MARGIN[0] + (value - left) / (right - left) * (WIDTH - MARGIN[0] - 12.0);
    let y = |value: f64| 28.0 + (high - value) / (high - low) * (HEIGHT - MARGIN[1] - 28.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"system-ui,sans-serif\" font-size=\"11\"><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\
         <text x=\"{}\" y=\"16\" font-size=\"13\" fill=\"#222\">{title}</text>",
        MARGIN[0]
    );
    // Writing into a string cannot fail.
    for tick in ticks(low, high) {
        let at = y(tick);
        let _ = write!(svg, "<path d=\"M{} {at:.1}H{:.1}\" stroke=\"#e4e4e4\"/>", MARGIN[0], WIDTH - 12.0);
        let label = number(tick);
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{label}</text>",
            MARGIN[0] - 6.0,
            at + 4.0
        );
    }
    for tick in ticks(left, right) {
        let label = number(tick);
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555\">{label}</text>",
            x(tick),
            HEIGHT - 14.0
        );
    }
    for curve in curves {
        let points = curve.points.iter().filter(|(_, y)| y.is_finite());
        let points: Vec<String> = points.map(|&(at, value)| format!("{:.1},{:.1}", x(at), y(value))).collect();
        let _ = write!(
            svg,
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\" points=\"{}\"/>",
            curve.colour,
            points.join(" ")
        );
    }
    svg + "</svg>"
}

/// Four to eight round numbers from `low` to `high`.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let raw = (high - low) / 5.0;
    let magnitude = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * magnitude).into_iter().find(|step| *step >= raw).unwrap_or(raw);
    let first = (low / step).ceil() as i64;
    (first..).map(|i| i as f64 * step).take_while(|tick| *tick <= high + step * 1e-9).collect()
}

fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        a if !(1e-3..1e5).contains(&a) => format!("{value:.0e}"),
        a if a < 10.0 => format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            losses: Default::default(),
            step_s: 0.5,
            peak_bytes: Some(1_000_000_000),
            skipped: false,
        }
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(3.0, 4.0).len(), 6);
        assert_eq!([0.25, 12.0, 3e-6, 0.0].map(number), ["0.25", "12", "3e-6", "0"]);
    }

    #[test]
    fn a_run_becomes_one_page_with_all_its_charts() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let steps: Vec<_> = (1..=200).map(|i| step(i, 3.0 / i as f64)).collect();
        jsonl::write(folder.path().join("metrics.jsonl"), &steps).expect("written");
        draw_training(folder.path()).expect("drawn");
        let page = std::fs::read_to_string(folder.path().join("training.html")).expect("there");
        assert_eq!(page.matches("<svg").count(), 7);
        assert!(
            page.contains("200 steps, 20000 tokens of which 8000 targets, 400 images, 100 s; loss 3.0000 to 0.0150")
        );
        assert!(!page.contains("NaN") && !page.contains("src="), "nothing from elsewhere, and no broken number");
        let svg = std::fs::read_to_string(folder.path().join("loss.svg")).expect("there");
        let points = |line: &str| line.split_whitespace().count();
        let curves: Vec<_> =
            svg.split("points=\"").skip(1).filter_map(|rest| rest.split('"').next()).map(points).collect();
        assert_eq!(curves, [200, 200]);
    }

    #[test]
    fn a_run_of_one_step_is_drawn_too() {
        let svg = loss_chart(&[step(1, 2.0)]);
        assert!(svg.contains("<polyline") && !svg.contains("NaN"));
    }
}
