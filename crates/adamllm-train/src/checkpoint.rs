use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use adamllm_core::CoreError;
use adamllm_nn::{
    ParameterInfo, ParameterSource, StoredTensor, float_dtype, snapshots, stored_dtype, write_safetensors,
};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::optimizer::{Accumulated, NamedOptimizer, ParameterState, by_name, from_names};
use crate::train_loop::{PartialStep, StepProgress};
use crate::{TrainConfig, TrainError};

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
    /// Writes the files into an empty folder.
    fn write_beside(self, beside: &Path) -> Result<(), TrainError> {
        let Self { step, n_examples, model, optimizer, config, partial } = self;
        remove_if_there(beside)?;
        fs::create_dir_all(beside).map_err(CoreError::io("create", beside))?;

        let weights = snapshots(model).into_iter().map(|s| (s.info.name.clone(), StoredTensor::from_snapshot(s)));
        write_tensors(weights, &beside.join(WEIGHTS))?;
        let moments = optimizer.states.iter().flat_map(|(name, state)| {
            let kept =
                [("first", Some(&state.first)), ("second", state.second.as_ref()), ("master", state.master.as_ref())];
            let kept = kept.into_iter().filter_map(|(kind, tensor)| Some((kind, tensor?.clone())));
            kept.map(move |(kind, tensor)| (format!("{kind}.{name}"), moment(tensor)))
        });
        write_tensors(moments, &beside.join(OPTIMIZER))?;

        let updates = optimizer.states.iter().map(|(name, s)| (name.clone(), s.time)).collect();
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

    pub(crate) fn write<M: Module>(run: &Path, state: RunState<M>) -> Result<Self, TrainError> {
        let (step, passes) = (state.step, state.partial.as_ref().map_or(0, |partial| partial.done.passes));
        let name = if passes == 0 { format!("step-{step:06}") } else { format!("step-{step:06}+{passes:04}") };
        let (path, beside) = (run.join(&name), run.join(format!("{name}.partial")));
        let written = state.write_beside(&beside);
        if let Err(error) = written {
            // What there is room for again: a full disk must not stay full of this.
            let _ = remove_if_there(&beside);
            return Err(error);
        }
        remove_whole(&path)?;
        fs::rename(&beside, &path).map_err(CoreError::io("rename", &beside))?;
        sync_folder(run)?;
        tracing::info!(step, passes, path = %path.display(), "checkpoint written");
        Ok(Self { step, passes, path })
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
        device: &Device,
    ) -> Result<Restored, TrainError> {
        let state: State = serde_json::from_slice(&self.read(STATE)?).map_err(|e| self.fault(e))?;
        self.check_run(&state, n_examples, config)?;

        // As `write_beside` named them: `first.NAME`, `second.NAME`, `master.NAME`. Muon has no second moment, and a
        // parameter in f32 no master copy.
        let bytes = self.read(OPTIMIZER)?;
        let tensors = self.tensors(&bytes)?;
        let mut optimizer = NamedOptimizer::default();
        for (name, time) in state.updates {
            let kept = |kind: &str| {
                let Ok(view) = tensors.tensor(&format!("{kind}.{name}")) else { return Ok(None) };
                let data = tensor_data(&view).map_err(|e| self.fault(e))?;
                let dtype = data.dtype();
                Ok::<_, TrainError>(Some(Tensor::<1>::from_data(data, (device, dtype))))
            };
            let first = kept("first")?.ok_or_else(|| self.fault(format!("no moment of {name}")))?;
            let restored = ParameterState { time, first, second: kept("second")?, master: kept("master")? };
            optimizer.states.insert(name, restored);
        }

        // Last, because a model that was loaded in part is lost.
        let beginning = model.take().expect("a model to load into");
        let loaded = model.insert(self.load_weights(beginning)?);
        let partial = state.done.map(|done| self.gradients(loaded, done, device)).transpose()?;
        Ok(Restored { optimizer, step: state.step, partial })
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
        // How often to save and log does not change the weights.
        let essence = |c: &TrainConfig| TrainConfig { save_every: None, keep_last: 1, log_every: 1, ..c.clone() };
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

/// A tensor of the optimizer, which leaves the device when it is written.
fn moment(tensor: Tensor<1>) -> StoredTensor<'static> {
    let dtype = stored_dtype(tensor.dtype()).unwrap_or(Dtype::F32);
    StoredTensor::from_read(dtype, tensor.shape().as_slice().to_vec(), move || tensor.clone().into_data())
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
