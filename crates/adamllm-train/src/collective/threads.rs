use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::{Collective, TrainError};

/// Ranks that are threads of one process, such as one for each GPU of a machine. Sums go through the host's memory.
///
/// A rank that is dropped while others wait for it (its thread failed or panicked) does not leave them waiting: they get
/// [`TrainError::Collective`].
#[derive(Debug)]
pub struct ThreadCollective {
    rank: usize,
    room: Arc<Room>,
}

/// Where threads meet.
#[derive(Debug)]
struct Room {
    size: usize,
    slots: Vec<Mutex<Vec<f64>>>,
    meeting: Mutex<Meeting>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Meeting {
    /// Meetings so far.
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
        let slots = (0..size).map(|_| Mutex::new(Vec::new())).collect();
        let room = Arc::new(Room { size, slots, meeting: Mutex::default(), arrived: Condvar::new() });
        (0..size).map(|rank| Self { rank, room: room.clone() }).collect()
    }

    /// Waits for all ranks.
    fn meet(&self) -> Result<(), TrainError> {
        let mut meeting = held(&self.room.meeting);
        let number = meeting.number;
        meeting.waiting += 1;
        if meeting.waiting == self.room.size {
            (meeting.number, meeting.waiting) = (number + 1, 0);
            self.room.arrived.notify_all();
        }
        while meeting.number == number && meeting.gone.is_none() {
            meeting = self.room.arrived.wait(meeting).unwrap_or_else(PoisonError::into_inner);
        }
        match meeting.gone {
            Some(gone) if meeting.number == number => Err(self.fault(format!("rank {gone} is gone"))),
            _ => Ok(()),
        }
    }

    fn exchange(&self, values: &[f64]) -> Result<Vec<f64>, TrainError> {
        let mut own = held(&self.room.slots[self.rank]);
        own.clear();
        own.extend_from_slice(values);
        drop(own);
        self.meet()?;
        // In the order of the ranks: the same bits for every thread.
        let (mut sums, mut fault) = (vec![0.0; values.len()], None);
        for (rank, slot) in self.room.slots.iter().enumerate() {
            let theirs = held(slot);
            if theirs.len() != values.len() {
                fault = Some(format!("expected {} values of rank {rank}, got {}", values.len(), theirs.len()));
            }
            sums.iter_mut().zip(theirs.iter()).for_each(|(sum, value)| *sum += value);
        }
        self.meet()?;
        fault.map_or(Ok(sums), |detail| Err(self.fault(detail)))
    }

    fn fault(&self, detail: String) -> TrainError {
        TrainError::Collective { rank: self.rank, size: self.room.size, detail }
    }
}

/// What a panicking thread left is still whole: both locks guard plain values.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for ThreadCollective {
    fn drop(&mut self) {
        held(&self.room.meeting).gone.get_or_insert(self.rank);
        self.room.arrived.notify_all();
    }
}

impl Collective for ThreadCollective {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.room.size
    }

    fn all_reduce_sum(&self, values: &mut [f32]) -> Result<(), TrainError> {
        let wide: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
        let sums = self.exchange(&wide)?;
        values.iter_mut().zip(sums).for_each(|(value, sum)| *value = sum as f32);
        Ok(())
    }

    fn all_reduce_sum_f64(&self, values: &mut [f64]) -> Result<(), TrainError> {
        values.copy_from_slice(&self.exchange(values)?);
        Ok(())
    }
}
