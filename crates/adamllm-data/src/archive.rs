use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adamllm_core::{CoreError, ImageRef, ImageStore, RgbImage};
use zip::ZipArchive;
use zip::result::ZipError;

use crate::folder::named;
use crate::location::{Location, plain, spellings};
use crate::shared_file::SharedFile;
use crate::{DecodeOptions, decode, image_size};

/// No image file is longer; an entry that unpacks to more is refused.
const MAX_ENTRY_BYTES: u64 = 1 << 30;

/// What is unpacked to read an image's header; most headers end long before.
const HEADER_BYTES: u64 = 1 << 16;

/// The images in a zip archive, named by their paths in it. Nothing is unpacked to disk, and threads read side by side.
#[derive(Clone, Debug)]
pub struct ZipImages {
    archive: ZipArchive<SharedFile>,
    /// Entries by their names without `./` and `\`, where those differ from what the archive says.
    plain_names: Arc<HashMap<String, usize>>,
    path: PathBuf,
    prefix: String,
    options: DecodeOptions,
}

impl ZipImages {
    /// Reads the archive's table of contents.
    ///
    /// # Errors
    /// [`CoreError::Io`] where the file cannot be opened or is no zip archive.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, CoreError> {
        let path = path.into();
        let file = File::open(&path).map_err(CoreError::io("open", &path))?;
        let file = SharedFile::new(file).map_err(CoreError::io("read", &path))?;
        let archive =
            ZipArchive::new(file).map_err(|error| CoreError::io("read the zip archive", &path)(error.into()))?;
        let mut plain_names = HashMap::new();
        for (i, name) in archive.file_names().enumerate() {
            let Ok(name) = name else { continue };
            let plain = plain(&name);
            if plain != name {
                plain_names.insert(plain, i);
            }
        }
        let plain_names = Arc::new(plain_names);
        Ok(Self { archive, plain_names, path, prefix: String::new(), options: DecodeOptions::default() })
    }

    /// Looks images up under a folder of the archive, such as `"images"`.
    pub fn under(mut self, folder: &str) -> Self {
        self.prefix = format!("{}/", folder.trim_matches('/'));
        self
    }

    /// Decodes with other options.
    pub fn with_options(mut self, options: DecodeOptions) -> Self {
        self.options = options;
        self
    }

    /// The paths of all files in the archive, the folder of [`ZipImages::under`] cut off. Names that cannot be read are
    /// left out.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        let names = self.archive.file_names().filter_map(Result::ok);
        let files = names.filter(|name| !name.ends_with('/'));
        files.filter_map(|name| name.strip_prefix(&self.prefix).map(str::to_owned))
    }

    /// The archive's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of the entry that holds an image.
    fn entry_of(&self, image: &ImageRef) -> Result<usize, CoreError> {
        let missing =
            || CoreError::ImageMissing { image: image.to_string(), location: self.path.display().to_string() };
        let Location::Relative(path) = Location::of(image)? else { return Err(missing()) };
        let under = |path: String| format!("{}{path}", self.prefix);
        let find = |name: &String| self.archive.index_for_name(name).or_else(|| self.plain_names.get(name).copied());
        spellings(&path).into_iter().map(under).find_map(|name| find(&name)).ok_or_else(missing)
    }

    /// Unpacks at most `limit` bytes of an entry; `true` where that was all of it.
    fn read(&self, image: &ImageRef, limit: u64) -> Result<(Vec<u8>, bool), CoreError> {
        let entry = self.entry_of(image)?;
        let mut archive = self.archive.clone();
        let entry = archive.by_index(entry).map_err(|error| match error {
            ZipError::Io(error) if !is_damage(&error) => CoreError::io("read an entry of", &self.path)(error),
            other => CoreError::ImageDecode { image: image.to_string(), source: other.into() },
        })?;
        let mut bytes = Vec::new();
        entry.take(limit).read_to_end(&mut bytes).map_err(|error| broken(image, error))?;
        let whole = (bytes.len() as u64) < limit;
        Ok((bytes, whole))
    }

    fn read_all(&self, image: &ImageRef) -> Result<Vec<u8>, CoreError> {
        match self.read(image, MAX_ENTRY_BYTES)? {
            (bytes, true) => Ok(bytes),
            _ => {
                let detail = format!("the entry unpacks to more than {MAX_ENTRY_BYTES} bytes");
                Err(CoreError::ImageDecode { image: image.to_string(), source: detail.into() })
            }
        }
    }
}

/// Whether reading failed because of what the archive holds.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
}

fn broken(image: &ImageRef, error: io::Error) -> CoreError {
    CoreError::ImageDecode { image: image.to_string(), source: error.into() }
}

impl ImageStore for ZipImages {
    fn open(&self, image: &ImageRef) -> Result<RgbImage, CoreError> {
        decode(&self.read_all(image)?, &self.options).map_err(|error| named(error, image))
    }

    fn size(&self, image: &ImageRef) -> Result<(u32, u32), CoreError> {
        let (head, whole) = self.read(image, HEADER_BYTES)?;
        match image_size(&head, &self.options) {
            Err(_) if !whole => image_size(&self.read_all(image)?, &self.options),
            other => other,
        }
        .map_err(|error| named(error, image))
    }

    fn bytes(&self, image: &ImageRef) -> Result<Option<Vec<u8>>, CoreError> {
        self.read_all(image).map(Some)
    }
}
