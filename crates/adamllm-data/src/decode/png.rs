//! PNG. Depths and palettes are expanded as Pillow does: 16-bit grey is clipped at 255 (its mode `I;16`), every other
//! 16-bit type keeps the high byte.
//!
//! Files are first walked chunk by chunk, with Pillow's tolerance: checksums count before the pixels and not after
//! them, unknown chunks are passed over, an animation's other frames are left out. The decoder gets what is left.

use std::io::Cursor;

use png::{BitDepth, ColorType, DecodeOptions, Decoder, DecodingError, Transformations};

use super::raster::Raster;
use super::{Header, ImageFormat, ImageReader};
use crate::DecodeError;
use chunks::Chunks;

mod chunks;

const FORMAT: ImageFormat = ImageFormat::Png;

pub(super) fn header(reader: &mut impl ImageReader) -> Result<Header, DecodeError> {
    chunks::header(reader)
}

pub(super) fn pixels(bytes: &[u8]) -> Result<Raster, DecodeError> {
    // The decoder gets a file of the chunks that pixels need: broken text or colour profiles cost nothing.
    let plain = Chunks::of(bytes)?.plain()?;
    let mut options = DecodeOptions::default();
    options.set_ignore_crc(true); // those that count are checked already
    options.set_ignore_adler32(false);
    let mut decoder = Decoder::new_with_options(Cursor::new(&plain), options);
    decoder.set_limits(png::Limits { bytes: usize::MAX }); // the number of pixels is checked before
    decoder.set_transformations(Transformations::EXPAND);

    let mut reader = decoder.read_info().map_err(sorted)?;
    let stored = (reader.info().color_type, reader.info().bit_depth);
    let size = reader.output_buffer_size().ok_or_else(|| DecodeError::broken(FORMAT, "size overflow"))?;
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels).map_err(sorted)?;
    pixels.truncate(frame.buffer_size());

    // Pillow keeps 16-bit grey as it is, and clips it when it becomes RGB; of 16-bit colours it takes the high byte.
    if frame.bit_depth == BitDepth::Sixteen {
        pixels = match stored {
            (ColorType::Grayscale, BitDepth::Sixteen) => clipped(&pixels, frame.color_type),
            _ => pixels.chunks_exact(2).map(|sample| sample[0]).collect(),
        };
    }

    let (width, height) = (frame.width, frame.height);
    Ok(match frame.color_type {
        ColorType::Grayscale => Raster::grey(width, height, &pixels),
        ColorType::GrayscaleAlpha => Raster::grey_alpha(width, height, &pixels),
        ColorType::Rgb => Raster::opaque(width, height, pixels),
        ColorType::Rgba => Raster::rgba(width, height, &pixels),
        ColorType::Indexed => return Err(DecodeError::broken(FORMAT, "palette indices without a palette")),
    })
}

/// 16-bit grey, big-endian, clipped at 255; where a transparent grey was named, every second sample is its alpha.
fn clipped(samples: &[u8], color: ColorType) -> Vec<u8> {
    let step = if color == ColorType::GrayscaleAlpha { 2 } else { 1 };
    let clip = |(i, sample): (usize, &[u8])| match (i % step, sample) {
        (0, [0, low]) => *low,
        (0, _) => 255,
        _ => sample[0],
    };
    samples.chunks_exact(2).enumerate().map(clip).collect()
}

fn sorted(error: DecodingError) -> DecodeError {
    match error {
        DecodingError::IoError(source) => DecodeError::io(FORMAT, &source),
        other => DecodeError::broken(FORMAT, other),
    }
}
