#![allow(clippy::print_stderr, reason = "a job talks to a person")]

use std::sync::atomic::Ordering;
use std::time::Duration;

use adamllm::core::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::STOP;

/// A progress bar on stderr; where stderr is no terminal, a line for each stage. It stops the work once [`STOP`] is set.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    terminal: bool,
    stage: String,
    started: std::time::Instant,
}

impl Default for Bar {
    fn default() -> Self {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        Self { bar, terminal, stage: String::new(), started: std::time::Instant::now() }
    }
}

impl Progress for Bar {
    fn begin(&mut self, stage: &str, total: u64) {
        self.stage = stage.to_owned();
        self.started = std::time::Instant::now();
        let style = ProgressStyle::with_template("{prefix:>20} {wide_bar} {pos}/{len} {eta} {msg}");
        self.bar = ProgressBar::new(total).with_style(style.expect("a valid template")).with_prefix(stage.to_owned());
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    fn advance(&mut self, n: u64) {
        self.bar.inc(n);
    }

    fn note(&mut self, text: &str) {
        self.bar.set_message(text.to_owned());
    }

    fn is_cancelled(&self) -> bool {
        STOP.load(Ordering::Relaxed)
    }

    fn end(&mut self) {
        let n = self.bar.position();
        self.bar.finish_and_clear();
        if !self.terminal {
            let (n, seconds) = (n, self.started.elapsed().as_secs_f64());
            eprintln!("{}: {n} done in {seconds:.1} s {}", self.stage, self.bar.message());
        }
    }
}
