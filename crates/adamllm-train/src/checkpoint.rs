use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use adamllm_core::CoreError;
use adamllm_nn::{ParameterInfo, ParameterSource, StoredTensor, float_dtype, snapshots, write_safetensors};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::collective::all_ok;
use crate::optimizer::{
    Accumulated, Moment, MomentKind, NamedOptimizer, ParameterState, Shards, by_name, from_names, stored_float,
};
use crate::train_loop::{PartialStep, StepProgress};
use crate::{Collective, TrainConfig, TrainError};

const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const GRADIENTS: &str = "gradients.safetensors";
const STATE: &str = "state.json";

/// A run's state on disk: `step-000500/` with weights, optimizer moments and the position in the run; `step-000500+0003/`
/// where the run was stopped after the third pass of the step that follows, with its gradients so far.
///
/// Written under another name and renamed, so a folder of that name is always whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Checkpoint {
    step: usize,
    passes: usize,
    path: PathBuf,
}

/// What is not a tensor. Examples and learning rates are pure functions of the step and the configuration.
#[derive(Serialize, Deserialize)]
struct State {
    step: usize,
    n_examples: usize,
    config: TrainConfig,
    /// Updates that each parameter has had.
    updates: BTreeMap<String, usize>,
    /// What is done of the step that follows.
    #[serde(default)]
    done: Option<StepProgress>,
}

/// What a checkpoint holds.
pub(crate) struct RunState<'a, M> {
    pub(crate) step: usize,
    pub(crate) n_examples: usize,
    pub(crate) model: &'a M,
    pub(crate) optimizer: &'a NamedOptimizer,
    pub(crate) config: &'a TrainConfig,
    pub(crate) partial: Option<PartialStep>,
}

/// What a run goes on from, beside its model; by default, the beginning.
#[derive(Default)]
pub(crate) struct Restored {
    pub(crate) optimizer: NamedOptimizer,
    pub(crate) step: usize,
    pub(crate) partial: Option<PartialStep>,
}

impl<M: Module> RunState<'_, M> {
    /// Rank 0's files, in an empty folder. `updates` are those of all ranks.
    fn write_beside(self, beside: &Path, updates: BTreeMap<String, usize>) -> Result<(), TrainError> {
        let Self { step, n_examples, model, optimizer, config, partial } = self;
        remove_if_there(beside)?;
        fs::create_dir_all(beside).map_err(CoreError::io("create", beside))?;

        let weights = snapshots(model).into_iter().map(|s| (s.info.name.clone(), StoredTensor::from_snapshot(s)));
        write_tensors(weights, &beside.join(WEIGHTS))?;
        optimizer.write(&beside.join(OPTIMIZER))?;

        let (done, gradients) = partial.map(|PartialStep { done, gradients }| (done, gradients.take())).unzip();
        if let Some(gradients) = gradients {
            let named = by_name(model, gradients).into_iter();
            let named = named.map(|(name, data)| (name, StoredTensor::from_data(data)));
            write_tensors(named, &beside.join(GRADIENTS))?;
        }
        let state = State { step, n_examples, config: config.clone(), updates, done };
        let json = serde_json::to_vec_pretty(&state).expect("plain values");
        Ok(adamllm_core::write_atomically(beside.join(STATE), json)?)
    }
}

impl NamedOptimizer {
    /// The updates that each parameter has had, on whichever rank.
    fn updates(&self, collective: &dyn Collective) -> Result<BTreeMap<String, usize>, TrainError> {
        let own: BTreeMap<&String, usize> = self.states.iter().map(|(name, state)| (name, state.time)).collect();
        let own = serde_json::to_vec(&own).expect("names and numbers");
        let all = if self.shards.are_several() { collective.all_gather(&own)? } else { vec![own] };
        let all = all.iter().map(|updates| serde_json::from_slice::<BTreeMap<_, _>>(updates).expect("as written"));
        Ok(all.flatten().collect())
    }

