//! Updates of named parameters, with a global gradient norm, and with decay and rates for each group.

mod adamw;
#[cfg(feature = "flex")]
mod fused;
mod gradients;
mod moment;
mod shards;

use std::collections::{BTreeMap, BTreeSet};

use adamllm_nn::{ModulePath, Objective, ParameterKind, Parameters, cast_to};
use burn::module::{Module, ModuleMapper, Param};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdjustLrFn, GradientsParams, MuonConfig, Optimizer as _};
use burn::tensor::{DType, Tensor};

use self::adamw::AdamW;
pub(crate) use self::gradients::{
    Accumulated, all_reduce_gradients, broadcast_trained, by_name, from_names, global_norm,
};
use self::moment::step_in_8_bits;
pub(crate) use self::moment::{Moment, MomentKind, stored_float};
pub(crate) use self::shards::Shards;
use crate::{DecayRule, MomentDtype, OptimizerKind, TrainConfig};

/// The optimizer's state of one parameter.
#[derive(Clone, Debug)]
pub(crate) struct ParameterState {
    /// Updates so far.
    pub(crate) time: usize,
    /// AdamW's first moment, Muon's momentum.
    pub(crate) first: Moment,
    /// AdamW's second moment.
    pub(crate) second: Option<Moment>,
    /// The parameter in f32, where the model holds it in fewer bits: small updates add up here.
    pub(crate) master: Option<Tensor<1>>,
}

/// The optimizer's state, for each parameter that was ever updated.
#[derive(Default)]
pub(crate) struct NamedOptimizer {
    pub(crate) states: BTreeMap<String, ParameterState>,
    /// Which of the parameters it moves.
    pub(crate) shards: Shards,
}

impl NamedOptimizer {
    /// One update of every parameter that has a gradient and is this rank's. `scale` multiplies the gradients (clipping), `factor` the
    /// learning rates (the schedule).
    pub(crate) fn step<M: Objective>(
        &mut self,
        model: M,
        gradients: GradientsParams,
        config: &TrainConfig,
        factor: f64,
        scale: f64,
    ) -> M {
        let muon = if config.optimizer == OptimizerKind::Muon { hidden_matrices(&model) } else { BTreeSet::new() };
        model.map(&mut Update { path: ModulePath::default(), optimizer: self, gradients, config, factor, scale, muon })
    }
}

struct Update<'a> {
    path: ModulePath,
    optimizer: &'a mut NamedOptimizer,
    gradients: GradientsParams,
    config: &'a TrainConfig,
    factor: f64,
    scale: f64,
    /// Names of the parameters that Muon updates.
    muon: BTreeSet<String>,
}

