//! The members of a training job: one process, the processes of an MPI job, or a thread for each device.

#[cfg(any(feature = "wgpu", feature = "vulkan"))]
use adamllm::burn::tensor::DeviceKind;
use adamllm::prelude::*;
use adamllm::train::Collective;
use clap::Parser;

use crate::cli::{self, JobResult};

/// [`cli::main`] for a job that may be one of several: built with the feature `mpi`, it joins the MPI job that its process
/// was started in (`mpirun`, `srun`). A member that fails says so and ends the others.
pub fn main<A: Parser>(job: impl FnOnce(A, &dyn Collective) -> JobResult) -> std::process::ExitCode {
    cli::main(|arguments| joined(|replicas| job(arguments, replicas)))
}

#[cfg(not(feature = "mpi"))]
fn joined(job: impl FnOnce(&dyn Collective) -> JobResult) -> JobResult {
    job(&adamllm::train::SingleProcess)
}

#[cfg(feature = "mpi")]
fn joined(job: impl FnOnce(&dyn Collective) -> JobResult) -> JobResult {
    let members = adamllm::train::MpiCollective::join()?;
    match job(&members) {
        Err(error) if members.size() > 1 => {
            // The others may be waiting for this one: they must not find it gone without a word.
            let _ = cli::failed(error.as_ref());
            members.abort(1)
        }
        result => result,
    }
}

/// The first `n` devices of a backend; the CPU stands there `n` times.
///
/// # Errors
/// As [`cli::device`].
pub fn devices(name: &str, n: usize) -> Result<Vec<Device>, Box<dyn std::error::Error>> {
    let first = cli::device(name)?;
    let of_index = |_index: usize| match name {
        #[cfg(feature = "cuda")]
        "cuda" => Device::cuda(_index),
        #[cfg(feature = "rocm")]
        "rocm" => Device::rocm(_index),
        #[cfg(feature = "wgpu")]
        "wgpu" if n > 1 => Device::wgpu(DeviceKind::DiscreteGpu(_index)),
        #[cfg(feature = "vulkan")]
        "vulkan" if n > 1 => Device::vulkan(DeviceKind::DiscreteGpu(_index)),
        _ => first.clone(),
    };
    Ok((0..n).map(of_index).collect())
}
