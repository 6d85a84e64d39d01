use adamllm::core::LostRecords;

use crate::cli::JobResult;

/// How many records a job may lose to faults before its exit code says so.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct MaxLost {
    /// Exit code 4 (after everything was written) where more than this share of the records was lost to faults: `10%` or `0.1`
    #[arg(long, default_value = "10%", value_parser = share)]
    pub max_lost: f64,
}

/// A share of a whole, `10%` or `0.1`.
fn share(text: &str) -> Result<f64, String> {
    let (number, divisor) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let share = number.trim().parse::<f64>().map(|number| number / divisor).ok();
    share.filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| format!("expected 10% or 0.1, got {text}"))
}

/// A job wrote everything, and lost more records than it was allowed to: exit code 4.
#[derive(Debug)]
pub struct TooManyLost(String);

impl std::fmt::Display for TooManyLost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TooManyLost {}

/// What a job that has written everything ends with: an error (exit code 1) where nothing is left of its records, another
/// (exit code 4) where more than the share `most` was lost.
///
/// # Errors
/// Both say the causes by count, and name the ledger.
pub fn check_losses(losses: &LostRecords, left: u64, most: f64, ledger: &str) -> JobResult {
    if left == 0 && losses.n_lost() > 0 {
        return Err(format!("no record is left; {losses}{}", named(ledger)).into());
    }
    if left == 0 {
        return Err(format!(
            "no record is left; none was lost to a fault: there was none that could be used{}",
            named(ledger)
        )
        .into());
    }
    if losses.exceed(most) {
        let limit = format!("more than --max-lost {}%", most * 100.0);
        return Err(Box::new(TooManyLost(format!("{losses}; {limit}{}", named(ledger)))));
    }
    Ok(())
}

fn named(ledger: &str) -> String {
    if ledger.is_empty() { String::new() } else { format!(" (all of them: {ledger})") }
}
