//! The most memory of an NVIDIA device that is in use, as its own tool tells; nothing where there is no such tool.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Looks five times a second until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    tool: Option<Child>,
    peak: Arc<AtomicU64>,
}

impl Watch {
    pub(super) fn start() -> Self {
        let peak = Arc::new(AtomicU64::new(0));
        let mut command = Command::new("nvidia-smi");
        command.args(["--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0", "-lms", "200"]);
        let mut tool = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok();
        if let Some(lines) = tool.as_mut().and_then(|tool| tool.stdout.take()) {
            let peak = peak.clone();
            // Ends with the tool, whose output then ends.
            std::thread::spawn(move || {
                for line in BufReader::new(lines).lines().map_while(Result::ok) {
                    peak.fetch_max(line.trim().parse().unwrap_or(0), Ordering::Relaxed);
                }
            });
        }
        Self { tool, peak }
    }

    /// MiB of the whole device, other processes included.
    pub(super) fn peak_mib(&self) -> Option<u64> {
        Some(self.peak.load(Ordering::Relaxed)).filter(|&peak| peak > 0)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(tool) = &mut self.tool {
            // A tool that has ended already is as good.
            let _ = tool.kill();
            let _ = tool.wait();
        }
    }
}
