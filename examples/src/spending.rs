//! What a job may spend on models that cost by the token, as a command line says it.
#![allow(clippy::print_stdout, reason = "a job talks to a person")]

use std::sync::Arc;

use adamllm::core::{Budget, Limits, Spent};
use adamllm::recipes::synthesize::{SynthesisOptions, estimate};
use adamllm::recipes::{RecipeError, SynthesisSettings};
use serde_json::json;

/// Limits, and a look at the cost before anything is asked.
#[derive(clap::Args, Clone, Debug)]
pub struct Spending {
    /// Stops after so many requests to all models together; --resume goes on
    #[arg(long)]
    pub max_requests: Option<u64>,
    /// Stops after so many tokens, of prompts and answers together; the requests under way by then may go over it
    #[arg(long)]
    pub max_tokens: Option<u64>,
    /// Prints how many requests and tokens the run will take at most, and stops
    #[arg(long)]
    pub estimate: bool,
}

impl Spending {
    /// The budget of one run.
    pub fn budget(&self) -> Arc<Budget> {
        Arc::new(Budget::new(Limits { max_requests: self.max_requests, max_tokens: self.max_tokens }))
    }

    /// Tells what a synthesis will cost, where that was asked for, and before it starts where it is not free; with `json`, only where it is all
    /// that was asked for.
    ///
    /// # Errors
    /// As [`estimate()`].
    pub fn tell(
        &self,
        settings: &SynthesisSettings,
        options: &SynthesisOptions,
        (costs, json): (bool, bool),
    ) -> Result<(), RecipeError> {
        let limited = self.max_requests.is_some() || self.max_tokens.is_some();
        if self.estimate || !json && (limited || costs) {
            let estimate = estimate(settings, options)?;
            match json {
                true => println!("{}", json!(estimate)),
                false => print!("{estimate}"),
            }
        }
        Ok(())
    }

    /// Says what was spent, where there are limits.
    pub fn tell_spent(&self, spent: Spent) {
        if self.max_requests.is_some() || self.max_tokens.is_some() {
            println!("spent: {} requests, {} tokens", spent.requests, spent.tokens);
        }
    }
}
