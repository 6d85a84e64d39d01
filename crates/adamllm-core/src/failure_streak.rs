use crate::CoreError;

/// Counts a model's consecutive failures, so that a job whose model is gone ends soon, instead of writing every record that is left to the
/// ledger.
///
/// ```
/// use adamllm_core::FailureStreak;
///
/// let mut failures = FailureStreak::default();
/// failures.observe([Some("out of memory".to_owned()), None])?;
/// assert!(failures.observe(vec![Some("connection refused".to_owned()); 32]).is_err());
/// # Ok::<(), adamllm_core::CoreError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FailureStreak {
    limit: usize,
    n: usize,
}

impl Default for FailureStreak {
    /// A limit of 32.
    fn default() -> Self {
        Self::new(32)
    }
}

impl FailureStreak {
    /// The default for a model; of one that [answers later](crate::Generate::answers_later), no number of failures ends a job.
    pub fn of<G: crate::Generate>(model: &G) -> Self {
        if model.answers_later() { Self::new(usize::MAX) } else { Self::default() }
    }

    /// Ends a job after `limit` consecutive failures.
    pub fn new(limit: usize) -> Self {
        Self { limit, n: 0 }
    }

    /// Notes how the prompts of a batch ended, in order: with the model's error, or without. Leave out what failed by a record's own
    /// fault (an image that is broken): it says nothing about the model.
    ///
    /// # Errors
    /// [`CoreError::ModelFails`] where no prompt of the batch was answered, and the failures up to its last one reach the limit.
    pub fn observe(&mut self, failures: impl IntoIterator<Item = Option<String>>) -> Result<(), CoreError> {
        let (mut answered, mut last) = (false, None);
        for failure in failures {
            match failure {
                Some(_) => self.n += 1,
                None => (self.n, answered) = (0, true),
            }
            last = failure;
        }
        match last {
            Some(detail) if !answered && self.n >= self.limit => Err(CoreError::ModelFails { n: self.n, detail }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_starts_the_count_anew() {
        let failed = || Some("no".to_owned());
        let mut failures = FailureStreak::new(4);
        for _ in 0..10 {
            failures.observe([failed(), failed(), None, failed()]).expect("it answers now and then");
        }
        failures.observe([failed(), failed()]).expect("three of four");
        let error = failures.observe([failed(), failed()]).expect_err("five");
        assert!(matches!(error, CoreError::ModelFails { n: 5, .. }), "{error}");
        // A large batch with an answer in it is no dead model's.
        let mut failures = FailureStreak::new(4);
        failures.observe([None, failed(), failed(), failed(), failed(), failed()]).expect("one was answered");
        failures.observe([]).expect("nothing was asked");
        assert!(failures.observe([failed()]).is_err());
    }
}
