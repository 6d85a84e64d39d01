use std::path::{Path, PathBuf};
use std::sync::Arc;

use adamllm_core::{CoreError, ImageStore, RecordSource};

use crate::{FirstOf, FolderImages, JsonFile, images_at};

/// A data set on disk, whatever its form: its records, and the store of the images that they name.
///
/// | what is there | records | images |
/// |---|---|---|
/// | a folder of `datasets.save_to_disk`, `.arrow` and `.feather` files (feature `arrow`) | the table's rows | in the rows, or as below |
/// | `.parquet` files (feature `parquet`) | the table's rows | in the rows, or as below |
/// | a `.json` or `.jsonl` file, perhaps `.gz` | the file's | paths from its folder, from `images` in it, or in a zip or tar beside it (feature `zip`) |
///
/// Nothing is read before it is asked for.
#[derive(Clone)]
pub struct LocalDataset {
    path: PathBuf,
    records: Arc<dyn RecordSource>,
    images: Arc<dyn ImageStore>,
}

impl std::fmt::Debug for LocalDataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalDataset").field("path", &self.path).field("n_records", &self.records.len()).finish()
    }
}

impl LocalDataset {
    /// Opens a file, or a folder that holds one data set. Where a folder holds several splits, `split` is taken: the
    /// folder of that name, or the files whose names begin with it.
    ///
    /// # Errors
    /// [`CoreError::Io`] where nothing is there or a file breaks its format's rules; [`CoreError::Field`] where it is not
    /// clear which of several files is meant.
    pub fn open(path: impl Into<PathBuf>, split: &str) -> Result<Self, CoreError> {
        let path = path.into();
        let found = std::fs::metadata(&path).map_err(CoreError::io("open", &path))?;
        if found.is_dir() { Self::open_folder(path, split) } else { Self::open_file(path) }
    }

    /// The records.
    pub fn records(&self) -> Arc<dyn RecordSource> {
        Arc::clone(&self.records)
    }

    /// The images that the records name.
    pub fn images(&self) -> Arc<dyn ImageStore> {
        Arc::clone(&self.images)
    }

    /// The file or folder that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open_file(path: PathBuf) -> Result<Self, CoreError> {
        if is_table(&path) {
            let files = [path.clone()];
            return table(path, &files);
        }
        let records = Arc::new(JsonFile::open(&path)?);
        let images = Arc::new(images_beside(folder_of(&path))?);
        Ok(Self { path, records, images })
    }

    fn open_folder(folder: PathBuf, split: &str) -> Result<Self, CoreError> {
        // `DatasetDict.save_to_disk` writes a folder for each split.
        if folder.join("dataset_dict.json").exists() && folder.join(split).is_dir() {
            return Self::open_folder(folder.join(split), split);
        }

        let files = sorted_files(&folder)?;
        let tables = of_split(files.iter().filter(|file| is_table(file)).cloned().collect(), split);

        // Tables count before records of JSON. `Dataset.save_to_disk` leaves `state.json` beside its tables.
        if !tables.is_empty() {
            return if folder.join("state.json").exists() { saved(folder) } else { table(folder, &tables) };
        }

        match &of_split(files.into_iter().filter(|file| is_json_records(file)).collect(), split)[..] {
            [only] => return Self::open_file(only.clone()),
            [] => {}
            several => {
                let names: Vec<_> = several.iter().filter_map(|file| file.file_name()?.to_str()).collect();
                return Err(CoreError::Field {
                    record: folder.display().to_string(),
                    field: "(files)",
                    expected: format!("one file of records, or one named {split}.json or {split}.jsonl"),
                    got: names.join(", "),
                });
            }
        }

        // Data sets of the Hub often keep their files one folder further down.
        match [split, "data"].map(|name| folder.join(name)).into_iter().find(|inner| inner.is_dir()) {
            Some(inner) => Self::open_folder(inner, split),
            None => Err(CoreError::io("find .arrow, .parquet, .json or .jsonl files in", folder)(
                std::io::ErrorKind::NotFound.into(),
            )),
        }
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(".".as_ref())
}

