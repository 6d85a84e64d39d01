//! adamllm on a device: what it computes there beside transformers' recorded answers and beside the CPU (`check`), and how
//! long it takes (`bench`). See `docs/guides/gpu.md`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool talks to a person")]

mod bench;
mod cases;
mod check;
mod compare;
mod device;
mod fixtures;
mod report;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What every part answers; an error is one line.
type Answer<T> = Result<T, Box<dyn std::error::Error>>;

/// Checks and measures adamllm on a device.
#[derive(Parser, Debug)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Compares a device with transformers' recorded answers and with the CPU
    Check(check::Arguments),
    /// Times training steps and answers of a model folder
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("ADAMLLM_LOG").unwrap_or_else(|_| "error".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let done = match Arguments::parse().command {
        Command::Check(arguments) => check::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
