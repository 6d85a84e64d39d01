use std::io::Cursor;

use adamllm_core::{CoreError, ImageRef, ImageStore};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::ImageForm;

/// An image as a data URL.
pub(crate) fn data_url(images: &dyn ImageStore, image: &ImageRef, form: ImageForm) -> Result<String, CoreError> {
    if form == ImageForm::Stored
        && let Some(bytes) = images.bytes(image)?
        && let Some(media_type) = media_type(&bytes)
    {
        return Ok(format!("data:{media_type};base64,{}", STANDARD.encode(bytes)));
    }
    let mut png = Cursor::new(Vec::new());
    let written = images.open(image)?.write_to(&mut png, image::ImageFormat::Png);
    written.map_err(|error| CoreError::ImageDecode { image: image.to_string(), source: error.into() })?;
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(png.into_inner())))
}

/// The kinds of files that every server decodes, by their first bytes.
fn media_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use adamllm_core::{MemoryImages, RgbImage};

    use super::*;

    struct Stored(Vec<u8>);

    impl ImageStore for Stored {
        fn open(&self, _: &ImageRef) -> Result<RgbImage, CoreError> {
            Ok(RgbImage::new(2, 1))
        }
        fn bytes(&self, _: &ImageRef) -> Result<Option<Vec<u8>>, CoreError> {
            Ok(Some(self.0.clone()))
        }
    }

    fn url(store: &dyn ImageStore, form: ImageForm) -> String {
        data_url(store, &"a.png".into(), form).expect("an image")
    }

    #[test]
    fn sends_files_as_they_are_and_others_as_png() {
        let jpeg = Stored(vec![0xff, 0xd8, 0xff, 0xe0]);
        assert_eq!(url(&jpeg, ImageForm::Stored), "data:image/jpeg;base64,/9j/4A==");
        assert!(url(&jpeg, ImageForm::Pixels).starts_with("data:image/png;base64,iVBORw0KGgo"));
        assert!(url(&Stored(b"BM..".to_vec()), ImageForm::Stored).starts_with("data:image/png;base64,"));
        let mut memory = MemoryImages::new();
        memory.insert("a.png", RgbImage::new(1, 1));
        assert!(url(&memory, ImageForm::Stored).starts_with("data:image/png;base64,"));
        let missing = data_url(&MemoryImages::new(), &"a.png".into(), ImageForm::Stored);
        assert!(matches!(missing, Err(CoreError::ImageMissing { .. })));
    }
}
