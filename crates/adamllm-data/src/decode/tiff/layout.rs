//! What the samples of a pixel mean: the combinations that Pillow reads, and what it makes of each.

use super::packing::Packing;
use super::{broken, unsupported};
use crate::DecodeError;

/// More samples a pixel than this are not read.
const MAX_SAMPLES: u64 = 6;

/// The fields that tell what samples mean.
pub(super) struct Samples {
    pub(super) photometric: u64,
    pub(super) formats: Vec<u64>,
    pub(super) bits: Vec<u64>,
    pub(super) extra: Vec<u64>,
    pub(super) fill_order: u64,
    pub(super) big_endian: bool,
}

/// How a pixel's samples become RGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Grey of 1 to 8 bits, spread over 0..=255.
    Grey,
    /// Grey of 12 or 16 bits: clipped at 255.
    WideGrey,
    /// Whole numbers, clipped to 0..=255.
    Integer {
        signed: bool,
    },
    /// Floats, cut to whole numbers and clipped to 0..=255.
    Float,
    /// Grey and alpha.
    GreyAlpha,
    Palette,
    /// Indices into the palette, and alpha.
    PaletteAlpha,
    Rgb,
    Rgba,
    /// RGB that was multiplied by its alpha, which is divided out again.
    AssociatedRgba,
    Cmyk,
    YCbCr,
}

impl Kind {
    pub(super) fn is_ycbcr(self) -> bool {
        self == Self::YCbCr
    }

    pub(super) fn has_alpha(self) -> bool {
        matches!(self, Self::GreyAlpha | Self::PaletteAlpha | Self::Rgba | Self::AssociatedRgba)
    }

    /// Samples of a pixel that count; further ones are skipped.
    pub(super) fn n_channels(self) -> usize {
        match self {
            Self::GreyAlpha | Self::PaletteAlpha => 2,
            Self::Rgb | Self::YCbCr => 3,
            Self::Rgba | Self::AssociatedRgba | Self::Cmyk => 4,
            _ => 1,
        }
    }
}

/// What a pixel is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) kind: Kind,
    /// Bits of every sample.
    pub(super) bits: usize,
    /// 0 is white.
    pub(super) inverted: bool,
}

impl Samples {
    /// Brings the lists of bits and extra samples to the number of samples that a pixel has.
    pub(super) fn count(&mut self, n_samples: u64, is_separate: bool) -> Result<(), DecodeError> {
        let mut n_samples = n_samples;
        let n_extra = self.extra.len();
        if is_separate && n_extra > 0 && self.extra.iter().all(|&kind| kind == 0) {
            // Planes of no known meaning come last: they are not looked at.
            self.bits.truncate(self.bits.len().saturating_sub(n_extra));
            n_samples = n_samples.saturating_sub(n_extra as u64);
            self.extra.clear();
        }
        if n_samples > MAX_SAMPLES {
            return Err(unsupported(format!("{n_samples} samples a pixel (more than {MAX_SAMPLES})")));
        }
        let n_samples = n_samples as usize;
        if self.bits.len() == 1 {
            self.bits = vec![self.bits[0]; n_samples];
        }
        self.bits.truncate(n_samples);
        if self.bits.len() != n_samples || n_samples == 0 {
            let detail = format!("{n_samples} samples a pixel, but the bits of {}", self.bits.len());
            return Err(broken(detail));
        }
        Ok(())
    }

    pub(super) fn layout(&self) -> Result<Layout, DecodeError> {
        let format = self.formats[0];
        let same = self.formats.iter().all(|&other| other == format) && self.bits.iter().all(|&b| b == self.bits[0]);
        let is_plain = self.fill_order == 1;
        let n = self.bits.len();

        // Photometric interpretation, sample format, bits, samples, extra samples, after Pillow's table of modes.
        // What is not in it is refused.
        let kind = match (self.photometric, format, self.bits[0], n, self.extra.as_slice()) {
            _ if !same || !(1..=2).contains(&self.fill_order) => None,
            (0 | 1, 1, 1 | 2 | 4 | 8, 1, []) => Some(Kind::Grey),
            (1, 2, 8, 1, []) if is_plain => Some(Kind::Grey),
            (1, 1, 12, 1, []) if is_plain && !self.big_endian => Some(Kind::WideGrey),
            (0, 1, 16, 1, []) if is_plain && !self.big_endian => Some(Kind::WideGrey),
            (1, 1, 16, 1, []) if is_plain => Some(Kind::WideGrey),
            (1, 2, 16 | 32, 1, []) if is_plain => Some(Kind::Integer { signed: true }),
            (1, 1, 32, 1, []) if is_plain && !self.big_endian => Some(Kind::Integer { signed: false }),
            (0 | 1, 3, 32, 1, []) if is_plain => Some(Kind::Float),
            (1, 1, 8, 2, [0]) if is_plain => Some(Kind::Grey),
            (1, 1, 8, 2, [2]) if is_plain => Some(Kind::GreyAlpha),
            (2 | 3, 1, 8, _, _) | (2, 1, 16, _, _) if is_plain => self.colour_kind(),
            (2, 1, 8, 3, []) => Some(Kind::Rgb),
            (3, 1, 1 | 2 | 4 | 8, 1, []) => Some(Kind::Palette),
            (5, 1, 8, 4, []) | (5, 1, 8, 5, [0]) | (5, 1, 8, 6, [0, 0]) | (5, 1, 16, 4, []) if is_plain => {
                Some(Kind::Cmyk)
            }
            (6, 1, 8, 1, []) if is_plain => Some(Kind::Grey),
            (6, 1, 8, 3, []) if is_plain => Some(Kind::YCbCr),
            _ => None,
        };

        let kind = kind.ok_or_else(|| unsupported(self.described()))?;
        let inverted = kind == Kind::Grey && self.photometric == 0;
        Ok(Layout { kind, bits: self.bits[0] as usize, inverted })
    }

