//! Tensor-level contracts, and the layers that vision encoders and decoders share: one linear layer, one attention, one
//! rotary embedding, one gated MLP, two norms. A model family is an arrangement of these, and lives elsewhere.
//!
//! | contract | who implements it | who asks for it |
//! |---|---|---|
//! | [`VisionEncoder`], [`Connector`] | `adamllm-vision`, or an encoder of one's own | `adamllm-model` |
//! | [`LanguageBackbone`] | `adamllm-language`, or a decoder of one's own | `adamllm-model`, the decode loop |
//! | [`Objective`], [`Batch`] | `adamllm-model`, or a model of one's own | `adamllm-train` |
//! | [`BlockExecutor`] | the trainer (activation checkpointing), [`Eager`] | encoders and decoders, through [`run_block`] |
//! | [`ParameterSource`] | readers of checkpoints | [`load`] |
//!
//! Conventions:
//! - The device arrives as an argument; no backend is chosen here.
//! - [`Linear`] keeps its weight as `[d_output, d_input]`, the layout of Hugging Face files, so weights are read and
//!   written without a transpose.
//! - Norms, rotary angles and softmax accumulate in f32 whatever the weights' dtype.
//! - Counts, masks and positions are plain host values ([`AttentionMask`], [`RotaryTable`]) made before the forward pass.
//!
//! ```
//! use adamllm_nn::{LinearConfig, Parameters};
//! use burn::tensor::{Device, Tensor};
//!
//! let device = Device::flex();
//! let linear = LinearConfig::new(4, 3).with_bias(true).init(&device);
//! let y = linear.forward(Tensor::<2>::zeros([2, 4], &device));
//! assert_eq!(y.dims(), [2, 3]);
//! assert_eq!(Parameters::of(&linear).names(), ["weight", "bias"]);
//! ```

mod attention;
mod backbone;
mod blocks;
mod cross_attention;
mod cross_entropy;
mod dropout;
mod dynamic;
mod frozen;
#[cfg(feature = "flex")]
#[cfg_attr(not(feature = "autodiff"), allow(dead_code, reason = "each forward pass has its backward pass beside it"))]
mod fused;
mod image;
mod linear;
mod linear_layers;
mod lora;
mod mlp;
mod norm;
mod objective;
mod parameters;
mod pass_memory;
mod positions;
mod rotary;
mod stored;
mod tensors;
mod testing;
mod vision_encoder;

pub use attention::{AttentionMask, attend};
pub use backbone::{BackboneInput, KeyValueCache, LanguageBackbone};
pub use blocks::{BlockExecutor, BlockFn, Eager, GradMode, run_block};
pub use burn;
pub use cross_attention::{CrossAttentionInput, CrossAttentionView, ImageSpan};
pub use cross_entropy::cross_entropy;
pub use dropout::{Dropout, with_dropout};
pub use dynamic::DynamicTable;
pub use frozen::{BLOCK, BlockScales, FourBit, FrozenForm, FrozenWeight, SharedBytes};
pub use image::{ExampleSize, ImageLayout, PixelValues};
pub use linear::{Linear, LinearConfig, LinearWeight, linear};
pub use linear_layers::{LinearLayers, numbered_layers, prefixed_layers};
pub use lora::{Lora, LoraConfig, LoraTargets};
pub use mlp::{Activation, GatedMlp, GatedMlpConfig, Mlp, MlpConfig};
pub use norm::{LayerNorm, LayerNormConfig, RmsNorm, RmsNormConfig};
pub use objective::{Batch, Objective, ParameterKind};
pub use parameters::{LoadError, ModulePath, ParameterInfo, ParameterSource, Parameters, Snapshot, load, snapshots};
pub use pass_memory::{
    BlockShape, F32_BYTES, HeadMemory, MlpShape, PassMemory, PassSegment, PlannedParameter, SegmentFlow,
    TrainedParameters,
};
pub use positions::Positions;
pub use rotary::{RotaryTable, apply_rotary};
pub use stored::{StoredTensor, float_dtype, stored_dtype, write_safetensors};
pub use tensors::{cast_to, index_tensor, tanh_gated};
pub use vision_encoder::{ConnectedEncoder, Connector, ImageFeatures, VisionEncoder};

/// The README's example is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