impl Update<'_> {
    /// The learning rate and decay of a parameter now.
    fn rate_and_decay<const D: usize>(&self, name: &str) -> (f64, f64) {
        let group = self.config.group(name);
        let peak = group.and_then(|g| g.learning_rate).unwrap_or(self.config.learning_rate);
        let decay = group.and_then(|g| g.weight_decay).unwrap_or(self.config.weight_decay);
        (peak * self.factor, if decays::<D>(name, self.config.decay_rule) { decay } else { 0.0 })
    }

    fn adamw<const D: usize>(&mut self, name: &str, tensor: Tensor<D>, gradient: Tensor<D>) -> Tensor<D> {
        let (rate, decay) = self.rate_and_decay::<D>(name);
        let (shape, dtype) = (tensor.shape(), tensor.dtype());

        // The state is kept flat: one type holds it for parameters of any number of axes.
        let [gradient, parameter] = [gradient, tensor].map(|tensor| tensor.flatten::<1>(0, D - 1));
        let (time, moments, master) = match self.optimizer.states.remove(name) {
            None => (1, None, None),
            Some(state) => (state.time + 1, state.second.map(|second| [state.first, second]), state.master),
        };

        // The update runs in f32, whatever dtypes the model and the moments are kept in.
        let (betas, epsilon, kept) = (self.config.betas, self.config.epsilon, self.config.moments);
        let numbers = AdamW { rate, decay, betas, epsilon, scale: self.scale, time };
        let parameter = master.unwrap_or_else(|| in_f32(parameter));
        let (parameter, [first, second]) = match kept {
            MomentDtype::Int8 => step_in_8_bits(&numbers, parameter, gradient, moments),
            MomentDtype::F32 | MomentDtype::Bf16 => numbers.step_in_floats(parameter, gradient, moments, kept),
        };

        // Where the model has fewer bits than f32, an update may be smaller than a step of its dtype: the f32 copy
        // keeps it.
        let master = (dtype != DType::F32).then(|| parameter.clone());
        self.optimizer.states.insert(name.to_owned(), ParameterState { time, first, second: Some(second), master });
        cast_to(parameter, dtype).reshape(shape)
    }

    /// burn's Muon after a momentum of ours, which the checkpoints can hold.
    fn muon<const D: usize>(&mut self, name: &str, tensor: Tensor<D>, gradient: Tensor<D>) -> Tensor<D> {
        const MOMENTUM: f64 = 0.95;
        let (rate, decay) = self.rate_and_decay::<D>(name);
        let (shape, dtype) = (tensor.shape(), tensor.dtype());
        let gradient = gradient.flatten::<1>(0, D - 1).cast(DType::F32) * self.scale;

        // Nesterov's momentum, without dampening: the orthogonalization makes the sum's scale irrelevant.
        let previous = self.optimizer.states.remove(name);
        let time = previous.as_ref().map_or(0, |state| state.time) + 1;
        let (velocity, master) = match previous {
            Some(state) => (state.first.into_f32(&gradient.device()) * MOMENTUM + gradient.clone(), state.master),
            None => (gradient.clone(), None),
        };
        let nesterov = gradient + velocity.clone() * MOMENTUM;
        let first = Moment::keep(velocity, self.config.moments, MomentKind::First);

        // burn's momentum is off: its step gets the sum from above.
        let none = MomentumConfig { momentum: 0.0, dampening: 0.0, nesterov: false };
        let rule = MuonConfig::new().with_momentum(none).with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW).build();

        let size = [shape[0], shape.num_elements() / shape[0]];
        let matrix = master.unwrap_or_else(|| in_f32(tensor.flatten::<1>(0, D - 1))).reshape(size);
        // Decay by hand, since it differs between groups; it takes the rate before burn's adjustment, as burn's own
        // decay does.
        let (moved, _) = rule.step::<2>(rate, matrix * (1.0 - rate * decay), nesterov.reshape(size), None);
        let moved = moved.flatten::<1>(0, 1);

        let master = (dtype != DType::F32).then(|| moved.clone());
        self.optimizer.states.insert(name.to_owned(), ParameterState { time, first, second: None, master });
        cast_to(moved, dtype).reshape(shape)
    }
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // The gradient leaves the container here, so its memory is free again after this parameter.
        let Some(gradient) = self.gradients.remove::<D>(param.id) else { return param };
        let name = self.path.name();
        if !self.optimizer.shards.own(&name) {
            return param;
        }
        param.map(|tensor| {
            let required = tensor.is_require_grad();
            let tensor = tensor.without_autodiff();
            let moved = match self.muon.contains(&name) {
                true => self.muon(&name, tensor, gradient),
                false => self.adamw(&name, tensor, gradient),
            };
            Tensor::from_inner(moved).set_require_grad(required)
        })
    }
}

/// The matrices between hidden states. Muon leaves embeddings and the head, whose rows are looked up or compared, to AdamW.
fn hidden_matrices<M: Objective>(model: &M) -> BTreeSet<String> {
    let parameters = Parameters::of(model);
    let matrices = parameters.iter().filter(|parameter| parameter.shape.len() == 2);
    let hidden = matrices.filter(|parameter| model.parameter_kind(&parameter.name) == ParameterKind::Hidden);
    hidden.map(|parameter| parameter.name.clone()).collect()
}

fn in_f32(tensor: Tensor<1>) -> Tensor<1> {
    cast_to(tensor, DType::F32)
}

