use adamllm_core::html::escape;

use super::{Page, count, finding, paired_cells};
use crate::kept::Kept;

/// The section on what was kept of general abilities; nothing where no general benchmark was asked. `names` are what the two models are called.
pub(crate) fn section(page: Page, kept: &[Kept], names: [&str; 2]) -> Page {
    if kept.is_empty() {
        return page;
    }
    let sentence = |kept: &Kept| finding(kept.is_worse(), &kept.sentence(names[0], names[1]));
    let sentences: String = kept.iter().map(sentence).collect();
    let lines: String = kept.iter().map(line).collect();
    let [first, second] = names.map(escape);
    let html = format!(
        "<p class=\"note\">General benchmarks, which the domain's data do not aim at. Strict scores; the intervals are of the difference, over \
         images.</p>\n{sentences}<table><thead><tr><th>benchmark</th><th>n</th><th>{first}</th><th>{second}</th><th>difference</th><th>interval</th>\
         </tr></thead>\n<tbody>\n{lines}</tbody></table>\n"
    );
    page.section("kept", "What was kept", &html)
}

fn line(kept: &Kept) -> String {
    let n = count(kept.comparison.overall.n as u64);
    format!("<tr><td>{}</td><td>{n}</td>{}</tr>\n", escape(&kept.benchmark), paired_cells(kept.strict()))
}
