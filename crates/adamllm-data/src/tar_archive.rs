use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adamllm_core::{CoreError, ImageRef, ImageStore, RgbImage};
use flate2::read::MultiGzDecoder;

use crate::folder::named;
use crate::location::{Location, plain};
use crate::shared_file::SharedFile;
use crate::{DecodeOptions, decode, image_size};

/// The images in a tar archive, named by their paths in it. One packed with gzip is unpacked into a temporary file first.
#[derive(Clone, Debug)]
pub struct TarImages {
    file: SharedFile,
    /// Start and length of each file, by its path.
    entries: Arc<HashMap<String, (u64, u64)>>,
    path: PathBuf,
    options: DecodeOptions,
}

impl TarImages {
    /// Goes through the archive once and notes where its files are.
    ///
    /// # Errors
    /// [`CoreError::Io`] where the file cannot be opened or is no tar archive.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, CoreError> {
        let path = path.into();
        let unpacked = unpacked(&path).map_err(CoreError::io("read the tar archive", &path))?;
        let file = SharedFile::new(unpacked).map_err(CoreError::io("read", &path))?;
        let entries = entries(file.clone()).map_err(CoreError::io("read the tar archive", &path))?;
        Ok(Self { file, entries: Arc::new(entries), path, options: DecodeOptions::default() })
    }

    /// Decodes with other options.
    pub fn with_options(mut self, options: DecodeOptions) -> Self {
        self.options = options;
        self
    }

    /// The paths of all files in the archive.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    fn read(&self, image: &ImageRef) -> Result<Vec<u8>, CoreError> {
        let missing =
            || CoreError::ImageMissing { image: image.to_string(), location: self.path.display().to_string() };
        let Location::Relative(path) = Location::of(image)? else { return Err(missing()) };
        let &(start, length) = self.entries.get(&plain(&path)).ok_or_else(missing)?;
        let (mut file, mut bytes) = (self.file.clone(), Vec::new());
        file.seek(SeekFrom::Start(start)).map_err(CoreError::io("read", &self.path))?;
        file.take(length).read_to_end(&mut bytes).map_err(CoreError::io("read", &self.path))?;
        Ok(bytes)
    }
}

impl ImageStore for TarImages {
    fn open(&self, image: &ImageRef) -> Result<RgbImage, CoreError> {
        decode(&self.read(image)?, &self.options).map_err(|error| named(error, image))
    }

    fn size(&self, image: &ImageRef) -> Result<(u32, u32), CoreError> {
        image_size(&self.read(image)?, &self.options).map_err(|error| named(error, image))
    }

    fn bytes(&self, image: &ImageRef) -> Result<Option<Vec<u8>>, CoreError> {
        self.read(image).map(Some)
    }
}

/// Whether a file is a tar archive, as it is or packed with gzip.
pub(crate) fn is_tar(path: &Path) -> Result<bool, CoreError> {
    const MAGIC: std::ops::Range<usize> = 257..262;
    let failed = |error| CoreError::io("read", path)(error);
    let mut start = Vec::new();
    let file = || File::open(path).map_err(CoreError::io("open", path));
    file()?.take(512).read_to_end(&mut start).map_err(failed)?;
    if start.starts_with(&[0x1F, 0x8B]) {
        start.clear();
        // A broken archive is an error when it is opened.
        let _ = MultiGzDecoder::new(file()?).take(512).read_to_end(&mut start);
    }
    Ok(start.get(MAGIC) == Some(b"ustar"))
}

fn unpacked(path: &Path) -> io::Result<File> {
    let mut file = File::open(path)?;
    let mut start = Vec::new();
    file.by_ref().take(2).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    if start != [0x1F, 0x8B] {
        return Ok(file);
    }
    let mut unpacked = tempfile::tempfile()?;
    io::copy(&mut MultiGzDecoder::new(BufReader::new(file)), &mut unpacked)?;
    Ok(unpacked)
}

fn entries(file: SharedFile) -> io::Result<HashMap<String, (u64, u64)>> {
    let mut archive = tar::Archive::new(file);
    let mut entries = HashMap::new();
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        if entry.header().entry_type().is_file() {
            let name = plain(&String::from_utf8_lossy(&entry.path_bytes()));
            entries.insert(name, (entry.raw_file_position(), entry.size()));
        }
    }
    Ok(entries)
}
