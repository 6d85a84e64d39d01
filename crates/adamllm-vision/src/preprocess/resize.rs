use fast_image_resize as fir;
use image::RgbImage;

use super::PreprocessError;

/// The interpolation of a resize, by Pillow's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resampling {
    /// Triangle filter, support 1.
    Bilinear,
    /// Keys' cubic with a = -0.5 (Catmull-Rom), support 2.
    Bicubic,
}

impl Resampling {
    /// From the code that processor config files hold (`PIL.Image.Resampling`): 2 and 3.
    ///
    /// # Errors
    /// [`PreprocessError::Config`] for other codes.
    pub fn from_pillow_code(code: u64) -> Result<Self, PreprocessError> {
        match code {
            2 => Ok(Self::Bilinear),
            3 => Ok(Self::Bicubic),
            other => Err(PreprocessError::Config {
                field: "resample",
                expected: "2 (bilinear) or 3 (bicubic)".into(),
                got: other.to_string(),
            }),
        }
    }

    /// The code in processor config files.
    pub fn pillow_code(self) -> u64 {
        match self {
            Self::Bilinear => 2,
            Self::Bicubic => 3,
        }
    }

    fn filter(self) -> fir::FilterType {
        match self {
            Self::Bilinear => fir::FilterType::Bilinear,
            Self::Bicubic => fir::FilterType::CatmullRom,
        }
    }
}

/// Scales a picture to `width` x `height` as Pillow's `Image.resize` does: one convolution per axis whose support grows
/// with the reduction (antialiasing), in 8 bits. Every value is within 1 of Pillow's.
///
/// # Errors
/// [`PreprocessError::Resize`] for a side of zero.
pub fn resize(
    picture: &RgbImage,
    width: u32,
    height: u32,
    resampling: Resampling,
) -> Result<RgbImage, PreprocessError> {
    let from = picture.dimensions();
    if from == (width, height) {
        return Ok(picture.clone());
    }
    let failed = |detail: String| PreprocessError::Resize { from, to: (width, height), detail };
    if from.0 == 0 || from.1 == 0 || width == 0 || height == 0 {
        return Err(failed("a side is zero".into()));
    }
    let source = fir::images::ImageRef::new(from.0, from.1, picture.as_raw(), fir::PixelType::U8x3)
        .map_err(|error| failed(error.to_string()))?;
    let mut target = fir::images::Image::new(width, height, fir::PixelType::U8x3);
    let options = fir::ResizeOptions::new()
        .resize_alg(fir::ResizeAlg::Convolution(resampling.filter()))
        .use_alpha(false);
    fir::Resizer::new().resize(&source, &mut target, &options).map_err(|error| failed(error.to_string()))?;
    RgbImage::from_raw(width, height, target.into_vec()).ok_or_else(|| failed("wrong number of bytes".into()))
}

/// [`resize`] with [`Resampling::Bicubic`].
///
/// # Errors
/// As [`resize`].
pub fn resize_bicubic(picture: &RgbImage, width: u32, height: u32) -> Result<RgbImage, PreprocessError> {
    resize(picture, width, height, Resampling::Bicubic)
}
