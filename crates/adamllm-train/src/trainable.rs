//! Which parameters a run trains: checked before the first step, and against the gradients of the steps.

use std::collections::BTreeSet;

use adamllm_nn::{Batch, ModulePath, Objective};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::{Collective, TrainConfig, TrainError};

/// Refuses a run that would train nothing, or not what its settings say: a device without autodiff, groups without an
/// effect, no trainable parameter.
///
/// # Errors
/// [`TrainError::NoAutodiff`], [`TrainError::UnmatchedGroup`], [`TrainError::ShadowedGroup`], [`TrainError::NothingTrained`].
pub(crate) fn check_trainable<M: Module>(model: &M, config: &TrainConfig) -> Result<(), TrainError> {
    if model.devices().iter().all(|device| !device.is_autodiff()) {
        return Err(TrainError::NoAutodiff);
    }

    let parameters = parameters(model);
    check_groups(&parameters, config)?;
    check_any(&parameters, config)
}

/// At least one parameter must be trained.
fn check_any(parameters: &[Parameter], config: &TrainConfig) -> Result<(), TrainError> {
    let frozen_by_group = |p: &&Parameter| !config.trains_name(&p.name);
    let by_group = parameters.iter().filter(frozen_by_group).count();
    let trained = parameters.iter().filter(|p| !frozen_by_group(p) && p.requires_grad).count();
    if trained == 0 {
        let n_parameters = parameters.len();
        return Err(TrainError::NothingTrained { n_parameters, by_group, by_model: n_parameters - by_group });
    }
    Ok(())
}

/// Each group must decide about at least one parameter.
fn check_groups(parameters: &[Parameter], config: &TrainConfig) -> Result<(), TrainError> {
    for group in &config.groups {
        let matched = || parameters.iter().filter(|p| p.name.starts_with(&group.prefix));
        if matched().next().is_none() {
            return Err(TrainError::UnmatchedGroup {
                prefix: group.prefix.clone(),
                hint: likely_prefix(&group.prefix, parameters),
            });
        }

        // The last group that matches counts, so an earlier one may be without any parameter of its own.
        let deciding = || matched().filter_map(|p| config.group(&p.name));
        if !deciding().any(|deciding| std::ptr::eq(deciding, group)) {
            let by: BTreeSet<String> = deciding().map(|later| later.prefix.clone()).collect();
            return Err(TrainError::ShadowedGroup {
                prefix: group.prefix.clone(),
                by: by.into_iter().collect::<Vec<_>>().join("`, `"),
            });
        }

        // An adapter freezes the weights beside it: settings for those alone change nothing.
        if !group.frozen && !matched().any(|p| p.requires_grad) {
            tracing::warn!(prefix = group.prefix, "the model has frozen every parameter of this group");
        }
    }
    Ok(())
}

/// The beginning of a name that was probably meant; where none is near, those that there are.
fn likely_prefix(got: &str, parameters: &[Parameter]) -> String {
    let mut known = BTreeSet::new();
    let mut outermost = BTreeSet::new();
    for Parameter { name, .. } in parameters {
        for (dot, _) in name.match_indices('.') {
            known.insert(&name[..dot + usize::from(got.ends_with('.'))]);
        }
        known.insert(name.as_str());
        outermost.insert(name.split_inclusive('.').next().unwrap_or(name));
    }

    let distance = |name: &&&str| strsim::damerau_levenshtein(got, name);
    match known.iter().min_by_key(distance) {
        Some(near) if distance(&near) <= got.len().max(3) / 3 => format!("did you mean `{near}`?"),
        _ => {
            let outermost: Vec<&str> = outermost.into_iter().take(8).collect();
            format!("the model's parameters begin with `{}`", outermost.join("`, `"))
        }
    }
}

/// Trained parameters that no gradient has reached yet, by their names.
#[derive(Debug, Default)]
pub(crate) struct Unreached {
    /// `None` before the first step.
    names: Option<BTreeSet<String>>,
}

