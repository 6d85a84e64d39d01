//! Image preprocessing: 8-bit RGB pixels to the numbers that a vision tower reads, equal to Hugging Face's processors.
//!
//! Everything here is a pure function of pixels (or of a width and a height) and a plain config value: no tensor, no
//! device, no model. How many rows a picture becomes is known from its header alone.
//!
//! | function | what it computes |
//! |---|---|
//! | [`smart_resize`] | the size to which the Qwen2-VL families scale a picture |
//! | [`Qwen2VlImageConfig`] | Qwen2-VL, Qwen2.5-VL: patches in merge-block order |
//! | [`LlavaNextImageConfig`] | LLaVA-NeXT: the whole picture and its tiles, padding and line breaks ([`AnyresLayout`]) |
//! | [`MllamaImageConfig`] | Llama 3.2 Vision: canvas, tiles, aspect ratio ids ([`TileGrid`]) |
//! | [`ClipImageConfig`] | CLIP: shorter side and crop |
//! | [`resize`], [`resize_bicubic`] | Pillow's convolution resampling |
//! | [`resize_nearest`] | Pillow's nearest neighbour |
//! | [`Normalisation`] | bytes to centred floats |

mod clip;
mod error;
mod json;
mod llava_next;
mod mllama;
mod nearest;
mod normalisation;
mod qwen2_vl;
mod resize;
mod smart_resize;
mod tiles;

pub use clip::ClipImageConfig;
pub use error::PreprocessError;
pub use llava_next::{AnyresLayout, LlavaNextImageConfig};
pub use mllama::{MllamaImageConfig, TileGrid};
pub use nearest::resize_nearest;
pub use normalisation::Normalisation;
pub use qwen2_vl::{PatchGrid, Patches, Qwen2VlImageConfig};
pub use resize::{PassOrder, Resampling, resize, resize_bicubic};
pub use smart_resize::{MAX_ASPECT_RATIO, smart_resize};
pub use tiles::Tiles;
