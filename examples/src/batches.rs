//! Models that are asked through files.
#![allow(clippy::print_stderr, reason = "a job talks to a person")]

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use adamllm::core::boxed;
use adamllm::prelude::*;
use adamllm::remote::{BatchModel, BatchReport};

use crate::cli::{Answer, JobResult};
use crate::models::{self, ModelArguments, OpenedModel};

/// The models of a job that have neither a folder nor a server, each with a folder for its requests and results.
#[derive(Debug, Default)]
pub struct Batches(RefCell<Vec<Arc<BatchModel>>>);

impl Batches {
    /// [`models::check`], also for `batch:NAME`.
    ///
    /// # Errors
    /// As [`models::check`].
    pub fn check(name: &str) -> JobResult {
        if models::batch_name(name).is_some() { Ok(()) } else { models::check(name) }
    }

    /// [`models::open`], also for `batch:NAME`, whose files are in `folder`.
    ///
    /// # Errors
    /// As [`models::open`].
    pub fn open(
        &self,
        name: &str,
        folder: &Path,
        arguments: &ModelArguments,
        images: Arc<dyn ImageStore>,
    ) -> Answer<OpenedModel> {
        match models::open_batch(name, folder, arguments, images.clone())? {
            Some(model) => {
                self.0.borrow_mut().push(model.clone());
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
        let (mut waiting, mut notes) = (Vec::new(), Vec::new());
        for model in self.0.borrow().iter() {
            let report = model.finish()?;
            let BatchReport { failed, unknown, missing, duplicate, unreadable, .. } = report;
            let place = report.requests.display();
            if failed + unknown + missing + duplicate + unreadable > 0 {
                notes.push(format!(
                    "{place}: {failed} failed, {missing} missing, {unknown} unknown, {duplicate} doubled, {unreadable} unreadable (by name in \
                     batch-ledger.jsonl beside it)"
                ));
            }
            if report.waiting > 0 {
                waiting.push(format!("{} requests in {place}", report.waiting));
            }
        }
        if waiting.is_empty() {
            notes.iter().for_each(|note| eprintln!("note: {note}"));
            return Ok(());
        }
        let list = waiting.join(", ");
        let waiting =
            format!("waiting for answers to {list}: put them beside as results.jsonl, and run again with --resume");
        Err(std::iter::once(waiting).chain(notes).collect::<Vec<_>>().join("; ").into())
    }
}
