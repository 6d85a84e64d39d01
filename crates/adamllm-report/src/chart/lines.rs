use maud::{Markup, html};

/// Colours of a file of its own: what the page's style says for light.
const STYLE: &str = "text{fill:#1b1f24}.tick{fill:#59636e}.grid{stroke:#e4e8ec}.curve{fill:none;stroke-width:1.6}\
                     .faint{stroke:#b9c6d8}.s0{stroke:#1f5fa8}.s1{stroke:#b8500f}.s2{stroke:#2e7d4f}.s3{stroke:#7a4fa3}\
                     .s4{stroke:#806414}.s5{stroke:#5b6470}.point.s0{fill:#1f5fa8}.point.s1{fill:#b8500f}.point.s2{fill:#2e7d4f}";
/// Classes of lines whose colours differ in print and by most eyes.
pub const COLOURS: [&str; 6] = ["s0", "s1", "s2", "s3", "s4", "s5"];

/// How large a chart is, in units of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    width: f64,
    height: f64,
    /// Round numbers on an axis, about.
    ticks: f64,
}

impl Size {
    /// As wide as a page.
    pub const WIDE: Self = Self { width: 720.0, height: 260.0, ticks: 5.0 };
    /// One of several that stand beside each other.
    pub const SMALL: Self = Self { width: 340.0, height: 190.0, ticks: 4.0 };
}

/// Room for the numbers left of and below the axes, and right of them.
const LEFT: f64 = 52.0;
const BELOW: f64 = 28.0;
const RIGHT: f64 = 14.0;

/// One line of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Written above the chart, where it is not empty.
    pub name: String,
    /// Its class: of [`COLOURS`], or `faint`.
    pub colour: &'static str,
    /// Each point is marked: for few points with much between them.
    pub dots: bool,
    /// `(x, y)`, by rising x.
    pub points: Vec<(f64, f64)>,
}

/// The least and the greatest of finite values, where there are any.
pub fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.filter(|value| value.is_finite());
    finite.fold(None, |bounds, v| Some(bounds.map_or((v, v), |(low, high): (f64, f64)| (low.min(v), high.max(v)))))
}

/// The axis for such bounds: from 0 where that is near, and never empty.
fn axis(bounds: Option<(f64, f64)>) -> (f64, f64) {
    match bounds {
        None => (0.0, 1.0),
        Some((low, high)) if low == high => (low, low + low.abs().max(1.0) * 0.5),
        Some((low, high)) if low > 0.0 && low < high / 2.0 => (0.0, high),
        Some(bounds) => bounds,
    }
}

/// A line chart with round numbers on both axes, as a part of a page with [`STYLE`](crate::STYLE). Steps are on the horizontal
/// axis. `range` is what the vertical axis must hold at least, so that charts beside each other can share one.
pub fn lines(title: &str, series: &[Series], size: Size, range: Option<(f64, f64)>) -> Markup {
    let finite = || series.iter().flat_map(|line| &line.points).filter(|(_, y)| y.is_finite());
    let steps = bounds(finite().map(|(x, _)| *x));
    let (left, right) = match steps {
        Some((low, high)) if low < high => (low, high),
        other => axis(other),
    };
    let shared = range.into_iter().flat_map(|(low, high)| [low, high]);
    let (low, high) = axis(bounds(finite().map(|(_, y)| *y).chain(shared)));

    let named = series.iter().any(|line| !line.name.is_empty());
    let top = if named { 44.0 } else { 26.0 };
    let Size { width, height, .. } = size;
    let x = |value: f64| LEFT + (value - left) / (right - left) * (width - LEFT - RIGHT);
    let y = |value: f64| top + (high - value) / (high - low) * (height - BELOW - top);
    // Where each name stands: after the names before it, at about 6.2 units a letter.
    let mut named_at = LEFT;
    let mut legend = Vec::new();
    for line in series.iter().filter(|line| !line.name.is_empty()) {
        legend.push((named_at, line));
        named_at += 34.0 + 6.2 * line.name.chars().count() as f64;
    }
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {width} {height}")) role="img"
            font-family="system-ui,sans-serif" font-size="11" {
            text x="0" y="14" font-size="13" { (title) }
            @for (at, tick) in ticks(low, high, size.ticks).into_iter().map(|tick| (y(tick), tick)) {
                path class="grid" d=(format!("M{LEFT} {at:.1}H{:.1}", width - RIGHT)) {}
                text class="tick" x=(LEFT - 6.0) y=(format!("{:.1}", at + 4.0)) text-anchor="end" { (number(tick)) }
            }
            @for tick in ticks(left, right, size.ticks) {
                text class="tick" x=(format!("{:.1}", x(tick))) y=(height - 10.0) text-anchor="middle" { (number(tick)) }
            }
            @for line in series { (drawn(line, x, y)) }
            @for (at, line) in legend {
                path class=(line.colour) d=(format!("M{at:.0} 30h14")) stroke-width="3" {}
                text x=(format!("{:.0}", at + 18.0)) y="34" { (line.name) }
            }
        }
    }
}

