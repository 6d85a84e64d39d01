//! How a run of several ranks starts.

use std::hash::{DefaultHasher, Hash, Hasher};

use adamllm_nn::snapshots;
use burn::module::Module;

use super::messages::{all_equal, all_ok};
use crate::checkpoint::Restored;
use crate::optimizer::broadcast_trained;
use crate::{BatchSource, Collective, TrainConfig, TrainError, Validation};

/// Processes that would not do the same get an error before they wait for each other in vain.
pub(crate) fn check_same_run<M: Module, V: BatchSource>(
    model: &M,
    config: &TrainConfig,
    n_examples: usize,
    validation: Option<&Validation<V>>,
    collective: &dyn Collective,
) -> Result<(), TrainError> {
    if collective.size() == 1 {
        return Ok(());
    }

    // Every rank comes through these comparisons in the same order: each waits for all ranks.
    all_equal(collective, "settings", &serde_json::to_string(config).expect("plain values"))?;
    all_equal(collective, "training examples", &n_examples.to_string())?;
    let held_out = validation.map(|v| (v.source.n_examples(), v.every, v.batch_size, v.patience));
    all_equal(collective, "held-out examples, every, batch size, patience", &format!("{held_out:?}"))?;

    // Names and shapes only: `start_together` sees to the values.
    let (mut hasher, mut n_parameters) = (DefaultHasher::new(), 0);
    for snapshot in snapshots(model) {
        (snapshot.info.name, snapshot.info.shape).hash(&mut hasher);
        n_parameters += 1;
    }
    all_equal(collective, "parameters", &format!("{n_parameters} (names and shapes {:016x})", hasher.finish()))?;

    // No error: such a rank waits at the sums of every step, which costs time and nothing else.
    if config.batch_size.div_ceil(config.micro_batch_size) < collective.size() {
        let TrainConfig { batch_size, micro_batch_size, .. } = config;
        tracing::warn!(batch_size, micro_batch_size, ranks = collective.size(), "some ranks have no batch to run");
    }
    Ok(())
}

/// What all processes begin with: the same checkpoint, or the weights of rank 0.
pub(crate) fn start_together<M: Module>(
    model: &mut Option<M>,
    restored: Result<Restored, TrainError>,
    collective: &dyn Collective,
) -> Result<Restored, TrainError> {
    let mut restored = all_ok(collective, restored)?;
    if collective.size() == 1 {
        return Ok(restored);
    }
    let passes = restored.partial.as_ref().map_or(0, |partial| partial.done.passes);
    all_equal(collective, "checkpoint to go on from", &format!("step {} and {passes} passes", restored.step))?;
    if restored.partial.take().is_some() {
        // Its passes are in the order of a single process. The step starts again, from the same weights.
        tracing::info!(step = restored.step, "the step that was stopped in its middle starts again");
    }
    if restored.step == 0 {
        let own = model.take().expect("a model to begin with");
        *model = Some(broadcast_trained(own, collective)?);
    }
    Ok(restored)
}
