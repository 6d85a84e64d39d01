//! Models that are asked through files.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::Path;
use std::sync::Arc;

use adamllm::core::boxed;
use adamllm::prelude::*;
use adamllm::remote::BatchModel;

use crate::cli::{Answer, JobResult};
use crate::models::{self, ModelArguments, OpenedModel};

/// The models of a job that have neither a folder nor a server, each with a folder for its requests and results.
#[derive(Debug, Default)]
pub struct Batches(Vec<Arc<BatchModel>>);

impl Batches {
    /// [`models::open`], also for `batch:NAME`, whose files are in `folder`.
    ///
    /// # Errors
    /// As [`models::open`].
    pub fn open(
        &mut self,
        name: &str,
        folder: &Path,
        arguments: &ModelArguments,
        images: Arc<dyn ImageStore>,
    ) -> Answer<OpenedModel> {
        match models::open_batch(name, folder, arguments, images.clone())? {
            Some(model) => {
                self.0.push(model.clone());
                Ok(OpenedModel { model: boxed(model), generation_defaults: None })
            }
            None => models::open(name, arguments, images),
        }
    }

    /// Puts the requests in place, and says which files wait for answers.
    ///
    /// # Errors
    /// Files; requests that wait.
    pub fn finish(&self) -> JobResult {
        let mut waiting = Vec::new();
        for model in &self.0 {
            let report = model.finish()?;
            let wrong = report.failed + report.unknown + report.missing + report.duplicate + report.unreadable;
            if wrong > 0 {
                eprintln!(
                    "{}: {} failed, {} missing, {} unknown, {} doubled, {} unreadable; by name in batch-ledger.jsonl beside it",
                    report.requests.display(),
                    report.failed,
                    report.missing,
                    report.unknown,
                    report.duplicate,
                    report.unreadable
                );
            }
            if report.waiting > 0 {
                waiting.push(format!("{} requests in {}", report.waiting, report.requests.display()));
            }
        }
        match waiting.is_empty() {
            true => Ok(()),
            false => {
                let list = waiting.join(", ");
                Err(format!(
                    "waiting for answers to {list}: put them beside as results.jsonl, and run again with --resume"
                )
                .into())
            }
        }
    }
}
