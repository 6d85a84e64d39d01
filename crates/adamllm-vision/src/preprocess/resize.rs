//! Resampling equal to Pillow's, to the last bit.
//!
//! Pillow convolves each axis by itself, in 8 bits between the two, with weights of 22 fractional bits. The order of the
//! axes matters: bicubic overshoots, and what is clipped between the passes is lost (up to 20 levels at hard edges).

use image::RgbImage;

use super::PreprocessError;
use passes::{horizontal, vertical};
use weights::FilterWeights;

mod passes;
mod weights;

/// The interpolation of a resize, by Pillow's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resampling {
    /// Triangle filter, support 1.
    Bilinear,
    /// Keys' cubic with a = -0.5 (Catmull-Rom), support 2.
    #[default]
    Bicubic,
    /// Lanczos' windowed sinc, support 3.
    Lanczos,
}

/// The codes of [`Resampling`] in processor config files.
pub(crate) const RESAMPLINGS: &str = "1 (Lanczos), 2 (bilinear) or 3 (bicubic)";

impl Resampling {
    /// From the code that processor config files hold (`PIL.Image.Resampling`): 1, 2 and 3.
    ///
    /// # Errors
    /// [`PreprocessError::Config`] for other codes.
    pub fn from_pillow_code(code: u64) -> Result<Self, PreprocessError> {
        match code {
            1 => Ok(Self::Lanczos),
            2 => Ok(Self::Bilinear),
            3 => Ok(Self::Bicubic),
            other => {
                Err(PreprocessError::Config { field: "resample", expected: RESAMPLINGS.into(), got: other.to_string() })
            }
        }
    }

    /// The code in processor config files.
    pub fn pillow_code(self) -> u64 {
        match self {
            Self::Lanczos => 1,
            Self::Bilinear => 2,
            Self::Bicubic => 3,
        }
    }
}

/// Which axis is convolved first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PassOrder {
    /// As Pillow 13: columns first where the height loses more than twice as many pixels as the width, else rows.
    #[default]
    Pillow,
    /// Rows first, always: Pillow until 11, with which the published models were trained, and torchvision (transformers'
    /// default processors; its weights are coarser, so its values are up to 2 levels away).
    RowsFirst,
}

impl PassOrder {
    /// The rule was found by trying: it explains all of 600 random resizes by Pillow 13.0, half of them at its border.
    fn columns_first(self, from: (u32, u32), to: (u32, u32)) -> bool {
        let [lost_width, lost_height] = [i64::from(from.0) - i64::from(to.0), i64::from(from.1) - i64::from(to.1)];
        self == Self::Pillow && lost_height > 0 && lost_height > 2 * lost_width
    }
}

/// Scales an image to `width` x `height` as Pillow's `Image.resize` does: one convolution per axis whose support grows
/// with the reduction (antialiasing). Every value is equal to Pillow's.
///
/// # Errors
/// [`PreprocessError::Resize`] for a side of zero.
pub fn resize(
    image: &RgbImage,
    (width, height): (u32, u32),
    resampling: Resampling,
    order: PassOrder,
) -> Result<RgbImage, PreprocessError> {
    let (from, to) = (image.dimensions(), (width, height));
    if from == to {
        return Ok(image.clone());
    }

    let failed = |detail: &str| PreprocessError::Resize { from, to, detail: detail.into() };
    if [from.0, from.1, width, height].contains(&0) {
        return Err(failed("a side is zero"));
    }

    // Pillow leaves out the pass of an axis that keeps its size.
    let rows = (from.0 != width).then(|| FilterWeights::new(from.0, width, resampling));
    let columns = (from.1 != height).then(|| FilterWeights::new(from.1, height, resampling));

    let pixels = image.as_raw();
    let bytes = match (rows, columns) {
        (Some(rows), Some(columns)) if order.columns_first(from, to) => {
            horizontal(&vertical(pixels, from.0, &columns), from.0, &rows)
        }
        (Some(rows), Some(columns)) => vertical(&horizontal(pixels, from.0, &rows), width, &columns),
        (Some(rows), None) => horizontal(pixels, from.0, &rows),
        (None, Some(columns)) => vertical(pixels, from.0, &columns),
        (None, None) => pixels.clone(),
    };

    RgbImage::from_raw(width, height, bytes).ok_or_else(|| failed("wrong number of bytes"))
}

/// [`resize`] with [`Resampling::Bicubic`] and [`PassOrder::Pillow`].
///
/// # Errors
/// As [`resize`].
pub fn resize_bicubic(image: &RgbImage, width: u32, height: u32) -> Result<RgbImage, PreprocessError> {
    resize(image, (width, height), Resampling::Bicubic, PassOrder::Pillow)
}
