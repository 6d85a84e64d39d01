use std::path::{Component, Path, PathBuf};

use adamllm_core::{CoreError, ImageRef, ImageStore, RgbImage};

use crate::{DecodeError, DecodeOptions, decode, image_size_of_file};

/// The pictures in a folder, named by their paths relative to it.
#[derive(Clone, Debug)]
pub struct FolderImages {
    root: PathBuf,
    options: DecodeOptions,
}

impl FolderImages {
    /// The pictures under `root`. Nothing is read yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), options: DecodeOptions::default() }
    }

    /// Decodes with other options.
    pub fn with_options(mut self, options: DecodeOptions) -> Self {
        self.options = options;
        self
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a picture's file would be.
    ///
    /// # Errors
    /// [`CoreError::Field`] for an absolute path or one that leaves the folder with `..`.
    pub fn path_of(&self, image: &ImageRef) -> Result<PathBuf, CoreError> {
        let relative = Path::new(image.as_str());
        let stays_inside = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !stays_inside || image.as_str().is_empty() {
            return Err(CoreError::Field {
                record: image.to_string(),
                field: "image",
                expected: "a relative path inside the image folder".into(),
                got: format!("{:?}", image.as_str()),
            });
        }
        Ok(self.root.join(relative))
    }

    fn read(&self, image: &ImageRef) -> Result<Vec<u8>, CoreError> {
        let path = self.path_of(image)?;
        std::fs::read(&path).map_err(|source| self.absent(image, &path, source))
    }

    fn absent(&self, image: &ImageRef, path: &Path, source: std::io::Error) -> CoreError {
        match source.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
                CoreError::ImageMissing { image: image.to_string(), place: self.root.display().to_string() }
            }
            _ => CoreError::io("read", path)(source),
        }
    }
}

impl ImageStore for FolderImages {
    fn open(&self, image: &ImageRef) -> Result<RgbImage, CoreError> {
        decode(&self.read(image)?, &self.options).map_err(|error| named(error, image))
    }

    fn size(&self, image: &ImageRef) -> Result<(u32, u32), CoreError> {
        let path = self.path_of(image)?;
        std::fs::metadata(&path).map_err(|source| self.absent(image, &path, source))?;
        image_size_of_file(&path, &self.options).map_err(|error| named(error, image))
    }

    fn bytes(&self, image: &ImageRef) -> Result<Option<Vec<u8>>, CoreError> {
        self.read(image).map(Some)
    }
}

/// A decoder's error with the name of the picture.
pub(crate) fn named(error: DecodeError, image: &ImageRef) -> CoreError {
    let image = image.to_string();
    match error {
        DecodeError::TooLarge { width, height, limit } => CoreError::ImageTooLarge { image, width, height, limit },
        other => CoreError::ImageDecode { image, detail: other.to_string() },
    }
}
