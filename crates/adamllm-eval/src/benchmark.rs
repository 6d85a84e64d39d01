use adamllm_core::{Decoding, ImageStore};

use crate::{AnswerType, BootstrapConfig, EvalError, Example, Outcome, Report};

/// Questions with right answers. Object-safe; scoring is pure.
///
/// Most benchmarks need no code: [`DescribedBenchmark`](crate::DescribedBenchmark) makes one of a description and a file
/// of examples. Implement the trait where examples come from elsewhere or are scored differently.
///
/// ```
/// use adamllm_core::{Decoding, RecordId};
/// use adamllm_eval::{Benchmark, EvalError, Example, Expected, Prediction, score};
///
/// /// Is a number even?
/// struct Parity(u64);
///
/// impl Benchmark for Parity {
///     fn name(&self) -> &str {
///         "parity"
///     }
///
///     fn len(&self) -> usize {
///         self.0 as usize
///     }
///
///     fn example(&self, index: usize) -> Result<Example, EvalError> {
///         let expected = Expected::Closed(if index % 2 == 0 { "yes" } else { "no" }.into());
///         Ok(Example::new(RecordId::given(index.to_string()), Vec::new(), format!("Is {index} even?"), expected))
///     }
///
///     fn decoding(&self) -> Decoding {
///         Decoding::greedy(8)
///     }
/// }
///
/// let report = score(&Parity(4), &[Prediction::new(RecordId::given("2"), "Yes.")])?;
/// assert_eq!(report.overall.strict.map(|score| score.mean), Some(100.0));
/// # Ok::<(), EvalError>(())
/// ```
pub trait Benchmark {
    /// The name in reports and tables.
    fn name(&self) -> &str;

    /// The number of examples.
    fn len(&self) -> usize;

    /// Whether there is no example.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads one example, `index` from 0.
    ///
    /// # Errors
    /// [`EvalError`]; one for which [`EvalError::is_example_error`] holds costs this example only.
    fn example(&self, index: usize) -> Result<Example, EvalError>;

    /// Whether a model can be asked at all: asked once, before the first question.
    ///
    /// # Errors
    /// [`EvalError::NoImages`] where questions need images and no record has one.
    fn check(&self) -> Result<(), EvalError> {
        Ok(())
    }

    /// [`Benchmark::example`] for a model that is to be asked: one that lacks what the question needs is an error. (Answers that
    /// are there already are scored without it.)
    ///
    /// # Errors
    /// As [`Benchmark::example`], and [`EvalError::NoImage`].
    fn question(&self, index: usize) -> Result<Example, EvalError> {
        self.example(index)
    }

    /// How answers are to be decoded.
    fn decoding(&self) -> Decoding;

    /// Where the examples' images are, for cache keys and for the report's images. `None` where only the model knows.
    fn images(&self) -> Option<&dyn ImageStore> {
        None
    }

    /// The answer types that a report always shows, those without an example too.
    fn answer_types(&self) -> Vec<AnswerType> {
        Vec::new()
    }

    /// Scores one answer, both ways.
    fn score(&self, example: &Example, answer: &str) -> Outcome {
        example.outcome(crate::score_answer(&example.expected, example.guess_seed, answer))
    }

    /// Sums outcomes up.
    fn summarize(&self, outcomes: &[Outcome]) -> Report {
        Report::new(self.name(), &self.answer_types(), outcomes, &BootstrapConfig::default())
    }
}

/// What a benchmark over another one (fields `benchmark` and `name`) takes over from it: everything but its examples and images. A
/// report bears the name of its own.
macro_rules! forward_benchmark {
    () => {
        fn name(&self) -> &str {
            &self.name
        }

        fn check(&self) -> Result<(), crate::EvalError> {
            self.benchmark.check()
        }

        fn decoding(&self) -> adamllm_core::Decoding {
            self.benchmark.decoding()
        }

        fn answer_types(&self) -> Vec<crate::AnswerType> {
            self.benchmark.answer_types()
        }

        fn score(&self, example: &crate::Example, answer: &str) -> crate::Outcome {
            self.benchmark.score(example, answer)
        }

        fn summarize(&self, outcomes: &[crate::Outcome]) -> crate::Report {
            crate::Report { benchmark: self.name.clone(), ..self.benchmark.summarize(outcomes) }
        }
    };
}

pub(crate) use forward_benchmark;
