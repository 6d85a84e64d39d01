//! What members tell each other beside gradients. Everything is said through sums: what a member does not know, it leaves zero.

use crate::{Replicas, TrainError};

/// What every member says, in the order of the ranks.
pub(crate) fn gather(replicas: &dyn Replicas, own: &[u8]) -> Result<Vec<Vec<u8>>, TrainError> {
    if replicas.size() == 1 {
        return Ok(vec![own.to_vec()]);
    }
    let mut lengths = vec![0.0; replicas.size()];
    lengths[replicas.rank()] = own.len() as f64;
    replicas.add_up_f64(&mut lengths)?;
    let lengths: Vec<usize> = lengths.into_iter().map(|length| length as usize).collect();
    let mut bytes = vec![0.0; lengths.iter().sum()];
    if bytes.is_empty() {
        return Ok(vec![Vec::new(); replicas.size()]);
    }
    let first = lengths[..replicas.rank()].iter().sum::<usize>();
    bytes[first..].iter_mut().zip(own).for_each(|(place, &byte)| *place = f64::from(byte));
    replicas.add_up_f64(&mut bytes)?;
    let mut bytes = bytes.into_iter().map(|byte| byte as u8);
    Ok(lengths.into_iter().map(|length| bytes.by_ref().take(length).collect()).collect())
}

/// What member 0 says.
pub(crate) fn first_one_says(replicas: &dyn Replicas, own: &[u8]) -> Result<Vec<u8>, TrainError> {
    let own = if replicas.rank() == 0 { own } else { &[] };
    Ok(gather(replicas, own)?.swap_remove(0))
}

/// A result that counts only where it is good for all: where one member fails, all of them do, so that none waits for another.
pub(crate) fn agreed<T>(replicas: &dyn Replicas, own: Result<T, TrainError>) -> Result<T, TrainError> {
    let fault = own.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let faults = gather(replicas, fault.as_bytes());
    let value = own?;
    match faults?.into_iter().enumerate().find(|(_, fault)| !fault.is_empty()) {
        None => Ok(value),
        Some((rank, fault)) => {
            let detail = String::from_utf8_lossy(&fault).into_owned();
            Err(TrainError::Replicas { rank, size: replicas.size(), detail })
        }
    }
}

/// Makes sure that all members have the same `what`.
pub(crate) fn likewise(replicas: &dyn Replicas, what: &str, own: &str) -> Result<(), TrainError> {
    let all = gather(replicas, own.as_bytes())?;
    match all.iter().enumerate().find(|(_, theirs)| **theirs != all[0]) {
        None => Ok(()),
        Some((rank, theirs)) => {
            let [expected, got] = [&all[0], theirs].map(|text| String::from_utf8_lossy(text));
            let detail = format!("{what}: expected {expected} as member 0, got {got}");
            Err(TrainError::Replicas { rank, size: replicas.size(), detail })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ThreadReplicas;

    fn each<T: Send>(size: usize, of: impl Fn(&dyn Replicas) -> T + Sync) -> Vec<T> {
        let of = &of;
        std::thread::scope(|scope| {
            let members = ThreadReplicas::new(size).into_iter();
            let threads: Vec<_> = members.map(|member| scope.spawn(move || of(&member))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        })
    }

    #[test]
    fn every_member_hears_every_other() {
        let heard = each(3, |member| gather(member, &vec![7; member.rank() * 2]).expect("all are there"));
        assert_eq!(heard, vec![vec![vec![], vec![7; 2], vec![7; 4]]; 3]);
        let first = each(3, |member| first_one_says(member, &[5 + member.rank() as u8]).expect("all are there"));
        assert_eq!(first, vec![vec![5]; 3]);
    }

    #[test]
    fn where_one_fails_all_do() {
        let told = each(3, |member| {
            let fault = TrainError::Batch { rows: vec![4], detail: "broken".into() };
            agreed(member, if member.rank() == 1 { Err(fault) } else { Ok(()) }).expect_err("fails").to_string()
        });
        assert_eq!(told[1], "batch of rows [4]: broken");
        assert_eq!([&told[0], &told[2]], ["replica 1 of 3: batch of rows [4]: broken"; 2]);
        assert!(each(3, |member| agreed(member, Ok(member.rank())).expect("all are well")).is_sorted());
    }

    #[test]
    fn a_difference_is_named() {
        let text = |rank: usize| if rank == 2 { "b" } else { "a" };
        let told = each(3, |member| likewise(member, "letter", text(member.rank())).expect_err("differs").to_string());
        assert_eq!(told, ["replica 2 of 3: letter: expected a as member 0, got b"; 3]);
        each(3, |member| likewise(member, "letter", "a").expect("the same"));
    }

    #[test]
    fn nobody_waits_for_one_that_left() {
        let told = each(3, |member| match member.rank() {
            1 => None,
            _ => Some(member.add_up(&mut [1.0]).expect_err("one is gone").to_string()),
        });
        assert_eq!(told[2].as_deref(), Some("replica 2 of 3: member 1 is gone"));
        assert!(told[0].is_some());
    }

    #[test]
    fn values_that_do_not_match_are_refused() {
        let told = each(2, |member| member.add_up(&mut vec![1.0; 2 + member.rank()]).is_err());
        assert_eq!(told, [true; 2]);
    }
}
