//! `index.html`: the page that a job leaves in its output folder. One file that needs no network, with the style of the detailed reports
//! ([`adamllm_core::html`]) that it links to.
//!
//! A page says what the job's files say and nothing of when it was made, so that a job that goes on where it was leaves the same page.
//! Its parts are functions from plain values to a piece of HTML; every text is escaped where it enters one.

use std::path::{Path, PathBuf};

use adamllm_core::html::{self, escape};
use adamllm_core::{CoreError, write_atomically};
use adamllm_eval::PairedScore;

#[cfg(feature = "train")]
pub(crate) mod adapt;
pub(crate) mod answers;
pub(crate) mod compare;
pub(crate) mod evaluate;
#[cfg(feature = "train")]
pub(crate) mod funnel;
pub(crate) mod inputs;
pub(crate) mod kept;
pub(crate) mod ledger;
#[cfg(feature = "train")]
pub(crate) mod post_train;
#[cfg(feature = "train")]
pub(crate) mod records;
#[cfg(feature = "train")]
pub(crate) mod synthesize;
#[cfg(feature = "train")]
pub(crate) mod tune_synthesizer;

/// The page's name in a job's folder.
pub(crate) const PAGE: &str = "index.html";

/// A page in the making.
#[derive(Debug)]
pub(crate) struct Page {
    title: String,
    lead: String,
    body: String,
}

impl Page {
    /// A heading, and a sentence that says what the job does.
    pub(crate) fn new(title: &str, lead: &str) -> Self {
        Self { title: escape(title), lead: escape(lead), body: String::new() }
    }

    /// The numbers that one looks for first: names and values.
    pub(crate) fn tiles<'t>(mut self, tiles: impl IntoIterator<Item = (&'t str, String)>) -> Self {
        let tile = |(name, value): (&str, String)| {
            format!("<div class=\"tile\"><b>{}</b><span>{}</span></div>", escape(&value), escape(name))
        };
        let tiles: String = tiles.into_iter().map(tile).collect();
        self.body += &format!("<div class=\"tiles\">{tiles}</div>\n");
        self
    }

    /// A section with an anchor, from HTML that one of the parts made; nothing where that is empty.
    pub(crate) fn section(mut self, id: &str, heading: &str, html: &str) -> Self {
        if !html.is_empty() {
            self.body += &format!("<section id=\"{}\">\n<h2>{}</h2>\n{html}</section>\n", escape(id), escape(heading));
        }
        self
    }

    /// Links to the reports and files of the run that are there, by their paths below its folder.
    pub(crate) fn links(self, folder: &Path, links: &[(&str, &str)]) -> Self {
        let there = links.iter().filter(|(path, _)| folder.join(path).exists());
        let link = |(path, what): &(&str, &str)| {
            let path = escape(path);
            format!("<li><a href=\"{path}\">{path}</a> <span class=\"muted\">{}</span></li>\n", escape(what))
        };
        let list: String = there.map(link).collect();
        let list = if list.is_empty() { list } else { format!("<ul class=\"links\">\n{list}</ul>\n") };
        self.section("reports", "Detailed reports and files", &list)
    }

    fn html(&self) -> String {
        let Self { title, lead, body } = self;
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
             <style>\n{shared}{style}</style>\n</head>\n<body>\n<header><h1>{title}</h1>\n<p>{lead}</p></header>\n<main>\n{body}</main>\n\
             <script>\n{script}</script>\n</body>\n</html>\n",
            shared = html::STYLE,
            style = include_str!("page/page.css"),
            script = include_str!("page/page.js"),
        )
    }

    /// Writes the page into a job's folder, and gives its path.
    ///
    /// # Errors
    /// [`CoreError::Io`].
    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf, CoreError> {
        let path = folder.join(PAGE);
        write_atomically(&path, self.html())?;
        Ok(path)
    }
}

