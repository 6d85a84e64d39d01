//! What ranks send each other beside gradients: which of them failed, and whether they would do the same.

use crate::{Collective, TrainError};

/// A result that counts only where it is good for all: where one rank fails, all of them do, so that none waits for another.
pub(crate) fn all_ok<T>(collective: &dyn Collective, own: Result<T, TrainError>) -> Result<T, TrainError> {
    let fault = own.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let faults = collective.all_gather(fault.as_bytes());
    let value = own?;
    match faults?.into_iter().enumerate().find(|(_, fault)| !fault.is_empty()) {
        None => Ok(value),
        Some((rank, fault)) => {
            let detail = String::from_utf8_lossy(&fault).into_owned();
            Err(TrainError::Collective { rank, size: collective.size(), detail })
        }
    }
}

/// Makes sure that all ranks have the same `what`.
pub(crate) fn all_equal(collective: &dyn Collective, what: &str, own: &str) -> Result<(), TrainError> {
    let all = collective.all_gather(own.as_bytes())?;
    match all.iter().enumerate().find(|(_, theirs)| **theirs != all[0]) {
        None => Ok(()),
        Some((rank, theirs)) => {
            let [expected, got] = [&all[0], theirs].map(|text| String::from_utf8_lossy(text));
            let detail = format!("{what}: expected {expected} as rank 0, got {got}");
            Err(TrainError::Collective { rank, size: collective.size(), detail })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ThreadCollective;

    fn each<T: Send>(size: usize, of: impl Fn(&dyn Collective) -> T + Sync) -> Vec<T> {
        let of = &of;
        std::thread::scope(|scope| {
            let ranks = ThreadCollective::new(size).into_iter();
            let threads: Vec<_> = ranks.map(|rank| scope.spawn(move || of(&rank))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        })
    }

    #[test]
    fn every_rank_receives_from_every_other() {
        let heard = each(3, |rank| rank.all_gather(&vec![7; rank.rank() * 2]).expect("all are there"));
        assert_eq!(heard, vec![vec![vec![], vec![7; 2], vec![7; 4]]; 3]);
        let first = each(3, |rank| rank.broadcast(&[5 + rank.rank() as u8]).expect("all are there"));
        assert_eq!(first, vec![vec![5]; 3]);
    }

    #[test]
    fn where_one_fails_all_do() {
        let outcomes = each(3, |rank| {
            let fault = TrainError::Batch { examples: vec![4], source: "broken".into() };
            all_ok(rank, if rank.rank() == 1 { Err(fault) } else { Ok(()) }).expect_err("fails").to_string()
        });
        assert_eq!(outcomes[1], "batch of examples [4]: broken");
        assert_eq!([&outcomes[0], &outcomes[2]], ["rank 1 of 3: batch of examples [4]: broken"; 2]);
        assert!(each(3, |rank| all_ok(rank, Ok(rank.rank())).expect("all are well")).is_sorted());
    }

    #[test]
    fn a_difference_is_named() {
        let text = |rank: usize| if rank == 2 { "b" } else { "a" };
        let outcomes = each(3, |rank| all_equal(rank, "letter", text(rank.rank())).expect_err("differs").to_string());
        assert_eq!(outcomes, ["rank 2 of 3: letter: expected a as rank 0, got b"; 3]);
        each(3, |rank| all_equal(rank, "letter", "a").expect("the same"));
    }

    #[test]
    fn nobody_waits_for_one_that_left() {
        let outcomes = each(3, |rank| match rank.rank() {
            1 => None,
            _ => Some(rank.all_reduce_sum(&mut [1.0]).expect_err("one is gone").to_string()),
        });
        assert_eq!(outcomes[2].as_deref(), Some("rank 2 of 3: rank 1 is gone"));
        assert!(outcomes[0].is_some());
    }

    #[test]
    fn values_that_do_not_match_are_refused() {
        let outcomes = each(2, |rank| rank.all_reduce_sum(&mut vec![1.0; 2 + rank.rank()]).is_err());
        assert_eq!(outcomes, [true; 2]);
    }
}
