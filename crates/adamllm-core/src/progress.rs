use std::sync::atomic::{AtomicBool, Ordering};

use crate::CoreError;

/// Hears how far long work has come, and says when it is to stop. Every method does nothing by default, and `()` listens to nothing.
pub trait Progress {
    /// A stage begins; `total` units of work are ahead (0 where unknown).
    fn begin(&mut self, _stage: &str, _total: u64) {}
    /// `n` more units are done.
    fn advance(&mut self, _n: u64) {}
    /// A short text beside the bar, such as the current loss.
    fn note(&mut self, _text: &str) {}
    /// The stage is over.
    fn end(&mut self) {}
    /// Whether the work is to stop: asked between two units of work (a batch of prompts, a part of a download, a training step). What
    /// was finished by then is kept, so that the work can be taken up again.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// Ends the work where it is to stop.
    ///
    /// # Errors
    /// [`CoreError::Cancelled`].
    fn check_cancelled(&self) -> Result<(), CoreError> {
        if self.is_cancelled() { Err(CoreError::Cancelled) } else { Ok(()) }
    }
}

impl Progress for () {}

impl<P: Progress + ?Sized> Progress for &mut P {
    fn begin(&mut self, stage: &str, total: u64) {
        (**self).begin(stage, total);
    }
    fn advance(&mut self, n: u64) {
        (**self).advance(n);
    }
    fn note(&mut self, text: &str) {
        (**self).note(text);
    }
    fn end(&mut self) {
        (**self).end();
    }
    fn is_cancelled(&self) -> bool {
        (**self).is_cancelled()
    }
}

/// A progress with a flag that stops the work: for a signal's handler, a button, another thread.
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// use adamllm_core::{Cancellable, CoreError, Progress};
///
/// let stop = AtomicBool::new(false);
/// let progress = Cancellable::new((), &stop);
/// assert!(progress.check_cancelled().is_ok());
/// stop.store(true, Ordering::Relaxed);
/// assert!(matches!(progress.check_cancelled(), Err(CoreError::Cancelled)));
/// ```
#[derive(Debug)]
pub struct Cancellable<'a, P> {
    progress: P,
    stop: &'a AtomicBool,
}

impl<'a, P: Progress> Cancellable<'a, P> {
    /// The progress `progress`, which stops the work once `stop` is true.
    pub fn new(progress: P, stop: &'a AtomicBool) -> Self {
        Self { progress, stop }
    }
}

impl<P: Progress> Progress for Cancellable<'_, P> {
    fn begin(&mut self, stage: &str, total: u64) {
        self.progress.begin(stage, total);
    }
    fn advance(&mut self, n: u64) {
        self.progress.advance(n);
    }
    fn note(&mut self, text: &str) {
        self.progress.note(text);
    }
    fn end(&mut self) {
        self.progress.end();
    }
    fn is_cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.progress.is_cancelled()
    }
}
