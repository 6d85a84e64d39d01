//! Planes to RGB, in libjpeg's 16-bit fixed point; inks then as Pillow mixes them.

use super::frame::Frame;
use super::planes::Plane;
use super::segments::ColourHints;
use super::unsupported;
use super::upsample::Rows;
use crate::JpegError;

/// What the components mean.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum ColourModel {
    Grey,
    Rgb,
    YCbCr,
    /// Four inks, stored as their lack (0 = full), which Adobe began and Pillow always assumes.
    Cmyk,
    /// Four inks, the first three turned into YCbCr.
    Ycck,
}

impl ColourModel {
    /// As libjpeg decides: JFIF, then Adobe's segment, then the components' names.
    pub(super) fn of(frame: &Frame, hints: ColourHints) -> Result<Self, JpegError> {
        let names: Vec<_> = frame.components.iter().map(|component| component.id).collect();
        Ok(match (names.as_slice(), hints.adobe) {
            ([_], _) => Self::Grey,
            ([_, _, _], _) if hints.jfif => Self::YCbCr,
            ([_, _, _], Some(0)) | (b"RGB", None) => Self::Rgb,
            ([_, _, _], _) => Self::YCbCr,
            ([_, _, _, _], Some(0) | None) => Self::Cmyk,
            ([_, _, _, _], Some(_)) => Self::Ycck,
            _ => return Err(unsupported(format!("{} colour components", names.len()))),
        })
    }
}

/// Interleaved RGB of the whole image.
pub(super) fn to_rgb(frame: &Frame, planes: &[Plane], model: ColourModel) -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the function asks for nothing but AVX2, which was just found.
        return unsafe { to_rgb_avx2(frame, planes, model) };
    }
    each_row(frame, planes, model)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn to_rgb_avx2(frame: &Frame, planes: &[Plane], model: ColourModel) -> Vec<u8> {
    each_row(frame, planes, model)
}

#[inline(always)]
fn each_row(frame: &Frame, planes: &[Plane], model: ColourModel) -> Vec<u8> {
    let mut sources: Vec<_> = frame.components.iter().zip(planes).map(|(c, p)| Rows::new(frame, c, p)).collect();
    // A row may be enlarged beyond the image's edge.
    let mut rows = vec![vec![0; frame.width.next_multiple_of(8 * frame.h_max)]; sources.len()];
    let mut rgb = vec![0; frame.width * frame.height * 3];
    for (y, out) in rgb.chunks_exact_mut(frame.width * 3).enumerate() {
        for (source, row) in sources.iter_mut().zip(&mut rows) {
            source.write(y, row);
        }
        let out = out.as_chunks_mut::<3>().0;
        match (model, rows.as_slice()) {
            (ColourModel::Grey, [grey]) => out.iter_mut().zip(grey).for_each(|(pixel, &value)| *pixel = [value; 3]),
            (ColourModel::Rgb, [r, g, b]) => interleave(out, [r, g, b], |pixel| pixel),
            (ColourModel::YCbCr, [y, cb, cr]) => interleave(out, [y, cb, cr], ycbcr_to_rgb),
            (ColourModel::Cmyk | ColourModel::Ycck, [a, b, c, k]) => {
                let is_ycck = model == ColourModel::Ycck;
                let lack = |pixel| if is_ycck { ycbcr_to_rgb(pixel).map(|value| 255 - value) } else { pixel };
                interleave(out, [a, b, c], lack);
                out.iter_mut().zip(k).for_each(|(pixel, &black)| *pixel = mixed(*pixel, black));
            }
            _ => {}
        }
    }
    rgb
}

/// The components as they are, interleaved.
pub(super) fn interleaved(frame: &Frame, planes: &[Plane]) -> Vec<u8> {
    let n_components = frame.components.len();
    let mut row = vec![0; frame.width.next_multiple_of(8 * frame.h_max)];
    let mut out = vec![0; frame.width * frame.height * n_components];
    for (i, (component, plane)) in frame.components.iter().zip(planes).enumerate() {
        let mut source = Rows::new(frame, component, plane);
        for (y, out) in out.chunks_exact_mut(frame.width * n_components).enumerate() {
            source.write(y, &mut row);
            out.iter_mut().skip(i).step_by(n_components).zip(&row).for_each(|(out, &value)| *out = value);
        }
    }
    out
}

#[inline(always)]
fn interleave(out: &mut [[u8; 3]], [a, b, c]: [&Vec<u8>; 3], convert: impl Fn([u8; 3]) -> [u8; 3]) {
    let n = out.len();
    for (((pixel, &a), &b), &c) in out.iter_mut().zip(&a[..n]).zip(&b[..n]).zip(&c[..n]) {
        *pixel = convert([a, b, c]);
    }
}

/// JFIF's conversion with factors of 16 fractional bits.
#[inline(always)]
fn ycbcr_to_rgb([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((91881 * cr + HALF) >> 16); // 1.402
    let green = y + ((-22554 * cb - 46802 * cr + HALF) >> 16); // 0.34414, 0.71414
    let blue = y + ((116_130 * cb + HALF) >> 16); // 1.772
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}

/// One channel of Pillow's `convert("RGB")` of CMYK (0 = no ink): the white that black leaves over, less the ink's share of it.
#[inline(always)]
pub fn cmyk_channel(ink: u8, black: u8) -> u8 {
    let white = 255 - u32::from(black);
    let product = u32::from(ink) * white + 128;
    (white - (((product >> 8) + product) >> 8)) as u8
}

/// Stored lacks of ink to RGB.
#[inline(always)]
fn mixed(lack: [u8; 3], lack_of_black: u8) -> [u8; 3] {
    lack.map(|lack| cmyk_channel(255 - lack, 255 - lack_of_black))
}