/// The line itself; its points are marked where they are few.
fn drawn(line: &Series, x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) -> Markup {
    let finite = line.points.iter().filter(|(_, y)| y.is_finite());
    let points: Vec<[f64; 2]> = finite.map(|&(step, value)| [x(step), y(value)]).collect();
    let path: Vec<String> = points.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
    let marked = if line.dots || points.len() == 1 { &points[..] } else { &[] };
    html! {
        polyline class=(format!("curve {}", line.colour)) points=(path.join(" ")) {}
        @for [x, y] in marked {
            circle class=(format!("point {}", line.colour)) cx=(format!("{x:.1}")) cy=(format!("{y:.1}")) r="3" {}
        }
    }
}

/// A chart of [`lines`] as a file of its own, on white.
pub fn standalone(chart: Markup, size: Size) -> String {
    let chart = chart.into_string();
    let Size { width, height, .. } = size;
    let head = format!(" width=\"{width}\" height=\"{height}\" viewBox");
    let ground = format!("<style>{STYLE}</style><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/><text");
    chart.replacen(" viewBox", &head, 1).replacen("<text", &ground, 1)
}

/// Round numbers from `low` to `high`: about `n`, at most twice as many.
fn ticks(low: f64, high: f64, n: f64) -> Vec<f64> {
    let raw = (high - low) / n;
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

    fn line(name: &str, points: &[(f64, f64)]) -> Series {
        Series { name: name.into(), colour: COLOURS[0], dots: true, points: points.to_vec() }
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 10.0, 5.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(0.0, 10.0, 3.0), [0.0, 5.0, 10.0]);
        assert_eq!(ticks(3.0, 4.0, 5.0).len(), 6);
        assert_eq!([0.25, 12.0, 3e-6, 0.0].map(number), ["0.25", "12", "3e-6", "0"]);
    }

    #[test]
    fn a_name_is_no_markup() {
        let svg = lines("t", &[line("a<b & \"c\"", &[(1.0, 2.0)])], Size::WIDE, None).into_string();
        assert!(
            svg.contains("a&lt;b &amp; &quot;c&quot;") && svg.matches("<circle").count() == 1 && !svg.contains("NaN")
        );
        assert!(!lines("a<b", &[], Size::SMALL, None).into_string().contains("a<b"));
    }

    #[test]
    fn charts_with_a_range_share_their_axis() {
        let points = [(1.0, 1.0), (2.0, 2.0)];
        let height = |range| {
            let svg = lines("t", &[line("", &points)], Size::SMALL, range).into_string();
            let first = svg.split("points=\"").nth(1).and_then(|rest| rest.split(['"', ' ']).next()).map(str::to_owned);
            first.expect("a point").split(',').nth(1).map(|y| y.parse::<f64>().expect("a number")).expect("two numbers")
        };
        // From 1 to 2 the first point is on the floor (190 - 28); from 0 to 4 a quarter of the way up to 26.
        assert_eq!((height(None), height(Some((0.0, 4.0)))), (162.0, 128.0));
    }

    #[test]
    fn a_file_of_its_own_has_colours_and_a_ground() {
        let svg = standalone(lines("t", &[line("", &[(1.0, 2.0)])], Size::WIDE, None), Size::WIDE);
        assert!(svg.starts_with("<svg xmlns") && svg.contains("width=\"720\" height=\"260\" viewBox"));
        assert!(svg.find("<rect").expect("a ground") < svg.find("<polyline").expect("a line"));
        assert!(svg.contains(".s0{stroke:#1f5fa8}"));
    }
    #[test]
    fn an_axis_holds_its_bounds_and_is_never_empty() {
        assert_eq!([axis(None), axis(Some((4.0, 4.0)))], [(0.0, 1.0), (4.0, 6.0)]);
        assert_eq!([axis(Some((0.0, 0.0))), axis(Some((-8.0, -8.0)))], [(0.0, 0.5), (-8.0, -4.0)]);
        // From 0 where that is less than the values' own range away.
        assert_eq!([axis(Some((1.0, 10.0))), axis(Some((4.9, 10.0)))], [(0.0, 10.0); 2]);
        for bounds in [(5.0, 10.0), (6.0, 10.0), (0.0, 10.0), (-1.0, 10.0), (-9.0, -1.0)] {
            assert_eq!(axis(Some(bounds)), bounds);
        }
        assert_eq!(bounds([2.0, f64::NAN, -1.0, f64::INFINITY, 3.0].into_iter()), Some((-1.0, 3.0)));
        assert_eq!(bounds([f64::NAN].into_iter()), None);
    }

    /// A wide chart is 720 by 260; its axes leave 52 left, 14 right, 28 below, 26 above, and 44 above where lines have names.
    #[test]
    fn points_and_numbers_stand_where_the_axes_say() {
        let unnamed = Series { dots: false, ..line("", &[(10.0, 0.0), (15.0, f64::NAN), (20.0, 50.0), (30.0, 100.0)]) };
        let svg = lines("t", &[unnamed], Size::WIDE, None).into_string();
        assert!(svg.contains("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 260\""));
        assert!(svg.contains("points=\"52.0,232.0 379.0,129.0 706.0,26.0\""), "{svg}");
        assert!(!svg.contains("<circle") && !svg.contains("h14"), "neither marks nor names");
        // On the vertical axis 0, 20, .. 100, with a line across each; on the horizontal one 10, 15, .. 30.
        let grid = ["232.0", "190.8", "149.6", "108.4", "67.2", "26.0"];
        for (at, number) in grid.into_iter().zip(["0", "20", "40", "60", "80", "100"]) {
            assert!(svg.contains(&format!("d=\"M52 {at}H706.0\"")), "{at}");
            let at = at.parse::<f64>().expect("a number") + 4.0;
            assert!(svg.contains(&format!("x=\"46\" y=\"{at:.1}\" text-anchor=\"end\">{number}</text>")), "{number}");
        }
        for (at, number) in [("52.0", "10"), ("215.5", "15"), ("379.0", "20"), ("542.5", "25"), ("706.0", "30")] {
            assert!(svg.contains(&format!("x=\"{at}\" y=\"250\" text-anchor=\"middle\">{number}</text>")), "{number}");
        }
    }

    #[test]
    fn names_stand_one_after_the_other_above_the_lines() {
        let points = [(0.0, 0.0), (1.0, 1.0)];
        let series = [line("loss", &points), line("", &points), line("mean", &points), line("x", &points)];
        let svg = lines("t", &series, Size::WIDE, None).into_string();
        // 34 and 6.2 for each letter to the next: 52, 110.8, 169.6.
        for (sample, at, name) in [("M52 30h14", 70, "loss"), ("M111 30h14", 129, "mean"), ("M170 30h14", 188, "x")] {
            assert!(svg.contains(&format!("d=\"{sample}\"")), "{svg}");
            assert!(svg.contains(&format!("<text x=\"{at}\" y=\"34\">{name}</text>")), "{svg}");
        }
        assert_eq!(svg.matches("h14").count(), 3);
        assert!(svg.contains("points=\"52.0,232.0 706.0,44.0\""), "below the names");
        assert_eq!(svg.matches("<circle").count(), 8, "each point of each line");
        let single = Series { dots: false, ..line("", &[(3.0, 2.0)]) };
        let svg = lines("t", &[single], Size::SMALL, None).into_string();
        assert!(svg.contains("<circle class=\"point s0\" cx=\"52.0\" cy=\"162.0\""), "a point alone is no line: {svg}");
    }

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        let numbers = [9.5, 10.0, 0.001, 0.000_9, 99_999.0, 100_000.0, -2.5, -12.0, 1.0 / 3.0];
        let expected = ["9.5", "10", "0.001", "9e-4", "99999", "1e5", "-2.5", "-12", "0.333"];
        assert_eq!(numbers.map(number), expected);
        assert_eq!(ticks(-1.0, 1.0, 4.0), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        assert_eq!(ticks(0.0, 0.3, 3.0).len(), 4, "the last one is inside, however it is rounded");
        assert_eq!(ticks(1.0, 98.0, 5.0), [20.0, 40.0, 60.0, 80.0]);
    }
}
