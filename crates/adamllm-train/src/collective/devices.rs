use std::fmt;
use std::panic::resume_unwind;
use std::sync::Mutex;

use burn::tensor::distributed::{ReduceOperation, all_reduce};
use burn::tensor::{Device, Tensor};

use crate::{Collective, ThreadCollective, TrainError};

/// Threads of one process with a CUDA device each, whose gradients are added up by burn's `all_reduce` (NCCL) without passing
/// the host. Counts and losses, a few numbers for each step, pass the host.
///
/// Written against burn 0.22.1's sources; it has been type-checked, and not run on GPUs. CUDA is burn's only backend with
/// collective operations; any other panics at the first sum. [`ThreadCollective`] works with every backend.
pub struct DeviceCollective {
    host: ThreadCollective,
    devices: Vec<Device>,
}

impl DeviceCollective {
    /// One for each device, in their order: its thread's model must live there.
    ///
    /// # Panics
    /// If there are no devices.
    pub fn new(devices: &[Device]) -> Vec<Self> {
        // Each name of the group is a device without autodiff, as gradients are.
        let devices: Vec<Device> = devices.iter().map(|device| device.clone().without_autodiff()).collect();
        let hosts = ThreadCollective::new(devices.len()).into_iter();
        hosts.map(|host| Self { host, devices: devices.clone() }).collect()
    }
}

impl fmt::Debug for DeviceCollective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceCollective").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Collective for DeviceCollective {
    fn rank(&self) -> usize {
        self.host.rank()
    }

    fn size(&self) -> usize {
        self.host.size()
    }

    fn all_reduce_sum(&self, values: &mut [f32]) -> Result<(), TrainError> {
        self.host.all_reduce_sum(values)
    }

    fn all_reduce_sum_f64(&self, values: &mut [f64]) -> Result<(), TrainError> {
        self.host.all_reduce_sum_f64(values)
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, TrainError> {
        self.host.all_gather(own)
    }

    fn barrier(&self) -> Result<(), TrainError> {
        self.host.barrier()
    }

    fn all_reduce_sum_tensor(&self, tensor: Tensor<1>) -> Result<Tensor<1>, TrainError> {
        Ok(all_reduce(tensor, ReduceOperation::Sum, self.devices.clone()).resolve())
    }
}

/// The way that the gradients of threads of one process are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// Through the host's memory: every backend.
    HostMemory,
    /// From device to device: [`DeviceCollective`], CUDA only.
    DeviceToDevice,
}

/// Runs `work` once for each device, each in a thread of its own, with its rank; gives what they gave,
/// in the order of the devices. `work` loads its own model on its device (clones of one model share their parameters, which
/// burn cannot differentiate in two threads at once) and trains it with
/// [`FitOptions::collective`](crate::FitOptions::collective).
///
/// A device may stand there several times, such as the CPU.
///
/// # Errors
/// What the first thread that failed says; the others then end too.
///
/// # Panics
/// If there are no devices, or if `work` panics.
pub fn on_each_device<T, E, W>(devices: &[Device], transport: Transport, work: W) -> Result<Vec<T>, E>
where
    T: Send,
    E: Send,
    W: Fn(&Device, &dyn Collective) -> Result<T, E> + Sync,
{
    let processes: Vec<Box<dyn Collective + Send>> = match transport {
        Transport::HostMemory => ThreadCollective::new(devices.len()).into_iter().map(|m| Box::new(m) as _).collect(),
        Transport::DeviceToDevice => DeviceCollective::new(devices).into_iter().map(|m| Box::new(m) as _).collect(),
    };
    let (work, failure) = (&work, &Mutex::new(None));
    let of_device = |(device, process): (&Device, Box<dyn Collective + Send>)| match work(device, process.as_ref()) {
        Ok(value) => Some(value),
        Err(error) => {
            // Before the process is dropped, which makes the others fail.
            failure.lock().expect("no thread panics with the lock held").get_or_insert(error);
            None
        }
    };
    let values: Vec<Option<T>> = std::thread::scope(|scope| {
        let start = |pair: (Device, Box<dyn Collective + Send>)| scope.spawn(move || of_device((&pair.0, pair.1)));
        let threads: Vec<_> = devices.iter().cloned().zip(processes).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    match failure.lock().expect("no thread panics with the lock held").take() {
        Some(error) => Err(error),
        None => Ok(values.into_iter().flatten().collect()),
    }
}
