use adamllm_core::{ImageRef, ImageStore, RgbImage};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};

/// A small JPEG of the image as a data URL; `None` where it cannot be had (the page then says so).
pub(super) fn data_url(images: &dyn ImageStore, image: &ImageRef, side: u32) -> Option<String> {
    let pixels = images.open(image).ok()?;
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 80).encode_image(&small(pixels, side)).ok()?;
    Some(format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg)))
}

fn small(pixels: RgbImage, side: u32) -> RgbImage {
    let (width, height) = pixels.dimensions();
    let longer = width.max(height);
    if longer <= side.max(1) {
        return pixels;
    }
    let scaled = |length: u32| (u64::from(length) * u64::from(side) / u64::from(longer)).max(1) as u32;
    imageops::resize(&pixels, scaled(width), scaled(height), FilterType::Triangle)
}
