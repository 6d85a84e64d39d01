use std::collections::BTreeMap;

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::dropout::{Dropout, drop_elements};
use crate::tensors::cast_to;

/// What low-rank adapters look like, in PEFT's terms (Hu et al., 2021, arXiv 2106.09685).
///
/// ```
/// use adamllm_nn::LoraConfig;
///
/// let config = LoraConfig::new(16, 32.0).with_targets(["query", "value", "vision.qkv"]);
/// assert_eq!(config.scale(), 2.0);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Width between the two factors (PEFT: `r`).
    pub rank: usize,
    /// The product is scaled by `alpha / rank` (PEFT: `lora_alpha`).
    pub alpha: f64,
    /// The linear layers that get a pair (PEFT: `target_modules`). Left out, all linear layers of the decoder's blocks.
    #[serde(default)]
    pub targets: LoraTargets,
    /// The share of a layer's inputs that its adapter does not see in training, 0 to below 1 (PEFT: `lora_dropout`). The others
    /// are scaled up to make up for them. Which ones follows from the run's seed, the step and the examples of the pass.
    #[serde(default)]
    pub dropout: f64,
    /// Scales by `alpha / sqrt(rank)` instead (rank-stabilized LoRA, Kalajdzievski, 2023, arXiv 2312.03732; PEFT: `use_rslora`).
    #[serde(default)]
    pub rslora: bool,
    /// Modules that are trained in full beside the adapters: a part of the model (`vision`, `connector`, `language`, `head`,
    /// `embeddings`), or the last parts of a module's path of field names (`projector`, `merger.norm`, `lm_head`).
    #[serde(default)]
    pub modules_to_save: Vec<String>,
    /// Other ranks, by regular expressions for layers: each matches the last parts of a layer's path of field names, as in
    /// PEFT, or all of it (`vision\..*`). The first in the order of the alphabet counts.
    #[serde(default)]
    pub rank_pattern: BTreeMap<String, usize>,
    /// Other alphas, in the same way.
    #[serde(default)]
    pub alpha_pattern: BTreeMap<String, f64>,
}

impl LoraConfig {
    /// Adapters beside all linear layers of the decoder's blocks, and nothing else trained.
    pub fn new(rank: usize, alpha: f64) -> Self {
        Self {
            rank,
            alpha,
            targets: LoraTargets::default(),
            dropout: 0.0,
            rslora: false,
            modules_to_save: Vec::new(),
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
        }
    }

    /// The same beside layers of these names ([`LoraTargets::Names`]).
    #[must_use]
    pub fn with_targets<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.targets = LoraTargets::Names(names.into_iter().map(Into::into).collect());
        self
    }

    /// The factor of the product: `alpha / rank`, or `alpha / sqrt(rank)` where it is rank-stabilized.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }
}

/// Which linear layers get a pair of factors. In settings, a list of names or one text: `"all-linear"`, or a regular
/// expression. The patch embedding, a convolution in checkpoints, never gets one.
///
/// ```toml
/// targets = ["query", "vision"]
/// targets = "all-linear"
/// targets = 'language\.layers\.[01]\..*'
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "TargetsForm", into = "TargetsForm")]
pub enum LoraTargets {
    /// Every linear layer of decoder, vision encoder and connector; the output head alone is left out, as by PEFT.
    AllLinear,
    /// Each is a layer of the decoder by the last part of its path of field names (`query`), or by its name in checkpoints
    /// (`q_proj`); such a name in another part (`vision.qkv`, `connector.fc1`); or all linear layers of a part (`vision`,
    /// `connector`, `language`).
    Names(Vec<String>),
    /// A regular expression for a layer's whole path of field names, such as `language.layers.0.attention.query`.
    Pattern(String),
}

impl Default for LoraTargets {
    /// Every linear layer of the decoder's blocks.
    fn default() -> Self {
        Self::Names(["query", "key", "value", "output", "gate", "up", "down"].map(String::from).to_vec())
    }
}

/// How settings write [`LoraTargets`].
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a list of names, \"all-linear\" or a regular expression")]
enum TargetsForm {
    Names(Vec<String>),
    Text(String),
}

/// PEFT's word for every linear layer.
const ALL_LINEAR: &str = "all-linear";

impl From<TargetsForm> for LoraTargets {
    fn from(form: TargetsForm) -> Self {
        match form {
            TargetsForm::Names(names) => Self::Names(names),
            TargetsForm::Text(text) if text.eq_ignore_ascii_case(ALL_LINEAR) => Self::AllLinear,
            TargetsForm::Text(text) => Self::Pattern(text),
        }
    }
}

impl From<LoraTargets> for TargetsForm {
    fn from(targets: LoraTargets) -> Self {
        match targets {
            LoraTargets::AllLinear => Self::Text(ALL_LINEAR.into()),
            LoraTargets::Names(names) => Self::Names(names),
            LoraTargets::Pattern(pattern) => Self::Text(pattern),
        }
    }
}

/// The pair of factors beside a linear layer: `(x A^T) B^T * scale` is added to its output, and the product of the factors
/// is never formed.
#[derive(Module, Debug)]
pub struct Lora {
    /// `[rank, d_input]`.
    pub a: Param<Tensor<2>>,
    /// `[d_output, rank]`; zero at first, so that a new adapter changes nothing.
    pub b: Param<Tensor<2>>,
    /// `alpha / rank`, or as [`LoraConfig::scale`] says.
    pub scale: f64,
    /// What of its input the pair does not see in a training pass ([`with_dropout`](crate::with_dropout)).
    #[module(skip)]
    pub dropout: Option<Dropout>,
}

impl Lora {
    /// A new pair: `A` as PEFT initialises it (uniform within `1 / sqrt(d_input)`), `B` zero. It has no dropout, whose random
    /// numbers depend on the layer's name.
    pub fn init(d_input: usize, d_output: usize, config: &LoraConfig, device: &Device) -> Self {
        let bound = (d_input as f64).powf(-0.5);
        Self {
            a: Initializer::Uniform { min: -bound, max: bound }.init([config.rank, d_input], device),
            b: Initializer::Zeros.init([d_output, config.rank], device),
            scale: config.scale(),
            dropout: None,
        }
    }

    /// What is added to the layer's output.
    ///
    /// # Shapes
    /// - input: `[n, d_input]`
    /// - output: `[n, d_output]`
    ///
    /// The factors may have another dtype than the layer, as PEFT keeps those of a half-precision model in f32: the product is
    /// computed in theirs and given in the layer's.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let dtype = x.dtype();
        let a = self.a.val();
        let x = drop_elements(cast_to(x, a.dtype()), self.dropout);
        cast_to(x.matmul(a.transpose()).matmul(self.b.val().transpose()) * self.scale, dtype)
    }

    /// What is added to the layer's weight when the adapter is merged: `[d_output, d_input]`.
    pub fn product(&self) -> Tensor<2> {
        self.b.val().matmul(self.a.val()) * self.scale
    }
}
