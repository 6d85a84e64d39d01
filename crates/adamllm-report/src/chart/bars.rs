use maud::{Markup, html};

/// A horizontal bar: a count, and the part of it that is drawn darker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// What is counted.
    pub label: String,
    /// The bar's length.
    pub whole: u64,
    /// How much of it is drawn darker; 0 for none.
    pub part: u64,
}

impl Bar {
    /// A bar of `whole`, `part` of which is drawn darker.
    pub fn new(label: impl Into<String>, whole: u64, part: u64) -> Self {
        Self { label: label.into(), whole, part }
    }

    /// The numbers at the bar's end.
    fn count(&self) -> String {
        match self.part {
            part if part == self.whole || part == 0 => self.whole.to_string(),
            part => format!("{part} of {}", self.whole),
        }
    }
}

/// Bars below each other, the longest as wide as there is room.
pub fn bars(bars: &[Bar]) -> Markup {
    const HEIGHT: usize = 22;
    const LABEL: usize = 130;
    const WIDTH: usize = 460;
    // The longest bar leaves 110 for the count after it.
    let largest = bars.iter().map(|bar| bar.whole).max().unwrap_or(0).max(1);
    let length = |n: u64| n as f64 / largest as f64 * (WIDTH - LABEL - 110) as f64;
    let drawn = |(i, bar): (usize, &Bar)| {
        let (y, middle) = (i * HEIGHT + 3, i * HEIGHT + 15);
        let [whole, part] = [bar.whole, bar.part].map(|n| format!("{:.1}", length(n)));
        let end = format!("{:.1}", LABEL as f64 + length(bar.whole) + 6.0);
        html! {
            text class="label" x=(LABEL - 8) y=(middle) { (bar.label) }
            rect class="whole" x=(LABEL) y=(y) width=(whole) height="16" {}
            rect class="part" x=(LABEL) y=(y) width=(part) height="16" {}
            text class="count" x=(end) y=(middle) { (bar.count()) }
        }
    };
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {}", bars.len() * HEIGHT + 4)) role="img" {
            @for bar in bars.iter().enumerate() { (drawn(bar)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_what_they_count() {
        let svg = bars(&[Bar::new("a<", 10, 10), Bar::new("b", 5, 2), Bar::new("c", 4, 0)]).into_string();
        let widths: Vec<&str> = svg.split(" width=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(widths, ["220.0", "220.0", "110.0", "44.0", "88.0", "0.0"]);
        assert!(svg.starts_with("<svg viewBox=\"0 0 460 70\"") && svg.ends_with("</svg>"));
        for (i, y) in [3, 25, 47].into_iter().enumerate() {
            assert_eq!(svg.matches(&format!(" y=\"{y}\"")).count(), 2, "bar {i}");
            assert_eq!(svg.matches(&format!(" y=\"{}\"", y + 12)).count(), 2, "its texts");
        }
        assert!(svg.contains(">a&lt;</text>") && svg.contains(">10</text>") && svg.contains(">4</text>"));
        assert!(svg.contains("<text class=\"count\" x=\"246.0\" y=\"37\">2 of 5</text>"), "{svg}");
    }
    #[test]
    fn labels_end_before_the_bars_and_nothing_is_drawn_of_nothing() {
        let svg = bars(&[Bar::new("a", 0, 0)]).into_string();
        assert!(svg.contains("<text class=\"label\" x=\"122\" y=\"15\">a</text>"), "{svg}");
        assert!(svg.contains("width=\"0.0\"") && svg.contains("x=\"136.0\" y=\"15\">0</text>"), "{svg}");
        assert!(bars(&[]).into_string().starts_with("<svg viewBox=\"0 0 460 4\""));
    }
}
