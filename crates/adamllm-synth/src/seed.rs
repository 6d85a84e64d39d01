//! Seed data to the conversations that a synthesizer is tuned on (paper, section 3.1 and appendix B).
//!
//! VisionFLAN gives an instruction with a precise response, ALLaVA a caption and an instruction with an informative
//! response for the same image. One conversation per image: the caption exchange, then all questions in random order, each
//! after its hint line. Train it under [`SEED_SUPERVISION`].

use adamllm_core::{ImageRef, Supervision};
use serde::{Deserialize, Serialize};

use crate::SynthError;

mod blank;
mod compose;
mod entry;
mod index;
mod write;

pub use blank::BlankImages;
pub use compose::{SeedConversation, Split, compose_seed};
pub use entry::{QuestionAnswer, SeedEntry};
pub use index::{SeedIndex, SeedSources};
pub use write::SeedSummary;

/// What counts for the loss in a seed conversation: nothing of the caption exchange, everything after it, the user's
/// turns included, and a final end-of-text token.
pub const SEED_SUPERVISION: Supervision = Supervision::AfterFirstExchange;

/// How seeds become conversations. The defaults are the paper's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SeedConfig {
    /// Seeds the split, the order of the questions and the choice of blank images.
    pub seed: u64,
    /// The share of each task's images that is held out, 0 to 1.
    pub dev_share: f64,
    /// The share of images that are replaced by a blank one, 0 to 1.
    pub blank_share: f64,
    /// What names the blank image; see [`BlankImages`].
    pub blank_image: ImageRef,
}

impl Default for SeedConfig {
    fn default() -> Self {
        Self { seed: 0, dev_share: 0.1, blank_share: 0.1, blank_image: "blank.png".into() }
    }
}

impl SeedConfig {
    /// Checks the shares.
    ///
    /// # Errors
    /// [`SynthError::Config`].
    pub fn validate(&self) -> Result<(), SynthError> {
        for (field, share) in [("dev_share", self.dev_share), ("blank_share", self.blank_share)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(SynthError::Config { field, expected: "0 to 1", got: share.to_string() });
            }
        }
        Ok(())
    }
}
