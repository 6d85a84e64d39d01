use std::path::{Path, PathBuf};

use crate::cli::JobResult;

/// Where a job writes.
#[derive(clap::Args, Clone, Debug)]
pub struct Output {
    /// Everything is written here
    #[arg(long)]
    pub out: PathBuf,
    /// Goes on with the run in --out instead of starting anew
    #[arg(long)]
    pub resume: bool,
    /// Replaces the run in --out
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
}

impl Output {
    /// [`prepare`] for this folder.
    ///
    /// # Errors
    /// As [`prepare`].
    pub fn prepare(&self, marker: &str) -> JobResult {
        prepare(&self.out, marker, self.resume, self.overwrite)
    }

    /// A file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }
}

/// Makes a job's output folder: new or empty, or one of this job (it holds `marker`) that was asked to go on or to be
/// replaced.
///
/// # Errors
/// A folder that holds anything else.
pub fn prepare(out: &Path, marker: &str, resume: bool, overwrite: bool) -> JobResult {
    let marker = out.join(marker);
    if out.exists() && out.read_dir()?.next().is_some() && !resume {
        if !overwrite || !marker.exists() {
            let hint = if marker.exists() { "--resume, --overwrite or another --out" } else { "another --out" };
            return Err(format!("{} is not empty: choose {hint}", out.display()).into());
        }
        std::fs::remove_dir_all(out)?;
    }
    std::fs::create_dir_all(out)?;
    if !marker.exists() {
        std::fs::write(marker, "{}\n")?;
    }
    Ok(())
}
