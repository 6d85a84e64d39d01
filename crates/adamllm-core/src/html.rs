//! What the pages that jobs leave have in common: text that is no markup, and one style, readable by day and by night.

/// Colours, text, tables and charts of every page. Colours are variables (`--ink`, `--paper`, `--card`, `--soft`, `--line`, `--muted`,
/// `--main`, `--pale`, `--reference`, `--good`, `--bad`, `--warn`, and `--series-0` to `--series-5` for lines of charts), each with a value
/// for light and one for dark. Wide tables scroll inside the page.
pub const STYLE: &str = include_str!("html/style.css");

/// Text for an element or a quoted attribute, in HTML and SVG.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_markup() {
        assert_eq!(escape("<b a=\"1\" c='2'>&amp;é"), "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;amp;é");
    }

    #[test]
    fn every_colour_has_a_dark_value() {
        let colours: Vec<&str> = STYLE.split("--").skip(1).filter(|part| part.contains(": #")).collect();
        assert!(colours.is_empty(), "{colours:?}");
        assert!(STYLE.matches("light-dark(").count() >= 18 && !STYLE.contains("</"));
    }
}
