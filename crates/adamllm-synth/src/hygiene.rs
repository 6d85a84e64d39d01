//! What should not be in training data: the same text twice, nearly the same text twice, examples of a benchmark.
//!
//! Texts are compared after [`normalise`]; exactly, and by MinHash (Broder, 1997) for near duplicates. Images are compared by
//! a 64-bit perceptual hash. Each finding names the earlier record, so that people can look at both.

mod duplicates;
mod leak;
mod min_hash;
mod perceptual_hash;
mod tasks;
mod text;

pub use duplicates::{Duplicate, DuplicateIndex, DuplicateKind};
pub use leak::{Leak, LeakIndex};
pub use min_hash::{MinHash, Signature};
pub use perceptual_hash::{ImageIndex, PerceptualHash, perceptual_hash};
pub use tasks::{HygieneConfig, HygieneReport, TaskHygiene};
pub use text::normalise;
