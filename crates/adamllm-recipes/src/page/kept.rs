use adamllm_report::head;
use maud::html;

use super::{Page, count, finding, paired_cells};
use crate::kept::Kept;

/// The section on what was kept of general abilities; nothing where no general benchmark was asked. `names` are what the two models are called.
pub(crate) fn section(page: Page, kept: &[Kept], names: [&str; 2]) -> Page {
    if kept.is_empty() {
        return page;
    }
    let note = "General benchmarks, which the domain's data do not aim at. Strict scores; the intervals are of the difference, over images.";
    let content = html! {
        p class="note" { (note) }
        @for kept in kept { (finding(kept.is_worse(), &kept.sentence(names[0], names[1]))) }
        table {
            (head(&["benchmark", "n", names[0], names[1], "difference", "interval"]))
            tbody {
                @for kept in kept {
                    tr { td { (kept.benchmark) } td { (count(kept.comparison.overall.n as u64)) } (paired_cells(kept.strict())) }
                }
            }
        }
    };
    page.section("kept", "What was kept", &content)
}
