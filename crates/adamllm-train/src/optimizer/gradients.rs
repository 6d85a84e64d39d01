use std::collections::BTreeMap;

use adamllm_nn::ModulePath;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor, TensorData};

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
