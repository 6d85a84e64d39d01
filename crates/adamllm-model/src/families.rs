//! What is known of each model family: `config.json`, the keys of checkpoints, image processing, positions. One folder for
//! each family, and its lines in this registry.

use std::fmt;

use adamllm_nn::{BlockExecutor, ImageFeatures, ImageLayout, LinearLayers, ParameterKind, PixelValues, VisionEncoder};
use adamllm_vision::{LlavaNextVision, MllamaVision, Qwen2_5VlEncoder, Qwen2VlEncoder, Qwen3VlEncoder, SmolVlmVision};
use burn::module::Module;
use burn::tensor::Tensor;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::hf::config::{ConfigFile, ModelConfig};
use crate::hf::keys::PartKeys;
use crate::{ModelError, Preset};

mod llama;
mod llava_next;
mod mllama;
mod qwen2;
mod qwen2_5_vl;
mod qwen2_vl;
mod qwen3;
mod qwen3_vl;
mod smolvlm;
pub mod text;

/// The families that this crate brings.
const BUILT_IN: &[&dyn ModelFamily] = &[
    &qwen2_vl::Qwen2Vl,
    &qwen2_5_vl::Qwen2_5Vl,
    &qwen3_vl::Qwen3Vl,
    &llava_next::LlavaNext,
    &mllama::Mllama,
    &smolvlm::SmolVlm,
    &llama::Llama,
    &qwen2::Qwen2,
    &qwen3::Qwen3,
];

/// The enum of the vision encoders that a folder's `config.json` may ask for, from one line each.
macro_rules! vision_encoders {
    ($($(#[$doc:meta])* $variant:ident($encoder:ty)),* $(,)?) => {
        /// The vision encoder that `config.json` asks for, with its connector. Parameter names do not show the variant.
        #[derive(Module, Debug)]
        #[non_exhaustive]
        pub enum AutoVisionEncoder {
            $($(#[$doc])* $variant($encoder)),*
        }

        $(impl From<$encoder> for AutoVisionEncoder {
            fn from(encoder: $encoder) -> Self {
                Self::$variant(encoder)
            }
        })*

        impl VisionEncoder for AutoVisionEncoder {
            fn encode<'a>(&'a self, images: &[&PixelValues], blocks: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
                match self {
                    $(Self::$variant(encoder) => encoder.encode(images, blocks)),*
                }
            }

            fn encode_with_layers<'a>(
                &'a self,
                images: &[&PixelValues],
                blocks: &mut dyn BlockExecutor<'a>,
            ) -> ImageFeatures {
                match self {
                    $(Self::$variant(encoder) => encoder.encode_with_layers(images, blocks)),*
                }
            }

            fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
                match self {
                    $(Self::$variant(encoder) => encoder.linear_layers_mut()),*
                }
            }

            fn uses(&self, parameter: &str) -> bool {
                match self {
                    $(Self::$variant(encoder) => encoder.uses(parameter)),*
                }
            }

            fn parameter_kind(&self, parameter: &str) -> ParameterKind {
                match self {
                    $(Self::$variant(encoder) => encoder.parameter_kind(parameter)),*
                }
            }
        }
    };
}

vision_encoders! {
    /// Qwen2-VL.
    Qwen2Vl(Qwen2VlEncoder),
    /// Qwen2.5-VL.
    Qwen2_5Vl(Qwen2_5VlEncoder),
    /// Qwen3-VL.
    Qwen3Vl(Qwen3VlEncoder),
    /// LLaVA-NeXT.
    LlavaNext(LlavaNextVision),
    /// Llama 3.2 Vision.
    Mllama(MllamaVision),
    /// SmolVLM and Idefics3.
    SmolVlm(SmolVlmVision),
}

/// What a model family knows, as one value: whoever brings a family of their own implements this and registers it
/// ([`Families::with`]).
pub trait ModelFamily: fmt::Debug + Send + Sync {
    /// The `model_type`s in `config.json`; the first is the family's name.
    fn model_types(&self) -> &'static [&'static str];

    /// `model_type`s that are close to the family and not supported, each with what is instead.
    fn refused_types(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// What `config.json` says.
    ///
    /// # Errors
    /// [`ModelError::ConfigField`] for a field that cannot be used, and for one that would change what the model computes and is
    /// not supported.
    fn config(&self, file: &ConfigFile) -> Result<ModelConfig, ModelError>;

    /// Where checkpoints keep each part. A parameter that no part knows is stored under its own name.
    fn keys(&self) -> &'static [PartKeys];

    /// The formats of published training tools that the family's tokenizer can write.
    fn presets(&self) -> &'static [Preset] {
        &[]
    }

    /// The positions of a sequence's tokens on three axes (equal ones for plain positions), and the position of the next token.
    /// Each run of `image_token` in `tokens` belongs to the next of `images`.
    fn positions(&self, tokens: &[u32], _image_token: u32, _images: &[&ImageLayout]) -> (Vec<[i32; 3]>, i32) {
        let n = tokens.len() as i32;
        ((0..n).map(|p| [p; 3]).collect(), n)
    }
}

/// A model family, by its name.
#[derive(Clone, Copy)]
pub struct Family(&'static dyn ModelFamily);

impl Family {
    /// A family from outside, usually a `static` of a type without fields.
    pub const fn new(family: &'static dyn ModelFamily) -> Self {
        Self(family)
    }

    /// The `model_type` in `config.json`.
    pub fn as_str(self) -> &'static str {
        self.0.model_types()[0]
    }
}

impl std::ops::Deref for Family {
    type Target = dyn ModelFamily;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Family {}

impl Serialize for Family {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The families among which a folder's `model_type` is looked for.
#[derive(Clone, Debug)]
pub struct Families(Vec<Family>);

impl Default for Families {
    /// Those that this crate brings.
    fn default() -> Self {
        Self(BUILT_IN.iter().map(|&family| Family(family)).collect())
    }
}

impl Families {
    /// With one more, which comes before those that have the same `model_type`.
    pub fn with(mut self, family: &'static dyn ModelFamily) -> Self {
        self.0.insert(0, Family(family));
        self
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Family> + '_ {
        self.0.iter().copied()
    }

    /// The family of a `model_type`.
    pub fn find(&self, model_type: &str) -> Option<Family> {
        self.iter().find(|family| family.model_types().contains(&model_type))
    }
}

/// An empty section of `config.json`.
fn nothing() -> &'static Map<String, Value> {
    static NOTHING: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    &NOTHING
}