    /// Moments as `first.NAME` and `second.NAME`, or codes and scales of them as `first_codes.NAME`, `first_scales.NAME`..., and f32
    /// copies as `master.NAME`.
    fn write(&self, path: &Path) -> Result<(), TrainError> {
        let tensors = self.states.iter().flat_map(|(name, state)| {
            let moments = [("first", Some(&state.first)), ("second", state.second.as_ref())];
            let moments = moments.into_iter().filter_map(|(kind, moment)| Some((kind, moment?)));
            let moments = moments.flat_map(move |(kind, moment)| {
                moment.stored().into_iter().map(move |(end, tensor)| (format!("{kind}{end}.{name}"), tensor))
            });
            let master =
                state.master.iter().map(move |master| (format!("master.{name}"), stored_float(master.clone())));
            moments.chain(master)
        });
        write_tensors(tensors, path)
    }
}

/// Where a rank keeps its part of the optimizer's state.
fn part(rank: usize) -> String {
    match rank {
        0 => OPTIMIZER.into(),
        _ => format!("optimizer-{rank:03}.safetensors"),
    }
}

impl Checkpoint {
    /// The whole checkpoints of a run's folder, oldest first.
    ///
    /// # Errors
    /// [`TrainError::Core`] where the folder cannot be listed.
    pub fn list(run: &Path) -> Result<Vec<Self>, TrainError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(run).map_err(CoreError::io("list", run))? {
            let path = entry.map_err(CoreError::io("list", run))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Some((step, passes)) = name.strip_prefix("step-").and_then(position) {
                found.push(Self { step, passes, path });
            }
        }
        found.sort();
        Ok(found)
    }

    /// Optimizer steps done.
    pub fn step(&self) -> usize {
        self.step
    }

    /// The checkpoint's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a checkpoint, and removes older ones but for `keep`. All ranks call this; rank 0 writes, and the others where the
    /// optimizer's state is divided. `run` may be `None` where nothing is written.
    pub(crate) fn write<M: Module>(
        run: Option<&Path>,
        state: RunState<M>,
        keep: usize,
        collective: &dyn Collective,
    ) -> Result<(), TrainError> {
        let (step, passes) = (state.step, state.partial.as_ref().map_or(0, |partial| partial.done.passes));
        let name = if passes == 0 { format!("step-{step:06}") } else { format!("step-{step:06}+{passes:04}") };
        let Some(run) = run else { return all_ok(collective, Ok(())) };
        let (path, beside) = (run.join(&name), run.join(format!("{name}.partial")));
        let (optimizer, rank) = (state.optimizer, collective.rank());

        let updates = optimizer.updates(collective)?;
        let mut written = if rank == 0 { state.write_beside(&beside, updates) } else { Ok(()) };
        if optimizer.shards.are_several() {
            // The folder is there once rank 0 is through.
            let own = || if rank == 0 { Ok(()) } else { optimizer.write(&beside.join(part(rank))) };
            written = all_ok(collective, written).and_then(|()| all_ok(collective, own()));
        }

        if rank == 0 {
            written = written.and_then(|()| {
                remove_whole(&path)?;
                fs::rename(&beside, &path).map_err(CoreError::io("rename", &beside))?;
                sync_folder(run)
            });
            match &written {
                Ok(()) => tracing::info!(step, passes, path = %path.display(), "checkpoint written"),
                // What there is room for again: a full disk must not stay full of this.
                Err(_) => drop(remove_if_there(&beside)),
            }
            written = written.and_then(|()| Self::prune(run, keep));
        }
        all_ok(collective, written)
    }

    /// Removes all but the newest `keep` checkpoints.
    pub(crate) fn prune(run: &Path, keep: usize) -> Result<(), TrainError> {
        // What a killed process has left of its removals.
        for entry in fs::read_dir(run).map_err(CoreError::io("list", run))? {
            let path = entry.map_err(CoreError::io("list", run))?.path();
            if path.extension().is_some_and(|extension| extension == "removed") {
                remove_if_there(&path)?;
            }
        }
        let all = Self::list(run)?;
        for old in &all[..all.len().saturating_sub(keep)] {
            remove_whole(&old.path)?;
        }
        Ok(())
    }

    /// Loads the weights alone into a model of the same shape.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] lists what does not fit.
    pub fn load_weights<M: Module>(&self, model: M) -> Result<M, TrainError> {
        let bytes = self.read(WEIGHTS)?;
        let tensors = self.tensors(&bytes)?;
        adamllm_nn::load(model, &mut CheckpointWeights(&tensors)).map_err(|e| self.fault(e))
    }

    /// Loads everything: the weights into `model`, where the checkpoint is whole otherwise. The configuration must be the one that
    /// the checkpoint was written with.
    pub(crate) fn restore<M: Module>(
        &self,
        model: &mut Option<M>,
        n_examples: usize,
        config: &TrainConfig,
        shards: Shards,
        device: &Device,
    ) -> Result<Restored, TrainError> {
        let state: State = serde_json::from_slice(&self.read(STATE)?).map_err(|e| self.fault(e))?;
        self.check_run(&state, n_examples, config)?;

        let mut optimizer = NamedOptimizer { states: BTreeMap::new(), shards };
        let parts = self.parts()?;
        let parts: Vec<SafeTensors> = parts.iter().map(|bytes| self.tensors(bytes)).collect::<Result<_, _>>()?;
        for (name, time) in state.updates {
            if optimizer.shards.own(&name) {
                let restored = self.parameter_state(&parts, &name, time, device)?;
                optimizer.states.insert(name, restored);
            }
        }

        // Last, because a model that was loaded in part is lost.
        let beginning = model.take().expect("a model to load into");
        let loaded = model.insert(self.load_weights(beginning)?);
        let partial = state.done.map(|done| self.gradients(loaded, done, device)).transpose()?;
        Ok(Restored { optimizer, step: state.step, partial })
    }

    /// The optimizer's files, of however many ranks.
    fn parts(&self) -> Result<Vec<Vec<u8>>, TrainError> {
        let there = (0..).map(part).take_while(|name| name == OPTIMIZER || self.path.join(name).exists());
        there.map(|name| self.read(&name)).collect()
    }

    /// The state of a parameter, from the part that has it. Muon has no second moment, and a parameter in f32 no f32 copy.
    fn parameter_state(
        &self,
        parts: &[SafeTensors],
        name: &str,
        time: usize,
        device: &Device,
    ) -> Result<ParameterState, TrainError> {
        let find = |kind: &str| {
            let name = format!("{kind}.{name}");
            parts.iter().find_map(|part| part.tensor(&name).ok())
        };
        let float = |kind: &str| {
            let data = find(kind).map(|view| tensor_data(&view).map_err(|e| self.fault(e))).transpose()?;
            Ok::<_, TrainError>(data.map(|data| {
                let dtype = data.dtype();
                Tensor::<1>::from_data(data, (device, dtype))
            }))
        };
        let moment = |prefix: &str, kind: MomentKind| {
            let Some(codes) = find(&format!("{prefix}_codes")) else { return Ok(float(prefix)?.map(Moment::Float)) };
            let scales = find(&format!("{prefix}_scales")).filter(|scales| scales.dtype() == Dtype::F32);
            let scales =
                scales.map(|scales| scales.data().as_chunks().0.iter().copied().map(f32::from_le_bytes).collect());
            let moment = scales.and_then(|scales| Moment::from_codes(codes.data().to_vec(), scales, kind));
            moment.map(Some).ok_or_else(|| self.fault(format!("expected scales for the codes of {prefix}.{name}")))
        };
        let first = moment("first", MomentKind::First)?;
        let first = first.ok_or_else(|| self.fault(format!("no moment of {name}")))?;
        Ok(ParameterState { time, first, second: moment("second", MomentKind::Second)?, master: float("master")? })
    }

    fn gradients<M: Module>(&self, model: &M, done: StepProgress, device: &Device) -> Result<PartialStep, TrainError> {
        let bytes = self.read(GRADIENTS)?;
        let tensors = self.tensors(&bytes)?;
        let named = tensors.iter().map(|(name, view)| Ok((name.to_owned(), tensor_data(&view)?)));
        let named = named.collect::<Result<_, String>>().map_err(|e| self.fault(e))?;
        let (gradients, unknown) = from_names(model, named, device);
        if let Some(name) = unknown.first() {
            return Err(self.fault(format!("gradient of {name}, which the model does not have")));
        }
        Ok(PartialStep { done, gradients: Accumulated::of(gradients) })
    }

    fn check_run(&self, state: &State, n_examples: usize, config: &TrainConfig) -> Result<(), TrainError> {
        // How often to save and log does not change the weights, nor which rank keeps which moments.
        let essence = |c: &TrainConfig| TrainConfig {
            save_every: None,
            keep_last: 1,
            log_every: 1,
            shard_optimizer: false,
            ..c.clone()
        };
        let json = |c: &TrainConfig| serde_json::to_value(essence(c)).expect("plain values");
        let (then, now) = (json(&state.config), json(config));
        let fields = then.as_object().into_iter().flatten();
        if let Some((name, value)) = fields.into_iter().find(|(name, value)| now[name.as_str()] != **value) {
            let detail =
                format!("written with another configuration: expected {name} = {value}, got {}", now[name.as_str()]);
            return Err(self.fault(detail));
        }
        if state.n_examples != n_examples {
            return Err(self.fault(format!("expected {} training examples, got {n_examples}", state.n_examples)));
        }
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, TrainError> {
        let path = self.path.join(name);
        Ok(fs::read(&path).map_err(CoreError::io("read", &path))?)
    }

    fn tensors<'a>(&self, bytes: &'a [u8]) -> Result<SafeTensors<'a>, TrainError> {
        SafeTensors::deserialize(bytes).map_err(|e| self.fault(e))
    }

    fn fault(&self, detail: impl ToString) -> TrainError {
        TrainError::Checkpoint { path: self.path.clone(), detail: detail.to_string() }
    }
}

