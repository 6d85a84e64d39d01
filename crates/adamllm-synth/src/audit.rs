//! How far can the judge be trusted? People label a sample without its verdicts; the labels are then read back.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use adamllm_core::random::stream;
use adamllm_core::{CoreError, ImageRef, RecordId, write_atomically};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::proportion::Proportion;
use crate::{Judged, SynthError, Verdict, read_answer};

/// The table that people fill in.
pub const AUDIT_FILE: &str = "audit.csv";
/// The verdicts on it, which they should not see.
pub const AUDIT_KEY_FILE: &str = "audit-key.json";

/// A sample to be labelled by people.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditSample {
    examples: Vec<Judged>,
    judged: BTreeMap<Verdict, u64>,
}

/// One row of [`AUDIT_FILE`].
#[derive(Debug, Serialize, Deserialize)]
struct AuditRow {
    id: RecordId,
    image: ImageRef,
    question: String,
    long_answer: String,
    short_answer: String,
    label: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct AuditKey {
    judged: BTreeMap<Verdict, u64>,
    verdicts: BTreeMap<RecordId, Verdict>,
}

impl AuditSample {
    /// Draws at most `per_verdict` examples of each verdict. Each draws a number by `seed` and its id, and the lowest are
    /// taken: neither the order nor the number of the examples matters, and memory holds the sample only.
    pub fn draw(judged: impl IntoIterator<Item = Judged>, per_verdict: usize, seed: u64) -> Self {
        let mut lowest: BTreeMap<Verdict, BTreeMap<(u64, RecordId), Judged>> = BTreeMap::new();
        let mut counts = BTreeMap::new();
        for example in judged {
            *counts.entry(example.verdict).or_default() += 1;
            let draw = stream(seed, "audit", &example.triplet.id).next_u64();
            let drawn = lowest.entry(example.verdict).or_default();
            drawn.insert((draw, example.triplet.id.clone()), example);
            if drawn.len() > per_verdict {
                drawn.pop_last();
            }
        }
        let mut mixed: Vec<_> = lowest.into_values().flatten().collect();
        mixed.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self { examples: mixed.into_iter().map(|(_, example)| example).collect(), judged: counts }
    }

    /// The examples in the order in which they are labelled, verdicts mixed.
    pub fn examples(&self) -> &[Judged] {
        &self.examples
    }

    /// Writes [`AUDIT_FILE`], with a column `label` to fill in with `yes`, `no` or `open`, and [`AUDIT_KEY_FILE`].
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<[PathBuf; 2], SynthError> {
        fs::create_dir_all(folder).map_err(CoreError::io("create", folder))?;
        let mut table = csv::Writer::from_writer(Vec::new());
        for Judged { triplet, .. } in &self.examples {
            let row = AuditRow {
                id: triplet.id.clone(),
                image: triplet.image.clone(),
                question: triplet.instruction.clone(),
                long_answer: triplet.informative.clone(),
                short_answer: triplet.precise.clone(),
                label: String::new(),
            };
            table.serialize(row).expect("a table in memory can be written");
        }

        let table = table.into_inner().expect("a table in memory can be flushed");

        // The verdicts go into a file of their own: people who label must not know them.
        let verdicts = self.examples.iter().map(|example| (example.triplet.id.clone(), example.verdict)).collect();
        let key = AuditKey { judged: self.judged.clone(), verdicts };
        let key = serde_json::to_vec_pretty(&key).expect("verdicts and counts are JSON");

        let files = [folder.join(AUDIT_FILE), folder.join(AUDIT_KEY_FILE)];
        write_atomically(&files[0], table)?;
        write_atomically(&files[1], key)?;
        Ok(files)
    }
}

/// What people said, one by one and in sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditReport {
    /// Examples with a label.
    pub n_labelled: u64,
    /// Examples without one.
    pub n_unlabelled: u64,
    /// Of the examples that the judge called consistent, those that people call so: how clean the kept data are.
    pub precision: Proportion,
    /// For each verdict, how often people gave each label.
    pub confusion: BTreeMap<Verdict, BTreeMap<Verdict, u64>>,
    /// The share of all judged triplets that people would call consistent, each verdict weighted by how often it was
    /// given: how clean the data would be without the filter. `None` where a verdict has no label yet.
    pub consistent_before: Option<f64>,
    /// The share of those that the judge kept; `None` as above, or where there are none.
    pub recall: Option<f64>,
    /// What people said, by triplet id: the labels for a [`Sweep`](crate::Sweep).
    #[serde(skip)]
    pub labels: HashMap<RecordId, Verdict>,
}

