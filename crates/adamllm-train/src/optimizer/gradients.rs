use std::collections::BTreeMap;

use adamllm_nn::{ModulePath, cast_to};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::{Collective, GradientDtype, TrainError};

/// The norm over all gradients together. One read from the device, since each waits for all that was asked of it before.
pub(crate) fn global_norm<M: Module>(model: &M, gradients: &GradientsParams) -> f64 {
    let mut squares = Squares { gradients, sums: Vec::new() };
    model.visit(&mut squares);
    if squares.sums.is_empty() {
        return 0.0;
    }
    let sums = Tensor::cat(squares.sums, 0).into_data();
    sums.iter::<f32>().map(f64::from).sum::<f64>().sqrt()
}

struct Squares<'a> {
    gradients: &'a GradientsParams,
    /// Of each gradient, on its device.
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
        self.sums.push(square_sum(gradient));
    }
}

fn square_sum<const D: usize>(gradient: Tensor<D>) -> Tensor<1> {
    #[cfg(feature = "flex")]
    if super::fused::is_on_cpu(&gradient) && [DType::F32, DType::BF16].contains(&gradient.dtype()) {
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

    /// Adds the gradients of one backward pass, and keeps the sum in `kept`.
    pub(crate) fn add<M: Module>(&mut self, model: &M, gradients: GradientsParams, kept: GradientDtype) {
        self.0 = Some(match (self.0.take(), kept) {
            (None, GradientDtype::F32) => gradients,
            (sum, _) => {
                let mut joined = Joining { sum: sum.unwrap_or_default(), new: gradients, kept };
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
    kept: GradientDtype,
}

impl ModuleVisitor for Joining {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(new) = self.new.remove::<D>(param.id) else { return };
        let sum = match self.sum.remove::<D>(param.id) {
            Some(sum) => add(sum, new),
            None => new,
        };
        self.sum.register(param.id, keep(sum, self.kept));
    }
}

fn keep<const D: usize>(gradient: Tensor<D>, kept: GradientDtype) -> Tensor<D> {
    match kept {
        GradientDtype::F32 => gradient,
        GradientDtype::Bf16 => cast_to(gradient, DType::BF16),
    }
}

fn add<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if super::fused::applies(&a) && super::fused::applies(&b) {
        return super::fused::add(a, b);
    }
    #[cfg(feature = "flex")]
    if super::fused::applies(&b) && a.dtype() == DType::BF16 {
        return super::fused::add_bf16(b, a);
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

/// Values that processes add up at once: small parameters travel together, since each sum costs a round between all processes.
const BUCKET: usize = 1 << 22;

/// Each gradient summed over the processes. A parameter that no process has a gradient for gets none.
pub(crate) fn all_reduce_gradients<M: Module>(
    model: &M,
    gradients: GradientsParams,
    kept: GradientDtype,
    collective: &dyn Collective,
) -> Result<GradientsParams, TrainError> {
    if collective.size() == 1 {
        return Ok(gradients);
    }
    let mut flattening = Flattening { gradients, flat: Vec::new() };
    model.visit(&mut flattening);
    let Flattening { gradients, flat } = flattening;
    // Whether a process has a parameter's gradient is not the same for all.
    let mut counts: Vec<f64> = flat.iter().map(|own| f64::from(u8::from(own.gradient.is_some()))).collect();
    collective.all_reduce_sum_f64(&mut counts)?;
    let given = || counts.iter().map(|&count| count > 0.0);
    let owned = flat.into_iter().zip(given()).filter(|(_, given)| *given).map(|(own, _)| own.or_zeros());
    let mut sums = sums(owned, kept, collective)?.into_iter();
    let sums: Vec<Option<Tensor<1>>> = given().map(|given| if given { sums.next() } else { None }).collect();
    let mut shaping = Shaping { gradients, sums: sums.into_iter() };
    model.visit(&mut shaping);
    Ok(shaping.gradients)
}

/// The sum of each tensor `[n]` in f32 over the processes, in their order.
fn sums(
    tensors: impl Iterator<Item = Tensor<1>>,
    kept: GradientDtype,
    collective: &dyn Collective,
) -> Result<Vec<Tensor<1>>, TrainError> {
    let (mut sums, mut bucket, mut n) = (Vec::new(), Vec::new(), 0);
    let bucket_sums = |bucket| {
        let sums = bucket_sums(bucket, collective)?;
        Ok::<Vec<_>, TrainError>(sums.into_iter().map(|sum| keep(sum, kept)).collect())
    };
    for tensor in tensors {
        n += tensor.dims()[0];
        bucket.push(tensor);
        if n >= BUCKET {
            sums.extend(bucket_sums(std::mem::take(&mut bucket))?);
            n = 0;
        }
    }
    sums.extend(bucket_sums(bucket)?);
    Ok(sums)
}

fn bucket_sums(bucket: Vec<Tensor<1>>, collective: &dyn Collective) -> Result<Vec<Tensor<1>>, TrainError> {
    if bucket.len() < 2 {
        return bucket.into_iter().map(|tensor| collective.all_reduce_sum_tensor(tensor)).collect();
    }
    let lengths: Vec<usize> = bucket.iter().map(|tensor| tensor.dims()[0]).collect();
    let sum = collective.all_reduce_sum_tensor(Tensor::cat(bucket, 0))?;
    let mut first = 0;
    let parts = lengths.into_iter().map(|length| {
        first += length;
        sum.clone().narrow(0, first - length, length)
    });
    Ok(parts.collect())
}

/// A parameter's own gradient `[n]`, in the dtype that it is kept in.
struct Flat {
    gradient: Option<Tensor<1>>,
    n: usize,
    device: Device,
}

impl Flat {
    fn or_zeros(self) -> Tensor<1> {
        match self.gradient {
            Some(gradient) => cast_to(gradient, DType::F32),
            None => Tensor::zeros([self.n], (&self.device, DType::F32)),
        }
    }
}

/// Takes the gradients of the trained parameters, in the model's order: processes must agree on what they talk about.
struct Flattening {
    gradients: GradientsParams,
    flat: Vec<Flat>,
}

impl ModuleVisitor for Flattening {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let gradient = self.gradients.remove::<D>(param.id);
        let value = param.val();
        self.flat.push(Flat {
            gradient: gradient.map(|gradient| gradient.flatten::<1>(0, D - 1)),
            n: value.shape().num_elements(),
            device: value.device().without_autodiff(),
        });
    }
}

/// Puts them back.
struct Shaping {
    gradients: GradientsParams,
    sums: std::vec::IntoIter<Option<Tensor<1>>>,
}

impl ModuleVisitor for Shaping {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad()
            && let Some(sum) = self.sums.next().flatten()
        {
            self.gradients.register(param.id, sum.reshape::<D, _>(param.val().shape()));
        }
    }
}

/// Gives every process the trained parameters of rank 0: what is drawn at random (an adapter) differs from process to process.
pub(crate) fn broadcast_trained<M: Module>(model: M, collective: &dyn Collective) -> Result<M, TrainError> {
    broadcast_from(model, collective, |_| Some(0))
}

/// Gives every process the trained parameters of the rank that `root` names for each; `None` leaves a parameter as it is.
pub(super) fn broadcast_from<M: Module>(
    model: M,
    collective: &dyn Collective,
    root: impl Fn(&str) -> Option<usize>,
) -> Result<M, TrainError> {
    if collective.size() == 1 {
        return Ok(model);
    }
    let mut giving = Giving { path: ModulePath::default(), collective, root, failed: None };
    let model = model.map(&mut giving);
    giving.failed.map_or(Ok(model), Err)
}

struct Giving<'a, F> {
    path: ModulePath,
    collective: &'a dyn Collective,
    root: F,
    failed: Option<TrainError>,
}

impl<F: Fn(&str) -> Option<usize>> ModuleMapper for Giving<'_, F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.failed.is_some() || !param.is_require_grad() {
            return param;
        }
        let Some(root) = (self.root)(&self.path.name()) else { return param };
        param.map(|tensor| {
            let (shape, dtype) = (tensor.shape(), tensor.dtype());
            let own = tensor.clone().without_autodiff().flatten::<1>(0, D - 1).cast(DType::F32);
            let own = if self.collective.rank() == root { own } else { own.zeros_like() };
            match self.collective.all_reduce_sum_tensor(own) {
                Ok(theirs) => Tensor::from_inner(theirs.cast(dtype).reshape::<D, _>(shape)).require_grad(),
                Err(error) => {
                    self.failed = Some(error);
                    tensor
                }
            }
        })
    }
}
