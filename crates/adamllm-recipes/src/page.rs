//! `index.html`: the page that a job leaves in its output folder. One file that needs no network, with the style of the detailed reports
//! ([`adamllm_report`]) that it links to.
//!
//! A page says what the job's files say and nothing of when it was made, so that a job that goes on where it was leaves the same page.
//! Its parts are functions from plain values to markup, into which every text is escaped.

use std::path::{Path, PathBuf};

use adamllm_core::{CoreError, write_atomically};
use adamllm_eval::PairedScore;
use maud::{Markup, html};

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
    main: Markup,
}

impl Page {
    /// A heading, and a sentence that says what the job does.
    pub(crate) fn new(title: &str, lead: &str) -> Self {
        Self { title: title.into(), lead: lead.into(), main: Markup::default() }
    }

    /// The page with more at its end.
    fn with(self, more: &Markup) -> Self {
        Self { main: html! { (self.main) (more) }, ..self }
    }

    /// The numbers that one looks for first: names and values.
    pub(crate) fn tiles<'t>(self, tiles: impl IntoIterator<Item = (&'t str, String)>) -> Self {
        self.with(&html! {
            div class="tiles" {
                @for (name, value) in tiles { div class="tile" { b { (value) } span { (name) } } }
            }
        })
    }

    /// A section with an anchor; nothing where it would be empty.
    pub(crate) fn section(self, id: &str, heading: &str, content: &Markup) -> Self {
        if content.0.is_empty() {
            return self;
        }
        self.with(&html! { section id=(id) { h2 { (heading) } (content) } })
    }

    /// Links to the reports and files of the run that are there, by their paths below its folder.
    pub(crate) fn links(self, folder: &Path, links: &[(&str, &str)]) -> Self {
        let mut there = links.iter().filter(|(path, _)| folder.join(path).exists()).peekable();
        let list = html! {
            @if there.peek().is_some() {
                ul class="links" {
                    @for (path, what) in there { li { a href=(path) { (path) } " " span class="muted" { (what) } } }
                }
            }
        };
        self.section("reports", "Detailed reports and files", &list)
    }

    /// Writes the page into a job's folder, and gives its path.
    ///
    /// # Errors
    /// [`CoreError::Io`].
    pub(crate) fn write(self, folder: &Path) -> Result<PathBuf, CoreError> {
        let path = folder.join(PAGE);
        let page = adamllm_report::Page {
            title: &self.title,
            lead: html! { p { (self.lead) } },
            style: include_str!("page/page.css"),
            main: self.main,
            script: include_str!("page/page.js"),
            ..adamllm_report::Page::default()
        };
        write_atomically(&path, page.to_html())?;
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
pub(crate) fn finding(bad: bool, sentence: &str) -> Markup {
    html! { p class=(if bad { "bad" } else { "muted" }) { (sentence) } }
}

/// The cells of a paired score: both means, their difference, its interval.
pub(crate) fn paired_cells(score: Option<&PairedScore>) -> Markup {
    let Some(score) = score else { return html! { @for _ in 0..4 { td { "–" } } } };
    let numbers = [
        format!("{:.1}", score.first),
        format!("{:.1}", score.second),
        format!("{:+.1}", score.difference),
        score.interval.map_or_else(|| "–".into(), |interval| interval.signed()),
    ];
    html! { @for number in numbers { td { (number) } } }
}

/// A code of a file as words: `image_missing` is "image missing".
pub(crate) fn words(code: &str) -> String {
    code.replace('_', " ")
}

/// Cards of a group: what the group is called, how many there are in all, and the cards that stand for them.
pub(crate) type CardGroup = (String, u64, Vec<Markup>);

/// Cards with a choice of which group to show.
pub(crate) fn filtered_cards(id: &str, what: &str, groups: &[CardGroup]) -> Markup {
    let n_shown: usize = groups.iter().map(|(_, _, cards)| cards.len()).sum();
    let total: u64 = groups.iter().map(|(_, n, _)| n).sum();

    html! {
        @if n_shown > 0 {
            p class="filter" {
                label {
                    (what) " "
                    select data-cards=(id) {
                        option value="" { "all (" (n_shown) " of " (count(total)) ")" }
                        @for (name, n, cards) in groups {
                            option value=(name) { (name) " (" (cards.len()) " of " (count(*n)) ")" }
                        }
                    }
                }
            }
            div class="cards" id=(id) {
                @for (name, _, cards) in groups {
                    @for card in cards { article class="card" data-group=(name) { (card) } }
                }
            }
        }
    }
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
            .section("s", "<u>", &html! { p { "ok" } })
            .section("nothing", "nothing", &Markup::default())
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
            ("a<".to_owned(), 40, vec![html! { p { "1" } }]),
            ("b".to_owned(), 2, vec![html! { p { "2" } }, html! { "3" }]),
        ];
        let html = filtered_cards("x", "show", &groups).into_string();
        assert!(html.contains("all (3 of 42)") && html.contains("<option value=\"a&lt;\">a&lt; (1 of 40)</option>"));
        assert_eq!(html.matches("data-group=\"b\"").count(), 2);
        assert!(filtered_cards("x", "show", &[("a".into(), 3, Vec::new())]).0.is_empty());
    }
}
