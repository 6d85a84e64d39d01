use std::fmt::Write;

use adamllm_core::html;

/// Cells in rows and columns, written as Markdown, CSV or HTML. The first row is the header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grid {
    /// What the table shows.
    pub title: String,
    /// The header's cells.
    pub header: Vec<String>,
    /// The rows, each as long as the header.
    pub rows: Vec<Vec<String>>,
}

impl Grid {
    /// A Markdown table; columns after the first are aligned to the right.
    pub fn to_markdown(&self) -> String {
        let mut out = String::new();
        let mut line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| markdown_cell(cell)).collect();
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(out, "| {} |", cells.join(" | "));
        };
        line(&self.header);
        let rule = |i| if i == 0 { "---".to_owned() } else { "--:".to_owned() };
        line(&(0..self.header.len()).map(rule).collect::<Vec<_>>());
        self.rows.iter().for_each(|row| line(row));
        out
    }

    /// Comma-separated values (RFC 4180, with plain newlines).
    pub fn to_csv(&self) -> String {
        let line = |cells: &Vec<String>| cells.iter().map(|cell| csv_cell(cell)).collect::<Vec<_>>().join(",") + "\n";
        std::iter::once(&self.header).chain(&self.rows).map(line).collect()
    }

    /// An HTML table, without styles.
    pub fn to_html(&self) -> String {
        let mut out = format!("<table>\n<caption>{}</caption>\n<thead>\n", html::escape(&self.title));
        push_html_row(&mut out, &self.header, "th");
        out.push_str("</thead>\n<tbody>\n");
        self.rows.iter().for_each(|row| push_html_row(&mut out, row, "td"));
        out.push_str("</tbody>\n</table>\n");
        out
    }
}

fn push_html_row(out: &mut String, cells: &[String], tag: &str) {
    out.push_str("<tr>");
    for (i, cell) in cells.iter().enumerate() {
        let tag = if i == 0 { "th" } else { tag };
        let _ = write!(out, "<{tag}>{}</{tag}>", html::escape(cell));
    }
    out.push_str("</tr>\n");
}

fn csv_cell(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

/// Text that cannot break a Markdown table.
pub(crate) fn markdown_cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stay_cells() {
        let cell = |text: &str| text.to_owned();
        let grid = Grid {
            title: cell("t"),
            header: vec![cell("a|b"), cell("c")],
            rows: vec![vec![cell("<x>"), cell("1,\"2\"")]],
        };
        assert_eq!(grid.to_markdown(), "| a\\|b | c |\n| --- | --: |\n| <x> | 1,\"2\" |\n");
        assert_eq!(grid.to_csv(), "a|b,c\n<x>,\"1,\"\"2\"\"\"\n");
        assert!(grid.to_html().contains("<tr><th>&lt;x&gt;</th><td>1,&quot;2&quot;</td></tr>"));
    }
}