impl AuditReport {
    /// Reads a folder that [`AuditSample::write`] wrote and people filled in. Empty labels are allowed.
    ///
    /// # Errors
    /// Files that cannot be read; [`CoreError::Field`] for a label that is none of `yes`, `no`, `open`, or an id that the
    /// key does not hold.
    pub fn read(folder: &Path) -> Result<Self, SynthError> {
        let (path, key_path) = (folder.join(AUDIT_FILE), folder.join(AUDIT_KEY_FILE));
        let key = fs::read(&key_path).map_err(CoreError::io("read", &key_path))?;
        let json_error = |source| CoreError::Json { path: key_path, number: 1, source };
        let key: AuditKey = serde_json::from_slice(&key).map_err(json_error)?;

        let table = fs::read(&path).map_err(CoreError::io("read", &path))?;
        let mut confusion: BTreeMap<_, BTreeMap<_, u64>> = BTreeMap::new();
        let (mut labels, mut n_unlabelled) = (HashMap::new(), 0);
        for (i, row) in csv::Reader::from_reader(table.as_slice()).deserialize::<AuditRow>().enumerate() {
            let record = format!("{} row {}", path.display(), i + 1);
            let field = |field, expected: &str, got: String| CoreError::Field {
                record: record.clone(),
                field,
                expected: expected.into(),
                got,
            };

            let row = row.map_err(|error| field("row", "the columns of the written table", error.to_string()))?;
            let missing = || field("id", "an id of the key file", row.id.to_string());
            let verdict = *key.verdicts.get(&row.id).ok_or_else(missing)?;

            // An empty label is still to be given. Any other that cannot be read is a slip, which must not pass for an
            // empty one.
            match read_answer(&row.label) {
                Verdict::Unclear if row.label.trim().is_empty() => n_unlabelled += 1,
                Verdict::Unclear => return Err(field("label", "yes, no, open or nothing", row.label).into()),
                label => {
                    *confusion.entry(verdict).or_default().entry(label).or_default() += 1;
                    labels.insert(row.id, label);
                }
            }
        }

        Ok(Self::sum_up(confusion, labels, n_unlabelled, &key.judged))
    }

    fn sum_up(
        confusion: BTreeMap<Verdict, BTreeMap<Verdict, u64>>,
        labels: HashMap<RecordId, Verdict>,
        n_unlabelled: u64,
        judged: &BTreeMap<Verdict, u64>,
    ) -> Self {
        let share = |verdict: &Verdict| {
            let counts = confusion.get(verdict)?;
            let consistent = counts.get(&Verdict::Consistent).copied().unwrap_or_default();
            Some(Proportion::wilson(consistent, counts.values().sum()))
        };

        // The sample takes the same number of each verdict, so what people say about one is scaled to how often the
        // judge gave it. A verdict without labels leaves the sum unknown.
        let expected = |verdict: &Verdict, n: &u64| Some(share(verdict)?.value * *n as f64);
        let of_each: Option<Vec<f64>> = judged.iter().map(|(verdict, n)| expected(verdict, n)).collect();
        let consistent: Option<f64> = of_each.map(|of_each| of_each.iter().sum());

        let n_judged: u64 = judged.values().sum();
        let kept = judged.get(&Verdict::Consistent).and_then(|n| expected(&Verdict::Consistent, n));

        Self {
            n_labelled: labels.len() as u64,
            n_unlabelled,
            precision: share(&Verdict::Consistent).unwrap_or(Proportion::wilson(0, 0)),
            consistent_before: consistent.map(|n| n / n_judged.max(1) as f64),
            recall: consistent.filter(|n| *n > 0.0).and_then(|n| Some(kept? / n)),
            confusion,
            labels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Opinion, TaskTriplet, decide};

    fn judged(i: usize) -> Judged {
        let question = format!("Is \"{i}\",\nreally?");
        let triplet = TaskTriplet::new(RecordId::given(i.to_string()), "a.png".into(), question, "long", "short");
        decide(triplet, &Opinion::Text(["yes", "no", "no", "no", "open"][i % 5].into()), 0.5)
    }

    #[test]
    fn the_sample_does_not_depend_on_the_order() {
        let sample = AuditSample::draw((0..100).map(judged), 8, 1);
        assert_eq!(sample, AuditSample::draw((0..100).rev().map(judged), 8, 1));
        assert_ne!(sample.examples(), AuditSample::draw((0..100).map(judged), 8, 2).examples());
        assert_eq!(sample.examples().len(), 24);
    }

    #[test]
    fn labels_are_read_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        AuditSample::draw((0..100).map(judged), 10, 1).write(folder.path()).expect("writes");
        assert_eq!(AuditReport::read(folder.path()).expect("reads").n_unlabelled, 30);

        let path = folder.path().join(AUDIT_FILE);
        let key: AuditKey =
            serde_json::from_slice(&fs::read(folder.path().join(AUDIT_KEY_FILE)).expect("reads")).expect("JSON");
        let table = fs::read(&path).expect("reads");
        assert!(!String::from_utf8_lossy(&table).contains("inconsistent"), "people do not see the verdicts");
        let fill = |mut labels: Box<dyn FnMut(Verdict) -> &'static str>| {
            let mut filled = csv::Writer::from_writer(Vec::new());
            for row in csv::Reader::from_reader(table.as_slice()).deserialize::<AuditRow>() {
                let row = row.expect("a row");
                let label = labels(key.verdicts[&row.id]).to_owned();
                filled.serialize(AuditRow { label, ..row }).expect("written");
            }
            fs::write(&path, filled.into_inner().expect("flushed")).expect("written");
        };
        let mut n_consistent = 0;
        fill(Box::new(move |verdict| match verdict {
            Verdict::Consistent => {
                n_consistent += 1;
                if n_consistent <= 9 { "Yes" } else { " no" }
            }
            Verdict::Inconsistent => "no",
            _ => "OPEN",
        }));
        let report = AuditReport::read(folder.path()).expect("reads");
        assert_eq!((report.n_labelled, report.precision.successes, report.precision.n), (30, 9, 10));
        assert!(report.precision.low > 0.59 && report.precision.high < 0.99);
        assert_eq!(report.consistent_before, Some(0.18), "0.9 of the 20 in 100 that were called consistent");
        assert_eq!(report.recall, Some(1.0));

        fill(Box::new(|_| "perhaps"));
        let error = AuditReport::read(folder.path()).expect_err("not a label");
        assert!(matches!(error, SynthError::Core(CoreError::Field { field: "label", .. })));
    }
}
