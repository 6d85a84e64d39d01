use std::fmt;
use std::panic::resume_unwind;
use std::sync::Mutex;

use burn::tensor::distributed::{ReduceOperation, all_reduce};
use burn::tensor::{Device, Tensor};

use crate::{Replicas, ThreadReplicas, TrainError};

/// Threads of one process with a CUDA device each, whose gradients are added up by burn's `all_reduce` (NCCL) without passing
/// the host. Counts and losses, a few numbers for each step, pass the host.
///
/// Written against burn 0.22.1's sources; it has been type-checked, and not run on GPUs. CUDA is burn's only backend with collective
/// operations; any other panics at the first sum. [`ThreadReplicas`] works with every backend.
pub struct DeviceReplicas {
    host: ThreadReplicas,
    devices: Vec<Device>,
}

impl DeviceReplicas {
    /// One for each device, in their order: its thread's model must live there.
    ///
    /// # Panics
    /// If there are no devices.
    pub fn new(devices: &[Device]) -> Vec<Self> {
        // Each name of the group is a device without autodiff, as gradients are.
        let devices: Vec<Device> = devices.iter().map(|device| device.clone().without_autodiff()).collect();
        let hosts = ThreadReplicas::new(devices.len()).into_iter();
        hosts.map(|host| Self { host, devices: devices.clone() }).collect()
    }
}

impl fmt::Debug for DeviceReplicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceReplicas").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Replicas for DeviceReplicas {
    fn rank(&self) -> usize {
        self.host.rank()
    }

    fn size(&self) -> usize {
        self.host.size()
    }

    fn add_up(&self, values: &mut [f32]) -> Result<(), TrainError> {
        self.host.add_up(values)
    }

    fn add_up_f64(&self, values: &mut [f64]) -> Result<(), TrainError> {
        self.host.add_up_f64(values)
    }

    fn add_up_tensor(&self, tensor: Tensor<1>) -> Result<Tensor<1>, TrainError> {
        Ok(all_reduce(tensor, ReduceOperation::Sum, self.devices.clone()).resolve())
    }
}

/// How threads of one process add gradients up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// Through the host's memory: every backend.
    HostMemory,
    /// From device to device: [`DeviceReplicas`], CUDA only.
    Collective,
}

/// Runs `work` once for each device, each in a thread of its own, with its place among the members; gives what they gave, in the
/// order of the devices. `work` loads its own model on its device (clones of one model share their parameters, which burn cannot
/// differentiate in two threads at once) and trains it with [`Run::replicas`](crate::Run::replicas).
///
/// A device may stand there several times, such as the CPU.
///
/// # Errors
/// What the first thread that failed says; the others then end too.
///
/// # Panics
/// If there are no devices, or if `work` panics.
pub fn on_each_device<T, E, W>(devices: &[Device], exchange: Exchange, work: W) -> Result<Vec<T>, E>
where
    T: Send,
    E: Send,
    W: Fn(&Device, &dyn Replicas) -> Result<T, E> + Sync,
{
    let members: Vec<Box<dyn Replicas + Send>> = match exchange {
        Exchange::HostMemory => ThreadReplicas::new(devices.len()).into_iter().map(|m| Box::new(m) as _).collect(),
        Exchange::Collective => DeviceReplicas::new(devices).into_iter().map(|m| Box::new(m) as _).collect(),
    };
    let (work, failure) = (&work, &Mutex::new(None));
    let of_device = |(device, member): (&Device, Box<dyn Replicas + Send>)| match work(device, member.as_ref()) {
        Ok(value) => Some(value),
        Err(error) => {
            // Before the member is dropped, which makes the others fail.
            failure.lock().expect("no thread panics with the lock held").get_or_insert(error);
            None
        }
    };
    let values: Vec<Option<T>> = std::thread::scope(|scope| {
        let start = |at: (Device, Box<dyn Replicas + Send>)| scope.spawn(move || of_device((&at.0, at.1)));
        let threads: Vec<_> = devices.iter().cloned().zip(members).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    match failure.lock().expect("no thread panics with the lock held").take() {
        Some(error) => Err(error),
        None => Ok(values.into_iter().flatten().collect()),
    }
}
