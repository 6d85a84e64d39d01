use std::str::FromStr;

use crate::RecordId;

/// One of `count` parts of a run, chosen by id: any number of shards covers every record exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u64,
    count: u64,
}

impl Shard {
    /// The whole run.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Part `index` (from 0) of `count`; `None` unless `index < count`.
    pub fn new(index: u64, count: u64) -> Option<Self> {
        (index < count).then_some(Self { index, count })
    }

    /// Whether the record belongs to this part.
    pub fn holds(&self, id: &RecordId) -> bool {
        self.count == 1 || id.to_u64() % self.count == self.index
    }
}

impl FromStr for Shard {
    type Err = String;

    /// Reads `"i/n"` with `i` from 0 to `n - 1`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(i, n)| Self::new(i.parse().ok()?, n.parse().ok()?));
        parsed.ok_or_else(|| format!("expected i/n with 0 <= i < n, got {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_every_record_once() {
        let ids: Vec<_> = (0..100).map(|i| RecordId::of("t", [i.to_string().as_str()])).collect();
        let shards: Vec<_> = (0..3).map(|i| Shard::new(i, 3).expect("in range")).collect();
        assert!(ids.iter().all(|id| shards.iter().filter(|s| s.holds(id)).count() == 1));
        assert!("3/3".parse::<Shard>().is_err());
        assert_eq!("1/3".parse(), Ok(shards[1]));
    }
}
