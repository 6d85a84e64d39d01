//! The fields of a page that its pixels depend on.

use super::layout::{Layout, Samples};
use super::packing::Packing;
use super::predictor::Predictor;
use super::{Ifd, ORIENTATION, Read, Seek, XMP, broken, unsupported};
use crate::DecodeError;

const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const BITS: u16 = 258;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const FILL_ORDER: u16 = 266;
const STRIP_OFFSETS: u16 = 273;
const SAMPLES: u16 = 277;
const ROWS_PER_STRIP: u16 = 278;
const STRIP_SIZES: u16 = 279;
const PLANES: u16 = 284;
const GROUP3_OPTIONS: u16 = 292;
const PREDICTOR: u16 = 317;
const COLOUR_MAP: u16 = 320;
const TILE_WIDTH: u16 = 322;
const TILE_HEIGHT: u16 = 323;
const TILE_OFFSETS: u16 = 324;
const TILE_SIZES: u16 = 325;
const EXTRA_SAMPLES: u16 = 338;
const SAMPLE_FORMAT: u16 = 339;
const JPEG_TABLES: u16 = 347;
const YCBCR_COEFFICIENTS: u16 = 529;
const YCBCR_SUBSAMPLING: u16 = 530;
const REFERENCE_BLACK_WHITE: u16 = 532;
/// Marks Windows Media Photo (HD Photo) files, which wear a TIFF's head.
const HD_PHOTO: u16 = 0xBC01;

/// Tiles of small images may have this many pixels.
const MAX_TILE_PIXELS: u64 = 1 << 24;

const WANTED: &[u16] = &[
    WIDTH,
    HEIGHT,
    BITS,
    COMPRESSION,
    PHOTOMETRIC,
    FILL_ORDER,
    STRIP_OFFSETS,
    ORIENTATION,
    SAMPLES,
    ROWS_PER_STRIP,
    STRIP_SIZES,
    PLANES,
    GROUP3_OPTIONS,
    PREDICTOR,
    COLOUR_MAP,
    TILE_WIDTH,
    TILE_HEIGHT,
    TILE_OFFSETS,
    TILE_SIZES,
    EXTRA_SAMPLES,
    SAMPLE_FORMAT,
    JPEG_TABLES,
    YCBCR_COEFFICIENTS,
    YCBCR_SUBSAMPLING,
    REFERENCE_BLACK_WHITE,
    XMP,
    HD_PHOTO,
];

pub(super) fn read(reader: &mut (impl Read + Seek)) -> Result<Ifd, DecodeError> {
    let ifd = Ifd::read(reader, WANTED).ok_or_else(|| super::truncated("inside its head"))?;
    match ifd.is_whole {
        true => Ok(ifd),
        // Readers go on with different parts of such a directory.
        false => Err(super::truncated("its first directory, or the data of a field, lies outside the file")),
    }
}

/// Width and height as stored.
pub(super) fn size(ifd: &Ifd) -> Result<(u32, u32), DecodeError> {
    if ifd.has(HD_PHOTO) {
        return Err(unsupported("Windows Media Photo pixels"));
    }
    let side = |tag, name| match ifd.unsigned(tag).as_deref() {
        Some([value]) => u32::try_from(*value).map_err(|_| broken(format!("{name} of {value} pixels"))),
        _ => Err(broken(format!("no {name} in its first directory"))),
    };
    Ok((side(WIDTH, "width")?, side(HEIGHT, "height")?))
}

/// What there is to know of a page before its strips or tiles are read.
pub(super) struct Page {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) big_endian: bool,
    pub(super) layout: Layout,
    pub(super) packing: Packing,
    pub(super) predictor: Predictor,
    /// The bits of every byte stand in the other order.
    pub(super) reversed: bool,
    /// Planes that are not looked at may follow those that are.
    pub(super) is_separate: bool,
    /// The number of planes: 1 where samples are interleaved.
    pub(super) n_planes: usize,
    /// Samples of one pixel in one strip or tile.
    pub(super) n_interleaved: usize,
    /// Width and height of a strip or tile.
    pub(super) chunk_size: (usize, usize),
    pub(super) is_tiled: bool,
    pub(super) offsets: Vec<u64>,
    /// Bytes of each strip or tile; `None` where the file does not tell.
    pub(super) byte_counts: Option<Vec<u64>>,
    /// 16 bits a value: all reds, all greens, all blues.
    pub(super) colour_map: Vec<u16>,
    pub(super) jpeg_tables: Vec<u8>,
}

