//! AdamW over named parameters: burn's update rule, with a global gradient norm, decay and rates per group.

use std::collections::BTreeMap;

use adamllm_nn::ModulePath;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::{AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, GradientsParams, Optimizer};
use burn::tensor::Tensor;

use crate::{DecayRule, TrainConfig};

/// The optimizer's state: two moments for each parameter that was ever updated.
pub(crate) struct NamedAdamW {
    with_decay: BTreeMap<u64, AdamW>,
    pub(crate) states: BTreeMap<String, AdamWState<1>>,
}

impl NamedAdamW {
    pub(crate) fn new() -> Self {
        Self { with_decay: BTreeMap::new(), states: BTreeMap::new() }
    }

    /// Restores a parameter's moments after `time` steps.
    pub(crate) fn restore(&mut self, name: String, time: usize, moments: [Tensor<1>; 2]) {
        let [moment_1, moment_2] = moments;
        let momentum = AdaptiveMomentumState::new(time, moment_1, moment_2);
        self.states.insert(name, AdamWState::new(momentum));
    }

    /// One update of every parameter that has a gradient. `scale` multiplies the gradients (clipping), `factor` the
    /// learning rates (the schedule).
    pub(crate) fn step<M: Module>(
        &mut self,
        model: M,
        gradients: GradientsParams,
        config: &TrainConfig,
        factor: f64,
        scale: f64,
    ) -> M {
        let mut update = Update { path: ModulePath::default(), optimizer: self, gradients, config, factor, scale };
        model.map(&mut update)
    }

    fn rule(&mut self, config: &TrainConfig, weight_decay: f64) -> AdamW {
        let build = || {
            AdamWConfig::new()
                .with_beta_1(config.betas[0] as f32)
                .with_beta_2(config.betas[1] as f32)
                .with_epsilon(config.epsilon as f32)
                .with_weight_decay(weight_decay as f32)
                .build()
        };
        self.with_decay.entry(weight_decay.to_bits()).or_insert_with(build).clone()
    }
}

struct Update<'a> {
    path: ModulePath,
    optimizer: &'a mut NamedAdamW,
    gradients: GradientsParams,
    config: &'a TrainConfig,
    factor: f64,
    scale: f64,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // The gradient leaves the container here, so its memory is free again behind this parameter.
        let Some(gradient) = self.gradients.remove::<D>(param.id) else { return param };
        let name = self.path.name();
        let group = self.config.group(&name);
        let peak = group.and_then(|g| g.learning_rate).unwrap_or(self.config.learning_rate);
        let decay = group.and_then(|g| g.weight_decay).unwrap_or(self.config.weight_decay);
        let decay = if decays::<D>(&name, self.config.decay_rule) { decay } else { 0.0 };
        let rule = self.optimizer.rule(self.config, decay);
        let state = self.optimizer.states.remove(&name);
        let gradient = if self.scale == 1.0 { gradient } else { gradient * self.scale };

        let mut new_state = None;
        let param = param.map(|tensor| {
            let required = tensor.is_require_grad();
            let shape = tensor.shape();
            let flat = tensor.without_autodiff().flatten::<1>(0, D - 1);
            let (updated, state) = rule.step(peak * self.factor, flat, gradient.flatten::<1>(0, D - 1), state);
            new_state = state;
            Tensor::from_inner(updated.reshape(shape)).set_require_grad(required)
        });
        self.optimizer.states.extend(new_state.map(|state| (name, state)));
        param
    }
}

/// Whether a parameter decays. Layer norms are the norms with a bias, which have it by name.
fn decays<const D: usize>(name: &str, rule: DecayRule) -> bool {
    match rule {
        DecayRule::Modern => D > 1,
        DecayRule::Hf445 => D > 1 || (name.ends_with("norm.weight") && name.starts_with("language.")),
    }
}

/// The norm over all gradients together.
pub(crate) fn global_norm<M: Module>(model: &M, gradients: &GradientsParams) -> f64 {
    let mut squares = Squares { gradients, sum: None };
    model.visit(&mut squares);
    squares.sum.map_or(0.0, |sum| f64::from(sum.into_scalar::<f32>()).sqrt())
}

struct Squares<'a> {
    gradients: &'a GradientsParams,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
        let square = gradient.cast(burn::tensor::DType::F32).square().sum();
        self.sum = Some(match self.sum.take() {
            Some(sum) => sum + square,
            None => square,
        });
    }
}

/// Marks the parameters of frozen groups as not trained.
pub(crate) fn freeze<M: Module>(model: M, config: &TrainConfig) -> M {
    model.map(&mut Freeze { path: ModulePath::default(), config })
}

struct Freeze<'a> {
    path: ModulePath,
    config: &'a TrainConfig,
}

impl ModuleMapper for Freeze<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let frozen = self.config.group(&self.path.name()).is_some_and(|group| group.frozen);
        // Never switched on again: what the model itself has frozen (the weights beside an adapter) stays so.
        if frozen { param.set_require_grad(false) } else { param }
    }
}
