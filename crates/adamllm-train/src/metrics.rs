use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use adamllm_core::jsonl::{self, Appender};
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::tensorboard::EventFile;

/// One optimizer step, as `metrics.jsonl` has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepMetrics {
    /// The step, from 1.
    pub step: usize,
    /// The epoch that the step's examples belong to, from 0.
    pub epoch: usize,
    /// The step's loss per target token, in nats, before the step.
    pub loss: f64,
    /// The peak group's learning rate.
    pub lr: f64,
    /// The global gradient norm, before clipping.
    pub grad_norm: f64,
    /// Tokens that the decoder read, padding left out.
    pub tokens: usize,
    /// Tokens that counted for the loss.
    pub targets: usize,
    /// Images that the vision encoder read.
    pub images: usize,
    /// The loss of each group of targets (a source, a task), where the batches name any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub losses: BTreeMap<String, GroupLoss>,
    /// Seconds.
    pub step_s: f64,
    /// The most memory that the process has held so far, in bytes; `None` where the system does not report it. That of a GPU
    /// is not in it.
    #[serde(default)]
    pub peak_bytes: Option<u64>,
    /// Whether the step was left out because something was not finite.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
}

/// The loss of the targets of one group in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GroupLoss {
    /// Per target token, in nats.
    pub loss: f64,
    /// Target tokens.
    pub targets: usize,
}

impl StepMetrics {
    /// A step of known size, before its passes.
    pub(crate) fn sized(step: usize, epoch: usize, [targets, tokens, images]: [usize; 3]) -> Self {
        Self {
            step,
            epoch,
            loss: 0.0,
            lr: 0.0,
            grad_norm: 0.0,
            tokens,
            targets,
            images,
            losses: BTreeMap::new(),
            step_s: 0.0,
            peak_bytes: None,
            skipped: false,
        }
    }

    pub(crate) fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.grad_norm.is_finite()
    }

    /// The step in a few words, for a progress bar.
    pub fn line(&self) -> String {
        let per_second = |n: usize| self.per_second(n);
        let mut line = format!("loss {:.4}, {:.0} tok/s", self.loss, per_second(self.tokens));
        line += &format!(" ({:.0} supervised), {:.1} images/s", per_second(self.targets), per_second(self.images));
        if let Some(peak) = self.peak_bytes {
            line += &format!(", {:.1} GB", peak as f64 / 1e9);
        }
        line
    }
}

/// The process's peak resident memory, where the system reports it (Linux).
pub(crate) fn peak_bytes() -> Option<u64> {
    status_bytes("VmHWM:")
}

/// The memory that the process holds now, in bytes, where the system reports it (Linux).
pub fn resident_bytes() -> Option<u64> {
    status_bytes("VmRSS:")
}

