use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Appender;
use crate::{CoreError, DiskTable, RecordId};

/// Work already done, by cache key: how synthesis and evaluation survive being killed.
///
/// A line is `{"key": ..., "value": ...}`. Hashes of the keys and file positions lie in a [`DiskTable`], so memory stays
/// flat over millions of lines. Make the key of everything the answer depends on ([`answer_key`](crate::answer_key)): a
/// changed input then has a new key and is computed again, an unchanged one is not.
#[derive(Debug)]
pub struct Journal<T> {
    appender: Appender,
    reader: File,
    path: PathBuf,
    positions: DiskTable,
    end: u64,
    value: PhantomData<fn() -> T>,
}

#[derive(Serialize)]
struct LineOut<'a, T> {
    key: &'a RecordId,
    value: &'a T,
}

#[derive(Deserialize)]
struct LineIn<T> {
    key: RecordId,
    #[serde(alias = "row")]
    value: T,
}

#[derive(Deserialize)]
struct KeyOnly {
    key: RecordId,
}

impl<T: Serialize + DeserializeOwned> Journal<T> {
    /// Opens or creates a journal. A torn last line is cut off. Where a key occurs twice, the later line counts.
    ///
    /// # Errors
    /// [`CoreError::Io`]; [`CoreError::Json`] where a line is not a journal's.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CoreError> {
        let path = path.as_ref().to_path_buf();
        let appender = Appender::open(&path)?;
        let reader = File::open(&path).map_err(CoreError::io("open", &path))?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let positions = DiskTable::new(folder)?;
        let mut journal = Self { appender, reader, path, positions, end: 0, value: PhantomData };
        journal.index()?;
        Ok(journal)
    }

    fn index(&mut self) -> Result<(), CoreError> {
        let mut lines = BufReader::new(&self.reader);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let length = lines.read_until(b'\n', &mut line).map_err(CoreError::io("read", &self.path))?;
            if length == 0 {
                break;
            }
            let parsed: KeyOnly = serde_json::from_slice(&line).map_err(|source| CoreError::Json {
                path: self.path.clone(),
                number,
                source,
            })?;
            self.positions.insert(parsed.key.to_u64(), self.end)?;
            self.end += length as u64;
        }
        Ok(())
    }

    /// The number of different keys.
    pub fn len(&self) -> usize {
        self.positions.len() as usize
    }

    /// Whether nothing is done yet.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Reads back what was done for this key.
    ///
    /// # Errors
    /// [`CoreError::Io`]; [`CoreError::Json`] where the line holds another kind of value.
    pub fn get(&mut self, key: &RecordId) -> Result<Option<T>, CoreError> {
        let Some(start) = self.positions.get(key.to_u64())? else { return Ok(None) };
        let mut line = Vec::new();
        self.reader.seek(SeekFrom::Start(start)).map_err(CoreError::io("seek in", &self.path))?;
        let mut reader = BufReader::new(&self.reader);
        reader.read_until(b'\n', &mut line).map_err(CoreError::io("read", &self.path))?;
        let parsed: LineIn<T> = serde_json::from_slice(&line).map_err(|source| CoreError::Json {
            path: self.path.clone(),
            number: 0,
            source,
        })?;
        // Two keys with one hash: the later one hides the earlier, which is then computed again.
        Ok((parsed.key == *key).then_some(parsed.value))
    }

    /// Notes finished work and waits until it is on the disk. Give a whole batch at once: syncing costs milliseconds.
    ///
    /// # Errors
    /// [`CoreError::Io`].
    pub fn append<'a>(&mut self, done: impl IntoIterator<Item = (&'a RecordId, &'a T)>) -> Result<(), CoreError>
    where
        T: 'a,
    {
        for (key, value) in done {
            self.appender.append(&[LineOut { key, value }])?;
            self.positions.insert(key.to_u64(), self.end)?;
            self.end += self.appender.buffer.len() as u64;
        }
        self.appender.sync()
    }

    /// Answers from the journal where it has them, from `ask` where not: one result per item, in order. `keys[i]` is the key
    /// of `items[i]`. New answers are synced to the journal; failures are not, so that they are tried again when the
    /// run goes on.
    ///
    /// # Errors
    /// The journal's file, and lines that hold another kind of value.
    ///
    /// # Panics
    /// Where `ask` gives another number of results than it was given items.
    pub fn complete<I: Clone, E>(
        &mut self,
        keys: &[RecordId],
        items: &[I],
        ask: impl FnOnce(&[I]) -> Vec<Result<T, E>>,
    ) -> Result<Vec<Result<T, E>>, CoreError> {
        let known: Vec<_> = keys.iter().map(|key| self.get(key)).collect::<Result<_, _>>()?;
        let is_missing = |(item, known): (&I, &Option<T>)| known.is_none().then(|| item.clone());
        let missing: Vec<_> = items.iter().zip(&known).filter_map(is_missing).collect();

        let asked = if missing.is_empty() { Vec::new() } else { ask(&missing) };
        assert_eq!(asked.len(), missing.len(), "one result per item that was asked for");

        // On the disk before the caller gets them: what was paid for is not lost with the process.
        let missing_keys = keys.iter().zip(&known).filter_map(|(key, known)| known.is_none().then_some(key));
        let answered: Vec<_> =
            missing_keys.zip(&asked).filter_map(|(key, result)| Some((key, result.as_ref().ok()?))).collect();
        if !answered.is_empty() {
            self.append(answered)?;
        }

        let mut asked = asked.into_iter();
        let fill = |known: Option<T>| known.map_or_else(|| asked.next().expect("counted above"), Ok);
        Ok(known.into_iter().map(fill).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_only_what_is_missing_and_forgets_failures() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("journal.jsonl");
        let keys = ["a", "b", "c"].map(|k| RecordId::of("t", [k]));
        let mut asked = Vec::new();
        let mut complete = |fails: &str| {
            let mut journal = Journal::<String>::open(&path).expect("opens");
            let ask = |items: &[&str]| {
                asked.push(items.join(""));
                let answer = |item: &&str| match *item == fails {
                    true => Err(CoreError::ImageMissing { image: (*item).into(), location: "here".into() }),
                    false => Ok(item.to_uppercase()),
                };
                items.iter().map(answer).collect()
            };
            journal.complete(&keys, &["a", "b", "c"], ask).expect("writes")
        };
        let shown = |results: Vec<Result<String, _>>| results.into_iter().map(Result::ok).collect::<Vec<_>>();
        let [a, b, c] = ["A", "B", "C"].map(|text| Some(text.to_owned()));
        assert_eq!(shown(complete("b")), [a.clone(), None, c.clone()]);
        assert_eq!(shown(complete("")), [a.clone(), b.clone(), c.clone()]);
        assert_eq!(shown(complete("")), [a, b, c]);
        assert_eq!(asked, ["abc", "b"]);
    }

    #[test]
    fn survives_a_torn_line() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("journal.jsonl");
        let [a, b] = ["a", "b"].map(|k| RecordId::of("t", [k]));
        let mut journal = Journal::<String>::open(&path).expect("opens");
        journal.append([(&a, &"one".to_string()), (&b, &"two".to_string())]).expect("appends");
        drop(journal);

        let whole = std::fs::read(&path).expect("reads");
        std::fs::write(&path, &whole[..whole.len() - 3]).expect("writes");
        let mut journal = Journal::<String>::open(&path).expect("opens");
        assert_eq!(journal.get(&a).expect("reads"), Some("one".to_string()));
        assert_eq!(journal.get(&b).expect("reads"), None);
        journal.append([(&b, &"two".to_string())]).expect("appends");
        assert_eq!(journal.get(&b).expect("reads"), Some("two".to_string()));
        assert_eq!(std::fs::read(&path).expect("reads"), whole);
    }

    #[test]
    fn lines_with_the_old_name_are_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("journal.jsonl");
        let key = RecordId::of("t", ["a"]);
        std::fs::write(&path, format!("{{\"key\": {:?}, \"row\": \"one\"}}\n", key.as_str())).expect("writes");
        assert_eq!(Journal::open(&path).expect("opens").get(&key).expect("reads"), Some("one".to_string()));
    }
}
