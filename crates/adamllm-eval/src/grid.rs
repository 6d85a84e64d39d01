use std::fmt::Write;

use maud::html;

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
        let table = html! {
            table {
                caption { (self.title) }
                thead { tr { @for cell in &self.header { th { (cell) } } } }
                tbody {
                    @for cells in &self.rows {
                        tr {
                            @for (i, cell) in cells.iter().enumerate() {
                                @if i == 0 { th { (cell) } } @else { td { (cell) } }
                            }
                        }
                    }
                }
            }
        };
        table.into_string()
    }
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
