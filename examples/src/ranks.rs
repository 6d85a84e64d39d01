//! The ranks of a training job: one process, the processes of an MPI job, or a thread for each device.

use adamllm::train::Collective;
use clap::Parser;

use crate::cli::{self, JobResult};

/// [`cli::main`] for a job that may be one of several: built with the feature `mpi`, it joins the MPI job that its process
/// was started in (`mpirun`, `srun`). A rank that fails says so and ends the others.
pub fn main<A: Parser>(job: impl FnOnce(A, &dyn Collective) -> JobResult) -> std::process::ExitCode {
    cli::main(|arguments| joined(|ranks| job(arguments, ranks)))
}

#[cfg(not(feature = "mpi"))]
fn joined(job: impl FnOnce(&dyn Collective) -> JobResult) -> JobResult {
    job(&adamllm::train::SingleProcess)
}

#[cfg(feature = "mpi")]
fn joined(job: impl FnOnce(&dyn Collective) -> JobResult) -> JobResult {
    let ranks = adamllm::train::MpiCollective::join()?;
    match job(&ranks) {
        Err(error) if ranks.size() > 1 => {
            // The others may be waiting for this one: they must not find it gone without a word.
            let _ = cli::failed(error.as_ref());
            ranks.abort(1)
        }
        result => result,
    }
}
