use std::fmt;
use std::sync::{Mutex, PoisonError};

use mpi::Count;
use mpi::collective::SystemOperation;
use mpi::datatype::PartitionMut;
use mpi::environment::Universe;
use mpi::traits::{Communicator, CommunicatorCollectives, Equivalence};
use mpi::{Threading, initialize_with_threading};

use crate::{Collective, TrainError};

/// Values of one `MPI_Allreduce`: it counts in 32 bits, and the sums need as much room again as the values.
const CHUNK: usize = 1 << 24;

/// Ranks that are processes of an MPI job (`mpirun`, `srun`), on one machine or on several. Sums go through the host's
/// memory. MPI's own error handler ends the whole job where a process cannot be reached.
pub struct MpiCollective {
    universe: Universe,
    rank: usize,
    size: usize,
    /// MPI is called by one thread at a time.
    asked: Mutex<()>,
}

impl MpiCollective {
    /// Joins the job that this process was started in; a process that nothing started is a job of its own.
    ///
    /// Dropping it waits for all processes (`MPI_Finalize`). A process that cannot go on calls [`MpiCollective::abort`], or
    /// ends its process without dropping this.
    ///
    /// # Errors
    /// [`TrainError::Collective`]: MPI was initialized before in this process, or cannot be used by threads.
    pub fn join() -> Result<Self, TrainError> {
        let fault = |detail: &str| TrainError::Collective { rank: 0, size: 1, detail: detail.into() };
        let initialized = initialize_with_threading(Threading::Serialized);
        let (universe, threading) = initialized.ok_or_else(|| fault("MPI was initialized before"))?;
        if threading < Threading::Serialized {
            return Err(fault("expected an MPI library that several threads may ask in turn"));
        }
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        Ok(Self { universe, rank, size, asked: Mutex::new(()) })
    }

    /// Ends all processes of the job at once (`MPI_Abort`): for a process that failed where the others wait for it.
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

impl fmt::Debug for MpiCollective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MpiCollective").field("rank", &self.rank).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Collective for MpiCollective {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_reduce_sum(&self, values: &mut [f32]) -> Result<(), TrainError> {
        self.sum(values);
        Ok(())
    }

    fn all_reduce_sum_f64(&self, values: &mut [f64]) -> Result<(), TrainError> {
        self.sum(values);
        Ok(())
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, TrainError> {
        let _asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let world = self.universe.world();
        let too_long = || TrainError::Collective {
            rank: self.rank,
            size: self.size,
            detail: format!("{} bytes are more than MPI counts in one message", own.len()),
        };

        // How much each rank has to say, then what it is. MPI counts in 32 bits, all ranks' bytes together.
        let mut lengths: Vec<Count> = vec![0; self.size];
        world.all_gather_into(&Count::try_from(own.len()).map_err(|_| too_long())?, &mut lengths[..]);
        let mut n_bytes: Count = 0;
        let mut starts = Vec::with_capacity(self.size);
        for length in &lengths {
            starts.push(n_bytes);
            n_bytes = n_bytes.checked_add(*length).ok_or_else(too_long)?;
        }

        // An empty slice may point at the address 1, which is OpenMPI's word for "in place": both buffers are a part of something.
        let own = if own.is_empty() { &[0_u8][..0] } else { own };
        let mut bytes = vec![0_u8; n_bytes as usize + 1];
        let mut parts = PartitionMut::new(&mut bytes[..], &lengths[..], &starts[..]);
        world.all_gather_varcount_into(own, &mut parts);

        let mut rest = &bytes[..];
        let of_rank = |length: &Count| {
            let (own, others) = rest.split_at(*length as usize);
            rest = others;
            own.to_vec()
        };
        Ok(lengths.iter().map(of_rank).collect())
    }
}