impl Page {
    pub(super) fn of(ifd: &Ifd) -> Result<Self, DecodeError> {
        let (width, height) = size(ifd)?;
        let (width, height) = (width as usize, height as usize);
        let one = |tag, default| match ifd.unsigned(tag) {
            Some(values) => Ok(values.first().copied().unwrap_or(default)),
            None if ifd.has(tag) => Err(broken(format!("field {tag} is not a number"))),
            None => Ok(default),
        };
        let fill_order = one(FILL_ORDER, 1)?;
        let is_separate = one(PLANES, 1)? == 2;
        let compression = one(COMPRESSION, 1)?;
        let packing = Packing::of(compression, one(GROUP3_OPTIONS, 0)? as u32)?;

        let mut samples = Samples {
            photometric: one(PHOTOMETRIC, 0)?,
            formats: ifd.unsigned(SAMPLE_FORMAT).unwrap_or_else(|| vec![1]),
            bits: ifd.unsigned(BITS).unwrap_or_else(|| vec![1]),
            extra: ifd.unsigned(EXTRA_SAMPLES).unwrap_or_default(),
            fill_order,
            big_endian: ifd.big_endian,
        };
        let n_samples = one(SAMPLES, 1)?;
        let n_interleaved = if is_separate { 1 } else { n_samples as usize };
        samples.count(n_samples, is_separate)?;
        let layout = samples.layout()?;
        let n_planes = if is_separate { samples.bits.len() } else { 1 };
        layout.check(&samples, packing, is_separate)?;
        if layout.kind.is_ycbcr() {
            check_ycbcr(ifd, packing)?;
        }

        let (tiles, strips) = (ifd.unsigned(TILE_OFFSETS), ifd.unsigned(STRIP_OFFSETS));
        let is_tiled = strips.is_none() && tiles.is_some();
        let chunk_size = match is_tiled {
            true => (one(TILE_WIDTH, 0)?, one(TILE_HEIGHT, 0)?),
            false => (width as u64, one(ROWS_PER_STRIP, height as u64)?.min(height as u64)),
        };
        // Tiles may be larger than the image, but not without measure: a whole one is held in memory.
        let most = (4 * width as u64 * height as u64).max(MAX_TILE_PIXELS);
        if chunk_size.0 == 0 || chunk_size.1 == 0 || chunk_size.0.saturating_mul(chunk_size.1) > most {
            return Err(broken(format!("tiles or strips of {}x{} pixels", chunk_size.0, chunk_size.1)));
        }
        let offsets = strips.or(tiles).ok_or_else(|| broken("neither strips nor tiles"))?;
        let colour_map = ifd.unsigned(COLOUR_MAP).unwrap_or_default();
        Ok(Self {
            width,
            height,
            big_endian: ifd.big_endian,
            layout,
            packing,
            predictor: Predictor::of(one(PREDICTOR, 1)?, packing, &layout)?,
            reversed: fill_order == 2,
            is_separate,
            n_planes,
            n_interleaved,
            chunk_size: (chunk_size.0 as usize, chunk_size.1 as usize),
            is_tiled,
            offsets,
            byte_counts: ifd.unsigned(if is_tiled { TILE_SIZES } else { STRIP_SIZES }),
            colour_map: colour_map.into_iter().map(|value| value.min(0xFFFF) as u16).collect(),
            jpeg_tables: ifd.bytes(JPEG_TABLES).unwrap_or_default().to_vec(),
        })
    }

    /// Strips or tiles across and down.
    pub(super) fn grid(&self) -> (usize, usize) {
        (self.width.div_ceil(self.chunk_size.0), self.height.div_ceil(self.chunk_size.1))
    }

    /// Bytes of one row of a strip or tile.
    pub(super) fn row_bytes(&self) -> usize {
        (self.chunk_size.0 * self.n_interleaved * self.layout.bits).div_ceil(8)
    }
}

/// YCbCr outside JPEG is read at full resolution and with the standard coefficients.
fn check_ycbcr(ifd: &Ifd, packing: Packing) -> Result<(), DecodeError> {
    if packing == Packing::Jpeg {
        return Ok(());
    }
    let default: &[u64] = if packing == Packing::None { &[1, 1] } else { &[2, 2] };
    let subsampling = ifd.unsigned(YCBCR_SUBSAMPLING).unwrap_or_else(|| default.to_vec());
    if subsampling != [1, 1] {
        return Err(unsupported(format!("YCbCr of subsampling {subsampling:?} outside JPEG")));
    }
    let near = |tag, standard: &[f64]| {
        let values = ifd.numbers(tag).unwrap_or_else(|| standard.to_vec());
        values.len() == standard.len() && values.iter().zip(standard).all(|(a, b)| (a - b).abs() < 1e-4)
    };
    let standard = near(YCBCR_COEFFICIENTS, &[0.299, 0.587, 0.114])
        && near(REFERENCE_BLACK_WHITE, &[0.0, 255.0, 128.0, 255.0, 128.0, 255.0]);
    if !standard {
        return Err(unsupported("YCbCr of other coefficients than the standard ones"));
    }
    Ok(())
}
