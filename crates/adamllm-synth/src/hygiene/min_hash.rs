use adamllm_core::random::named_stream;
use rand::Rng;

/// Estimates how much two texts have in common: the Jaccard similarity of their sets of shingles (three words in a row),
/// from the share of equal minima under [`MinHash::N`] hash functions. Its standard error is at most
/// `1 / (2 sqrt(N))` = 0.044.
///
/// A. Broder, "On the resemblance and containment of documents", 1997.
#[derive(Clone, Debug)]
pub struct MinHash {
    multipliers: Vec<u64>,
    addends: Vec<u64>,
}

/// A text's minima; see [`MinHash`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature(pub(super) Box<[u32; MinHash::N]>);

impl Default for MinHash {
    fn default() -> Self {
        let mut random = named_stream(0, "min-hash", "multiply-add");
        let multipliers = (0..Self::N).map(|_| random.next_u64() | 1).collect();
        let addends = (0..Self::N).map(|_| random.next_u64()).collect();
        Self { multipliers, addends }
    }
}

impl MinHash {
    /// The number of hash functions.
    pub const N: usize = 128;

    /// The signature of a normalised text. A text of fewer than three words is one shingle.
    pub fn signature(&self, normal: &str) -> Signature {
        let mut minima = Box::new([u32::MAX; Self::N]);
        let words: Vec<_> = normal.split(' ').map(|word| fnv1a(word.as_bytes())).collect();
        let width = words.len().min(3);
        for shingle in words.windows(width) {
            let shingle = shingle.iter().fold(0, |hash: u64, word| mix(hash.rotate_left(21) ^ word));
            for (minimum, (multiplier, addend)) in minima.iter_mut().zip(self.multipliers.iter().zip(&self.addends)) {
                let hash = (shingle.wrapping_mul(*multiplier).wrapping_add(*addend) >> 32) as u32;
                *minimum = hash.min(*minimum);
            }
        }
        Signature(minima)
    }
}

impl Signature {
    /// The estimated similarity, 0 to 1.
    pub fn similarity(&self, other: &Self) -> f64 {
        let equal = self.0.iter().zip(other.0.iter()).filter(|(a, b)| a == b).count();
        equal as f64 / MinHash::N as f64
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The finaliser of splitmix64 (Steele, Lea and Flood, 2014).
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn jaccard(a: &str, b: &str) -> f64 {
        let shingles = |text: &str| -> HashSet<Vec<String>> {
            let words: Vec<_> = text.split(' ').map(str::to_owned).collect();
            words.windows(3).map(<[String]>::to_vec).collect()
        };
        let (a, b) = (shingles(a), shingles(b));
        a.intersection(&b).count() as f64 / a.union(&b).count() as f64
    }

    #[test]
    fn estimates_the_jaccard_similarity() {
        let hasher = MinHash::default();
        let words = |from: usize, to: usize| (from..to).map(|i| format!("w{i}")).collect::<Vec<_>>().join(" ");
        let whole = words(0, 100);
        for end in [10, 30, 50, 70, 90, 100] {
            let other = words(0, end) + " " + &words(1000, 1100 - end);
            let estimate = hasher.signature(&whole).similarity(&hasher.signature(&other));
            let exact = jaccard(&whole, &other);
            assert!((estimate - exact).abs() < 4.0 * 0.0442, "{end}: {estimate} for {exact}");
        }
        assert_eq!(hasher.signature("two cells").similarity(&hasher.signature("two cells")), 1.0);
    }
    /// The values that are published beside the two functions: FNV's test vectors (Fowler, Noll, Vo), and the first output of splitmix64
    /// from seed 0, whose counter is then 0x9e3779b97f4a7c15.
    #[test]
    fn the_hashes_are_the_published_ones() {
        assert_eq!([fnv1a(b""), fnv1a(b"a")], [0xcbf2_9ce4_8422_2325, 0xaf63_dc4c_8601_ec8c]);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(mix(0x9e37_79b9_7f4a_7c15), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn shingles_have_three_words_and_know_their_order() {
        let hasher = MinHash::default();
        let similarity = |a: &str, b: &str| hasher.signature(a).similarity(&hasher.signature(b));
        // Two of four shingles are shared: a b c, b c d, c d x, c d y.
        let shared = similarity("a b c d x", "a b c d y");
        assert!((shared - 0.5).abs() < 4.0 * 0.0442, "{shared}");
        for (one, other) in [("a b c", "c b a"), ("a b", "b a"), ("a", "b"), ("a b", "a b c")] {
            assert!(similarity(one, other) < 0.2, "{one} and {other}");
        }
    }
}
