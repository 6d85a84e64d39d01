//! Logs of lm-evaluation-harness and lmms-eval: read as answers to a benchmark, and written of a run of ours.
//!
//! | | |
//! |---|---|
//! | [`is_log`] | whether a file is such a log |
//! | [`find_logs`] | a task's logs below a folder |
//! | [`read_log`] | a log's answers to a benchmark's examples |
//! | [`reported_scores`] | what the tool that wrote a log scored |
//! | [`LogFormat`], [`write_logs`] | the same files of a run of ours |
//!
//! The answer is what the model said (`resps`): what a filter made of it (`filtered_resps`) counts only where a log holds no
//! response or several. Of an option that was chosen by log-likelihood, the answer is the option's text.

mod files;
mod read;
mod records;
mod sample;
mod write;

pub use files::{find_logs, reported_scores};
pub use read::{is_log, read_log};
pub(crate) use records::LoggedRecords;
pub use write::{LogFormat, LoggedTask, write_logs};
