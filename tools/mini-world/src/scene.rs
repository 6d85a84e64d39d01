use adamllm_core::random::{ChaCha8Rng, named_stream};
use adamllm_core::{ImageRef, RgbImage};
use rand::RngExt;

use super::drawing::{self, Canvas};
use super::{Aspect, Domain};

/// One image of the mini world, as facts: text and image are both made from it, so they agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    /// The part of the world that it belongs to.
    pub domain: Domain,
    seed: u64,
    index: u64,
    /// For each aspect, which of the domain's values.
    choices: [usize; 5],
}

impl Scene {
    /// The scene of this number. Seed, domain and index determine every word and every pixel.
    pub fn new(seed: u64, domain: Domain, index: u64) -> Self {
        let mut random = named_stream(seed, "mini scene", &format!("{domain}/{index}"));
        let choices = Aspect::ALL.map(|aspect| random.random_range(0..domain.values(aspect).len()));
        Self { domain, seed, index, choices }
    }

    /// The scene's number.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The scene's value of an aspect.
    pub fn value(&self, aspect: Aspect) -> &'static str {
        self.domain.values(aspect)[self.choice(aspect)]
    }

    /// Which of the domain's values the scene has.
    pub fn choice(&self, aspect: Aspect) -> usize {
        self.choices[aspect as usize]
    }

    /// How many things there are to see, 1 to 4.
    pub fn count(&self) -> usize {
        self.choice(Aspect::Number) + 1
    }

    /// All five values: two scenes with the same facts ask for the same image.
    pub fn facts(&self) -> [usize; 5] {
        self.choices
    }

    /// The image, as a canvas with a palette of at most 16 colours.
    pub fn canvas(&self) -> Canvas {
        drawing::draw(self)
    }

    /// The image.
    pub fn image(&self) -> RgbImage {
        self.canvas().to_rgb()
    }

    /// The image's place in the data set: `slides/images/0007.png`.
    pub fn image_ref(&self) -> ImageRef {
        format!("{}/images/{:04}.png", self.domain, self.index).into()
    }

    /// A stream of random numbers for one purpose, of this scene's own.
    pub(super) fn random(&self, purpose: &str) -> ChaCha8Rng {
        named_stream(self.seed, purpose, &format!("{}/{}", self.domain, self.index))
    }
}
