//! Image preprocessing: 8-bit RGB pixels to the numbers that a vision encoder reads, equal to Hugging Face's processors.
//!
//! Everything here is a pure function of pixels (or of a width and a height) and a plain config value: no tensor, no
//! device, no model. How many features an image becomes is known from its header alone ([`ImageProcessor::layout`]).
//!
//! | function | what it computes |
//! |---|---|
//! | [`smart_resize`] | the size to which the Qwen2-VL families scale an image |
//! | [`Qwen2VlImageConfig`] | Qwen2-VL, Qwen2.5-VL, Qwen3-VL: patches in merge-block order |
//! | [`LlavaNextImageConfig`] | LLaVA-NeXT: the whole image and its tiles, padding and line breaks ([`AnyresLayout`]) |
//! | [`MllamaImageConfig`] | Llama 3.2 Vision: canvas, tiles, aspect ratio ids ([`TileGrid`]) |
//! | [`SmolVlmImageConfig`] | SmolVLM, Idefics3: a grid of tiles and the whole image after it ([`SplitGrid`]) |
//! | [`ClipImageConfig`] | CLIP: shorter side and crop |
//! | [`resize`], [`resize_bicubic`] | Pillow's convolution resampling |
//! | [`resize_nearest`] | Pillow's nearest neighbour |
//! | [`Normalisation`] | bytes to centred floats |

mod error;
pub(crate) mod json;
mod nearest;
mod normalisation;
mod processor;
mod resize;
pub(crate) mod tiles;

pub use error::PreprocessError;
pub use nearest::resize_nearest;
pub use normalisation::Normalisation;
pub use processor::{ImageProcessor, PixelRange};
pub use resize::{PassOrder, Resampling, resize, resize_bicubic};
pub use tiles::Tiles;

pub use crate::llava_next::{AnyresLayout, ClipImageConfig, LlavaNextImageConfig, LlavaNextImageProcessor};
pub use crate::mllama::{MllamaImageConfig, MllamaImageProcessor, TileGrid};
pub use crate::qwen2_vl::{MAX_ASPECT_RATIO, PatchGrid, Patches, Qwen2VlImageConfig, smart_resize};
pub use crate::smolvlm::{SmolVlmImageConfig, SmolVlmImageProcessor, SplitGrid};
