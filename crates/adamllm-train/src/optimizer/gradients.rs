use std::collections::BTreeMap;

use adamllm_nn::ModulePath;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::{Replicas, TrainError};

/// The norm over all gradients together.
pub(crate) fn global_norm<M: Module>(model: &M, gradients: &GradientsParams) -> f64 {
    let mut squares = Squares { gradients, sum: 0.0 };
    model.visit(&mut squares);
    squares.sum.sqrt()
}

struct Squares<'a> {
    gradients: &'a GradientsParams,
    sum: f64,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
        self.sum += f64::from(square_sum(gradient).into_scalar::<f32>());
    }
}

fn square_sum<const D: usize>(gradient: Tensor<D>) -> Tensor<1> {
    #[cfg(feature = "flex")]
    if super::fused::applies(&gradient) {
        return super::fused::square_sum_of(gradient);
    }
    gradient.cast(DType::F32).square().sum()
}

/// Gradients that several backward passes add to.
#[derive(Default)]
pub(crate) struct Accumulated(Option<GradientsParams>);

impl Accumulated {
    /// Goes on from gradients that were kept.
    pub(crate) fn of(gradients: GradientsParams) -> Self {
        Self(Some(gradients))
    }

    /// Adds the gradients of one backward pass.
    pub(crate) fn add<M: Module>(&mut self, model: &M, gradients: GradientsParams) {
        self.0 = Some(match self.0.take() {
            None => gradients,
            Some(sum) => {
                let mut joined = Joining { sum, new: gradients };
                model.visit(&mut joined);
                joined.sum
            }
        });
    }

    pub(crate) fn take(self) -> GradientsParams {
        self.0.unwrap_or_default()
    }
}

struct Joining {
    sum: GradientsParams,
    new: GradientsParams,
}

impl ModuleVisitor for Joining {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(new) = self.new.remove::<D>(param.id) else { return };
        let sum = match self.sum.remove::<D>(param.id) {
            Some(sum) => add(sum, new),
            None => new,
        };
        self.sum.register(param.id, sum);
    }
}

fn add<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if super::fused::applies(&a) && super::fused::applies(&b) {
        return super::fused::add(a, b);
    }
    // Sums in fewer bits would lose what the later micro-batches bring.
    let in_f32 = |x: Tensor<D>| if x.dtype() == DType::F32 { x } else { x.cast(DType::F32) };
    in_f32(a) + in_f32(b)
}

/// Every gradient under its parameter's name, on the host.
pub(crate) fn by_name<M: Module>(model: &M, gradients: GradientsParams) -> BTreeMap<String, TensorData> {
    let mut naming = Naming { path: ModulePath::default(), gradients, found: BTreeMap::new() };
    model.visit(&mut naming);
    naming.found
}

struct Naming {
    path: ModulePath,
    gradients: GradientsParams,
    found: BTreeMap<String, TensorData>,
}

impl ModuleVisitor for Naming {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.found.insert(self.path.name(), gradient.into_data());
        }
    }
}

/// The gradients of these names, which [`by_name`] gave, on `device`. Names that the model does not have are given back.
pub(crate) fn from_names<M: Module>(
    model: &M,
    named: BTreeMap<String, TensorData>,
    device: &Device,
) -> (GradientsParams, Vec<String>) {
    let mut filling = Filling { path: ModulePath::default(), named, device, found: GradientsParams::default() };
    model.visit(&mut filling);
    (filling.found, filling.named.into_keys().collect())
}

struct Filling<'a> {
    path: ModulePath,
    named: BTreeMap<String, TensorData>,
    device: &'a Device,
    found: GradientsParams,
}

impl ModuleVisitor for Filling<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(data) = self.named.remove(&self.path.name()) {
            let dtype = data.dtype();
            self.found.register(param.id, Tensor::<D>::from_data(data, (self.device, dtype)));
        }
    }
}

/// Each gradient summed over the members, parameter by parameter. A parameter that no member has a gradient for gets none.
pub(crate) fn add_up<M: Module>(
    model: &M,
    gradients: GradientsParams,
    replicas: &dyn Replicas,
) -> Result<GradientsParams, TrainError> {
    if replicas.size() == 1 {
        return Ok(gradients);
    }
    let mut adding = Adding { gradients, replicas, failed: None };
    model.visit(&mut adding);
    match adding.failed {
        Some(error) => Err(error),
        None => Ok(adding.gradients),
    }
}

struct Adding<'a> {
    gradients: GradientsParams,
    replicas: &'a dyn Replicas,
    failed: Option<TrainError>,
}

impl ModuleVisitor for Adding<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // Members must agree on the parameters that they talk about; whether one has a gradient is not the same for all.
        if self.failed.is_some() || !param.is_require_grad() {
            return;
        }
        let own = self.gradients.remove::<D>(param.id);
        let value = param.val();
        let (shape, device) = (value.shape(), value.device().without_autodiff());
        let mut values: Vec<f32> = match &own {
            Some(gradient) => gradient.clone().into_data().iter::<f32>().collect(),
            None => vec![0.0; shape.num_elements()],
        };
        // The last element counts the members that have one.
        values.push(f32::from(u8::from(own.is_some())));
        if let Err(error) = self.replicas.add_up(&mut values) {
            self.failed = Some(error);
            return;
        }
        if values.pop().is_some_and(|n| n > 0.0) {
            let sum = Tensor::<D>::from_data(TensorData::new(values, shape), (&device, DType::F32));
            self.gradients.register(param.id, sum);
        }
    }
}
