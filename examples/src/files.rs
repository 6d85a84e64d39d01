use std::path::Path;

use adamllm::core::{CoreError, RgbImage};
use adamllm::prelude::*;

/// Images anywhere on disk: what a person names on the command line, unlike what a data file names.
#[derive(Clone, Copy, Debug)]
pub struct Files;

impl Files {
    fn beside(image: &ImageRef) -> (FolderImages, ImageRef) {
        let path = Path::new(image.as_str());
        let folder = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (FolderImages::new(folder), name.into())
    }
}

impl ImageStore for Files {
    fn open(&self, image: &ImageRef) -> Result<RgbImage, CoreError> {
        let (folder, name) = Self::beside(image);
        folder.open(&name)
    }

    fn size(&self, image: &ImageRef) -> Result<(u32, u32), CoreError> {
        let (folder, name) = Self::beside(image);
        folder.size(&name)
    }

    fn bytes(&self, image: &ImageRef) -> Result<Option<Vec<u8>>, CoreError> {
        let (folder, name) = Self::beside(image);
        folder.bytes(&name)
    }
}
