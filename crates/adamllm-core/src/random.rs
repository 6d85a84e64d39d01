//! Randomness with an address: every draw is seeded by `(seed, purpose, record id)`, never by a record's position.

use rand::SeedableRng;
pub use rand_chacha::ChaCha8Rng;

use crate::RecordId;

mod python;

pub use python::PythonRandom;

/// A stream of its own for one record and one purpose. Neighbouring records and other purposes do not disturb it.
pub fn stream(seed: u64, purpose: &str, id: &RecordId) -> ChaCha8Rng {
    named_stream(seed, purpose, id.as_str())
}

/// [`stream`] for something that is not a record: an epoch, a drawing, a weight's name.
pub fn named_stream(seed: u64, purpose: &str, name: &str) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    for part in [purpose, name] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn streams_depend_on_seed_purpose_and_name() {
        let draw = |seed, purpose, name| named_stream(seed, purpose, name).next_u64();
        assert_eq!(draw(1, "a", "x"), draw(1, "a", "x"));
        assert_ne!(draw(1, "a", "x"), draw(2, "a", "x"));
        assert_ne!(draw(1, "a", "x"), draw(1, "b", "x"));
        assert_ne!(draw(1, "ab", "c"), draw(1, "a", "bc"));
    }
}
