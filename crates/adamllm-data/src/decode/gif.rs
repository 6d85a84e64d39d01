//! The first frame of a GIF, on its whole canvas.

use std::io::{BufRead, Cursor};

use gif::{ColorOutput, DecodeOptions, Decoder, DecodingError, Frame, MemoryLimit};
use image::metadata::Orientation;

use super::raster::Raster;
use super::{Header, ImageFormat, ImageReader};
use crate::DecodeError;

const FORMAT: ImageFormat = ImageFormat::Gif;

pub(super) fn header(reader: &mut impl ImageReader) -> Result<Header, DecodeError> {
    let mut decoder = opened(reader)?;
    let frame = decoder.next_frame_info().map_err(sorted)?.ok_or_else(no_frame)?;
    let frame_end = end(frame);
    let (width, height) = canvas(&decoder, frame_end);
    Ok(Header { width, height, orientation: Orientation::NoTransforms })
}

/// Where the frame leaves some of the canvas open, the transparent colour fills it (the first colour where there is no
/// transparent one), as Pillow has it.
pub(super) fn pixels(bytes: &[u8]) -> Result<Raster, DecodeError> {
    let mut decoder = opened(Cursor::new(bytes))?;
    let frame = decoder.read_next_frame().map_err(sorted)?.ok_or_else(no_frame)?.clone();
    let (width, height) = canvas(&decoder, end(&frame));
    let palette = Palette { colours: frame.palette.as_deref().or(decoder.global_palette()) };
    let mut indices = vec![frame.transparent.unwrap_or(0); width as usize * height as usize];
    let (left, top, n_columns) = (frame.left as usize, frame.top as usize, frame.width as usize);
    for (y, row) in frame.buffer.chunks_exact(n_columns.max(1)).enumerate() {
        let start = (top + y) * width as usize + left;
        indices[start..start + n_columns].copy_from_slice(row);
    }
    let rgb = indices.iter().flat_map(|&index| palette.rgb(index)).collect();
    let alpha = frame.transparent.map(|t| indices.iter().map(|&i| if i == t { 0 } else { 255 }).collect());
    Ok(Raster { width, height, rgb, alpha })
}

/// A palette that may be shorter than the indices that point into it; without any, an index is a grey.
struct Palette<'a> {
    colours: Option<&'a [u8]>,
}

impl Palette<'_> {
    fn rgb(&self, index: u8) -> [u8; 3] {
        let Some(colours) = self.colours else { return [index; 3] };
        let start = usize::from(index) * 3;
        colours.get(start..start + 3).map_or([0; 3], |c| [c[0], c[1], c[2]])
    }
}

fn opened<R: BufRead>(reader: R) -> Result<Decoder<R>, DecodeError> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(MemoryLimit::Unlimited); // the number of pixels is checked before they are decoded
    options.read_info(reader).map_err(sorted)
}

fn end(frame: &Frame<'_>) -> (u32, u32) {
    (u32::from(frame.left) + u32::from(frame.width), u32::from(frame.top) + u32::from(frame.height))
}

/// The screen, widened where the frame does not fit.
fn canvas<R: std::io::Read>(decoder: &Decoder<R>, frame_end: (u32, u32)) -> (u32, u32) {
    (u32::from(decoder.width()).max(frame_end.0), u32::from(decoder.height()).max(frame_end.1))
}

fn no_frame() -> DecodeError {
    DecodeError::Truncated { format: FORMAT, detail: "no frame".into() }
}

fn sorted(error: DecodingError) -> DecodeError {
    match error {
        DecodingError::Io(source) => DecodeError::io(FORMAT, &source),
        other => DecodeError::broken(FORMAT, other),
    }
}
