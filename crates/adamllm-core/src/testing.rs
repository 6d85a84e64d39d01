//! Fakes for the tests of crates that use a model. Behind the feature `testing`.

use crate::{Completion, Decoding, Finish, Generate, Progress, Prompt, ScoreRequest, TurnMarkers};

/// A progress that asks the work to stop once so many units of all stages are done.
#[derive(Clone, Copy, Debug)]
pub struct CancelledAfter(pub u64);

impl Progress for CancelledAfter {
    fn advance(&mut self, n: u64) {
        self.0 = self.0.saturating_sub(n);
    }
    fn is_cancelled(&self) -> bool {
        self.0 == 0
    }
}

/// A model whose answers are a function of the prompt.
pub struct ScriptedModel {
    answer: Answer,
    score: Score,
    markers: Option<TurnMarkers>,
}

type Answer = Box<dyn Fn(&Prompt) -> Result<String, ScriptedError> + Send + Sync>;
type Score = Box<dyn Fn(&Prompt, &str) -> f64 + Send + Sync>;

impl std::fmt::Debug for ScriptedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptedModel").finish_non_exhaustive()
    }
}

/// A scripted failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("scripted failure: {0}")]
pub struct ScriptedError(pub String);

impl ScriptedModel {
    /// Answers with `answer(prompt)`; every continuation scores 0.
    pub fn new(answer: impl Fn(&Prompt) -> Result<String, ScriptedError> + Send + Sync + 'static) -> Self {
        Self { answer: Box::new(answer), score: Box::new(|_, _| 0.0), markers: None }
    }

    /// Scores continuations with `score(prompt, continuation)`.
    pub fn with_score(mut self, score: impl Fn(&Prompt, &str) -> f64 + Send + Sync + 'static) -> Self {
        self.score = Box::new(score);
        self
    }

    /// Claims a template's turn markers.
    pub fn with_turn_markers(mut self, markers: TurnMarkers) -> Self {
        self.markers = Some(markers);
        self
    }
}

impl Generate for ScriptedModel {
    type Error = ScriptedError;

    fn generate(&self, prompts: &[Prompt], _options: &Decoding) -> Vec<Result<Completion, ScriptedError>> {
        let complete = |text: String| {
            let n_new_tokens = text.split_whitespace().count();
            Completion { text, tokens: Vec::new(), finish: Finish::Stop, n_prompt_tokens: 0, n_new_tokens }
        };
        prompts.iter().map(|prompt| (self.answer)(prompt).map(complete)).collect()
    }

    fn score(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<f64>, ScriptedError>> {
        requests.iter().map(|r| Ok(r.continuations.iter().map(|c| (self.score)(&r.prompt, c)).collect())).collect()
    }

    fn identity(&self) -> String {
        "scripted".into()
    }

    fn turn_markers(&self) -> Option<TurnMarkers> {
        self.markers.clone()
    }
}
