//! The records that flow through `adamllm` from one stage to the next, and the text-level contract of a model.
//!
//! Nothing in this crate knows a tensor. A stage takes one kind of record in and gives the next kind out:
//!
//! ```text
//! ImageCaption -> (synth) -> InstructionTask -> (train) -> Conversation -> (model) -> ...
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`RecordId`] | an id made of a record's content, never of its position |
//! | [`ImageCaption`], [`InstructionTask`], [`Conversation`] | the records that more than one crate needs |
//! | [`Generate`] | a model as its callers see it: [`Prompt`]s in, [`Completion`]s out |
//! | [`ImageStore`] | where images come from |
//! | [`RecordSource`] | records of a file or a table, wherever they are |
//! | [`RecordForm`] | one record as tools write it, as a conversation or a caption |
//! | [`json`] | the files of records that people have, in every form |
//! | [`jsonl`] | the files between the stages: read record by record, appended and synced |
//! | [`answer_key`], [`jsonl::Journal`], [`Shard`] | long runs: what is done is not done again, and work is split by id |
//! | [`Budget`], [`Budgeted`] | what may be spent on models that cost by the token |
//! | [`Ledger`], [`LostRecords`] | every record that is dropped, with its [`Reason`], and whether too many did |
//! | [`random`] | randomness seeded by id |
//!
//! ```
//! use adamllm_core::{ImageCaption, Prompt};
//!
//! let pair = ImageCaption::new("slide-7.png", "A round cell with two nuclei.");
//! assert_eq!(pair.id, ImageCaption::new("slide-7.png", "A round cell with two nuclei.").id);
//!
//! let prompt = Prompt::ask(&pair.image, "How many nuclei does the cell have?");
//! assert_eq!(prompt.images().len(), 1);
//! ```

mod answer_key;
mod backoff;
mod budget;
mod conversation;
mod disk_table;
mod error;
mod failure_streak;
mod file;
mod form;
mod generate;
mod id;
mod image_store;
pub mod json;
pub mod jsonl;
mod ledger;
mod lost_records;
mod progress;
pub mod random;
mod record;
mod record_source;
mod shard;
#[cfg(feature = "testing")]
pub mod testing;
mod text_template;
mod turns;

pub use answer_key::{ImageHashes, answer_key, image_hash};
pub use backoff::backoff;
pub use budget::{Budget, BudgetError, Budgeted, CHARS_PER_TOKEN, Limits, Spent};
pub use conversation::{Conversation, IMAGE_MARKER, Message, OTHER_MEDIA_MARKERS, Role, Supervision};
pub use disk_table::DiskTable;
pub use error::{BoxError, CoreError};
pub use failure_streak::FailureStreak;
pub use file::{file_hash, read_text, write_atomically};
pub use form::RecordForm;
pub use generate::{
    BoxedModel, Completion, Decoding, Finish, Generate, GenerateError, Prompt, Sampling, ScoreRequest, boxed,
};
pub use id::RecordId;
pub use image_store::{ImageRef, ImageStore, MemoryImages, has_image_ending};
pub use ledger::{Ledger, LedgerEntry, Reason, Stage};
pub use lost_records::LostRecords;
pub use progress::{Cancellable, Progress};
pub use record::{ImageCaption, InstructionTask};
pub use record_source::{JsonObject, RecordSource};
pub use shard::Shard;
pub use text_template::TextTemplate;
pub use turns::TurnMarkers;

pub use image::RgbImage;

/// The README's example is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
