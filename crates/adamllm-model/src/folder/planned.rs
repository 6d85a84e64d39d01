//! What loading a folder will put into memory, from the headers of its weights.

use adamllm_nn::{
    FrozenForm, LanguageBackbone, LoraConfig, Objective, ParameterInfo, Parameters, PlannedParameter, TrainedParameters,
};
use burn::tensor::{DType, Device};

use super::{FrozenLayers, ModelFolder};
use crate::adapter::{SavedModules, planned_factors};
use crate::hf::weights::WeightFiles;
use crate::{ModelError, VisionLanguageModel};

/// What a folder's weights will be once they are loaded.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PlannedWeights {
    /// The parameters, those of a new adapter among them.
    pub parameters: Vec<PlannedParameter>,
    /// Bytes of the linear layers that are kept in 8 or 4 bits, and are no parameters.
    pub quantised: u64,
    /// Bytes of the files that stay mapped: embedding, head and linear layers that are read from there whenever they are used.
    pub mapped: u64,
    /// Bytes of the largest tensor in the files: so much of them is in memory at a time while they are read.
    pub largest_tensor: u64,
    /// Whether adapters drop a share of their inputs.
    pub has_dropout: bool,
}

impl PlannedWeights {
    /// The parameters that get a gradient where `trains` says so too.
    pub fn trained(&self, trains: impl Fn(&str) -> bool) -> TrainedParameters {
        let trained = self.parameters.iter().filter(|parameter| parameter.trained && trains(&parameter.name));
        let elements = trained.map(|parameter| (parameter.name.clone(), parameter.n_elements()));
        TrainedParameters::new(elements).with_dropout(self.has_dropout)
    }
}

/// How a linear layer will be kept.
enum Kept {
    Parameter,
    Quantised(u64),
    Mapped(u64),
}

impl ModelFolder {
    /// What [`ModelFolder::load_with`], or with `frozen` [`ModelFolder::load_frozen`], will put on the device, with a new `adapter`
    /// beside it. Of the weights, the headers alone are read; of a folder that has none, all are taken to be in bf16, as published ones
    /// are. A head that `config.json` calls tied counts as such, also where the files hold it a second time.
    ///
    /// # Errors
    /// [`ModelError::OwnVisionEncoder`]; [`ModelError::Adapter`]; for weights that cannot be read, as loading them.
    pub fn plan_weights(
        &self,
        dtype: DType,
        device: &Device,
        frozen: Option<&FrozenLayers>,
        adapter: Option<&LoraConfig>,
    ) -> Result<PlannedWeights, ModelError> {
        let files = match WeightFiles::open(&self.path) {
            Ok(files) => Some(files),
            Err(ModelError::FileMissing { .. }) => None,
            Err(error) => return Err(error),
        };
        // Parameters are made when they are first used; these never are, and nothing is put on the device.
        let mut model = VisionLanguageModel::try_init(&self.config, device)?;
        let infos = Parameters::of(&model);
        let saved = adapter.map(SavedModules::of).transpose()?;
        let has_dropout = adapter.is_some_and(|adapter| adapter.dropout > 0.0);
        let in_bf16 = |info: &ParameterInfo| (info.shape.iter().product::<usize>() * DType::BF16.size()) as u64;
        let largest_tensor = match &files {
            Some(files) => files.largest_tensor(),
            None => infos.iter().map(in_bf16).max().unwrap_or(0),
        };
        let mut planned = PlannedWeights { largest_tensor, has_dropout, ..PlannedWeights::default() };

        let beside = frozen.and_then(|frozen| frozen.adapter).map(SavedModules::of).transpose()?;
        let form_of = |weight: &str| {
            let stays = beside.as_ref().is_some_and(|beside| beside.contains(weight));
            frozen.filter(|_| !stays).map(|frozen| frozen.form)
        };
        let mut layers = Vec::new();
        let mut not_parameters = std::collections::HashSet::new();
        for (name, linear) in model.linear_layers_mut() {
            let (weight, dims) = (format!("{name}.weight"), linear.weight.dims());
            layers.push((name, dims));
            match self.kept(files.as_ref(), &weight, dims.iter().product(), form_of(&weight)) {
                Kept::Parameter => continue,
                Kept::Quantised(bytes) => planned.quantised += bytes,
                Kept::Mapped(bytes) => planned.mapped += bytes,
            }
            not_parameters.insert(weight);
        }

        // As they stand in the file, whatever the form of the layers.
        for (name, weight) in model.language.vocabulary_weights_mut() {
            let name = format!("language.{name}");
            let form = form_of(&name).map(|_| FrozenForm::Stored);
            if let Kept::Mapped(bytes) = self.kept(files.as_ref(), &name, weight.dims().iter().product(), form) {
                planned.mapped += bytes;
                not_parameters.insert(name);
            }
        }

        let parameters =
            infos.iter().filter(|info| !not_parameters.contains(&info.name)).map(|info| PlannedParameter {
                name: info.name.clone(),
                shape: info.shape.clone(),
                dtype,
                kind: model.parameter_kind(&info.name),
                trained: saved.as_ref().is_none_or(|saved| saved.contains(&info.name)),
            });
        planned.parameters = parameters.collect();
        if let Some(adapter) = adapter {
            planned.parameters.extend(planned_factors(adapter, &layers)?);
        }
        Ok(planned)
    }

    /// As [`freeze`](super::freeze) decides it.
    fn kept(&self, files: Option<&WeightFiles>, weight: &str, n: usize, form: Option<FrozenForm>) -> Kept {
        let Some(files) = files else {
            return match form {
                None => Kept::Parameter,
                Some(FrozenForm::Stored) => Kept::Mapped((n * DType::BF16.size()) as u64),
                Some(form) => Kept::Quantised(form.n_bytes(n, DType::BF16) as u64),
            };
        };
        let Some(key) = files.stored_keys(&self.config, weight).into_iter().next() else { return Kept::Parameter };
        let packed = files.packed_parts(&key);
        let bytes = |key: &str| files.tensor_bytes(key);
        match form {
            Some(FrozenForm::Int8) => Kept::Quantised(FrozenForm::Int8.n_bytes(n, DType::F32) as u64),
            _ if !packed.is_empty() => Kept::Mapped(bytes(&key) + packed.iter().map(|part| bytes(part)).sum::<u64>()),
            Some(FrozenForm::Stored) => Kept::Mapped(bytes(&key)),
            Some(form) => Kept::Quantised(form.n_bytes(n, DType::F32) as u64),
            None => Kept::Parameter,
        }
    }
}
