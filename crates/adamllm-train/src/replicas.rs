//! Data parallel training: several processes (or threads), each with a model of its own, split every window's forward passes
//! among themselves, add their gradients up, and make the same step.

mod agreement;
mod devices;
#[cfg(feature = "mpi")]
mod mpi;
mod start;
mod threads;

use burn::tensor::{DType, Tensor, TensorData};

use crate::TrainError;

pub(crate) use self::agreement::{agreed, first_one_says, gather};
pub use self::devices::{DeviceReplicas, Exchange, on_each_device};
#[cfg(feature = "mpi")]
pub use self::mpi::MpiReplicas;
pub(crate) use self::start::{begin_together, check_alike};
pub use self::threads::ThreadReplicas;

/// The members of a data parallel run, as one of them sees them. Every member calls the same methods in the same order.
pub trait Replicas: Sync {
    /// Which member this is, from 0. Member 0 writes the run's files.
    fn rank(&self) -> usize;

    /// How many members there are.
    fn size(&self) -> usize;

    /// Replaces each value with its sum over all members, the same bits for each of them.
    ///
    /// # Errors
    /// [`TrainError::Replicas`] where a member is gone, or brings another number of values.
    fn add_up(&self, values: &mut [f32]) -> Result<(), TrainError>;

    /// As [`Replicas::add_up`], for counts and losses.
    ///
    /// # Errors
    /// As [`Replicas::add_up`].
    fn add_up_f64(&self, values: &mut [f64]) -> Result<(), TrainError>;

    /// The sum of a tensor `[n]` in f32 over all members. Goes through the host's memory, unless the members' devices can
    /// reach each other.
    ///
    /// # Errors
    /// As [`Replicas::add_up`].
    fn add_up_tensor(&self, tensor: Tensor<1>) -> Result<Tensor<1>, TrainError> {
        let (shape, device) = (tensor.shape(), tensor.device());
        let mut values: Vec<f32> = tensor.into_data().try_into_vec().expect("the tensor is in f32");
        self.add_up(&mut values)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), (&device, DType::F32)))
    }
}

/// A run of a single member.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Replicas for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn add_up(&self, _values: &mut [f32]) -> Result<(), TrainError> {
        Ok(())
    }

    fn add_up_f64(&self, _values: &mut [f64]) -> Result<(), TrainError> {
        Ok(())
    }

    fn add_up_tensor(&self, tensor: Tensor<1>) -> Result<Tensor<1>, TrainError> {
        Ok(tensor)
    }
}