    /// RGB and palettes with any further samples.
    fn colour_kind(&self) -> Option<Kind> {
        let is_byte = self.bits[0] == 8;
        match (self.photometric, self.bits.len(), self.extra.as_slice()) {
            (2, 3, []) | (2, 4, [0]) => Some(Kind::Rgb),
            (2, 5, [0, 0]) | (2, 6, [0, 0, 0]) if is_byte => Some(Kind::Rgb),
            (2, 4, [] | [2]) => Some(Kind::Rgba),
            (2, 4, [999]) | (2, 5, [2, 0]) | (2, 6, [2, 0, 0]) if is_byte => Some(Kind::Rgba),
            (2, 4, [1]) => Some(Kind::AssociatedRgba),
            (2, 5, [1, 0]) | (2, 6, [1, 0, 0]) if is_byte => Some(Kind::AssociatedRgba),
            (3, 1, []) | (3, 2, [0]) => Some(Kind::Palette),
            (3, 2, [2]) => Some(Kind::PaletteAlpha),
            _ => None,
        }
    }

    fn described(&self) -> String {
        let photometric = match self.photometric {
            0 => "white-is-zero grey".into(),
            1 => "black-is-zero grey".into(),
            2 => "RGB".into(),
            3 => "palette".into(),
            4 => "mask".into(),
            5 => "ink".into(),
            6 => "YCbCr".into(),
            8 => "CIE L*a*b*".into(),
            9 => "ICC L*a*b*".into(),
            32803 => "colour filter array".into(),
            34892 => "linear raw".into(),
            other => format!("photometric {other}"),
        };

        let bits: Vec<_> = self.bits.iter().map(u64::to_string).collect();
        let format = match self.formats[0] {
            1 => "unsigned",
            2 => "signed",
            3 => "float",
            _ => "untyped",
        };
        let order = if self.big_endian { "big-endian" } else { "little-endian" };
        format!("{photometric} pixels of {order} {format} {} bits, extra samples {:?}", bits.join("+"), self.extra)
    }
}

impl Layout {
    /// Refuses the combinations of planes, byte order and packing that Pillow reads wrongly or not at all: nobody
    /// could tell which image was meant.
    pub(super) fn check(&self, samples: &Samples, packing: Packing, is_separate: bool) -> Result<(), DecodeError> {
        let is_packed = packing != Packing::None;
        let numbers = matches!(self.kind, Kind::Integer { signed: true } | Kind::Float);
        if is_packed && samples.big_endian && numbers {
            return Err(unsupported(format!("compressed, {}", samples.described())));
        }
        if samples.fill_order == 2 && self.bits > 8 {
            return Err(unsupported(format!("reversed bits, {}", samples.described())));
        }

        if !is_separate {
            return Ok(());
        }
        let readable = match self.kind {
            Kind::Grey => is_packed || (self.bits == 8 && !self.inverted),
            Kind::Palette => is_packed || self.bits == 8,
            Kind::Rgb | Kind::Rgba | Kind::Cmyk => is_packed || self.bits == 8,
            Kind::WideGrey | Kind::Integer { .. } | Kind::Float => is_packed,
            Kind::YCbCr | Kind::AssociatedRgba => is_packed,
            Kind::GreyAlpha | Kind::PaletteAlpha => false,
        };

        match readable {
            true => Ok(()),
            false => Err(unsupported(format!("planes of {}", samples.described()))),
        }
    }
}
