use std::fmt;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Shape, Tensor, TensorData};

/// A parameter's name inside its module, its shape and its dtype.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParameterInfo {
    /// The path of field names, joined by dots: `layers.0.attention.query.weight`.
    pub name: String,
    /// Its axes.
    pub shape: Vec<usize>,
    /// `None` while the parameter is not initialised.
    pub dtype: Option<DType>,
}

/// Where a visitor or mapper stands inside a module. The variant of an enum is no part of a parameter's name: one enum of
/// families must not show in the names of each.
#[derive(Clone, Debug, Default)]
pub struct ModulePath(Vec<String>);

impl ModulePath {
    /// To be called from `enter_module`.
    pub fn enter(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.push(name.to_owned());
        }
    }

    /// To be called from `exit_module`.
    pub fn exit(&mut self, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.pop();
        }
    }

    /// The field names so far, joined by dots.
    pub fn name(&self) -> String {
        self.0.join(".")
    }
}

/// The float parameters of a module in the order of its fields. Listing them initialises none.
#[derive(Clone, Debug, Default)]
pub struct Parameters(Vec<ParameterInfo>);

impl Parameters {
    /// Lists a module's parameters.
    pub fn of(module: &impl Module) -> Self {
        let mut listing = Listing::default();
        module.visit(&mut listing);
        Self(listing.found)
    }

    /// Their names.
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|p| p.name.as_str()).collect()
    }

    /// The sum of their elements.
    pub fn n_elements(&self) -> usize {
        self.0.iter().map(|p| p.shape.iter().product::<usize>()).sum()
    }

    /// One after the other.
    pub fn iter(&self) -> std::slice::Iter<'_, ParameterInfo> {
        self.0.iter()
    }
}

/// One parameter of a module that can be read when its turn comes: holding it copies nothing.
pub struct Snapshot {
    /// Its name and shape.
    pub info: ParameterInfo,
    read: Box<dyn Fn() -> TensorData>,
}

impl Snapshot {
    /// A tensor that is made when it is read, such as the weight beside an adapter with the adapter's product.
    pub fn new(name: String, shape: Vec<usize>, dtype: DType, read: impl Fn() -> TensorData + 'static) -> Self {
        Self { info: ParameterInfo { name, shape, dtype: Some(dtype) }, read: Box::new(read) }
    }

    /// Copies the values to the host, in the parameter's dtype.
    pub fn read(&self) -> TensorData {
        (self.read)()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info.fmt(f)
    }
}

/// A module's parameters, in the order of its fields, to be read one by one.
pub fn snapshots(module: &impl Module) -> Vec<Snapshot> {
    let mut listing = SnapshotListing::default();
    module.visit(&mut listing);
    listing.found
}

#[derive(Default)]
struct SnapshotListing {
    path: ModulePath,
    found: Vec<Snapshot>,
}

impl ModuleVisitor for SnapshotListing {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let shape = tensor.shape().as_slice().to_vec();
        let info = ParameterInfo { name: self.path.name(), shape, dtype: Some(tensor.dtype()) };
        self.found.push(Snapshot { info, read: Box::new(move || tensor.clone().into_data()) });
    }
}

#[derive(Default)]
struct Listing {
    path: ModulePath,
    found: Vec<ParameterInfo>,
}

impl ModuleVisitor for Listing {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let dtype = param.is_initialized().then(|| param.val().dtype());
        let shape = param.lazy_shape().as_slice().to_vec();
        self.found.push(ParameterInfo { name: self.path.name(), shape, dtype });
    }
}

/// Where [`load`] gets its tensors from: a checkpoint folder, a map in memory.
pub trait ParameterSource {
    /// What can go wrong while reading one tensor.
    type Error: fmt::Display;

    /// The tensor for a parameter, in the dtype the parameter shall have. `None` where the source has none.
    ///
    /// # Errors
    /// Whatever makes a present tensor unusable.
    fn take(&mut self, parameter: &ParameterInfo) -> Result<Option<TensorData>, Self::Error>;
}

/// Everything that kept a module from being loaded; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// One line for each parameter at fault: its name and what is wrong.
    pub faults: Vec<(String, String)>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} parameters cannot be loaded:", self.faults.len())?;
        self.faults.iter().try_for_each(|(name, fault)| write!(f, "\n  {name}: {fault}"))
    }
}

impl std::error::Error for LoadError {}

/// Fills a module from a source, one tensor in flight at a time. Parameters that were never used are not initialised
/// first, so the peak is the module plus its largest tensor.
///
/// # Errors
/// [`LoadError`] lists every missing, misshapen or unreadable parameter at once.
pub fn load<M: Module, S: ParameterSource>(module: M, source: &mut S) -> Result<M, LoadError> {
    let mut loader = Loader { path: ModulePath::default(), source, faults: Vec::new() };
    let module = module.map(&mut loader);
    if loader.faults.is_empty() { Ok(module) } else { Err(LoadError { faults: loader.faults }) }
}

struct Loader<'a, S> {
    path: ModulePath,
    source: &'a mut S,
    faults: Vec<(String, String)>,
}

impl<S: ParameterSource> Loader<'_, S> {
    fn read(&mut self, parameter: &ParameterInfo) -> Option<TensorData> {
        let fault = match self.source.take(parameter) {
            Ok(Some(data)) if data.shape().as_slice() == parameter.shape => return Some(data),
            Ok(Some(data)) => {
                format!("expected shape {:?}, got {:?}", parameter.shape, data.shape().as_slice())
            }
            Ok(None) => "missing".to_owned(),
            Err(error) => error.to_string(),
        };
        self.faults.push((parameter.name.clone(), fault));
        None
    }
}

impl<S: ParameterSource> ModuleMapper for Loader<'_, S> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape: Shape = param.lazy_shape();
        let parameter = ParameterInfo { name: self.path.name(), shape: shape.as_slice().to_vec(), dtype: None };
        match self.read(&parameter) {
            None => param,
            Some(data) => {
                let (id, device) = (param.id, param.lazy_device());
                let dtype = data.dtype();
                let tensor = Tensor::from_data(data, (&device, dtype));
                param.transform_for_load(tensor, id)
            }
        }
    }
}
