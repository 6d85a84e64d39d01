//! Charts as SVG text: bars and curves, nothing that needs a script.

use std::fmt::Write;

use adamllm_core::html::escape;

/// How long texts are, in words, counted in bins that double.
#[derive(Debug, Default)]
pub(super) struct Lengths {
    bins: [u64; Lengths::N_BINS],
    n: u64,
    words: u64,
}

impl Lengths {
    const N_BINS: usize = 12;

    pub(super) fn add(&mut self, text: &str) {
        let words = text.split_whitespace().count() as u64;
        let bin = (u64::BITS - words.leading_zeros()) as usize;
        self.bins[bin.min(Self::N_BINS - 1)] += 1;
        self.n += 1;
        self.words += words;
    }

    /// Mean number of words.
    pub(super) fn mean(&self) -> f64 {
        self.words as f64 / self.n.max(1) as f64
    }

    /// Labels and counts from the first bin that holds something to the last.
    pub(super) fn bars(&self) -> Vec<(String, u64)> {
        let label = |bin: usize| match bin {
            0 => "0".to_owned(),
            1 => "1".to_owned(),
            _ if bin == Self::N_BINS - 1 => format!("{}+", 1 << (bin - 1)),
            _ => format!("{}\u{2013}{}", 1 << (bin - 1), (1 << bin) - 1),
        };
        let last = self.bins.iter().rposition(|n| *n > 0).unwrap_or(0);
        let first = self.bins.iter().position(|n| *n > 0).unwrap_or(0);
        (first..=last).map(|bin| (label(bin), self.bins[bin])).collect()
    }
}

/// Horizontal bars. `part` is drawn darker over `whole`: what was kept of each.
pub(super) fn bars(bars: &[(String, u64, u64)]) -> String {
    const HEIGHT: usize = 22;
    const LABEL: usize = 130;
    const WIDTH: usize = 460;

    // The longest bar leaves 110 for the count after it.
    let largest = bars.iter().map(|(_, whole, _)| *whole).max().unwrap_or(0).max(1);
    let length = |n: u64| n as f64 / largest as f64 * (WIDTH - LABEL - 110) as f64;

    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">", bars.len() * HEIGHT + 4);
    for (i, (label, whole, part)) in bars.iter().enumerate() {
        let (y, middle) = (i * HEIGHT + 3, i * HEIGHT + 15);
        let _ = write!(
            svg,
            "<text class=\"label\" x=\"{}\" y=\"{middle}\">{}</text>\
             <rect class=\"whole\" x=\"{LABEL}\" y=\"{y}\" width=\"{:.1}\" height=\"16\"/>\
             <rect class=\"part\" x=\"{LABEL}\" y=\"{y}\" width=\"{:.1}\" height=\"16\"/>\
             <text class=\"count\" x=\"{:.1}\" y=\"{middle}\">{}</text>",
            LABEL - 8,
            escape(label),
            length(*whole),
            length(*part),
            LABEL as f64 + length(*whole) + 6.0,
            if part == whole || *part == 0 { whole.to_string() } else { format!("{part} of {whole}") },
        );
    }

    svg + "</svg>"
}

/// One curve of a chart whose axes both run from 0 to 1.
pub(super) struct Polyline<'a> {
    pub(super) class: &'a str,
    pub(super) name: &'a str,
    pub(super) points: Vec<(f64, f64)>,
}

/// Curves over the threshold, with a mark at `suggested`.
pub(super) fn curves(curves: &[Polyline<'_>], suggested: Option<f64>) -> String {
    const LEFT: f64 = 40.0;
    const TOP: f64 = 10.0;
    const SIDE: f64 = 260.0;

    let x = |value: f64| LEFT + value * SIDE * 1.5;
    let y = |value: f64| TOP + (1.0 - value) * SIDE;

    let mut svg = String::from("<svg viewBox=\"0 0 460 320\" role=\"img\">");
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{1}\" y1=\"{0}\" y2=\"{0}\"/>\
             <text class=\"label\" x=\"{2}\" y=\"{3}\">{4:.0}%</text>\
             <text class=\"tick\" x=\"{5}\" y=\"{6}\">{tick}</text>",
            y(tick),
            x(1.0),
            LEFT - 6.0,
            y(tick) + 4.0,
            tick * 100.0,
            x(tick),
            y(0.0) + 16.0,
        );
    }

    if let Some(threshold) = suggested {
        let (at, top, bottom) = (x(threshold), y(1.0), y(0.0));
        let _ = write!(svg, "<line class=\"mark\" x1=\"{at}\" x2=\"{at}\" y1=\"{top}\" y2=\"{bottom}\"/>");
    }

    // Each curve has its key below the axes.
    for (i, curve) in curves.iter().enumerate() {
        let points: Vec<_> = curve.points.iter().map(|(u, v)| format!("{:.1},{:.1}", x(*u), y(*v))).collect();
        let legend = LEFT + i as f64 * 150.0;
        let _ = write!(
            svg,
            "<polyline class=\"{0}\" points=\"{1}\"/><rect class=\"{0} key\" x=\"{legend}\" y=\"302\" width=\"14\" height=\"4\"/>\
             <text class=\"count\" x=\"{2}\" y=\"308\">{3}</text>",
            curve.class,
            points.join(" "),
            legend + 20.0,
            escape(curve.name),
        );
    }

    svg + "</svg>"
}
