//! JPEG (ITU-T T.81), baseline and progressive, with the same samples as libjpeg-turbo, and so as Pillow.
//!
//! The format leaves the inverse transform's rounding and the enlargement of coarse colour planes to the decoder, and decoders differ by
//! several levels there. Vision-language models were trained on what libjpeg-turbo gives by default: its accurate integer transform
//! ("islow"), its triangle filter for coarse planes ("fancy upsampling"), its 16-bit colour conversion. Those three are followed here to
//! the bit. A file that ends early or that is damaged is an error, never half an image.
//!
//! ```
//! let mut jpeg = Vec::new();
//! jpeg_encoder::Encoder::new(&mut jpeg, 90).encode(&[200; 8 * 4 * 3], 8, 4, jpeg_encoder::ColorType::Rgb).expect("encodes");
//! let image = adamllm_jpeg::decode_rgb(&jpeg, 1 << 20)?;
//! assert_eq!((image.width, image.height, image.samples.len()), (8, 4, 8 * 4 * 3));
//! # Ok::<(), adamllm_jpeg::JpegError>(())
//! ```
//!
//! Not read: arithmetic and lossless coding, hierarchical files, 12 bits a sample, sampling factors that are no whole multiples of each
//! other. EXIF and XMP are skipped: turning an image upright is its reader's business.

mod bits;
mod colour;
mod error;
mod frame;
mod huffman;
mod idct;
mod planes;
mod progressive;
mod scan;
mod segments;
mod sequential;
mod upsample;

pub use colour::cmyk_channel;
pub use error::JpegError;

use colour::ColourModel;
use error::{broken, truncated, unsupported};
use planes::Planes;

/// The README's example is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// A decoded image: interleaved samples of 8 bits, line by line from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JpegImage {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// Samples of a pixel: 3 for RGB.
    pub n_channels: usize,
    /// `height * width * n_channels` samples.
    pub samples: Vec<u8>,
}

/// Decodes a file to RGB. Grey becomes three equal channels; four inks become RGB as Pillow mixes them.
///
/// # Errors
/// [`JpegError`]. No memory is reserved for an image of more than `max_pixels`.
pub fn decode_rgb(bytes: &[u8], max_pixels: u64) -> Result<JpegImage, JpegError> {
    let Planes { frame, planes, hints } = Planes::decode(bytes, max_pixels)?;
    let model = ColourModel::of(&frame, hints)?;
    let samples = colour::to_rgb(&frame, &planes, model);
    Ok(JpegImage { width: frame.width, height: frame.height, n_channels: 3, samples })
}

/// Decodes the stream of a container that keeps its own account of colours, such as a strip of a TIFF: the components stay what they are,
/// except that three of them become RGB where `is_ycbcr`.
///
/// # Errors
/// As [`decode_rgb`].
pub fn decode_components(bytes: &[u8], is_ycbcr: bool, max_pixels: u64) -> Result<JpegImage, JpegError> {
    let Planes { frame, planes, .. } = Planes::decode(bytes, max_pixels)?;
    let n_channels = frame.components.len();
    let samples = match is_ycbcr && n_channels == 3 {
        true => colour::to_rgb(&frame, &planes, ColourModel::YCbCr),
        false => colour::interleaved(&frame, &planes),
    };
    Ok(JpegImage { width: frame.width, height: frame.height, n_channels, samples })
}
