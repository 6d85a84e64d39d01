use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use adamllm_core::{CoreError, ImageRef, ImageStore, RgbImage};

use crate::location::{Location, spellings};
use crate::{DecodeError, DecodeOptions, decode, image_size_of_file};

/// The images in a folder, named by their paths relative to it. Absolute paths and `file:` URLs are read where they exist.
///
/// ```
/// use adamllm_core::ImageStore;
/// use adamllm_data::FolderImages;
///
/// # let folder = tempfile::tempdir()?;
/// # let root = folder.path();
/// std::fs::write(root.join("dot.ppm"), b"P6 1 1 255 \xff\x00\x00")?;
/// let images = FolderImages::new(root);
/// assert_eq!(images.open(&"dot.ppm".into())?.get_pixel(0, 0).0, [255, 0, 0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct FolderImages {
    root: PathBuf,
    options: DecodeOptions,
}

impl FolderImages {
    /// The images under `root`. Nothing is read yet.
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

    /// Where an image's file is, or would be. An absolute path, or a `file:` URL, is taken as it is.
    ///
    /// # Errors
    /// [`CoreError::Field`] for a path that leaves the folder with `..`, and for an address on the net.
    pub fn path_of(&self, image: &ImageRef) -> Result<PathBuf, CoreError> {
        match Location::of(image)? {
            Location::Absolute(path) => Ok(path),
            Location::Relative(path) => {
                let mut paths: Vec<_> = spellings(&path).into_iter().map(|path| self.root.join(path)).collect();
                let found = paths.iter().position(|path| path.exists()).unwrap_or(0);
                Ok(paths.swap_remove(found))
            }
        }
    }

    fn read(&self, image: &ImageRef) -> Result<Vec<u8>, CoreError> {
        let path = self.path_of(image)?;
        std::fs::read(&path).map_err(|source| self.absent(image, &path, source))
    }

    fn absent(&self, image: &ImageRef, path: &Path, source: std::io::Error) -> CoreError {
        match source.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                let is_inside = path.starts_with(&self.root);
                let location = if is_inside { self.root.display().to_string() } else { "this machine".into() };
                CoreError::ImageMissing { image: image.to_string(), location }
            }
            // What cannot be opened under this name costs the record that has the name.
            ErrorKind::IsADirectory
            | ErrorKind::PermissionDenied
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidFilename => {
                let location = format!("{} ({source})", self.root.display());
                CoreError::ImageMissing { image: image.to_string(), location }
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

/// A decoder's error with the name of the image.
pub(crate) fn named(error: DecodeError, image: &ImageRef) -> CoreError {
    let image = image.to_string();
    match error {
        DecodeError::TooLarge { width, height, limit } => CoreError::ImageTooLarge { image, width, height, limit },
        other => CoreError::ImageDecode { image, source: other.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_found_by_its_plain_path_or_named_as_missing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        std::fs::create_dir_all(root.join("sub/folder.png")).expect("made");
        let mut png = Vec::new();
        let mut writer = png::Encoder::new(&mut png, 3, 2).write_header().expect("in memory");
        writer.write_image_data(&[7; 6]).expect("in memory");
        writer.finish().expect("in memory");
        std::fs::write(root.join("a.png"), &png).expect("written");

        let images = FolderImages::new(root);
        assert_eq!(images.root(), root);
        for name in ["a.png", "./a.png", "other\\..\\a.png"] {
            assert_eq!(images.size(&name.into()).expect("a header"), (3, 2), "{name}");
            assert_eq!(images.open(&name.into()).expect("pixels").as_raw(), &[7; 18]);
            assert_eq!(images.bytes(&name.into()).expect("a file").as_ref(), Some(&png));
        }
        let location = |name: &str| match (images.open(&name.into()), images.size(&name.into())) {
            (Err(CoreError::ImageMissing { location, .. }), Err(_)) => location,
            other => panic!("{name}: {other:?}"),
        };
        let shown = root.display().to_string();
        assert_eq!([location("b.png"), location("a.png/b.png")], [shown.clone(), shown.clone()]);
        assert_eq!(location("/no/such/image.png"), "this machine");
        assert!(location("sub/folder.png").starts_with(&format!("{shown} (")), "{}", location("sub/folder.png"));
    }

    #[test]
    fn a_store_has_its_own_limit_of_pixels() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("a.ppm"), b"P6 3 2 255 123456123456123456").expect("written");
        let images = |max_pixels| {
            let options = DecodeOptions { max_pixels, ..DecodeOptions::default() };
            FolderImages::new(folder.path()).with_options(options).open(&"a.ppm".into())
        };
        assert_eq!(images(6).expect("six pixels").dimensions(), (3, 2));
        assert!(matches!(images(5), Err(CoreError::ImageTooLarge { width: 3, height: 2, limit: 5, .. })));
    }
}
