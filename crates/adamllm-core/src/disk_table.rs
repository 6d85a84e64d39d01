use std::fmt;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableTable, TableDefinition, WriteTransaction};

use crate::CoreError;

/// A table from 64-bit keys to 64-bit values that lies in a nameless temporary file: whatever it holds, it takes up no more memory than a
/// fixed cache, and it is gone when it is dropped or the process dies.
///
/// A [`redb`] database in one transaction that is never committed. Meant for millions of records whose keys are hashes already; who
/// needs certainty compares what the value leads to.
pub struct DiskTable {
    // Dropped before the database that it belongs to.
    transaction: WriteTransaction,
    _database: Database,
    folder: PathBuf,
    len: u64,
}

const TABLE: TableDefinition<u64, u64> = TableDefinition::new("table");
/// Bytes of the file that are kept in memory.
const CACHE: usize = 32 << 20;

impl DiskTable {
    /// An empty table in a file system that the folder is on.
    ///
    /// # Errors
    /// [`CoreError::Io`].
    pub fn new(folder: impl AsRef<Path>) -> Result<Self, CoreError> {
        let folder = folder.as_ref();
        let file = tempfile::tempfile_in(folder).map_err(CoreError::io("create a table in", folder))?;
        let begin = || -> Result<_, redb::Error> {
            let database = Builder::new().set_cache_size(CACHE).create_with_backend(FileBackend::new(file)?)?;
            let transaction = database.begin_write()?;
            drop(transaction.open_table(TABLE)?);
            Ok((transaction, database))
        };
        let (transaction, database) = begin().map_err(failed("create a table in", folder))?;
        Ok(Self { transaction, _database: database, folder: folder.to_path_buf(), len: 0 })
    }

    /// The number of keys.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The key's value.
    ///
    /// # Errors
    /// [`CoreError::Io`].
    pub fn get(&mut self, key: u64) -> Result<Option<u64>, CoreError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.transaction.open_table(TABLE)?;
            let value = table.get(key)?.map(|value| value.value());
            Ok(value)
        };
        read().map_err(failed("read a table in", &self.folder))
    }

    /// Sets the key's value, and returns the one that it had.
    ///
    /// # Errors
    /// [`CoreError::Io`].
    pub fn insert(&mut self, key: u64, value: u64) -> Result<Option<u64>, CoreError> {
        let write = || -> Result<_, redb::Error> {
            let mut table = self.transaction.open_table(TABLE)?;
            let old = table.insert(key, value)?.map(|old| old.value());
            Ok(old)
        };
        let old = write().map_err(failed("write a table in", &self.folder))?;
        self.len += u64::from(old.is_none());
        Ok(old)
    }
}

impl fmt::Debug for DiskTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskTable").field("folder", &self.folder).field("len", &self.len).finish_non_exhaustive()
    }
}

/// The database's error as one of the file system, which is all that can go wrong with a table of one's own.
fn failed(action: &'static str, folder: &Path) -> impl FnOnce(redb::Error) -> CoreError {
    let folder = folder.to_path_buf();
    move |error| {
        let source = match error {
            redb::Error::Io(source) => source,
            other => std::io::Error::other(other),
        };
        CoreError::Io { action, path: folder, source }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn is_a_map() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut table = DiskTable::new(folder.path()).expect("made");
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut map = HashMap::new();
        // Keys that are dense, keys that are hashes, and the first and last ones.
        let keys = [0, 1, u64::MAX].into_iter().chain(4090..4200).chain((0..20_000).map(|_| random.next_u64()));
        for (value, key) in keys.enumerate() {
            assert_eq!(table.insert(key, value as u64).expect("written"), map.insert(key, value as u64));
        }
        assert_eq!(table.len() as usize, map.len());
        assert!(map.iter().all(|(key, value)| table.get(*key).expect("read") == Some(*value)));
        assert_eq!(table.get(77).expect("read"), None);
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0, "the file has no name");
    }
}
