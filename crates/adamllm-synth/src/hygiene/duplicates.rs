use std::collections::HashMap;

use adamllm_core::RecordId;

use super::min_hash::{MinHash, Signature};
use super::normalise;

/// How a text repeats an earlier one.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum DuplicateKind {
    /// The same words.
    Exact,
    /// Nearly the same words.
    Near {
        /// Estimated Jaccard similarity of their three-word shingles, 0 to 1.
        similarity: f64,
    },
}

/// An earlier text that a text repeats.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Duplicate {
    /// The earlier record.
    pub of: RecordId,
    /// How.
    pub kind: DuplicateKind,
}

/// The texts so far. A text is looked for among those of its own scope only (an image, say), or among all where every
/// caller gives the same scope.
///
/// Near duplicates are found by 21 bands of 6 minima: two texts of similarity 0.8 meet with a probability of
/// `1 - (1 - 0.8^6)^21` = 0.998, of 0.5 with 0.28, and are then compared by all 128 minima. A band that 64 texts share
/// says nothing and takes no more, so that a million texts of one wording do not become a million comparisons each.
#[derive(Debug)]
pub struct DuplicateIndex {
    hasher: MinHash,
    threshold: Option<f64>,
    exact: HashMap<u128, RecordId>,
    bands: HashMap<u64, Vec<u32>>,
    kept: Vec<(Signature, RecordId)>,
}

/// Minima in a band.
const BAND: usize = 6;

/// Texts after which a band is full.
const CROWD: usize = 64;

impl DuplicateIndex {
    /// An empty index. `threshold` is the similarity from which on two texts are near duplicates; `None` looks for exact
    /// ones only.
    pub fn new(threshold: Option<f64>) -> Self {
        let (exact, bands) = (HashMap::new(), HashMap::new());
        Self { hasher: MinHash::default(), threshold, exact, bands, kept: Vec::new() }
    }

    /// The earlier text that this one repeats; where there is none, the text is remembered.
    pub fn insert(&mut self, scope: &str, text: &str, id: &RecordId) -> Option<Duplicate> {
        let normal = normalise(text);
        let key = content_key(scope, &normal);
        if let Some(of) = self.exact.get(&key) {
            return Some(Duplicate { of: of.clone(), kind: DuplicateKind::Exact });
        }

        if let Some(threshold) = self.threshold {
            let signature = self.hasher.signature(&normal);
            let bands = band_keys(scope, &signature);
            if let Some(near) = self.nearest(&signature, &bands, threshold) {
                return Some(near);
            }

            let position = self.kept.len() as u32;
            self.kept.push((signature, id.clone()));
            for band in bands {
                let crowd = self.bands.entry(band).or_default();
                if crowd.len() < CROWD {
                    crowd.push(position);
                }
            }
        }

        self.exact.insert(key, id.clone());
        None
    }

    fn nearest(&self, signature: &Signature, bands: &[u64], threshold: f64) -> Option<Duplicate> {
        let mut candidates: Vec<_> = bands.iter().filter_map(|band| self.bands.get(band)).flatten().copied().collect();
        candidates.sort_unstable();
        candidates.dedup();
        let similar = candidates.into_iter().filter_map(|position| {
            let (other, id) = &self.kept[position as usize];
            let similarity = signature.similarity(other);
            (similarity >= threshold).then_some((similarity, id))
        });
        let (similarity, of) = similar.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
        Some(Duplicate { of: of.clone(), kind: DuplicateKind::Near { similarity } })
    }
}

fn content_key(scope: &str, normal: &str) -> u128 {
    let id = RecordId::of("normal-text", [scope, normal]);
    u128::from_str_radix(id.as_str(), 16).expect("a made id is 32 hexadecimal digits")
}

fn band_keys(scope: &str, signature: &Signature) -> Vec<u64> {
    let scope = RecordId::given(scope).to_u64();
    let key = |(band, minima): (usize, &[u32])| {
        minima.iter().fold(scope ^ band as u64, |key: u64, minimum| {
            (key ^ u64::from(*minimum)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        })
    };
    signature.0.chunks_exact(BAND).enumerate().map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "The slide shows a large round cell with two dark nuclei and a pale border next to a group of five \
                        small oval cells without any visible nucleus";

    fn id(name: &str) -> RecordId {
        RecordId::given(name)
    }

    #[test]
    fn finds_exact_and_near_duplicates() {
        let mut index = DuplicateIndex::new(Some(0.7));
        assert_eq!(index.insert("", LONG, &id("a")), None);
        let exact = index.insert("", &LONG.to_uppercase().replace(' ', ",  "), &id("b")).expect("a duplicate");
        assert_eq!(exact, Duplicate { of: id("a"), kind: DuplicateKind::Exact });
        let near = index.insert("", &LONG.replace("visible nucleus", "visible core"), &id("c")).expect("a duplicate");
        assert!(matches!(near.kind, DuplicateKind::Near { similarity } if similarity > 0.8) && near.of == id("a"));
        assert_eq!(index.insert("", "A plate with three fried eggs and some bread beside it", &id("d")), None);
        assert_eq!(index.insert("another image", LONG, &id("e")), None, "scopes do not meet");
    }

    #[test]
    fn many_texts_of_one_wording_stay_fast() {
        let mut index = DuplicateIndex::new(Some(0.95));
        let text = |i: usize| format!("{LONG}, and number {i} at the border, which is hard to see");
        let kept = (0..3000).filter(|i| index.insert("", &text(*i), &id(&i.to_string())).is_none()).count();
        assert!(kept > 2000, "{kept}");
        assert!(index.bands.values().all(|crowd| crowd.len() <= CROWD));
        assert!(index.insert("", &text(7), &id("again")).is_some());
    }

    #[test]
    fn without_a_threshold_only_exact_ones_count() {
        let mut index = DuplicateIndex::new(None);
        assert_eq!(index.insert("", LONG, &id("a")), None);
        assert_eq!(index.insert("", &LONG.replace("visible", "seen"), &id("b")), None);
        assert!(index.insert("", LONG, &id("c")).is_some());
    }
    #[test]
    fn bands_of_equal_minima_have_keys_of_their_own() {
        let signature = Signature(Box::new([7; MinHash::N]));
        let [mut one, other] = ["one.png", "other.png"].map(|scope| band_keys(scope, &signature));
        assert!(one.iter().all(|key| !other.contains(key)), "scopes do not meet");
        one.sort_unstable();
        one.dedup();
        assert_eq!(one.len(), 21, "nor do the places in the signature");
    }

    #[test]
    fn the_most_similar_of_the_earlier_texts_is_named() {
        let text = |changed: &[usize]| -> String {
            let word = |i: usize| if changed.contains(&i) { format!("x{i} ") } else { format!("w{i} ") };
            (0..40).map(word).collect()
        };
        // Of 38 shingles nine or three are others: similarities of 0.62 and 0.85 to the last text, of 0.52 to each other.
        let mut index = DuplicateIndex::new(Some(0.57));
        for (name, changed) in [("far", &[10, 20, 30][..]), ("near", &[25])] {
            assert_eq!(index.insert("", &text(changed), &id(name)), None, "{name}");
        }
        let found = index.insert("", &text(&[]), &id("b")).expect("a duplicate");
        assert_eq!(found.of, id("near"));
    }
}
