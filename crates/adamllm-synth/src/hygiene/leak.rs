use std::collections::HashMap;

use adamllm_core::{RecordId, RgbImage};
use serde::{Deserialize, Serialize};

use super::normalise;
use super::perceptual_hash::{ImageIndex, PerceptualHash, perceptual_hash};

/// What a training example shares with a benchmark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Leak {
    /// The benchmark example with the same image, and how many bits of the hash differ.
    pub image: Option<(RecordId, u32)>,
    /// The first benchmark example with the same question.
    pub question: Option<RecordId>,
}

impl Leak {
    /// Whether the example gives an answer away: the image is the benchmark's. A question alone ("What is shown?") does not.
    pub fn is_serious(&self) -> bool {
        self.image.is_some()
    }
}

/// The images and questions of benchmarks, to look training examples up in.
#[derive(Clone, Debug)]
pub struct LeakIndex {
    images: ImageIndex<RecordId>,
    questions: HashMap<u64, RecordId>,
}

impl LeakIndex {
    /// An empty index; images whose hashes differ in at most `max_distance` bits count as the same.
    pub fn new(max_distance: u32) -> Self {
        Self { images: ImageIndex::new(max_distance), questions: HashMap::new() }
    }

    /// Adds an example of a benchmark. An image of one colour cannot be distinguished from another and is left out.
    pub fn insert(&mut self, id: &RecordId, question: &str, image: Option<&RgbImage>) {
        if let Some(hash) = image.and_then(perceptual_hash) {
            self.images.insert(hash, id.clone());
        }
        self.questions.entry(question_key(question)).or_insert_with(|| id.clone());
    }

    /// What a training example has in common with the benchmarks; `None` where nothing.
    pub fn find(&self, question: &str, image: Option<&RgbImage>) -> Option<Leak> {
        self.find_hash(question, image.and_then(perceptual_hash))
    }

    /// [`LeakIndex::find`] for an image whose hash is known.
    pub fn find_hash(&self, question: &str, image: Option<PerceptualHash>) -> Option<Leak> {
        let image = image.and_then(|hash| self.images.find(hash)).map(|(id, distance)| (id.clone(), distance));
        let question = self.questions.get(&question_key(question)).cloned();
        (image.is_some() || question.is_some()).then_some(Leak { image, question })
    }
}

fn question_key(question: &str) -> u64 {
    RecordId::given(normalise(question)).to_u64()
}
