//! What the runnable jobs share: exit codes, logs, signals and output folders. Nothing here that an embedder would miss.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;

pub use crate::bar::Bar;
pub use crate::losses::{MaxLost, TooManyLost, check_losses};
pub use crate::output::{Output, prepare};

/// What a job answers: any error is one clear line on stderr, and exit code 1.
pub type JobResult = Answer<()>;

/// What a part of a job answers.
pub type Answer<T> = Result<T, Box<dyn std::error::Error>>;

/// Parses the arguments (wrong ones end with exit code 2), sets logging up, and runs the job.
pub fn main<A: Parser>(job: impl FnOnce(A) -> JobResult) -> ExitCode {
    keep_pages();
    let arguments = A::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("ADAMLLM_LOG").unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match job(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<TooManyLost>() => {
            failed(error.as_ref());
            ExitCode::from(4)
        }
        Err(error) => failed(error.as_ref()),
    }
}

/// Tells the allocator to keep freed pages: a training step takes and frees the same large blocks again and again, and a fifth of its
/// time went into the system's clearing them.
fn keep_pages() {
    /// `mi_option_purge_delay` of mimalloc 3: milliseconds after which free pages go back, -1 for never.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: an option of the allocator, set before any thread is started.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}

/// [`main()`] for a job that also answers by its exit code.
pub fn main_with_code<A: Parser>(job: impl FnOnce(A) -> Result<ExitCode, Box<dyn std::error::Error>>) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    let answered = main(|arguments| {
        code = job(arguments)?;
        Ok(())
    });
    if answered == ExitCode::SUCCESS { code } else { answered }
}

/// One line, whatever the error says.
pub(crate) fn failed(error: &dyn std::error::Error) -> ExitCode {
    let text = error.to_string();
    eprintln!("error: {}", text.split_whitespace().collect::<Vec<_>>().join(" "));
    ExitCode::FAILURE
}

/// The versions that a run's report names beside the evaluator's own: of the examples, and of burn in `Cargo.lock`.
pub fn software() -> std::collections::BTreeMap<String, String> {
    let lock = include_str!("../../Cargo.lock");
    let version = |name: &str| {
        let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("\nname = \"{name}\"\n")))?;
        Some(entry.split("version = \"").nth(1)?.split('"').next()?.to_owned())
    };
    ["adamllm", "burn"].into_iter().filter_map(|name| Some((name.to_owned(), version(name)?))).collect()
}

/// `datasets/mini`: below the current folder, or beside the sources.
pub fn mini_folder() -> PathBuf {
    let below = PathBuf::from("datasets/mini");
    if below.is_dir() { below } else { Path::new(env!("CARGO_MANIFEST_DIR")).join("../datasets/mini") }
}

/// Set by a signal once [`stop_on_signal`] was called: training writes a checkpoint and ends, other work ends after its next batch.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// From here on, Ctrl-C and a terminating signal set [`STOP`] instead of ending the process; a second one ends it at once.
///
/// # Errors
/// Where the signals are handled by somebody else.
#[allow(clippy::exit, reason = "somebody asked twice")]
pub fn stop_on_signal() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
}

/// A setting by its name in settings files, on the command line with `-` for `_`.
///
/// # Errors
/// Names those that there are.
pub fn setting<T: serde::de::DeserializeOwned>(name: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(name.replace('-', "_"))).map_err(|error| error.to_string())
}

/// A result, written as indented JSON into a file and printed as one line where that was asked for.
///
/// # Errors
/// The file.
pub fn tell_json(file: &Path, result: &serde_json::Value, print: bool) -> JobResult {
    adamllm::core::write_atomically(file, format!("{result:#}\n"))?;
    if print {
        println!("{result}");
    }
    Ok(())
}
