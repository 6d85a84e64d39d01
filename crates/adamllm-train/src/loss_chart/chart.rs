use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
/// Room for the numbers left of and below the axes.
const MARGIN: [f64; 2] = [64.0, 34.0];
/// Room for the title, and for names of series below it.
const TOP: f64 = 44.0;
/// Colours that differ in print and by most eyes.
pub(super) const COLOURS: [&str; 6] = ["#1f5fa8", "#c2571a", "#2e7d4f", "#7a4fa3", "#8a6d1b", "#5b6470"];

/// One line of a chart.
pub(super) struct Series {
    /// Written above the chart, where it is not empty.
    pub(super) name: String,
    pub(super) colour: &'static str,
    /// Each point is marked: for few points with much between them.
    pub(super) dots: bool,
    /// `(x, y)`, by rising x.
    pub(super) points: Vec<(f64, f64)>,
}

/// A line chart with round numbers on both axes. Steps are on the horizontal one.
pub(super) fn chart(title: &str, series: &[Series]) -> String {
    let all = || series.iter().flat_map(|line| &line.points).filter(|(_, y)| y.is_finite());
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
    let y = |value: f64| TOP + (high - value) / (high - low) * (HEIGHT - MARGIN[1] - TOP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"system-ui,sans-serif\" font-size=\"11\"><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\
         <text x=\"{}\" y=\"16\" font-size=\"13\" fill=\"#222\">{title}</text>",
        MARGIN[0]
    );
    // Writing into a string cannot fail.
    for tick in ticks(low, high) {
        let height = y(tick);
        let _ = write!(svg, "<path d=\"M{} {height:.1}H{:.1}\" stroke=\"#e4e4e4\"/>", MARGIN[0], WIDTH - 12.0);
        let label = number(tick);
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{label}</text>",
            MARGIN[0] - 6.0,
            height + 4.0
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
    let mut named_at = MARGIN[0];
    for line in series {
        let points = line.points.iter().filter(|(_, y)| y.is_finite());
        let points: Vec<[f64; 2]> = points.map(|&(step, value)| [x(step), y(value)]).collect();
        let path: Vec<String> = points.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
        let colour = line.colour;
        let _ = write!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>",
            path.join(" ")
        );
        if line.dots || points.len() == 1 {
            for [x, y] in &points {
                let _ = write!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
            }
        }
        if !line.name.is_empty() {
            let name = escaped(&line.name);
            let _ = write!(
                svg,
                "<path d=\"M{named_at:.0} 30h14\" stroke=\"{colour}\" stroke-width=\"3\"/>\
                 <text x=\"{:.0}\" y=\"34\" fill=\"#444\">{name}</text>",
                named_at + 18.0
            );
            named_at += 34.0 + 6.2 * line.name.chars().count() as f64;
        }
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

/// A name in XML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
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

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(3.0, 4.0).len(), 6);
        assert_eq!([0.25, 12.0, 3e-6, 0.0].map(number), ["0.25", "12", "3e-6", "0"]);
    }

    #[test]
    fn a_name_is_no_markup() {
        let line = Series { name: "a<b & \"c\"".into(), colour: COLOURS[0], dots: true, points: vec![(1.0, 2.0)] };
        let svg = chart("t", &[line]);
        assert!(
            svg.contains("a&lt;b &amp; &quot;c&quot;") && svg.matches("<circle").count() == 1 && !svg.contains("NaN")
        );
    }
}
