use std::fmt;
use std::sync::{Mutex, PoisonError};

use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::traits::{Communicator, CommunicatorCollectives, Equivalence};
use mpi::{Threading, initialize_with_threading};

use crate::{Replicas, TrainError};

/// Values that MPI adds up at once: it counts in 32 bits, and the sums need as much room again as the values.
const CHUNK: usize = 1 << 24;

/// Members that are processes of an MPI job (`mpirun`, `srun`), on one machine or on several. They add up through the host's
/// memory. MPI's own error handler ends the whole job where a member cannot be reached.
pub struct MpiReplicas {
    universe: Universe,
    rank: usize,
    size: usize,
    /// MPI is asked by one thread at a time.
    asked: Mutex<()>,
}

impl MpiReplicas {
    /// Joins the job that this process was started in; a process that nothing started is a job of its own.
    ///
    /// Dropping it waits for all members (`MPI_Finalize`). A member that cannot go on calls [`MpiReplicas::abort`], or ends its
    /// process without dropping this.
    ///
    /// # Errors
    /// [`TrainError::Replicas`]: MPI was begun before in this process, or cannot be used by threads.
    pub fn join() -> Result<Self, TrainError> {
        let fault = |detail: &str| TrainError::Replicas { rank: 0, size: 1, detail: detail.into() };
        let begun = initialize_with_threading(Threading::Serialized);
        let (universe, threading) = begun.ok_or_else(|| fault("MPI was begun before"))?;
        if threading < Threading::Serialized {
            return Err(fault("expected an MPI library that several threads may ask in turn"));
        }
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        Ok(Self { universe, rank, size, asked: Mutex::new(()) })
    }

    /// Ends all processes of the job at once (`MPI_Abort`): for a member that failed where the others wait for it.
    pub fn abort(&self, code: i32) -> ! {
        self.universe.world().abort(code)
    }

    fn sum<T: Equivalence + Copy + Default>(&self, values: &mut [T]) {
        let _asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let world = self.universe.world();
        let mut sums = vec![T::default(); values.len().min(CHUNK)];
        for chunk in values.chunks_mut(CHUNK) {
            let sums = &mut sums[..chunk.len()];
            world.all_reduce_into(&*chunk, sums, SystemOperation::sum());
            chunk.copy_from_slice(sums);
        }
    }
}

impl fmt::Debug for MpiReplicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MpiReplicas").field("rank", &self.rank).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Replicas for MpiReplicas {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn add_up(&self, values: &mut [f32]) -> Result<(), TrainError> {
        self.sum(values);
        Ok(())
    }

    fn add_up_f64(&self, values: &mut [f64]) -> Result<(), TrainError> {
        self.sum(values);
        Ok(())
    }
}
