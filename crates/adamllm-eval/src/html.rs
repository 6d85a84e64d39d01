//! `report.html`: one file, no network. Scores with their intervals as bars, numbers by answer type, what closed questions were
//! taken for, and a browser of examples.

mod browser;
mod figures;
mod summary;
mod thumbnail;

pub use figures::html_scores;
pub use thumbnail::image_data_url;

use adamllm_report::Page;
use maud::{PreEscaped, html};

use crate::{Benchmark, EvalError, Outcome, Prediction, Report};

/// A benchmark and what one or more runs made of it.
#[derive(Clone)]
pub struct HtmlSection<'a> {
    /// The questions and images.
    pub benchmark: &'a dyn Benchmark,
    /// The runs, in the order in which they are shown.
    pub runs: Vec<HtmlRun<'a>>,
}

impl std::fmt::Debug for HtmlSection<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.runs.iter().map(|run| run.name).collect();
        f.debug_struct("HtmlSection").field("benchmark", &self.benchmark.name()).field("runs", &names).finish()
    }
}

/// One run on a benchmark.
#[derive(Clone, Copy, Debug)]
pub struct HtmlRun<'a> {
    /// The run's name.
    pub name: &'a str,
    /// Its sums.
    pub report: &'a Report,
    /// Its scores, example by example.
    pub outcomes: &'a [Outcome],
    /// Its answers.
    pub predictions: &'a [Prediction],
}

/// How much goes into the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HtmlOptions {
    /// At most this many examples of a benchmark, drawn by id (the same ones for every run of the same benchmark).
    pub max_examples: usize,
    /// The longer edge of the images, in pixels; 0 leaves images out.
    pub image_edge: u32,
}

impl Default for HtmlOptions {
    fn default() -> Self {
        Self { max_examples: 300, image_edge: 256 }
    }
}

/// Writes the page. An image that does not open is left out of its example.
///
/// # Errors
/// A benchmark that fails as a whole.
pub fn html_report(title: &str, sections: &[HtmlSection<'_>], options: &HtmlOptions) -> Result<String, EvalError> {
    let data = browser::collect(sections, options)?;
    let summary = summary::section(sections);
    let figures = html! {
        @for (index, section) in sections.iter().enumerate() { (figures::section(index, section)) }
    };
    let page = Page {
        title,
        lead: html! {
            p {
                b { "paper" } ": the reference's scoring, quirks included. " b { "strict" } ": what the score should mean; an answer that \
                cannot be read is wrong."
            }
        },
        style: include_str!("html/page.css"),
        main: html! { (summary) (figures) (PreEscaped(include_str!("html/browser.html"))) },
        data: Some(("data", serde_json::to_string(&data).expect("the page's data has string keys"))),
        script: include_str!("html/page.js"),
    };
    Ok(page.to_html())
}
