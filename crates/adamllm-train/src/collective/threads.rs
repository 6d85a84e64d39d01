use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::{Collective, TrainError};

/// Ranks that are threads of one process, such as one for each GPU of a machine. Sums go through the host's memory.
///
/// A rank that is dropped while others wait for it (its thread failed or panicked) does not leave them waiting: they get
/// [`TrainError::Collective`].
///
/// ```
/// use adamllm_train::{Collective, ThreadCollective};
///
/// let sums: Vec<f32> = std::thread::scope(|scope| {
///     let ranks = ThreadCollective::new(2).into_iter();
///     let threads: Vec<_> = ranks
///         .map(|rank| {
///             scope.spawn(move || {
///                 let mut values = [rank.rank() as f32 + 1.0];
///                 rank.all_reduce_sum(&mut values).map(|()| values[0])
///             })
///         })
///         .collect();
///     threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Result<_, _>>()
/// })?;
/// assert_eq!(sums, [3.0, 3.0]);
/// # Ok::<(), adamllm_train::TrainError>(())
/// ```
#[derive(Debug)]
pub struct ThreadCollective {
    rank: usize,
    shared: Arc<ThreadState>,
}

/// What the threads share.
#[derive(Debug)]
struct ThreadState {
    size: usize,
    /// What each rank adds to a sum.
    summands: Vec<Mutex<Vec<f64>>>,
    /// The bytes of each rank.
    messages: Vec<Mutex<Vec<u8>>>,
    barrier: Mutex<BarrierState>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct BarrierState {
    /// How often all ranks have come here.
    number: usize,
    waiting: usize,
    /// The first rank that left.
    gone: Option<usize>,
}

impl ThreadCollective {
    /// One for each of `size` threads. Each thread must own its rank.
    ///
    /// # Panics
    /// If `size` is 0.
    pub fn new(size: usize) -> Vec<Self> {
        assert!(size > 0, "at least one rank");
        let summands = (0..size).map(|_| Mutex::default()).collect();
        let messages = (0..size).map(|_| Mutex::default()).collect();
        let shared =
            Arc::new(ThreadState { size, summands, messages, barrier: Mutex::default(), arrived: Condvar::new() });
        (0..size).map(|rank| Self { rank, shared: shared.clone() }).collect()
    }

    /// Waits for all ranks.
    fn wait_for_all(&self) -> Result<(), TrainError> {
        let mut barrier = held(&self.shared.barrier);
        let number = barrier.number;
        barrier.waiting += 1;
        if barrier.waiting == self.shared.size {
            (barrier.number, barrier.waiting) = (number + 1, 0);
            self.shared.arrived.notify_all();
        }
        while barrier.number == number && barrier.gone.is_none() {
            barrier = self.shared.arrived.wait(barrier).unwrap_or_else(PoisonError::into_inner);
        }
        match barrier.gone {
            Some(gone) if barrier.number == number => Err(self.fault(format!("rank {gone} is gone"))),
            _ => Ok(()),
        }
    }

    fn sum(&self, values: &[f64]) -> Result<Vec<f64>, TrainError> {
        let mut own = held(&self.shared.summands[self.rank]);
        own.clear();
        own.extend_from_slice(values);
        drop(own);
        self.wait_for_all()?;
        // In the order of the ranks: the same bits for every thread.
        let (mut sums, mut fault) = (vec![0.0; values.len()], None);
        for (rank, slot) in self.shared.summands.iter().enumerate() {
            let theirs = held(slot);
            if theirs.len() != values.len() {
                fault = Some(format!("expected {} values of rank {rank}, got {}", values.len(), theirs.len()));
            }
            sums.iter_mut().zip(theirs.iter()).for_each(|(sum, value)| *sum += value);
        }
        self.wait_for_all()?;
        fault.map_or(Ok(sums), |detail| Err(self.fault(detail)))
    }

    fn fault(&self, detail: String) -> TrainError {
        TrainError::Collective { rank: self.rank, size: self.shared.size, detail }
    }
}

/// What a panicking thread left is still whole: both locks guard plain values.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for ThreadCollective {
    fn drop(&mut self) {
        held(&self.shared.barrier).gone.get_or_insert(self.rank);
        self.shared.arrived.notify_all();
    }
}

impl Collective for ThreadCollective {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.size
    }

    fn all_reduce_sum(&self, values: &mut [f32]) -> Result<(), TrainError> {
        let wide: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
        let sums = self.sum(&wide)?;
        values.iter_mut().zip(sums).for_each(|(value, sum)| *value = sum as f32);
        Ok(())
    }

    fn all_reduce_sum_f64(&self, values: &mut [f64]) -> Result<(), TrainError> {
        values.copy_from_slice(&self.sum(values)?);
        Ok(())
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, TrainError> {
        *held(&self.shared.messages[self.rank]) = own.to_vec();
        self.wait_for_all()?;
        let all = self.shared.messages.iter().map(|message| held(message).clone()).collect();
        // No rank writes its next message before every other has read this one.
        self.wait_for_all()?;
        Ok(all)
    }

    fn barrier(&self) -> Result<(), TrainError> {
        self.wait_for_all()
    }
}