/// Step and passes of a checkpoint's name, after `step-`.
fn position(name: &str) -> Option<(usize, usize)> {
    match name.split_once('+') {
        None => Some((name.parse().ok()?, 0)),
        Some((step, passes)) => Some((step.parse().ok()?, passes.parse().ok()?)),
    }
}

fn remove_if_there(path: &Path) -> Result<(), TrainError> {
    if path.exists() {
        fs::remove_dir_all(path).map_err(CoreError::io("remove", path))?;
    }
    Ok(())
}

/// Takes a checkpoint's name away before its files: one that is half removed when the process is killed is no checkpoint.
fn remove_whole(path: &Path) -> Result<(), TrainError> {
    if !path.exists() {
        return Ok(());
    }
    let mut nameless = path.as_os_str().to_owned();
    nameless.push(".removed");
    let nameless = PathBuf::from(nameless);
    remove_if_there(&nameless)?;
    fs::rename(path, &nameless).map_err(CoreError::io("rename", path))?;
    remove_if_there(&nameless)
}

/// Makes a rename last through a power cut, where the system can.
fn sync_folder(path: &Path) -> Result<(), TrainError> {
    if cfg!(unix) {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(CoreError::io("sync", path))?;
    }
    Ok(())
}

fn write_tensors<'a>(
    tensors: impl IntoIterator<Item = (String, StoredTensor<'a>)>,
    path: &Path,
) -> Result<(), TrainError> {
    write_safetensors(tensors, None, path).map_err(|error| match error {
        SafeTensorError::IoError(source) => CoreError::io("write", path)(source).into(),
        other => TrainError::Checkpoint { path: path.into(), detail: other.to_string() },
    })
}

fn tensor_data(view: &safetensors::tensor::TensorView) -> Result<TensorData, String> {
    let dtype = float_dtype(view.dtype()).ok_or_else(|| format!("expected a float tensor, got {:?}", view.dtype()))?;
    Ok(TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype))
}

struct CheckpointWeights<'a>(&'a SafeTensors<'a>);

impl ParameterSource for CheckpointWeights<'_> {
    type Error = String;

    fn take(&mut self, parameter: &ParameterInfo) -> Result<Option<TensorData>, String> {
        match self.0.tensor(&parameter.name) {
            Ok(view) => tensor_data(&view).map(Some),
            Err(_) => Ok(None),
        }
    }
}
