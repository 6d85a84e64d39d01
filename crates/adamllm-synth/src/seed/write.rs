use std::fs;
use std::path::{Path, PathBuf};

use adamllm_core::{CoreError, Progress};
use serde::{Deserialize, Serialize};

use super::{SeedConfig, SeedIndex, Split};
use crate::SynthError;
use crate::run::OrderedFile;

/// What became of the seed files' rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedSummary {
    /// Rows in all three files.
    pub rows_in: u64,
    /// Rows that stand in a conversation.
    pub rows_used: u64,
    /// Rows in the ledger: `rows_in = rows_used + ledger_rows`.
    pub ledger_rows: u64,
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
        let mut summary = SeedSummary { rows_in: self.rows_in(), ..SeedSummary::default() };
        progress.begin("seeds", self.n_images() as u64);
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
                Err(rows) => {
                    lost_later += rows.len() as u64;
                    rows.iter().try_for_each(|row| ledger.append(row))?;
                }
            }
            progress.advance(1);
        }
        self.lost().iter().try_for_each(|row| ledger.append(row))?;
        summary.ledger_rows = self.lost().len() as u64 + lost_later;
        summary.rows_used = self.n_rows_joined() - lost_later;
        summary.files = vec![train.finish()?, dev.finish()?, ledger.finish()?];
        progress.end();
        let SeedSummary { rows_in, rows_used: rows_out, ledger_rows, .. } = summary;
        if rows_in != rows_out + ledger_rows {
            return Err(SynthError::Unaccounted { rows_in, rows_out, ledger_rows });
        }
        Ok(summary)
    }
}
