use adamllm_core::RgbImage;

use super::{Alpha, Header, ImageFormat};
use crate::DecodeError;

/// Decoded pixels before the alpha channel is dealt with.
pub(super) struct Raster {
    /// Width in pixels.
    pub(super) width: u32,
    /// Height in pixels.
    pub(super) height: u32,
    /// 3 bytes a pixel, row by row.
    pub(super) rgb: Vec<u8>,
    /// 1 byte a pixel; `None` where everything is opaque.
    pub(super) alpha: Option<Vec<u8>>,
}

impl Raster {
    pub(super) fn opaque(width: u32, height: u32, rgb: Vec<u8>) -> Self {
        Self { width, height, rgb, alpha: None }
    }

    pub(super) fn grey(width: u32, height: u32, grey: &[u8]) -> Self {
        Self::opaque(width, height, grey.iter().flat_map(|&value| [value; 3]).collect())
    }

    /// From interleaved grey + alpha.
    pub(super) fn grey_alpha(width: u32, height: u32, pixels: &[u8]) -> Self {
        let rgb = pixels.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect();
        Self { width, height, rgb, alpha: Some(pixels.chunks_exact(2).map(|p| p[1]).collect()) }
    }

    /// From interleaved RGBA.
    pub(super) fn rgba(width: u32, height: u32, pixels: &[u8]) -> Self {
        let rgb = pixels.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
        Self { width, height, rgb, alpha: Some(pixels.chunks_exact(4).map(|p| p[3]).collect()) }
    }

    /// The image, where it has the size that its header announced and a value for every pixel. All decoders' results
    /// pass here: none is trusted.
    pub(super) fn into_rgb(
        mut self,
        format: ImageFormat,
        header: &Header,
        policy: Alpha,
    ) -> Result<RgbImage, DecodeError> {
        let (width, height) = (header.width, header.height);
        let n_pixels = width as usize * height as usize;
        let (n_values, n_alphas) = (self.rgb.len(), self.alpha.as_ref().map_or(n_pixels, Vec::len));
        if (self.width, self.height) != (width, height) || n_values != n_pixels * 3 || n_alphas != n_pixels {
            let got = format!("{}x{} with {n_values} values and {n_alphas} alphas", self.width, self.height);
            return Err(DecodeError::broken(format, format!("expected {width}x{height} pixels, got {got}")));
        }

        if let (Alpha::OverWhite, Some(alpha)) = (policy, &self.alpha) {
            for (pixel, &alpha) in self.rgb.chunks_exact_mut(3).zip(alpha) {
                pixel.iter_mut().for_each(|value| *value = over_white(*value, alpha));
            }
        }

        let image = RgbImage::from_raw(width, height, self.rgb);
        image.ok_or_else(|| DecodeError::broken(format, format!("{width}x{height} pixels")))
    }
}

/// Pillow's `alpha_composite` onto opaque white, in its integers: 7 extra bits and a rounded division by 255.
fn over_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    let weight = alpha << 7;
    let sum = value * weight + 255 * ((255 << 7) - weight) + (0x80 << 7);
    ((((sum >> 8) + sum) >> 8) >> 7) as u8
}
