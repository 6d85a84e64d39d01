use std::fs;
use std::path::{Path, PathBuf};

use adamllm_core::{CoreError, Progress};
use serde::{Deserialize, Serialize};

use super::{SeedConfig, SeedIndex, Split};
use crate::SynthError;
use crate::run::OrderedFile;

/// What became of the seed files' records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SeedSummary {
    /// Records in all three files.
    #[serde(alias = "rows_in")]
    pub records_in: u64,
    /// Records that are in a conversation.
    #[serde(alias = "rows_used")]
    pub records_used: u64,
    /// Entries in the ledger: `records_in = records_used + ledger_entries`.
    #[serde(alias = "ledger_rows")]
    pub ledger_entries: u64,
    /// Conversations to train on.
    pub train: u64,
    /// Conversations held out.
    pub dev: u64,
    /// Conversations with a blank image.
    pub blank: u64,
    /// The files written.
    pub files: Vec<PathBuf>,
}

impl SeedIndex {
    /// Writes `train.jsonl` and `dev.jsonl` (conversations in the ShareGPT form) and `ledger.jsonl` into a folder.
    ///
    /// # Errors
    /// Files that cannot be read or written; [`SynthError::Unaccounted`].
    pub fn write(
        &self,
        folder: &Path,
        config: &SeedConfig,
        progress: &mut dyn Progress,
    ) -> Result<SeedSummary, SynthError> {
        fs::create_dir_all(folder).map_err(CoreError::io("create", folder))?;
        let create = |name: &str| OrderedFile::create(folder.join(name));
        let (mut train, mut dev, mut ledger) = (create("train.jsonl")?, create("dev.jsonl")?, create("ledger.jsonl")?);

        let mut summary = SeedSummary { records_in: self.records_in(), ..SeedSummary::default() };
        progress.begin("seeds", self.n_images() as u64);

        // An image's records can also be lost when they are put together.
        let mut lost_later = 0;
        for outcome in self.conversations(config)? {
            match outcome {
                Ok(seed) => {
                    summary.blank += u64::from(seed.is_blank);
                    let (file, count) = match seed.split {
                        Split::Train => (&mut train, &mut summary.train),
                        Split::Dev => (&mut dev, &mut summary.dev),
                    };
                    file.append(&seed.conversation)?;
                    *count += 1;
                }
                Err(entries) => {
                    lost_later += entries.len() as u64;
                    entries.iter().try_for_each(|entry| ledger.append(entry))?;
                }
            }
            progress.advance(1);
            progress.check_cancelled()?;
        }

        self.lost().iter().try_for_each(|entry| ledger.append(entry))?;

        summary.ledger_entries = self.lost().len() as u64 + lost_later;
        summary.records_used = self.n_records_joined() - lost_later;
        summary.files = vec![train.finish()?, dev.finish()?, ledger.finish()?];
        progress.end();

        // Every record is in a conversation or in the ledger.
        let SeedSummary { records_in, records_used: records_out, ledger_entries, .. } = summary;
        if records_in != records_out + ledger_entries {
            return Err(SynthError::Unaccounted { records_in, records_out, ledger_entries });
        }

        Ok(summary)
    }
}
