use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::CoreError;

/// A hash table from 64-bit keys to 64-bit values that lies in a nameless temporary file: whatever it holds, it takes up no
/// memory, and it is gone when it is dropped or the process dies.
///
/// Open addressing with linear probing; it doubles when it is more than two thirds full. Meant for millions of records whose
/// keys are hashes already; who needs certainty compares what the value leads to.
#[derive(Debug)]
pub struct DiskTable {
    file: File,
    folder: PathBuf,
    n_slots: u64,
    len: u64,
}

/// Bytes of a slot: key and value, both little-endian. A free slot has key 0.
const SLOT: u64 = 16;
/// Slots that are read at once while probing.
const BLOCK: u64 = 16;
const FIRST_SLOTS: u64 = 1 << 12;

impl DiskTable {
    /// An empty table in a file system that the folder is on.
    ///
    /// # Errors
    /// [`CoreError::Io`].
    pub fn new(folder: impl AsRef<Path>) -> Result<Self, CoreError> {
        Self::with_slots(folder.as_ref(), FIRST_SLOTS)
    }

    fn with_slots(folder: &Path, n_slots: u64) -> Result<Self, CoreError> {
        let file = tempfile::tempfile_in(folder).map_err(CoreError::io("create a table in", folder))?;
        file.set_len(n_slots * SLOT).map_err(CoreError::io("create a table in", folder))?;
        Ok(Self { file, folder: folder.to_path_buf(), n_slots, len: 0 })
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
        let key = key.max(1);
        let (_, found, value) = self.find(key).map_err(CoreError::io("read a table in", &self.folder))?;
        Ok((found == key).then_some(value))
    }

    /// Sets the key's value, and returns the one that it had.
    ///
    /// # Errors
    /// [`CoreError::Io`].
    pub fn insert(&mut self, key: u64, value: u64) -> Result<Option<u64>, CoreError> {
        if self.len * 3 >= self.n_slots * 2 {
            self.grow()?;
        }
        self.put(key.max(1), value).map_err(CoreError::io("write a table in", &self.folder))
    }

    fn put(&mut self, key: u64, value: u64) -> std::io::Result<Option<u64>> {
        let (slot, found, old) = self.find(key)?;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(slot * SLOT))?;
        file.write_all(&[key.to_le_bytes(), value.to_le_bytes()].concat())?;
        self.len += u64::from(found != key);
        Ok((found == key).then_some(old))
    }

    /// The slot that holds the key, or the free one where it belongs: its number, key and value.
    fn find(&self, key: u64) -> std::io::Result<(u64, u64, u64)> {
        let mut file = &self.file;
        let mut slot = key & (self.n_slots - 1);
        loop {
            let n = BLOCK.min(self.n_slots - slot);
            let mut block = [0; (BLOCK * SLOT) as usize];
            let block = &mut block[..(n * SLOT) as usize];
            file.seek(SeekFrom::Start(slot * SLOT))?;
            file.read_exact(block)?;
            let mut pairs = (0..n).zip(slots(block));
            if let Some((i, (found, value))) = pairs.find(|(_, (found, _))| *found == key || *found == 0) {
                return Ok((slot + i, found, value));
            }
            slot = (slot + n) & (self.n_slots - 1);
        }
    }

    fn grow(&mut self) -> Result<(), CoreError> {
        let mut larger = Self::with_slots(&self.folder, self.n_slots * 2)?;
        self.copy_to(&mut larger).map_err(CoreError::io("grow a table in", &self.folder))?;
        *self = larger;
        Ok(())
    }

    fn copy_to(&self, larger: &mut Self) -> std::io::Result<()> {
        let mut file = &self.file;
        let mut block = vec![0; 1 << 16];
        for start in (0..self.n_slots * SLOT).step_by(block.len()) {
            let n = block.len().min((self.n_slots * SLOT - start) as usize);
            file.seek(SeekFrom::Start(start))?;
            file.read_exact(&mut block[..n])?;
            for (key, value) in slots(&block[..n]).filter(|(key, _)| *key != 0) {
                larger.put(key, value)?;
            }
        }
        Ok(())
    }
}

fn slots(block: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    block.chunks_exact(SLOT as usize).map(move |slot| (number(&slot[..8]), number(&slot[8..])))
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
        // Keys that are dense and wrap around, keys that are hashes, and key 0.
        let keys = [0, 1, u64::MAX].into_iter().chain(4090..4200).chain((0..20_000).map(|_| random.next_u64()));
        for (value, key) in keys.enumerate() {
            let key = key.max(1);
            assert_eq!(table.insert(key, value as u64).expect("written"), map.insert(key, value as u64));
        }
        assert_eq!(table.len() as usize, map.len());
        assert!(map.iter().all(|(key, value)| table.get(*key).expect("read") == Some(*value)));
        assert_eq!(table.get(77).expect("read"), None);
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0, "the file has no name");
    }
}