/// Whether a parameter decays. Layer norms are the norms with a bias, which have it by name.
fn decays<const D: usize>(name: &str, rule: DecayRule) -> bool {
    match rule {
        DecayRule::Modern => D > 1,
        DecayRule::Hf445 => D > 1 || (name.ends_with("norm.weight") && name.starts_with("language.")),
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
        let frozen = !self.config.trains_name(&self.path.name());
        // Never switched on again: what the model itself has frozen (the weights beside an adapter) stays so.
        if frozen { param.set_require_grad(false) } else { param }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use adamllm_nn::{Batch, BlockExecutor, Linear, LinearConfig, cross_entropy, index_tensor, snapshots};
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::{ExampleBatches, FitOptions, Schedule, ScheduleKind, Trainer};

    /// A layer whose name has a head in it, and a table and a head whose names say nothing.
    #[derive(Module, Debug)]
    struct Model {
        words: Param<Tensor<2>>,
        two_heads: Linear,
        classes: Linear,
    }

    struct Words(Vec<usize>);

    impl Batch for Words {
        fn n_targets(&self) -> usize {
            self.0.len()
        }
        fn n_tokens(&self) -> usize {
            self.0.len()
        }
    }

    impl Objective for Model {
        type Batch = Words;

        fn target_hidden_states<'a>(&'a self, batch: &Words, _: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
            let words = batch.0.iter().map(|&word| word as i32).collect();
            let table = self.words.val();
            self.two_heads.forward(table.clone().select(0, index_tensor(words, &table.device()))).tanh()
        }

        fn token_losses(&self, hidden: Tensor<2>, batch: &Words, range: Range<usize>) -> Tensor<1> {
            let targets: Vec<u32> = batch.0[range].iter().map(|&word| word as u32).collect();
            cross_entropy(self.classes.forward(hidden), &targets)
        }

        fn parameter_kind(&self, parameter: &str) -> ParameterKind {
            match parameter {
                "words" => ParameterKind::Embedding,
                "classes.weight" => ParameterKind::Head,
                _ => ParameterKind::Hidden,
            }
        }
    }

    /// AdamW's first step moves each number by the learning rate, Muon's moves a matrix as a whole.
    #[test]
    fn muon_chooses_by_kind_and_not_by_name() {
        let device = Device::flex().autodiff();
        let written_down = |d_output: usize, d_input: usize| {
            let values: Vec<f32> = (0..d_output * d_input).map(|i| (i as f32 * 1.7).sin()).collect();
            Param::from_tensor(Tensor::<2>::from_data(TensorData::new(values, [d_output, d_input]), &device))
        };
        let linear = |d_input, d_output| {
            let layer = LinearConfig::new(d_input, d_output).init(&device);
            Linear { weight: written_down(d_output, d_input).into(), ..layer }
        };
        let model = Model { words: written_down(6, 4), two_heads: linear(4, 4), classes: linear(4, 6) };
        let values = |model: &Model| -> Vec<(String, Vec<f32>)> {
            snapshots(model).iter().map(|s| (s.info.name.clone(), s.read().iter::<f32>().collect())).collect()
        };

        let before = values(&model);
        let config = TrainConfig {
            optimizer: OptimizerKind::Muon,
            batch_size: 6,
            micro_batch_size: 6,
            learning_rate: 1e-2,
            weight_decay: 0.0,
            schedule: Schedule { kind: ScheduleKind::Constant, warmup: 0.0 },
            ..TrainConfig::default()
        };
        let source = ExampleBatches::new(6, |examples: &[usize]| Ok::<_, String>(Words(examples.to_vec())));
        let trainer = Trainer::new(config).expect("valid settings");
        let (model, _) = trainer.fit(model, &source, FitOptions::default(), &mut ()).expect("trains");

        for ((name, before), (_, after)) in before.iter().zip(values(&model)) {
            let by_the_rate = before.iter().zip(&after).all(|(a, b)| ((a - b).abs() - 1e-2).abs() < 1e-4);
            assert_eq!(by_the_rate, name != "two_heads.weight", "{name}: {before:?} to {after:?}");
        }
    }
}
