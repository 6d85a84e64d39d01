use std::sync::Arc;

use adamllm_core::random::named_stream;
use rand::seq::SliceRandom;

use crate::{BatchSource, RowOrder, TrainConfig, TrainError};

/// Steps whose rows are sorted together where rows are grouped by length.
const GROUPED_STEPS: usize = 50;

/// Which rows stand in which window: a pure function of `(seed, step)` and the rows' lengths, whatever ran before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchOrder {
    /// Seeds each epoch's shuffle.
    pub seed: u64,
    /// Rows in an epoch.
    pub n_rows: usize,
    /// Rows in a window.
    pub batch_size: usize,
    /// Which rows meet.
    pub kind: RowOrder,
    /// Each row's tokens, where rows are grouped by length.
    pub lengths: Arc<Vec<usize>>,
}

impl BatchOrder {
    /// The order of a run.
    ///
    /// # Errors
    /// [`TrainError::Config`] where rows are to be grouped by lengths that the source does not know.
    pub fn of<S: BatchSource>(source: &S, config: &TrainConfig) -> Result<Self, TrainError> {
        let n_rows = source.rows_per_epoch();
        let lengths: Option<Vec<usize>> = match config.order {
            RowOrder::LengthGrouped => {
                (0..source.n_rows()).map(|row| source.row_size(row).map(|size| size.tokens)).collect()
            }
            RowOrder::Shuffled | RowOrder::Sequential => Some(Vec::new()),
        };
        let unknown = || TrainError::Config {
            field: "order",
            expected: "a source that knows its rows' sizes".into(),
            got: "length_grouped".into(),
        };
        let lengths = Arc::new(lengths.ok_or_else(unknown)?);
        Ok(Self { seed: config.seed, n_rows, batch_size: config.batch_size, kind: config.order, lengths })
    }

    /// The epoch of step `step` (both from 0).
    pub fn epoch(&self, step: usize) -> usize {
        step / self.steps_per_epoch()
    }

    /// Windows in an epoch; the last may be shorter.
    pub fn steps_per_epoch(&self) -> usize {
        self.n_rows.div_ceil(self.batch_size).max(1)
    }

    /// The rows of step `step`, in order, where every epoch has every row. `shuffled` keeps the last epoch's permutation
    /// between calls.
    pub fn rows<'a>(&self, step: usize, shuffled: &'a mut Option<(usize, Vec<usize>)>) -> &'a [usize] {
        self.window(step, shuffled, |_| (0..self.n_rows).collect())
    }

    /// The rows of step `step`, in order, where the source says which rows an epoch has.
    pub fn rows_of<'a, S: BatchSource>(
        &self,
        source: &S,
        step: usize,
        shuffled: &'a mut Option<(usize, Vec<usize>)>,
    ) -> &'a [usize] {
        self.window(step, shuffled, |epoch| source.epoch_rows(self.seed, epoch))
    }

    fn window<'a>(
        &self,
        step: usize,
        shuffled: &'a mut Option<(usize, Vec<usize>)>,
        rows_of: impl Fn(usize) -> Vec<usize>,
    ) -> &'a [usize] {
        let epoch = self.epoch(step);
        if shuffled.as_ref().is_none_or(|(e, _)| *e != epoch) {
            *shuffled = Some((epoch, self.permuted(rows_of(epoch), epoch)));
        }
        let (_, rows) = shuffled.as_ref().expect("just filled");
        let start = (step % self.steps_per_epoch()) * self.batch_size;
        &rows[start..(start + self.batch_size).min(rows.len())]
    }

    fn permuted(&self, mut rows: Vec<usize>, epoch: usize) -> Vec<usize> {
        if self.kind == RowOrder::Sequential {
            return rows;
        }
        rows.shuffle(&mut named_stream(self.seed, "batch order", &epoch.to_string()));
        if self.kind == RowOrder::Shuffled {
            return rows;
        }
        for group in rows.chunks_mut(GROUPED_STEPS * self.batch_size) {
            group.sort_by_key(|&row| std::cmp::Reverse(self.lengths[row]));
        }
        let (full, rest) = rows.split_at(self.n_rows / self.batch_size * self.batch_size);
        let mut windows: Vec<&[usize]> = full.chunks(self.batch_size).collect();
        windows.shuffle(&mut named_stream(self.seed, "window order", &epoch.to_string()));
        windows.push(rest);
        windows.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shuffled(n_rows: usize, batch_size: usize) -> BatchOrder {
        BatchOrder { seed: 3, n_rows, batch_size, kind: RowOrder::Shuffled, lengths: Arc::default() }
    }

    #[test]
    fn grouped_windows_hold_rows_of_similar_length() {
        let lengths: Vec<usize> = (0..1003).map(|i| 20 + (i * 7919) % 977).collect();
        let kind = RowOrder::LengthGrouped;
        let order = BatchOrder { kind, lengths: Arc::new(lengths.clone()), ..shuffled(1003, 8) };
        let mut kept = None;
        let windows: Vec<Vec<usize>> = (0..126).map(|step| order.rows(step, &mut kept).to_vec()).collect();
        let padding = |windows: &[Vec<usize>]| -> f64 {
            let padded: usize =
                windows.iter().map(|w| w.len() * w.iter().map(|&r| lengths[r]).max().unwrap_or(0)).sum();
            1.0 - lengths.iter().sum::<usize>() as f64 / padded as f64
        };
        assert!(padding(&windows) < 0.04, "{}", padding(&windows));
        let mut all = windows.concat();
        all.sort_unstable();
        assert_eq!(all, (0..1003).collect::<Vec<_>>());
        let first: Vec<usize> = windows.iter().map(|window| lengths[window[0]]).collect();
        assert!(!first.is_sorted() && !first.is_sorted_by(|a, b| a >= b), "long windows come all along");
    }

    #[test]
    fn every_epoch_has_every_row_once() {
        let order = shuffled(10, 4);
        let mut shuffled = None;
        let mut epoch = |first: usize| -> Vec<usize> {
            (first..first + 3).flat_map(|step| order.rows(step, &mut shuffled).to_vec()).collect()
        };
        let (a, b) = (epoch(0), epoch(3));
        assert_ne!(a, b);
        for mut rows in [a, b] {
            rows.sort_unstable();
            assert_eq!(rows, (0..10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_step_does_not_depend_on_the_ones_before() {
        let order = shuffled(10, 4);
        let mut kept = None;
        let after_others: Vec<_> = (0..6).map(|step| order.rows(step, &mut kept).to_vec()).collect();
        let alone: Vec<_> = (0..6).map(|step| order.rows(step, &mut None).to_vec()).collect();
        assert_eq!(after_others, alone);
    }
}
