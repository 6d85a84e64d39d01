use std::collections::HashMap;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::CoreError;

/// Names an image inside an [`ImageStore`]: a path relative to a folder or archive, with forward slashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageRef(String);

impl ImageRef {
    /// The reference as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for ImageRef {
    fn from(path: T) -> Self {
        Self(path.into())
    }
}

impl std::fmt::Display for ImageRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Endings of the names of image files.
const IMAGE_ENDINGS: [&str; 20] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "dib", "tif", "tiff", "pbm", "pgm", "ppm", "pnm", "tga",
    "ico", "jp2", "j2k", "jpx",
];

/// Whether a name ends as those of image files do, whatever its case.
pub fn has_image_ending(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| IMAGE_ENDINGS.contains(&ending.as_str()))
}

/// Where images come from: a folder, an archive, memory.
///
/// ```
/// use adamllm_core::{CoreError, ImageRef, ImageStore, RgbImage};
///
/// /// Every image is a white square.
/// struct White;
///
/// impl ImageStore for White {
///     fn open(&self, _image: &ImageRef) -> Result<RgbImage, CoreError> {
///         Ok(RgbImage::from_pixel(8, 8, [255; 3].into()))
///     }
/// }
///
/// assert_eq!(White.size(&"any.png".into())?, (8, 8));
/// # Ok::<(), CoreError>(())
/// ```
pub trait ImageStore: Send + Sync {
    /// Decodes an image to 8-bit RGB, upright.
    ///
    /// # Errors
    /// [`CoreError::ImageMissing`], [`CoreError::ImageDecode`], [`CoreError::ImageTooLarge`] or [`CoreError::Io`].
    fn open(&self, image: &ImageRef) -> Result<RgbImage, CoreError>;

    /// Width and height of the upright image. Stores that can read them from the header alone override this.
    ///
    /// # Errors
    /// As [`ImageStore::open`].
    fn size(&self, image: &ImageRef) -> Result<(u32, u32), CoreError> {
        self.open(image).map(|image| image.dimensions())
    }

    /// The image's file as it is stored, for content hashes and for sending it on. `None` where there is no file.
    ///
    /// # Errors
    /// As [`ImageStore::open`].
    fn bytes(&self, _image: &ImageRef) -> Result<Option<Vec<u8>>, CoreError> {
        Ok(None)
    }
}

impl<S: ImageStore + ?Sized> ImageStore for &S {
    fn open(&self, image: &ImageRef) -> Result<RgbImage, CoreError> {
        (**self).open(image)
    }
    fn size(&self, image: &ImageRef) -> Result<(u32, u32), CoreError> {
        (**self).size(image)
    }
    fn bytes(&self, image: &ImageRef) -> Result<Option<Vec<u8>>, CoreError> {
        (**self).bytes(image)
    }
}

impl<S: ImageStore + ?Sized> ImageStore for std::sync::Arc<S> {
    fn open(&self, image: &ImageRef) -> Result<RgbImage, CoreError> {
        (**self).open(image)
    }
    fn size(&self, image: &ImageRef) -> Result<(u32, u32), CoreError> {
        (**self).size(image)
    }
    fn bytes(&self, image: &ImageRef) -> Result<Option<Vec<u8>>, CoreError> {
        (**self).bytes(image)
    }
}

/// Images held in memory.
///
/// ```
/// use adamllm_core::{ImageStore, MemoryImages, RgbImage};
///
/// let mut images = MemoryImages::new();
/// images.insert("red.png", RgbImage::from_pixel(4, 2, [200, 0, 0].into()));
/// assert_eq!(images.size(&"red.png".into())?, (4, 2));
/// assert!(images.open(&"blue.png".into()).is_err());
/// # Ok::<(), adamllm_core::CoreError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryImages(HashMap<ImageRef, RgbImage>);

impl MemoryImages {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces an image.
    pub fn insert(&mut self, image: impl Into<ImageRef>, pixels: RgbImage) {
        self.0.insert(image.into(), pixels);
    }
}

impl MemoryImages {
    fn get(&self, image: &ImageRef) -> Result<&RgbImage, CoreError> {
        self.0.get(image).ok_or_else(|| CoreError::ImageMissing { image: image.to_string(), location: "memory".into() })
    }
}

impl ImageStore for MemoryImages {
    fn open(&self, image: &ImageRef) -> Result<RgbImage, CoreError> {
        self.get(image).cloned()
    }

    fn size(&self, image: &ImageRef) -> Result<(u32, u32), CoreError> {
        self.get(image).map(RgbImage::dimensions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_by_their_names() {
        for name in ["a.png", "b/c.TIFF", "x.y.Jpeg"] {
            assert!(has_image_ending(name), "{name}");
        }
        for name in ["png", "a.png/b", "a.json", "a.", ""] {
            assert!(!has_image_ending(name), "{name}");
        }
    }
}
