use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The pause before a server is asked again: `first` after one failure, doubled with each further one, at most `longest`, and cut to
/// a random 50 to 100 %, so that many clients do not come back together.
///
/// ```
/// use std::time::Duration;
///
/// use adamllm_core::backoff;
///
/// let [first, longest] = [Duration::from_millis(100), Duration::from_secs(1)];
/// let pause = backoff(first, longest, 3);
/// assert!((200..=400).contains(&pause.as_millis()));
/// ```
pub fn backoff(first: Duration, longest: Duration, failures: u32) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(20));
    doubled.min(longest).mul_f64(0.5 + 0.5 * random_unit())
}

/// 0 to 1, another one in each call and each process: the standard library seeds its hash maps so.
fn random_unit() -> f64 {
    (RandomState::new().build_hasher().finish() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_are_jittered() {
        let [first, cap] = [Duration::from_millis(100), Duration::from_secs(1)];
        for (failures, longest) in [(0, 100), (1, 100), (2, 200), (4, 800), (5, 1000), (60, 1000)] {
            let pauses: Vec<_> = (0..50).map(|_| backoff(first, cap, failures)).collect();
            let longest = Duration::from_millis(longest);
            assert!(pauses.iter().all(|pause| *pause >= longest / 2 && *pause <= longest));
            assert!(pauses.iter().any(|pause| *pause != pauses[0]), "jitter");
        }
    }
}
