use std::path::Path;

use adamllm_core::{CoreError, ImageRef, ImageStore, RgbImage};

use crate::FolderImages;

/// Several stores as one: a picture is taken from the first that has it (data sets often come in several archives).
#[derive(Default)]
pub struct FirstOf(Vec<Box<dyn ImageStore>>);

impl std::fmt::Debug for FirstOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FirstOf").field("n_stores", &self.0.len()).finish()
    }
}

impl FirstOf {
    /// The stores in the order in which they are asked.
    pub fn new(stores: Vec<Box<dyn ImageStore>>) -> Self {
        Self(stores)
    }

    fn ask<T>(
        &self,
        image: &ImageRef,
        question: impl Fn(&dyn ImageStore) -> Result<T, CoreError>,
    ) -> Result<T, CoreError> {
        for store in &self.0 {
            match question(store.as_ref()) {
                Err(CoreError::ImageMissing { .. }) => {}
                answer => return answer,
            }
        }
        Err(CoreError::ImageMissing { image: image.to_string(), place: format!("any of {} stores", self.0.len()) })
    }
}

impl ImageStore for FirstOf {
    fn open(&self, image: &ImageRef) -> Result<RgbImage, CoreError> {
        self.ask(image, |store| store.open(image))
    }

    fn size(&self, image: &ImageRef) -> Result<(u32, u32), CoreError> {
        self.ask(image, |store| store.size(image))
    }

    fn bytes(&self, image: &ImageRef) -> Result<Option<Vec<u8>>, CoreError> {
        self.ask(image, |store| store.bytes(image))
    }
}

/// The pictures at a path, whatever it is: a folder, or (feature `zip`) an archive.
///
/// # Errors
/// [`CoreError::Io`] where nothing is there, or something that holds no pictures.
pub fn images_at(path: impl AsRef<Path>) -> Result<Box<dyn ImageStore>, CoreError> {
    let path = path.as_ref();
    let found = std::fs::metadata(path).map_err(CoreError::io("open", path))?;
    if found.is_dir() {
        return Ok(Box::new(FolderImages::new(path)));
    }
    #[cfg(feature = "zip")]
    return Ok(Box::new(crate::ZipImages::open(path)?));
    #[cfg(not(feature = "zip"))]
    Err(CoreError::io("read without the feature `zip`", path)(std::io::ErrorKind::Unsupported.into()))
}

#[cfg(test)]
mod tests {
    use adamllm_core::MemoryImages;

    use super::*;

    #[test]
    fn the_first_store_that_has_it() {
        let store = |name: &str, width| {
            let mut images = MemoryImages::new();
            images.insert(name, RgbImage::new(width, 1));
            images.insert("both", RgbImage::new(width, 1));
            Box::new(images) as Box<dyn ImageStore>
        };
        let stores = FirstOf::new(vec![store("a", 1), store("b", 2)]);
        for (name, width) in [("a", 1), ("b", 2), ("both", 1)] {
            assert_eq!(stores.size(&name.into()).expect("is there").0, width);
        }
        assert!(matches!(stores.open(&"c".into()), Err(CoreError::ImageMissing { .. })));
    }

    #[test]
    fn a_path_that_is_not_there() {
        assert!(matches!(images_at("no/such/place"), Err(CoreError::Io { .. })));
        assert!(images_at(env!("CARGO_MANIFEST_DIR")).is_ok());
    }
}
