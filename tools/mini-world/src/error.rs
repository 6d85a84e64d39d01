use adamllm_core::CoreError;

/// What can go wrong with the mini world: files, and the tokenizer's training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MiniError {
    /// A file could not be written or read.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The tokenizer could not be trained, written or read.
    #[error("{action}: {detail}")]
    Tokenizer {
        /// What was tried.
        action: &'static str,
        /// What the tokenizers crate said.
        detail: String,
    },
    /// No scene with the wanted facts is left for a benchmark.
    #[error("{domain}: no scene for question {question} among the first {tried}")]
    NoScene {
        /// The domain's name.
        domain: &'static str,
        /// The question's place in the benchmark.
        question: usize,
        /// How many scenes were looked at.
        tried: u64,
    },
}
