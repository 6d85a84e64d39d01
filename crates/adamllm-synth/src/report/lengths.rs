use adamllm_report::chart::Bar;

/// How long texts are, in words, counted in bins that double.
#[derive(Debug, Default)]
pub(super) struct Lengths {
    bins: [u64; Lengths::N_BINS],
    n: u64,
    words: u64,
}

impl Lengths {
    const N_BINS: usize = 12;

    pub(super) fn add(&mut self, text: &str) {
        let words = text.split_whitespace().count() as u64;
        let bin = (u64::BITS - words.leading_zeros()) as usize;
        self.bins[bin.min(Self::N_BINS - 1)] += 1;
        self.n += 1;
        self.words += words;
    }

    /// Mean number of words.
    pub(super) fn mean(&self) -> f64 {
        self.words as f64 / self.n.max(1) as f64
    }

    /// A bar for each bin from the first that holds something to the last.
    pub(super) fn bars(&self) -> Vec<Bar> {
        let label = |bin: usize| match bin {
            0 => "0".to_owned(),
            1 => "1".to_owned(),
            _ if bin == Self::N_BINS - 1 => format!("{}+", 1 << (bin - 1)),
            _ => format!("{}\u{2013}{}", 1 << (bin - 1), (1 << bin) - 1),
        };
        let last = self.bins.iter().rposition(|n| *n > 0).unwrap_or(0);
        let first = self.bins.iter().position(|n| *n > 0).unwrap_or(0);
        (first..=last).map(|bin| Bar::new(label(bin), self.bins[bin], 0)).collect()
    }
}
