//! What the examples share. They are shells: the jobs themselves are `adamllm::recipes`.
//!
//! | module | |
//! |---|---|
//! | [`cli`] | exit codes, logs, a progress bar, output folders |
//! | [`benchmarks`] | benchmarks named on the command line |
//! | `folders`, `models`, `devices` | model folders, models and devices by name |
//! | `batches` | models that are asked through files |
//! | `judge` | a judge of open answers by name |
//! | `spending`, `synthesis` | a synthesis: budgets and estimates, what it tells |
//! | `decoding` | how an answer is decoded, as flags |
//! | `ranks` | the processes of an MPI job |

mod bar;
#[cfg(feature = "models")]
pub mod batches;
pub mod benchmarks;
pub mod cli;
#[cfg(feature = "models")]
pub mod decoding;
#[cfg(feature = "models")]
pub mod devices;
#[cfg(feature = "models")]
mod files;
#[cfg(feature = "models")]
pub mod folders;
#[cfg(feature = "hub")]
pub mod hub;
#[cfg(feature = "models")]
pub mod judge;
mod losses;
#[cfg(feature = "models")]
pub mod models;
mod output;
#[cfg(feature = "models")]
pub mod pixels;
#[cfg(feature = "models")]
pub mod ranks;
#[cfg(feature = "models")]
pub mod spending;
#[cfg(feature = "models")]
pub mod synthesis;

#[cfg(feature = "models")]
pub use files::Files;

/// The root README's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
