use std::collections::HashMap;

use adamllm_core::{RecordId, RgbImage};
use serde::{Deserialize, Serialize};

use super::normalise;
use super::picture_hash::{ImageIndex, PerceptualHash, picture_hash};

/// How a training row meets a benchmark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leak {
    /// The benchmark row with the same image, and how many bits of the hash differ.
    pub picture: Option<(RecordId, u32)>,
    /// The first benchmark row with the same question.
    pub question: Option<RecordId>,
}

impl Leak {
    /// Whether the row gives an answer away: the image is the benchmark's. A question alone ("What is shown?") does not.
    pub fn is_serious(&self) -> bool {
        self.picture.is_some()
    }
}

/// The images and questions of benchmarks, to look training rows up in.
#[derive(Clone, Debug)]
pub struct LeakIndex {
    pictures: ImageIndex<RecordId>,
    questions: HashMap<u64, RecordId>,
}

impl LeakIndex {
    /// An empty index; images whose hashes differ in at most `max_distance` bits count as the same.
    pub fn new(max_distance: u32) -> Self {
        Self { pictures: ImageIndex::new(max_distance), questions: HashMap::new() }
    }

    /// Adds a row of a benchmark. An image of one colour cannot be told from another and is left out.
    pub fn insert(&mut self, id: &RecordId, question: &str, picture: Option<&RgbImage>) {
        if let Some(hash) = picture.and_then(picture_hash) {
            self.pictures.insert(hash, id.clone());
        }
        self.questions.entry(question_key(question)).or_insert_with(|| id.clone());
    }

    /// What a training row has in common with the benchmarks; `None` where nothing.
    pub fn find(&self, question: &str, picture: Option<&RgbImage>) -> Option<Leak> {
        self.find_hash(question, picture.and_then(picture_hash))
    }

    /// [`LeakIndex::find`] for an image whose hash is known.
    pub fn find_hash(&self, question: &str, picture: Option<PerceptualHash>) -> Option<Leak> {
        let picture = picture.and_then(|hash| self.pictures.find(hash)).map(|(id, distance)| (id.clone(), distance));
        let question = self.questions.get(&question_key(question)).cloned();
        (picture.is_some() || question.is_some()).then_some(Leak { picture, question })
    }
}

fn question_key(question: &str) -> u64 {
    RecordId::given(normalise(question)).to_u64()
}
