use std::collections::VecDeque;

/// Tells when a loss stands out from the ones before.
#[derive(Debug, Default)]
pub(crate) struct Spikes {
    recent: VecDeque<f64>,
}

/// How many losses are looked back at, and how many standard deviations above their mean a loss stands out.
const REACH: usize = 50;
const DEVIATIONS: f64 = 6.0;

impl Spikes {
    /// The mean of the losses before, where this one is far above them.
    pub(crate) fn observe(&mut self, loss: f64) -> Option<f64> {
        let n = self.recent.len() as f64;
        let mean = self.recent.iter().sum::<f64>() / n.max(1.0);
        let variance = self.recent.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / n.max(1.0);
        let stands_out = self.recent.len() == REACH && loss > mean + DEVIATIONS * variance.sqrt().max(1e-3 * mean);
        self.recent.push_back(loss);
        if self.recent.len() > REACH {
            self.recent.pop_front();
        }
        stands_out.then_some(mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_out_is_reported() {
        let mut spikes = Spikes::default();
        let noisy = (0..200).map(|i| 2.0 + 0.1 * f64::from(i * 7919 % 13));
        assert!(noisy.map(|loss| spikes.observe(loss)).all(|heard| heard.is_none()));
        assert!(spikes.observe(9.0).is_some_and(|mean| (mean - 2.6).abs() < 0.1));
    }
    /// The loss after fifty of these in turn: whether it stands out.
    fn after(losses: [f64; 2], loss: f64) -> Option<f64> {
        let mut spikes = Spikes::default();
        for i in 0..50 {
            assert_eq!(spikes.observe(losses[i % 2]), None);
        }
        spikes.observe(loss)
    }

    #[test]
    fn six_standard_deviations_are_the_limit() {
        // 1 and 3 in turn: a mean of 2, a standard deviation of 1.
        assert_eq!([after([1.0, 3.0], 7.99), after([1.0, 3.0], 8.01)], [None, Some(2.0)]);
        // Losses that do not vary: six thousandths of their mean.
        assert_eq!([after([2.0, 2.0], 2.011), after([2.0, 2.0], 2.013)], [None, Some(2.0)]);
    }

    #[test]
    fn the_last_fifty_losses_count() {
        let mut spikes = Spikes::default();
        for _ in 0..49 {
            spikes.observe(2.0);
        }
        assert_eq!(spikes.observe(9.0), None, "too few to compare with");
        let mut spikes = Spikes::default();
        for loss in [500.0; 50].into_iter().chain([2.0; 50]) {
            spikes.observe(loss);
        }
        assert_eq!(spikes.observe(3.0), Some(2.0));
    }
}
