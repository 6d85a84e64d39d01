use adamllm_core::{BoxError, CoreError, ImageRef, ImageStore, RgbImage};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Files up to this size go into the page as they are.
const SMALL: usize = 48 * 1024;

/// An image as a `data:` URL for a page of one file: the stored file where it has at most 48 KiB and browsers know its format, else a
/// JPEG whose longer edge is `edge` pixels.
///
/// # Errors
/// As [`ImageStore::open`].
pub fn image_data_url(store: &dyn ImageStore, image: &ImageRef, edge: u32) -> Result<String, CoreError> {
    if let Some(bytes) = store.bytes(image)?.filter(|bytes| bytes.len() <= SMALL)
        && let Some(kind) = kind(&bytes)
    {
        return Ok(format!("data:{kind};base64,{}", STANDARD.encode(bytes)));
    }
    let jpeg = jpeg(&shrink(store.open(image)?, edge), image)?;
    Ok(format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg)))
}

fn kind(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

fn shrink(pixels: RgbImage, edge: u32) -> RgbImage {
    let (width, height) = pixels.dimensions();
    let longer = width.max(height);
    if longer <= edge {
        return pixels;
    }
    let scaled = |side: u32| ((u64::from(side) * u64::from(edge)) / u64::from(longer)).max(1) as u32;
    image::imageops::thumbnail(&pixels, scaled(width), scaled(height))
}

fn jpeg(pixels: &RgbImage, image: &ImageRef) -> Result<Vec<u8>, CoreError> {
    let too_large = |source: BoxError| CoreError::ImageDecode { image: image.to_string(), source };
    let side =
        |side: u32| u16::try_from(side).map_err(|_| too_large(format!("{side} pixels do not fit in a JPEG").into()));
    let (width, height) = (side(pixels.width())?, side(pixels.height())?);
    let mut jpeg = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut jpeg, 85);
    let encoded = encoder.encode(pixels.as_raw(), width, height, jpeg_encoder::ColorType::Rgb);
    encoded.map_err(|error| too_large(error.into()))?;
    Ok(jpeg)
}

#[cfg(test)]
mod tests {
    use adamllm_core::MemoryImages;

    use super::*;

    #[test]
    fn large_images_shrink() {
        let mut store = MemoryImages::new();
        store.insert("wide.png", RgbImage::from_pixel(1000, 10, image::Rgb([200, 10, 10])));
        let url = image_data_url(&store, &"wide.png".into(), 100).expect("an image");
        let bytes = STANDARD.decode(url.strip_prefix("data:image/jpeg;base64,").expect("a JPEG")).expect("base64");
        let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("a frame header");
        assert_eq!(bytes[frame + 5..frame + 9], [0, 1, 0, 100], "height 1, width 100");
        assert!(image_data_url(&store, &"gone.png".into(), 100).is_err());
    }
}
