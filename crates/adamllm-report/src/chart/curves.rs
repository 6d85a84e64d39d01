use maud::{Markup, html};

/// One curve of a chart whose axes both run from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve<'a> {
    /// Its class in the page's style.
    pub class: &'a str,
    /// Written below the chart.
    pub name: &'a str,
    /// By rising x.
    pub points: Vec<(f64, f64)>,
}

/// Curves over a threshold, with a mark at one of its values.
pub fn curves(curves: &[Curve<'_>], mark: Option<f64>) -> Markup {
    const LEFT: f64 = 40.0;
    const TOP: f64 = 10.0;
    const SIDE: f64 = 260.0;
    let x = |value: f64| LEFT + value * SIDE * 1.5;
    let y = |value: f64| TOP + (1.0 - value) * SIDE;
    let points = |curve: &Curve<'_>| {
        let points = curve.points.iter().map(|(u, v)| format!("{:.1},{:.1}", x(*u), y(*v)));
        points.collect::<Vec<_>>().join(" ")
    };
    html! {
        svg viewBox="0 0 460 320" role="img" {
            @for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
                line class="grid" x1=(LEFT) x2=(x(1.0)) y1=(y(tick)) y2=(y(tick)) {}
                text class="label" x=(LEFT - 6.0) y=(y(tick) + 4.0) { (format!("{:.0}%", tick * 100.0)) }
                text class="tick" x=(x(tick)) y=(y(0.0) + 16.0) { (tick) }
            }
            @if let Some(mark) = mark {
                line class="mark" x1=(x(mark)) x2=(x(mark)) y1=(y(1.0)) y2=(y(0.0)) {}
            }
            @for (legend, curve) in curves.iter().enumerate().map(|(i, curve)| (LEFT + i as f64 * 150.0, curve)) {
                polyline class=(curve.class) points=(points(curve)) {}
                rect class=(format!("{} key", curve.class)) x=(legend) y="302" width="14" height="4" {}
                text class="count" x=(legend + 20.0) y="308" { (curve.name) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_run_from_corner_to_corner() {
        let curve = Curve { class: "kept", name: "a<b", points: vec![(0.0, 0.0), (0.5, 1.0), (1.0, 1.0)] };
        let svg = curves(&[curve], Some(0.5)).into_string();
        assert!(svg.contains("<polyline class=\"kept\" points=\"40.0,270.0 235.0,10.0 430.0,10.0\">"), "{svg}");
        assert!(svg.contains("<line class=\"mark\" x1=\"235\" x2=\"235\" y1=\"10\" y2=\"270\">"), "{svg}");
        assert!(svg.contains(">a&lt;b</text>") && svg.contains(">75%</text>") && svg.contains(">0.25</text>"));
        assert!(!curves(&[], None).into_string().contains("mark"));
    }
    #[test]
    fn numbers_and_names_stand_beside_their_lines() {
        let curve = |class| Curve { class, name: class, points: vec![] };
        let svg = curves(&[curve("kept"), curve("right")], None).into_string();
        // Quarters of 260 down from 10, and of 390 to the right from 40.
        for (share, y, x) in
            [("0", 270, 40.0), ("0.25", 205, 137.5), ("0.5", 140, 235.0), ("0.75", 75, 332.5), ("1", 10, 430.0)]
        {
            assert!(
                svg.contains(&format!("<line class=\"grid\" x1=\"40\" x2=\"430\" y1=\"{y}\" y2=\"{y}\">")),
                "{svg}"
            );
            assert!(svg.contains(&format!("<text class=\"label\" x=\"34\" y=\"{}\">", y + 4)), "{svg}");
            assert!(svg.contains(&format!("<text class=\"tick\" x=\"{x}\" y=\"286\">{share}</text>")), "{svg}");
        }
        for (key, name, class) in [(40, 60, "kept"), (190, 210, "right")] {
            assert!(svg.contains(&format!("<rect class=\"{class} key\" x=\"{key}\" y=\"302\"")), "{svg}");
            assert!(svg.contains(&format!("<text class=\"count\" x=\"{name}\" y=\"308\">{class}</text>")), "{svg}");
        }
    }
}
