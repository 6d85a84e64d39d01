//! `report.html`: one file, no network. Scores with their intervals as bars, numbers by answer type, what closed questions were
//! taken for, and a browser of examples.

mod browser;
mod figures;
mod summary;
mod thumbnail;

pub use figures::html_scores;
pub use thumbnail::image_data_url;

use adamllm_core::html;

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
    let figures: String =
        sections.iter().enumerate().map(|(index, section)| figures::section(index, section)).collect();
    // "<" never stands in the data, so no text in it can end the element.
    let data = serde_json::to_string(&data).expect("the page's data has string keys").replace('<', "\\u003c");
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{shared}{style}</style>\n</head>\n<body>\n<header><h1>{title}</h1>\n\
         <p><b>paper</b>: the reference's scoring, quirks included. <b>strict</b>: what the score should mean; \
         an answer that cannot be read is wrong.</p></header>\n<main>\n{summary}{figures}{browser}</main>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n<script>\n{script}</script>\n</body>\n</html>\n",
        title = html::escape(title),
        shared = html::STYLE,
        style = include_str!("html/page.css"),
        browser = include_str!("html/browser.html"),
        script = include_str!("html/page.js"),
    ))
}
