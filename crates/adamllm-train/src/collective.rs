//! Data parallel training: several ranks (processes, or threads of one process), each with a model of its own, split every
//! step's forward passes among themselves, sum their gradients, and make the same step.

mod devices;
mod messages;
#[cfg(feature = "mpi")]
mod mpi;
mod start;
mod threads;

use burn::tensor::{DType, Tensor, TensorData};

use crate::TrainError;

pub use self::devices::{DeviceCollective, Transport, on_each_device};
pub(crate) use self::messages::{all_equal, all_ok};
#[cfg(feature = "mpi")]
pub use self::mpi::MpiCollective;
pub(crate) use self::start::{check_same_run, start_together};
pub use self::threads::ThreadCollective;

/// The collective operations of a data parallel run, as one rank calls them. Every rank calls the same methods in the same order.
pub trait Collective: Sync {
    /// Which rank this is, from 0. Rank 0 writes the run's files.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn size(&self) -> usize;

    /// Replaces each value with its sum over all ranks, the same bits for each of them.
    ///
    /// # Errors
    /// [`TrainError::Collective`] where a rank is gone, or brings another number of values.
    fn all_reduce_sum(&self, values: &mut [f32]) -> Result<(), TrainError>;

    /// As [`Collective::all_reduce_sum`], for counts and losses.
    ///
    /// # Errors
    /// As [`Collective::all_reduce_sum`].
    fn all_reduce_sum_f64(&self, values: &mut [f64]) -> Result<(), TrainError>;

    /// The bytes of every rank, in the order of the ranks. By sums over zeros, unless an implementation knows better.
    ///
    /// # Errors
    /// [`TrainError::Collective`] where a rank is gone.
    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, TrainError> {
        if self.size() == 1 {
            return Ok(vec![own.to_vec()]);
        }
        let mut lengths = vec![0.0; self.size()];
        lengths[self.rank()] = own.len() as f64;
        self.all_reduce_sum_f64(&mut lengths)?;
        let lengths: Vec<usize> = lengths.into_iter().map(|length| length as usize).collect();

        let mut bytes = vec![0.0; lengths.iter().sum()];
        if bytes.is_empty() {
            return Ok(vec![Vec::new(); self.size()]);
        }
        let first = lengths[..self.rank()].iter().sum::<usize>();
        bytes[first..].iter_mut().zip(own).for_each(|(sum, &byte)| *sum = f64::from(byte));
        self.all_reduce_sum_f64(&mut bytes)?;
        let mut bytes = bytes.into_iter().map(|byte| byte as u8);
        Ok(lengths.into_iter().map(|length| bytes.by_ref().take(length).collect()).collect())
    }

    /// The bytes of rank 0; those that another rank gives are not looked at.
    ///
    /// # Errors
    /// As [`Collective::all_gather`].
    fn broadcast(&self, own: &[u8]) -> Result<Vec<u8>, TrainError> {
        let own = if self.rank() == 0 { own } else { &[] };
        Ok(self.all_gather(own)?.swap_remove(0))
    }

    /// Waits until every rank has come this far.
    ///
    /// # Errors
    /// As [`Collective::all_gather`].
    fn barrier(&self) -> Result<(), TrainError> {
        self.all_reduce_sum_f64(&mut [0.0])
    }

    /// The sum of a tensor `[n]` in f32 over all ranks. Goes through the host's memory, unless the ranks' devices can
    /// reach each other.
    ///
    /// # Errors
    /// As [`Collective::all_reduce_sum`].
    fn all_reduce_sum_tensor(&self, tensor: Tensor<1>) -> Result<Tensor<1>, TrainError> {
        let (shape, device) = (tensor.shape(), tensor.device());
        let mut values: Vec<f32> = tensor.into_data().try_into_vec().expect("the tensor is in f32");
        self.all_reduce_sum(&mut values)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), (&device, DType::F32)))
    }
}

/// A run of a single process.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleProcess;

impl Collective for SingleProcess {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_reduce_sum(&self, _values: &mut [f32]) -> Result<(), TrainError> {
        Ok(())
    }

    fn all_reduce_sum_f64(&self, _values: &mut [f64]) -> Result<(), TrainError> {
        Ok(())
    }

    fn all_reduce_sum_tensor(&self, tensor: Tensor<1>) -> Result<Tensor<1>, TrainError> {
        Ok(tensor)
    }
}
