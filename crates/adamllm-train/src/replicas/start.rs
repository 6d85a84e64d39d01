//! How a run of several members begins.

use std::hash::{DefaultHasher, Hash, Hasher};

use adamllm_nn::snapshots;
use burn::module::Module;

use super::agreement::{agreed, likewise};
use crate::checkpoint::Restored;
use crate::optimizer::start_alike;
use crate::{BatchSource, Replicas, TrainConfig, TrainError, Validation};

/// Members that would not do the same are told so before they wait for each other in vain.
pub(crate) fn check_alike<M: Module, V: BatchSource>(
    model: &M,
    config: &TrainConfig,
    n_rows: usize,
    validation: Option<&Validation<V>>,
    replicas: &dyn Replicas,
) -> Result<(), TrainError> {
    if replicas.size() == 1 {
        return Ok(());
    }
    likewise(replicas, "settings", &serde_json::to_string(config).expect("plain values"))?;
    likewise(replicas, "training rows", &n_rows.to_string())?;
    let held_out = validation.map(|v| (v.source.n_rows(), v.every, v.batch_size, v.patience));
    likewise(replicas, "held-out rows, every, batch size, patience", &format!("{held_out:?}"))?;
    let (mut hasher, mut n_parameters) = (DefaultHasher::new(), 0);
    for snapshot in snapshots(model) {
        (snapshot.info.name, snapshot.info.shape).hash(&mut hasher);
        n_parameters += 1;
    }
    likewise(replicas, "parameters", &format!("{n_parameters} (names and shapes {:016x})", hasher.finish()))?;
    if config.batch_size.div_ceil(config.micro_batch_size) < replicas.size() {
        let TrainConfig { batch_size, micro_batch_size, .. } = config;
        tracing::warn!(batch_size, micro_batch_size, replicas = replicas.size(), "some replicas have no batch to run");
    }
    Ok(())
}

/// What all members begin with: the same checkpoint, or the weights of member 0.
pub(crate) fn begin_together<M: Module>(
    begun: Result<Restored<M>, TrainError>,
    replicas: &dyn Replicas,
) -> Result<Restored<M>, TrainError> {
    let mut begun = agreed(replicas, begun)?;
    if replicas.size() == 1 {
        return Ok(begun);
    }
    let passes = begun.partial.as_ref().map_or(0, |partial| partial.done.passes);
    likewise(replicas, "checkpoint to go on from", &format!("step {} and {passes} passes", begun.step))?;
    if begun.partial.take().is_some() {
        // Its passes are in the order of a single member. The step begins anew, from the same weights.
        tracing::info!(step = begun.step, "the step that was stopped in its middle begins anew");
    }
    if begun.step == 0 {
        begun.model = start_alike(begun.model, replicas)?;
    }
    Ok(begun)
}