/// A count as people read it: `12,345`.
pub(crate) fn count(n: impl TryInto<u64>) -> String {
    let digits = n.try_into().unwrap_or_default().to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// A sentence in a paragraph of its own, which stands out where it is bad news.
pub(crate) fn finding(bad: bool, sentence: &str) -> String {
    let class = if bad { "bad" } else { "muted" };
    format!("<p class=\"{class}\">{}</p>\n", html::escape(sentence))
}

/// The cells of a paired score: both means, their difference, its interval.
pub(crate) fn paired_cells(score: Option<&PairedScore>) -> String {
    let Some(score) = score else { return "<td>–</td>".repeat(4) };
    let interval = score.interval.map_or_else(|| "–".into(), |interval| interval.signed());
    format!(
        "<td>{:.1}</td><td>{:.1}</td><td>{:+.1}</td><td>{interval}</td>",
        score.first, score.second, score.difference
    )
}

/// A code of a file as words: `image_missing` is "image missing".
pub(crate) fn words(code: &str) -> String {
    code.replace('_', " ")
}

/// Cards with a choice of which to show. `groups` are the choices: what a card's group is called, how many there are in all, and the
/// cards that stand for them.
pub(crate) fn filtered_cards(id: &str, what: &str, groups: &[(String, u64, Vec<String>)]) -> String {
    let n_shown: usize = groups.iter().map(|(_, _, cards)| cards.len()).sum();
    if n_shown == 0 {
        return String::new();
    }
    let option = |(name, n, cards): &(String, u64, Vec<String>)| {
        let name = escape(name);
        format!("<option value=\"{name}\">{name} ({} of {})</option>", cards.len(), count(*n))
    };
    let (options, id): (String, String) = (groups.iter().map(option).collect(), escape(id));
    let total: u64 = groups.iter().map(|(_, n, _)| n).sum();
    let wrapped = |(name, _, cards): &(String, u64, Vec<String>)| -> String {
        let name = escape(name);
        cards.iter().map(|card| format!("<article class=\"card\" data-group=\"{name}\">\n{card}</article>\n")).collect()
    };
    let cards: String = groups.iter().map(wrapped).collect();
    format!(
        "<p class=\"filter\"><label>{} <select data-cards=\"{id}\"><option value=\"\">all ({n_shown} of {})</option>{options}</select></label></p>\n\
         <div class=\"cards\" id=\"{id}\">\n{cards}</div>\n",
        escape(what),
        count(total)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_texts_and_links_lead_somewhere() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("there.html"), "").expect("written");
        let page = Page::new("A <b> & c", "x < y")
            .tiles([("<i>", "\"1\"".to_owned())])
            .section("s", "<u>", "<p>ok</p>")
            .section("nothing", "nothing", "")
            .links(folder.path(), &[("there.html", "a < b"), ("gone.html", "gone")]);
        let path = page.write(folder.path()).expect("writes");
        let html = std::fs::read_to_string(path).expect("reads");
        for hostile in ["<b> &", "x < y", "<i>", "<u>", "a < b", "gone", "nothing", "http://", "https://"] {
            assert!(!html.contains(hostile), "{hostile}");
        }
        assert!(html.contains("<title>A &lt;b&gt; &amp; c</title>") && html.contains("href=\"there.html\""));
        assert!(html.contains("<b>&quot;1&quot;</b><span>&lt;i&gt;</span>") && html.contains("<p>ok</p>"));
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0u64, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn cards_say_how_many_they_stand_for() {
        let groups = [
            ("a<".to_owned(), 40, vec!["<p>1</p>".to_owned()]),
            ("b".to_owned(), 2, vec!["<p>2</p>".to_owned(), "3".to_owned()]),
        ];
        let html = filtered_cards("x", "show", &groups);
        assert!(html.contains("all (3 of 42)") && html.contains("<option value=\"a&lt;\">a&lt; (1 of 40)</option>"));
        assert_eq!(html.matches("data-group=\"b\"").count(), 2);
        assert_eq!(filtered_cards("x", "show", &[("a".into(), 3, Vec::new())]), "");
    }
}
