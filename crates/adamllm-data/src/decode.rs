//! Bytes of an image file to upright 8-bit RGB, with the values that Pillow's `convert("RGB")` gives, or a refusal that
//! says why. No decoder is trusted: each runs inside [`guarded`], and each result passes one check of its size.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use adamllm_core::RgbImage;
use image::metadata::Orientation;

use crate::DecodeError;

mod bmp;
mod format;
mod gif;
mod ico;
mod ifd;
mod jpeg;
mod jpeg2000;
mod orientation;
mod png;
mod pnm;
mod raster;
mod tga;
mod tiff;
mod webp;

pub use format::ImageFormat;

/// The size beyond which Pillow refuses an image as a decompression bomb: twice its `MAX_IMAGE_PIXELS`.
pub const PILLOW_PIXEL_LIMIT: u64 = 178_956_970;

/// What becomes of transparency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Alpha {
    /// Thrown away: the hidden colours appear. Pillow's `convert("RGB")`, transformers' `load_image` and LLaMA-Factory
    /// do this.
    #[default]
    Drop,
    /// Laid over white, as Pillow's `alpha_composite` does it. The image processors of transformers 5 (and Mllama's of
    /// transformers 4) do this when they are handed an image that still has its alpha channel.
    OverWhite,
}

/// How images are decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Turns the image upright by the orientation in its EXIF or XMP (default), as `PIL.ImageOps.exif_transpose`.
    /// TIFF images are always turned, as in Pillow.
    pub upright: bool,
    /// What becomes of transparency.
    pub alpha: Alpha,
    /// Images with more pixels are refused before anything of their size is allocated.
    pub max_pixels: u64,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self { upright: true, alpha: Alpha::Drop, max_pixels: PILLOW_PIXEL_LIMIT }
    }
}

/// What a file's header tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Width in pixels, as stored.
    width: u32,
    /// Height in pixels, as stored.
    height: u32,
    /// How the stored image is turned upright.
    orientation: Orientation,
}

impl Header {
    fn upright_size(&self) -> (u32, u32) {
        match self.orientation {
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => (self.height, self.width),
            _ => (self.width, self.height),
        }
    }
}

/// What headers are read from.
trait ImageReader: BufRead + Seek {}

impl<R: BufRead + Seek> ImageReader for R {}

/// Decodes an image of any [`ImageFormat`].
///
/// # Errors
/// [`DecodeError`]; a truncated file is an error, never half an image.
pub fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<RgbImage, DecodeError> {
    let format = ImageFormat::of(bytes)?;
    guarded(format, || {
        let header = checked_header(format, &mut Cursor::new(bytes), options)?;
        let raster = match format {
            ImageFormat::Jpeg => jpeg::pixels(bytes),
            ImageFormat::Png => png::pixels(bytes),
            ImageFormat::WebP => webp::pixels(bytes),
            ImageFormat::Gif => gif::pixels(bytes),
            ImageFormat::Bmp => bmp::pixels(bytes),
            ImageFormat::Tiff => tiff::pixels(bytes),
            ImageFormat::Pnm => pnm::pixels(bytes),
            ImageFormat::Tga => tga::pixels(bytes),
            ImageFormat::Ico => ico::pixels(bytes),
            ImageFormat::Jpeg2000 => jpeg2000::pixels(bytes),
        }?;
        Ok(turned(raster.into_rgb(format, &header, options.alpha)?, header.orientation))
    })
}

/// Width and height of the upright image, from its header.
///
/// # Errors
/// As [`decode`], as far as the header shows it.
pub fn image_size(bytes: &[u8], options: &DecodeOptions) -> Result<(u32, u32), DecodeError> {
    let format = ImageFormat::of(bytes)?;
    guarded(format, || checked_header(format, &mut Cursor::new(bytes), options).map(|header| header.upright_size()))
}

/// [`image_size`] of a file, of which only the header is read.
///
/// # Errors
/// As [`image_size`]; [`DecodeError::Read`] where the file cannot be opened.
pub fn image_size_of_file(path: impl AsRef<Path>, options: &DecodeOptions) -> Result<(u32, u32), DecodeError> {
    let read_error = |source: std::io::Error| DecodeError::Read { detail: source.to_string() };
    let mut file = BufReader::new(File::open(path).map_err(read_error)?);
    let format = ImageFormat::of(file.fill_buf().map_err(read_error)?)?;
    guarded(format, || checked_header(format, &mut file, options).map(|header| header.upright_size()))
}

/// Makes an error of a panic. Decoders are written for well-formed files first, and one image out of millions must not
/// end a job of days. Nothing outlives the panic: all that a decoder touches is made for this one call.
fn guarded<T>(format: ImageFormat, decoder: impl FnOnce() -> Result<T, DecodeError>) -> Result<T, DecodeError> {
    catch_unwind(AssertUnwindSafe(decoder)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(DecodeError::broken(format, format!("its decoder gave up: {}", words.unwrap_or("no reason given"))))
    })
}

fn checked_header(
    format: ImageFormat,
    reader: &mut impl ImageReader,
    options: &DecodeOptions,
) -> Result<Header, DecodeError> {
    let mut header = match format {
        ImageFormat::Jpeg => jpeg::header(reader),
        ImageFormat::Png => png::header(reader),
        ImageFormat::WebP => webp::header(reader),
        ImageFormat::Gif => gif::header(reader),
        ImageFormat::Bmp => bmp::header(reader),
        ImageFormat::Tiff => tiff::header(reader),
        ImageFormat::Pnm => pnm::header(reader),
        ImageFormat::Tga => tga::header(reader),
        ImageFormat::Ico => ico::header(reader),
        ImageFormat::Jpeg2000 => jpeg2000::header(reader),
    }?;

    // The header decides, before memory for the pixels is taken.
    let (width, height) = (header.width, header.height);
    if u64::from(width) * u64::from(height) > options.max_pixels {
        return Err(DecodeError::TooLarge { width, height, limit: options.max_pixels });
    }
    if width == 0 || height == 0 {
        return Err(DecodeError::broken(format, format!("{width}x{height} pixels")));
    }

    // TIFF images are turned whatever the option says, as in Pillow.
    if !options.upright && format != ImageFormat::Tiff {
        header.orientation = Orientation::NoTransforms;
    }

    Ok(header)
}

fn turned(pixels: RgbImage, orientation: Orientation) -> RgbImage {
    let mut image = image::DynamicImage::ImageRgb8(pixels);
    image.apply_orientation(orientation);
    image.into_rgb8()
}