fn sorted_files(folder: &Path) -> Result<Vec<PathBuf>, CoreError> {
    let entries = std::fs::read_dir(folder).map_err(CoreError::io("list", folder))?;
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut files = paths.map_err(CoreError::io("list", folder))?;
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}

/// The files whose names begin with the split's; all of them where there is none.
fn of_split(files: Vec<PathBuf>, split: &str) -> Vec<PathBuf> {
    let belongs = |file: &&PathBuf| {
        let rest = file.file_name().and_then(|name| name.to_str()?.strip_prefix(split));
        rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
    };
    let chosen: Vec<_> = files.iter().filter(belongs).cloned().collect();
    if chosen.is_empty() { files } else { chosen }
}

/// Whether a file's name is that of a table.
pub(crate) fn is_table(file: &Path) -> bool {
    const ENDINGS: [&str; 6] = ["arrow", "parquet", "feather", "pq", "arrows", "ipc"];
    file.extension().is_some_and(|extension| ENDINGS.iter().any(|ending| extension.eq_ignore_ascii_case(ending)))
}

/// JSON that holds records, perhaps packed: not what `datasets` keeps about a table.
fn is_json_records(file: &Path) -> bool {
    const ABOUT: [&str; 4] = ["dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json"];
    const ENDINGS: [&str; 4] = [".json", ".jsonl", ".ndjson", ".jsonlines"];
    let Some(name) = file.file_name().and_then(|name| name.to_str()) else { return false };
    let unpacked = name.strip_suffix(".gz").unwrap_or(name);
    ENDINGS.iter().any(|ending| unpacked.ends_with(ending)) && !ABOUT.contains(&name)
}

fn is_archive(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    [".zip", ".tar", ".tar.gz", ".tgz"].iter().any(|ending| name.ends_with(ending))
}

/// Images by their paths from the folder, from its `images`, and in the zips in it.
fn images_beside(folder: &Path) -> Result<FirstOf, CoreError> {
    let mut stores: Vec<Box<dyn ImageStore>> = vec![Box::new(FolderImages::new(folder))];
    let inner = folder.join("images");
    if inner.is_dir() {
        stores.push(Box::new(FolderImages::new(inner)));
    }
    for file in sorted_files(folder)?.iter().filter(|file| is_archive(file)) {
        stores.push(images_at(file)?);
        #[cfg(feature = "zip")]
        if file.extension().is_some_and(|ending| ending == "zip") {
            stores.push(Box::new(crate::ZipImages::open(file)?.under("images")));
        }
    }
    Ok(FirstOf::new(stores))
}

#[cfg(feature = "arrow")]
fn table(path: PathBuf, files: &[PathBuf]) -> Result<LocalDataset, CoreError> {
    of_table(crate::Table::of_files(path, files)?)
}

/// What `save_to_disk` wrote: its own list of files counts.
#[cfg(feature = "arrow")]
fn saved(folder: PathBuf) -> Result<LocalDataset, CoreError> {
    of_table(crate::Table::open(folder)?)
}

#[cfg(feature = "arrow")]
fn of_table(table: crate::Table) -> Result<LocalDataset, CoreError> {
    let (path, table) = (table.path().to_path_buf(), Arc::new(table));
    let folder = if path.is_dir() { path.as_path() } else { folder_of(&path) };
    let images = Arc::new(FirstOf::new(vec![Box::new(table.clone()), Box::new(images_beside(folder)?)]));
    Ok(LocalDataset { path, records: table, images })
}

#[cfg(not(feature = "arrow"))]
fn table(path: PathBuf, _files: &[PathBuf]) -> Result<LocalDataset, CoreError> {
    Err(CoreError::io("read without the feature `arrow`", path)(std::io::ErrorKind::Unsupported.into()))
}

#[cfg(not(feature = "arrow"))]
fn saved(folder: PathBuf) -> Result<LocalDataset, CoreError> {
    table(folder, &[])
}
