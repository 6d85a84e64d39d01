//! The optimizer's state divided among the ranks: stage 1 of ZeRO (Rajbhandari et al., 2020, arXiv 1910.02054).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use burn::module::Module;

use super::gradients::broadcast_from;
use crate::trainable::trained_sizes;
use crate::{Collective, TrainConfig, TrainError};

/// Which rank keeps the state of each trained parameter, moves it, and gives it to the others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shards {
    /// By parameter name; empty where every rank moves all.
    owners: BTreeMap<String, usize>,
    rank: usize,
}

impl Shards {
    /// As the settings ask for. Whole parameters, the largest first, each to the rank that has the fewest values so far: the same
    /// on every rank.
    pub(crate) fn new<M: Module>(model: &M, config: &TrainConfig, collective: &dyn Collective) -> Self {
        let (rank, size) = (collective.rank(), collective.size());
        if !config.shard_optimizer || size == 1 {
            return Self { owners: BTreeMap::new(), rank };
        }
        let mut sizes = trained_sizes(model, config);
        sizes.sort_by(|(a, n), (b, m)| (Reverse(n), a).cmp(&(Reverse(m), b)));
        let mut values = vec![0; size];
        let mut owners = BTreeMap::new();
        for (name, n) in sizes {
            let fewest = (0..size).min_by_key(|&rank| values[rank]).expect("at least one rank");
            values[fewest] += n;
            owners.insert(name, fewest);
        }
        Self { owners, rank }
    }

    /// Whether the state is divided.
    pub(crate) fn are_several(&self) -> bool {
        !self.owners.is_empty()
    }

    /// Whether this rank moves a parameter.
    pub(crate) fn own(&self, name: &str) -> bool {
        self.owners.get(name).is_none_or(|&owner| owner == self.rank)
    }

    /// Gives every rank the parameters that the others have moved.
    pub(crate) fn exchange<M: Module>(&self, model: M, collective: &dyn Collective) -> Result<M, TrainError> {
        if !self.are_several() {
            return Ok(model);
        }
        broadcast_from(model, collective, |name| self.owners.get(name).copied())
    }
}
