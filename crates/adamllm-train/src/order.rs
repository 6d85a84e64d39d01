use crate::BatchSource;
use crate::mixture::shuffle;

/// Which rows stand in which window: a pure function of `(seed, step)`, whatever ran before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOrder {
    /// Seeds each epoch's shuffle.
    pub seed: u64,
    /// Rows in an epoch.
    pub n_rows: usize,
    /// Rows in a window.
    pub batch_size: usize,
}

impl BatchOrder {
    /// The epoch of step `step` (both from 0).
    pub fn epoch(&self, step: usize) -> usize {
        step / self.steps_per_epoch()
    }

    /// Windows in an epoch; the last may be shorter.
    pub fn steps_per_epoch(&self) -> usize {
        self.n_rows.div_ceil(self.batch_size).max(1)
    }

    /// The rows of step `step`, in order, where every epoch has every row once. `shuffled` keeps the last epoch's order
    /// between calls.
    pub fn rows<'a>(&self, step: usize, shuffled: &'a mut Option<(usize, Vec<usize>)>) -> &'a [usize] {
        self.take(step, shuffled, |epoch| permutation(self.n_rows, self.seed, epoch))
    }

    /// The rows of step `step` where the source says which rows an epoch has.
    pub fn rows_of<'a, S: BatchSource>(
        &self,
        source: &S,
        step: usize,
        shuffled: &'a mut Option<(usize, Vec<usize>)>,
    ) -> &'a [usize] {
        self.take(step, shuffled, |epoch| source.epoch(self.seed, epoch))
    }

    fn take<'a>(
        &self,
        step: usize,
        shuffled: &'a mut Option<(usize, Vec<usize>)>,
        order: impl Fn(usize) -> Vec<usize>,
    ) -> &'a [usize] {
        let epoch = self.epoch(step);
        if shuffled.as_ref().is_none_or(|(e, _)| *e != epoch) {
            *shuffled = Some((epoch, order(epoch)));
        }
        let (_, rows) = shuffled.as_ref().expect("just filled");
        let start = (step % self.steps_per_epoch()) * self.batch_size;
        &rows[start..(start + self.batch_size).min(rows.len())]
    }
}

/// Every row once.
pub(crate) fn permutation(n_rows: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..n_rows).collect();
    shuffle(&mut rows, seed, epoch);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_has_every_row_once() {
        let order = BatchOrder { seed: 3, n_rows: 10, batch_size: 4 };
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
        let order = BatchOrder { seed: 3, n_rows: 10, batch_size: 4 };
        let mut kept = None;
        let after_others: Vec<_> = (0..6).map(|step| order.rows(step, &mut kept).to_vec()).collect();
        let alone: Vec<_> = (0..6).map(|step| order.rows(step, &mut None).to_vec()).collect();
        assert_eq!(after_others, alone);
    }
}
