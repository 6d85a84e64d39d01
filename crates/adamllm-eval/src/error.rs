use std::path::PathBuf;

use adamllm_core::{BoxError, CoreError};

/// What can go wrong before an answer has a score.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// Files and images.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A benchmark's description cannot be read.
    #[error("{path}: invalid description: {source}", path = path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// What the parser expected and found, with line and column; or which settings contradict each other.
        source: BoxError,
    },
    /// One record of a benchmark is not what its description says.
    #[error("{location} column `{column}`: expected {expected}, got {got}")]
    Record {
        /// File and record, counted from 1.
        location: String,
        /// The column's name.
        column: String,
        /// What is allowed.
        expected: String,
        /// What was found.
        got: String,
    },
    /// One record shows no image, where every question of its benchmark does.
    #[error("{location}: no image in {column}{hint}")]
    NoImage {
        /// File and record, counted from 1.
        location: String,
        /// The column, or those that were looked at.
        column: String,
        /// Other columns that look like it.
        hint: String,
    },
    /// No record of a benchmark shows an image, and its description does not say that questions have none.
    #[error(
        "{location}: no record of {benchmark} has an image in {column}{hint}; its columns are {got}. Name the column (`columns.image`), or say `image_use = \"none\"` where questions show no image"
    )]
    NoImages {
        /// The file and its first record.
        location: String,
        /// The benchmark's name.
        benchmark: String,
        /// The column, or those that were looked at.
        column: String,
        /// Columns that look like it.
        hint: String,
        /// The columns that the first record has.
        got: String,
    },
    /// A whole file is of another kind than asked for: no record has the column.
    #[error("{location}: expected records of {benchmark} with the columns {expected}, got the columns {got}")]
    OtherTask {
        /// The file.
        location: String,
        /// The benchmark's name.
        benchmark: String,
        /// The columns that are needed.
        expected: String,
        /// The columns that the first record has.
        got: String,
    },
    /// A name that is not among the allowed ones.
    #[error("unknown {what} `{got}`: expected one of {expected}")]
    Unknown {
        /// What was looked up, such as `"task"`.
        what: &'static str,
        /// The name.
        got: String,
        /// The names that exist.
        expected: String,
    },
    /// A judge's prompt lacks a placeholder.
    #[error("the judge's prompt has no `{placeholder}`: expected {{question}}, {{expected}} and {{answer}}")]
    Placeholder {
        /// The one that is missing.
        placeholder: &'static str,
    },
    /// An index past a benchmark's last example.
    #[error("example {index} of {benchmark}: it has {len}")]
    OutOfRange {
        /// The benchmark's name.
        benchmark: String,
        /// The index, from 0.
        index: usize,
        /// The number of examples.
        len: usize,
    },
}

impl EvalError {
    /// Whether the error costs one example only.
    pub fn is_example_error(&self) -> bool {
        matches!(
            self,
            Self::Record { .. }
                | Self::NoImage { .. }
                | Self::Core(
                    CoreError::Json { .. }
                        | CoreError::Field { .. }
                        | CoreError::ImageCount { .. }
                        | CoreError::ImageMissing { .. }
                        | CoreError::ImageDecode { .. }
                        | CoreError::ImageTooLarge { .. }
                )
        )
    }
}
