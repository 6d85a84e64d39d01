//! Runs cases one after the other: none stops another, each is timed, and each has its line.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Answer;
use crate::report::Report;

/// What a case found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Its worst error.
    pub(crate) error: f64,
    /// The largest error that passes.
    pub(crate) limit: f64,
    /// What a reader should know of it, such as where the worst error is.
    pub(crate) note: String,
}

impl Found {
    pub(crate) fn new(error: f64, limit: f64, note: impl Into<String>) -> Self {
        Self { error, limit, note: note.into() }
    }

    /// NaN does not pass.
    fn passes(&self) -> bool {
        self.error <= self.limit
    }
}

/// One comparison.
pub(crate) struct Case<'a> {
    pub(crate) name: String,
    pub(crate) run: Box<dyn Fn() -> Answer<Found> + 'a>,
}

impl<'a> Case<'a> {
    pub(crate) fn new(name: impl Into<String>, run: impl Fn() -> Answer<Found> + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// Which cases run, and for how long.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// Cases whose names hold one of these; all where there are none.
    pub(crate) only: Vec<String>,
    /// No case begins after so long.
    pub(crate) time_limit: Option<Duration>,
}

/// How many cases ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

/// Runs the selected cases, and prints a line for each. What a case panicked with is in its line.
///
/// # Errors
/// The report's file.
pub(crate) fn run_all(cases: &[Case], selection: &Selection, report: &mut Report) -> Answer<Tally> {
    note_panics();
    let run_started = Instant::now();
    let (mut tally, mut lines) = (Tally::default(), Vec::<Value>::new());
    let wanted = |case: &&Case| selection.only.is_empty() || selection.only.iter().any(|part| case.name.contains(part));
    for case in cases.iter().filter(wanted) {
        if selection.time_limit.is_some_and(|limit| run_started.elapsed() >= limit) {
            tally.skipped += 1;
            lines.push(json!({"name": case.name, "verdict": "skip"}));
            continue;
        }
        // A run that hangs or is killed shows where it was.
        eprintln!("...  {}", case.name);
        let started = Instant::now();
        let found = catch_unwind(AssertUnwindSafe(|| (case.run)()));
        let seconds = started.elapsed().as_secs_f64();
        let found = match found {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => Found::new(f64::NAN, 0.0, format!("error: {error}")),
            Err(panic) => Found::new(f64::NAN, 0.0, format!("panic: {}", said(panic.as_ref()))),
        };
        let found = Found { note: with_panics(found.note), ..found };
        let verdict = if found.passes() { "PASS" } else { "FAIL" };
        if found.passes() {
            tally.passed += 1
        } else {
            tally.failed += 1
        }
        let Found { error, limit, note } = found;
        println!("{verdict} {:<34} {error:>9.2e} of {limit:.0e} {seconds:>7.2} s  {note}", case.name);
        // JSON has no NaN.
        let number = |n: f64| if n.is_finite() { json!(n) } else { json!(n.to_string()) };
        let (error, limit) = (number(error), number(limit));
        let verdict = verdict.to_lowercase();
        lines.push(json!({"name": case.name, "error": error, "limit": limit, "seconds": seconds, "verdict": verdict, "note": note}));
        report.set("cases", json!(lines))?;
    }
    report.set("cases", json!(lines))?;
    report.set("seconds", json!(run_started.elapsed().as_secs_f64()))?;
    let Tally { passed, failed, skipped } = tally;
    report.set("tally", json!({"passed": passed, "failed": failed, "skipped": skipped}))?;
    if skipped > 0 {
        println!("SKIP {skipped} cases: no time left");
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped in {:.1} s", run_started.elapsed().as_secs_f64());
    Ok(tally)
}

/// What panics said since the last case, those of a backend's own threads included.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From now on a panic is one line on stderr, and kept for the case's line: what a backend's thread said is the cause of what the
/// case's own thread says.
fn note_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
        let line = format!("{} ({place})", said(panic.payload()));
        eprintln!("panic: {line}");
        if let Ok(mut panics) = PANICS.lock() {
            panics.push(line);
        }
    }));
}

/// A note with the first panics of its case behind it.
fn with_panics(note: String) -> String {
    let panics = PANICS.lock().map(|mut panics| std::mem::take(&mut *panics)).unwrap_or_default();
    match panics.is_empty() {
        true => note,
        false => format!("{note} [{}]", panics.into_iter().take(2).collect::<Vec<_>>().join("; ")),
    }
}

/// What a panic said, as one line.
pub(crate) fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(600).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Case<'static>> {
        vec![
            Case::new("a/good", || Ok(Found::new(1e-6, 1e-5, ""))),
            Case::new("a/panics", || panic!("a kernel did not compile")),
            Case::new("b/error", || Err("no such file".into())),
            Case::new("b/nan", || Ok(Found::new(f64::NAN, 1.0, ""))),
            Case::new("b/good", || Ok(Found::new(0.0, 0.0, ""))),
        ]
    }

    #[test]
    fn no_case_stops_another() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("report.json");
        let tally = run_all(&all(), &Selection::default(), &mut Report::new(Some(&file))).expect("writes");
        assert_eq!(tally, Tally { passed: 2, failed: 3, skipped: 0 });
        let text = std::fs::read_to_string(file).expect("written");
        assert!(text.contains("panic: a kernel did not compile") && text.contains("error: no such file"), "{text}");
    }

    #[test]
    fn cases_are_chosen_and_time_ends() {
        let only = Selection { only: vec!["b/g".into(), "a/p".into()], time_limit: None };
        let tally = run_all(&all(), &only, &mut Report::new(None)).expect("nothing to write");
        assert_eq!(tally, Tally { passed: 1, failed: 1, skipped: 0 });
        let none = Selection { only: vec![], time_limit: Some(Duration::ZERO) };
        let tally = run_all(&all(), &none, &mut Report::new(None)).expect("nothing to write");
        assert_eq!(tally, Tally { passed: 0, failed: 0, skipped: 5 });
    }
}
