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
}
