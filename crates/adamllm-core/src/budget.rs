use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::{Completion, Decoding, Generate, Prompt, ScoreRequest, TurnMarkers};

/// Prompts that a [`Budgeted`] model hands on at once: what may be under way when the tokens run out.
const AT_ONCE: usize = 16;

/// Characters of a token, where a server does not count: what English text has on average.
pub const CHARS_PER_TOKEN: usize = 4;

/// What may be spent on models in one process, over all of them: share it by reference. Nothing that was paid for is thrown away: jobs
/// keep what was answered, end, and go on with a new budget.
#[derive(Debug, Default)]
pub struct Budget {
    limits: Limits,
    spent: Mutex<Spent>,
}

/// The most that may be spent; `None` has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Prompts that are sent, those that fail included; tries at one of them are one.
    pub max_requests: Option<u64>,
    /// Tokens of prompts and answers together. It is looked at after each 16 requests, so the last of them may go over it.
    pub max_tokens: Option<u64>,
}

/// What was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Spent {
    /// Prompts that were sent.
    pub requests: u64,
    /// Tokens of prompts and answers, as the models count them; where one does not, a fourth of the texts' characters.
    pub tokens: u64,
    /// Whether something was left unasked because the budget was used up.
    pub exhausted: bool,
}

impl Budget {
    /// A budget with these limits, of which nothing is spent.
    pub fn new(limits: Limits) -> Self {
        Self { limits, spent: Mutex::default() }
    }

    /// What was spent so far.
    pub fn spent(&self) -> Spent {
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes as many of `wanted` requests as are left; none where the tokens are used up.
    fn take(&self, wanted: usize) -> usize {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.limits.max_requests.map_or(u64::MAX, |most| most.saturating_sub(spent.requests));
        let tokens_left = self.limits.max_tokens.is_none_or(|most| spent.tokens < most);
        let taken = if tokens_left { left.min(wanted.min(AT_ONCE) as u64) } else { 0 };
        spent.requests += taken;
        spent.exhausted |= taken == 0 && wanted > 0;
        taken as usize
    }

    fn spend(&self, tokens: usize) {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).tokens += tokens as u64;
    }

    /// Why nothing more is asked, where that is so.
    fn stopped(&self) -> Option<String> {
        let (Spent { requests, tokens, exhausted }, Limits { max_requests, max_tokens }) = (self.spent(), self.limits);
        let of = |limit: Option<u64>| limit.map_or(String::new(), |most| format!(" of {most}"));
        exhausted.then(|| {
            let (requests, tokens) =
                (format!("{requests}{} requests", of(max_requests)), format!("{tokens}{} tokens", of(max_tokens)));
            format!("the budget is used up: {requests}, {tokens}")
        })
    }
}

/// A model that answers as long as a [`Budget`] lasts. Its answers and its identity are the model's own.
#[derive(Debug)]
pub struct Budgeted<'b, G> {
    model: G,
    budget: &'b Budget,
}

/// Why a [`Budgeted`] model gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BudgetError<E: std::error::Error + 'static> {
    /// Nothing more may be spent.
    #[error("not asked: {0}")]
    UsedUp(String),
    /// The model's own failure.
    #[error(transparent)]
    Model(E),
}

impl<'b, G: Generate> Budgeted<'b, G> {
    /// The model within a budget.
    pub fn new(model: G, budget: &'b Budget) -> Self {
        Self { model, budget }
    }

    /// Asks in small parts as long as the budget lasts: one result per item.
    fn ask<I, T>(
        &self,
        items: &[I],
        ask: impl Fn(&[I]) -> Vec<Result<T, G::Error>>,
        tokens: impl Fn(&I, &T) -> usize,
    ) -> Vec<Result<T, BudgetError<G::Error>>> {
        let mut results = Vec::with_capacity(items.len());
        while results.len() < items.len() {
            let rest = &items[results.len()..];
            let taken = self.budget.take(rest.len());
            if taken == 0 {
                break;
            }

            // What answers cost is known only once they are there; therefore the parts are small.
            let answers = ask(&rest[..taken]);
            let used = rest.iter().zip(&answers).map(|(item, answer)| answer.as_ref().map_or(0, |a| tokens(item, a)));
            self.budget.spend(used.sum());
            results.extend(answers.into_iter().map(|answer| answer.map_err(BudgetError::Model)));
        }

        // What was not asked gets a result too: results stay beside their items.
        let cause = self.budget.stopped().unwrap_or_default();
        results.extend((results.len()..items.len()).map(|_| Err(BudgetError::UsedUp(cause.clone()))));
        results
    }
}