impl Unreached {
    /// Takes the parameters off the list that the gradients of a step, those of all processes together, reach. A trained
    /// parameter that is still on it although a batch of the step uses it ([`Objective::uses`]) is a fault.
    ///
    /// # Errors
    /// [`TrainError::NoGradient`] names the parameters; [`TrainError::NothingTrained`] in the first step.
    pub(crate) fn check<'a, M: Objective>(
        &mut self,
        step: usize,
        model: &M,
        gradients: &GradientsParams,
        batches: impl Iterator<Item = &'a M::Batch> + Clone,
        config: &TrainConfig,
        collective: &dyn Collective,
    ) -> Result<(), TrainError> {
        if self.names.as_ref().is_some_and(BTreeSet::is_empty) {
            return Ok(());
        }
        // Random weights that a model makes when it first uses them show only now whether they are trained.
        if self.names.is_none() {
            check_any(&parameters(model), config)?;
        }

        let without = without_gradient(model, gradients);
        let names: BTreeSet<String> = match self.names.take() {
            None => without,
            Some(names) => names.intersection(&without).cloned().collect(),
        };

        // Another process may have had the batch that uses a parameter. All of them have the same list.
        let batches = batches.filter(|batch| batch.n_targets() > 0);
        let used = |name: &String| batches.clone().any(|batch| model.uses(name, batch));
        let mut counts: Vec<f64> = names.iter().map(|name| f64::from(u8::from(used(name)))).collect();
        collective.all_reduce_sum_f64(&mut counts)?;

        let faulty = names.iter().zip(counts).filter(|(_, count)| *count > 0.0).map(|(name, _)| name.clone());
        let faulty: Vec<String> = faulty.collect();
        self.names = Some(names);
        if faulty.is_empty() { Ok(()) } else { Err(TrainError::NoGradient { step, parameters: faulty }) }
    }

    /// Tells of the parameters that no step of a run used, such as a vision encoder's in a run without images.
    pub(crate) fn warn(&self) {
        if let Some(first) = self.names.as_ref().and_then(BTreeSet::first) {
            let n = self.names.as_ref().map_or(0, BTreeSet::len);
            tracing::warn!(n, first, "parameters that no batch of this run used are as they were");
        }
    }
}

/// The trained parameters without a gradient.
fn without_gradient<M: Module>(model: &M, gradients: &GradientsParams) -> BTreeSet<String> {
    struct Without<'a> {
        path: ModulePath,
        gradients: &'a GradientsParams,
        found: BTreeSet<String>,
    }

    impl ModuleVisitor for Without<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }

        fn exit_module(&mut self, _name: &str, container: &str) {
            self.path.exit(container);
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if requires_grad(param) && self.gradients.get::<D>(param.id).is_none() {
                self.found.insert(self.path.name());
            }
        }
    }

    let mut visitor = Without { path: ModulePath::default(), gradients, found: BTreeSet::new() };
    model.visit(&mut visitor);
    visitor.found
}

/// The trained parameters, and how many values each has.
pub(crate) fn trained_sizes<M: Module>(model: &M, config: &TrainConfig) -> Vec<(String, usize)> {
    let trained = parameters(model).into_iter().filter(|p| p.requires_grad && config.trains_name(&p.name));
    trained.map(|p| (p.name, p.n_values)).collect()
}

/// A parameter's name and size, and whether the model lets it be trained.
struct Parameter {
    name: String,
    n_values: usize,
    requires_grad: bool,
}

fn parameters<M: Module>(model: &M) -> Vec<Parameter> {
    #[derive(Default)]
    struct ParameterVisitor {
        path: ModulePath,
        found: Vec<Parameter>,
    }

    impl ModuleVisitor for ParameterVisitor {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }

        fn exit_module(&mut self, _name: &str, container: &str) {
            self.path.exit(container);
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let n_values = param.lazy_shape().num_elements();
            self.found.push(Parameter { name: self.path.name(), n_values, requires_grad: requires_grad(param) });
        }
    }

    let mut listing = ParameterVisitor::default();
    model.visit(&mut listing);
    listing.found
}

/// Whether a parameter is trained. One that was never used counts as trained, and is not initialised for the question: random
/// weights would then be drawn in another order.
fn requires_grad<const D: usize>(param: &Param<Tensor<D>>) -> bool {
    if param.is_initialized() { param.is_require_grad() } else { param.lazy_device().is_autodiff() }
}
