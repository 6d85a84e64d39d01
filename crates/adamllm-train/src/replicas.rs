//! Data parallel training: several processes (or threads), each with a model of its own, split every window's forward passes
//! among themselves, add their gradients up, and make the same step.

use std::sync::{Arc, Barrier, Mutex};

use crate::TrainError;

/// The members of a data parallel run, as one of them sees them. Every member calls the same methods in the same order.
pub trait Replicas: Sync {
    /// Which member this is, from 0. Member 0 writes the run's files.
    fn rank(&self) -> usize;

    /// How many members there are.
    fn size(&self) -> usize;

    /// Replaces each value with its sum over all members, the same bits for each of them.
    ///
    /// # Errors
    /// [`TrainError::Replicas`] where a member is gone.
    fn add_up(&self, values: &mut [f32]) -> Result<(), TrainError>;

    /// As [`Replicas::add_up`], for counts and losses.
    ///
    /// # Errors
    /// As [`Replicas::add_up`].
    fn add_up_f64(&self, values: &mut [f64]) -> Result<(), TrainError>;
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
}

/// Members that are threads of one process, such as one for each GPU of a machine. They add up through the host's memory.
#[derive(Debug)]
pub struct ThreadReplicas {
    rank: usize,
    room: Arc<Room>,
}

/// Where threads meet.
#[derive(Debug)]
struct Room {
    size: usize,
    barrier: Barrier,
    slots: Vec<Mutex<Vec<f64>>>,
}

impl ThreadReplicas {
    /// One for each of `size` threads.
    ///
    /// # Panics
    /// If `size` is 0.
    pub fn new(size: usize) -> Vec<Self> {
        assert!(size > 0, "at least one member");
        let slots = (0..size).map(|_| Mutex::new(Vec::new())).collect();
        let room = Arc::new(Room { size, barrier: Barrier::new(size), slots });
        (0..size).map(|rank| Self { rank, room: room.clone() }).collect()
    }

    fn exchange(&self, values: &[f64]) -> Vec<f64> {
        let lock = |rank: usize| self.room.slots[rank].lock().expect("no thread panics with the lock held");
        *lock(self.rank) = values.to_vec();
        self.room.barrier.wait();
        // In the order of the ranks: the same bits for every thread.
        let mut sums = vec![0.0; values.len()];
        for rank in 0..self.room.size {
            sums.iter_mut().zip(lock(rank).iter()).for_each(|(sum, value)| *sum += value);
        }
        self.room.barrier.wait();
        sums
    }
}

impl Replicas for ThreadReplicas {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.room.size
    }

    fn add_up(&self, values: &mut [f32]) -> Result<(), TrainError> {
        let wide: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
        let sums = self.exchange(&wide);
        values.iter_mut().zip(sums).for_each(|(value, sum)| *value = sum as f32);
        Ok(())
    }

    fn add_up_f64(&self, values: &mut [f64]) -> Result<(), TrainError> {
        let sums = self.exchange(values);
        values.copy_from_slice(&sums);
        Ok(())
    }
}
