use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::STYLE;

/// A page in one file: nothing of it is fetched from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Page<'a> {
    /// The heading, and the title of the window.
    pub title: &'a str,
    /// What stands below the heading.
    pub lead: Markup,
    /// Rules beside those of [`STYLE`].
    pub style: &'a str,
    /// The content.
    pub main: Markup,
    /// JSON for the script, in an element with this id.
    pub data: Option<(&'a str, String)>,
    /// What makes the page move.
    pub script: &'a str,
}

impl Page<'_> {
    /// The whole page as text.
    pub fn to_html(&self) -> String {
        let Self { title, lead, style, main, data, script } = self;
        // Styles and scripts are ours. Data are not: `<` could end their element, and JSON can say it otherwise.
        let data = data.as_ref().map(|(id, json)| (id, PreEscaped(json.replace('<', "\\u003c"))));
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (title) }
                    style { "\n" (PreEscaped(STYLE)) (PreEscaped(style)) }
                }
                body {
                    header { h1 { (title) } (lead) }
                    main { (main) }
                    @if let Some((id, json)) = data {
                        script type="application/json" id=(id) { (json) }
                    }
                    @if !script.is_empty() {
                        script { "\n" (PreEscaped(script)) }
                    }
                }
            }
        };
        page.into_string()
    }
}

/// The head of a table: one cell for each name.
pub fn head(names: &[&str]) -> Markup {
    html! { thead { tr { @for name in names { th { (name) } } } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_texts() {
        let page = Page {
            title: "A <b> & c",
            lead: html! { p { "x < y" } },
            main: html! { table { (head(&["<i>", "n"])) } },
            data: Some(("data", "{\"a\":\"</script><b>\"}".into())),
            script: "if (1 < 2) go();",
            ..Page::default()
        };
        let text = page.to_html();
        assert!(text.starts_with("<!DOCTYPE html><html lang=\"en\">"));
        assert!(text.contains("<title>A &lt;b&gt; &amp; c</title>") && text.contains("<p>x &lt; y</p>"));
        assert!(text.contains("<thead><tr><th>&lt;i&gt;</th><th>n</th></tr></thead>"));
        assert!(text.contains("{\"a\":\"\\u003c/script>\\u003cb>\"}") && text.contains("if (1 < 2) go();"));
        assert!(!Page { title: "t", ..Page::default() }.to_html().contains("<script"));
    }
}