impl<G: Generate> Generate for Budgeted<'_, G> {
    type Error = BudgetError<G::Error>;

    fn generate(&self, prompts: &[Prompt], options: &Decoding) -> Vec<Result<Completion, Self::Error>> {
        let tokens = |prompt: &Prompt, answer: &Completion| match answer.n_prompt_tokens + answer.n_new_tokens {
            0 => (prompt.n_chars() + answer.text.chars().count()).div_ceil(CHARS_PER_TOKEN),
            n => n,
        };
        self.ask(prompts, |prompts| self.model.generate(prompts, options), tokens)
    }

    fn score(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<f64>, Self::Error>> {
        let tokens = |request: &ScoreRequest, _: &Vec<f64>| request.prompt.n_chars().div_ceil(CHARS_PER_TOKEN);
        self.ask(requests, |requests| self.model.score(requests), tokens)
    }

    fn identity(&self) -> String {
        self.model.identity()
    }

    fn turn_markers(&self) -> Option<TurnMarkers> {
        self.model.turn_markers()
    }

    fn stopped(&self) -> Option<String> {
        self.budget.stopped().or_else(|| self.model.stopped())
    }

    fn answers_later(&self) -> bool {
        self.model.answers_later()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts what it is asked; fails on prompts that say so.
    struct Counter(Mutex<usize>);

    impl Generate for Counter {
        type Error = std::fmt::Error;

        fn generate(&self, prompts: &[Prompt], _: &Decoding) -> Vec<Result<Completion, std::fmt::Error>> {
            *self.0.lock().expect("unpoisoned") += prompts.len();
            let answer = |prompt: &Prompt| match prompt {
                Prompt::Text(text) if text == "fail" => Err(std::fmt::Error),
                _ => Ok(Completion { n_prompt_tokens: 7, n_new_tokens: 3, ..Completion::new("x") }),
            };
            prompts.iter().map(answer).collect()
        }

        fn score(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<f64>, std::fmt::Error>> {
            requests.iter().map(|_| Ok(vec![0.0])).collect()
        }

        fn identity(&self) -> String {
            "counter".into()
        }
    }

    fn prompts(n: usize) -> Vec<Prompt> {
        (0..n).map(|i| Prompt::Text(if i == 1 { "fail".into() } else { "12345678".into() })).collect()
    }

    #[test]
    fn requests_are_counted_failures_too_and_no_more_are_sent() {
        let (counter, budget) =
            (Counter(Mutex::default()), Budget::new(Limits { max_requests: Some(20), max_tokens: None }));
        let model = Budgeted::new(&counter, &budget);
        assert_eq!(model.identity(), "counter");
        let answers = model.generate(&prompts(18), &Decoding::greedy(1));
        assert!(answers.iter().enumerate().all(|(i, answer)| answer.is_err() == (i == 1)));
        assert_eq!(model.stopped(), None, "nothing was left unasked");
        let answers = model.generate(&prompts(5), &Decoding::greedy(1));
        let asked: Vec<_> = answers.iter().map(|a| !matches!(a, Err(BudgetError::UsedUp(_)))).collect();
        assert_eq!(asked, [true, true, false, false, false]);
        assert_eq!(*counter.0.lock().expect("unpoisoned"), 20);
        assert_eq!(budget.spent(), Spent { requests: 20, tokens: 18 * 10, exhausted: true });
        assert_eq!(model.stopped().as_deref(), Some("the budget is used up: 20 of 20 requests, 180 tokens"));
    }

    #[test]
    fn tokens_are_looked_at_after_each_part() {
        let (counter, budget) =
            (Counter(Mutex::default()), Budget::new(Limits { max_requests: None, max_tokens: Some(155) }));
        let answers = Budgeted::new(&counter, &budget).generate(&prompts(100), &Decoding::greedy(1));
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 31, "15, then 16 of which the last go over");
        assert_eq!(budget.spent().tokens, 310);
        let other = Budgeted::new(&counter, &budget);
        assert!(other.generate(&prompts(1), &Decoding::greedy(1))[0].is_err(), "one budget over all models");
    }

    #[test]
    fn what_no_model_counts_is_estimated_from_the_texts() {
        let budget = Budget::default();
        let counter = Counter(Mutex::default());
        let request = ScoreRequest { prompt: Prompt::Text("12345678".into()), continuations: vec!["x".into()] };
        assert!(Budgeted::new(&counter, &budget).score(&[request])[0].is_ok());
        assert_eq!(budget.spent(), Spent { requests: 1, tokens: 2, exhausted: false });
    }
}
