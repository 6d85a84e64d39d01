use std::collections::BTreeMap;
use std::path::Path;

use adamllm_core::{CoreError, LedgerEntry, Reason, Stage, jsonl};
use adamllm_report::head;
use maud::{Markup, html};

use super::{count, words};

/// How many records left for a cause, and what the ledger says of the first.
type Causes = BTreeMap<(Stage, Reason), (u64, String)>;

/// The longest detail that is shown of a ledger.
const DETAIL: usize = 240;

/// How many left by `stage/reason`, over all ledgers of a run that are there.
///
/// # Errors
/// Ledgers that cannot be read.
#[cfg(feature = "train")]
pub(crate) fn causes<'p>(ledgers: impl IntoIterator<Item = &'p Path>) -> Result<BTreeMap<String, u64>, CoreError> {
    let by_cause = read(ledgers)?.into_iter();
    Ok(by_cause.map(|((stage, reason), (n, _))| (format!("{}/{}", stage.code(), reason.code()), n)).collect())
}

/// Counts by cause, and what the first entry says.
fn read<'p>(ledgers: impl IntoIterator<Item = &'p Path>) -> Result<Causes, CoreError> {
    let mut causes: Causes = BTreeMap::new();
    for ledger in ledgers.into_iter().filter(|path| path.exists()) {
        for entry in jsonl::read::<LedgerEntry>(ledger)? {
            let LedgerEntry { stage, reason, detail, .. } = entry?;
            causes.entry((stage, reason)).or_insert((0, detail)).0 += 1;
        }
    }
    Ok(causes)
}

/// The records that left, by stage and reason, with what the ledger says of the first; over all ledgers of a run that are there.
///
/// # Errors
/// Ledgers that cannot be read.
pub(crate) fn by_reason<'p>(ledgers: impl IntoIterator<Item = &'p Path>) -> Result<Markup, CoreError> {
    let causes = read(ledgers)?;
    if causes.is_empty() {
        return Ok(html! { p class="note" { "The ledger is empty: every record came through." } });
    }

    let line = |(stage, reason): &(Stage, Reason), (n, first): &(u64, String)| {
        let (class, what) = if reason.is_filter() { ("muted", "filter") } else { ("bad", "fault") };
        html! {
            tr {
                td { (words(&stage.code())) " / " (words(&reason.code())) }
                td { (count(*n)) }
                td class=(class) { (what) }
                td { (super::answers::shortened(first, DETAIL)) }
            }
        }
    };

    let n: u64 = causes.values().map(|(n, _)| n).sum();
    let note = "A filter takes records out on purpose; a fault is a record that could not be used.";

    Ok(html! {
        p class="note" { (count(n)) " records. " (note) }
        table class="ledger" {
            (head(&["stage / reason", "records", "", "the first"]))
            tbody { @for (cause, left) in &causes { (line(cause, left)) } }
        }
    })
}

#[cfg(test)]
mod tests {
    use adamllm_core::{Ledger, RecordId};

    use super::*;

    #[test]
    fn ledgers_are_counted_together() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [first, second, gone] = ["a.jsonl", "b.jsonl", "c.jsonl"].map(|name| folder.path().join(name));
        let id = RecordId::given("x");
        let mut ledger = Ledger::create(&first).expect("created");
        ledger.drop_record(&id, Stage::Read, Reason::ImageMissing, "<no> such file").expect("noted");
        ledger.drop_record(&id, Stage::Judge, Reason::Inconsistent, "no").expect("noted");
        let mut ledger = Ledger::create(&second).expect("created");
        ledger.drop_record(&id, Stage::Judge, Reason::Inconsistent, "another").expect("noted");
        let html = by_reason([&*first, &*second, &*gone]).expect("reads").into_string();
        assert!(html.contains("3 records."));
        assert!(html.contains(
            "<td>read / image missing</td><td>1</td><td class=\"bad\">fault</td><td>&lt;no&gt; such file</td>"
        ));
        assert!(html.contains("<td>judge / inconsistent</td><td>2</td><td class=\"muted\">filter</td><td>no</td>"));
        assert!(by_reason([&*gone]).expect("nothing").into_string().contains("The ledger is empty"));
    }
}