fn status_bytes(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

impl StepMetrics {
    /// How many of `counted` were done in a second of this step.
    pub fn per_second(&self, counted: usize) -> f64 {
        counted as f64 / self.step_s.max(1e-9)
    }

    /// The step's values by the tags that TensorBoard shows them under. A step that was left out has no loss.
    fn scalars(&self) -> Vec<(String, f64)> {
        let mut values = vec![
            ("learning_rate", self.lr),
            ("speed/tokens_per_second", self.per_second(self.tokens)),
            ("speed/targets_per_second", self.per_second(self.targets)),
            ("speed/images_per_second", self.per_second(self.images)),
        ];
        if !self.skipped {
            values.extend([("loss", self.loss), ("gradient_norm", self.grad_norm)]);
        }
        values.extend(self.peak_bytes.map(|bytes| ("memory/peak_bytes", bytes as f64)));
        let named = values.into_iter().map(|(tag, value)| (tag.to_owned(), value));
        named.chain(self.losses.iter().map(|(group, of)| (format!("loss_by/{group}"), of.loss))).collect()
    }
}

/// `metrics.jsonl` and the event file in `tensorboard/train`, appended.
pub(crate) struct MetricsFile {
    appender: Appender,
    events: EventFile,
}

impl MetricsFile {
    /// Opens the files. Lines after `step` belong to work that was lost with a killed run; they are removed.
    pub(crate) fn open(folder: &Path, step: usize) -> Result<Self, TrainError> {
        let path: PathBuf = folder.join("metrics.jsonl");
        if path.exists() {
            // Opening for appending cuts a torn last line.
            drop(Appender::open(&path)?);
            let mut entries: Vec<StepMetrics> = jsonl::read_all(&path)?;
            entries.retain(|entry| entry.step <= step);
            jsonl::write(&path, &entries)?;
        }
        let events = EventFile::open(&folder.join("tensorboard/train"), step)?;
        Ok(Self { appender: Appender::open(&path)?, events })
    }

    pub(crate) fn push(&mut self, metrics: &StepMetrics) -> Result<(), TrainError> {
        self.appender.append([metrics])?;
        Ok(self.events.push(metrics.step, &metrics.scalars())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step of half a second: 100 tokens, 40 of them targets, and 2 images.
    fn step(step: usize) -> StepMetrics {
        StepMetrics {
            loss: 2.5,
            lr: 1e-4,
            grad_norm: 3.0,
            step_s: 0.5,
            peak_bytes: Some(1_500_000_000),
            ..StepMetrics::sized(step, 0, [40, 100, 2])
        }
    }

    fn steps_of(folder: &Path) -> Vec<(usize, f64)> {
        let entries: Vec<StepMetrics> = jsonl::read_all(folder.join("metrics.jsonl")).expect("reads");
        entries.iter().map(|entry| (entry.step, entry.loss)).collect()
    }

    #[test]
    fn rates_are_counts_by_seconds() {
        assert_eq!(step(1).line(), "loss 2.5000, 200 tok/s (80 supervised), 4.0 images/s, 1.5 GB");
        let unmeasured = StepMetrics { peak_bytes: None, ..step(1) };
        assert_eq!(unmeasured.line(), "loss 2.5000, 200 tok/s (80 supervised), 4.0 images/s");
        assert!(StepMetrics { step_s: 0.0, ..step(1) }.per_second(1).is_finite());
    }

    #[test]
    fn tags_hold_the_step_and_one_that_was_left_out_has_no_loss() {
        let mut metrics = step(1);
        metrics.losses.insert("caption".into(), GroupLoss { loss: 1.25, targets: 30 });
        let named = |metrics: &StepMetrics| -> BTreeMap<String, f64> { metrics.scalars().into_iter().collect() };
        let rest = [
            ("learning_rate", 1e-4),
            ("loss_by/caption", 1.25),
            ("memory/peak_bytes", 1.5e9),
            ("speed/images_per_second", 4.0),
            ("speed/targets_per_second", 80.0),
            ("speed/tokens_per_second", 200.0),
        ];
        let rest: BTreeMap<String, f64> = rest.into_iter().map(|(tag, value)| (tag.to_owned(), value)).collect();
        let mut all = rest.clone();
        all.extend([("loss".to_owned(), 2.5), ("gradient_norm".to_owned(), 3.0)]);
        assert_eq!(named(&metrics), all);
        metrics.skipped = true;
        assert_eq!(named(&metrics), rest);
    }

    #[test]
    fn a_loss_or_a_norm_that_is_not_finite_is_noticed() {
        assert!(step(1).is_finite());
        for broken in [f64::NAN, f64::INFINITY] {
            assert!(!StepMetrics { loss: broken, ..step(1) }.is_finite());
            assert!(!StepMetrics { grad_norm: broken, ..step(1) }.is_finite());
        }
    }

    #[test]
    fn lines_after_the_resumed_step_are_written_anew() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut file = MetricsFile::open(folder.path(), 0).expect("opens");
        (1..=4).for_each(|i| file.push(&step(i)).expect("appends"));
        drop(file);
        let path = folder.path().join("metrics.jsonl");
        let whole = std::fs::read(&path).expect("reads");
        std::fs::write(&path, &whole[..whole.len() - 5]).expect("tears the last line");
        let mut file = MetricsFile::open(folder.path(), 2).expect("opens");
        assert_eq!(steps_of(folder.path()), [(1, 2.5), (2, 2.5)]);
        file.push(&StepMetrics { loss: 1.0, ..step(3) }).expect("appends");
        assert_eq!(steps_of(folder.path()), [(1, 2.5), (2, 2.5), (3, 1.0)]);
        let events = std::fs::read_dir(folder.path().join("tensorboard/train")).expect("lists").next();
        assert!(events.expect("a file").expect("readable").metadata().expect("readable").len() > 300);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_holds_what_was_written() {
        let held = std::hint::black_box(vec![1_u8; 64 << 20]);
        let peak = peak_bytes().expect("Linux reports it");
        assert!(peak >= held.len() as u64, "{peak}");
    }
}
