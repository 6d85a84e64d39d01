//! What the pages that jobs leave have in common: one style, readable by day and by night, a skeleton that needs no network, and charts.
//!
//! Pages are written with [`maud`], which a crate that writes one names beside this one: text is escaped where it enters a page, and only
//! [`maud::PreEscaped`] says that something is markup already.
//!
//! | | |
//! |---|---|
//! | [`Page`] | the skeleton: title, lead, style, content, data and script |
//! | [`STYLE`] | colours, text, tables and charts of every page |
//! | [`head`] | a table's head |
//! | [`chart`] | bars, curves over a share, and lines over steps, as SVG |

pub mod chart;
mod page;

pub use page::{Page, head};

/// Colours, text, tables and charts of every page. Colours are variables (`--ink`, `--paper`, `--card`, `--soft`, `--line`, `--muted`,
/// `--main`, `--pale`, `--reference`, `--good`, `--bad`, `--warn`, and `--series-0` to `--series-5` for lines of charts), each with a value
/// for light and one for dark. Wide tables scroll inside the page.
pub const STYLE: &str = include_str!("style.css");

/// The README's example is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_has_a_dark_value() {
        let colours: Vec<&str> = STYLE.split("--").skip(1).filter(|part| part.contains(": #")).collect();
        assert!(colours.is_empty(), "{colours:?}");
        assert!(STYLE.matches("light-dark(").count() >= 18 && !STYLE.contains("</"));
    }
}
