//! A benchmark of one's own: questions that code makes, and answers that were made elsewhere.

use adamllm_core::{Decoding, RecordId};
use adamllm_eval::{Benchmark, EvalError, Example, Expected, Prediction, report_table, score_all};

/// Which of two sums is larger?
struct Sums(Vec<[u32; 4]>);

impl Benchmark for Sums {
    fn name(&self) -> &str {
        "sums"
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn example(&self, index: usize) -> Result<Example, EvalError> {
        let [a, b, c, d] = self.0[index];
        let question = format!("Is {a} + {b} larger than {c} + {d}? Answer yes or no.");
        let expected = Expected::Closed(if a + b > c + d { "yes" } else { "no" }.into());
        Ok(Example::new(RecordId::given(index.to_string()), Vec::new(), question, expected))
    }

    fn decoding(&self) -> Decoding {
        Decoding::greedy(8)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let benchmark = Sums((0..40).map(|i| [i, 7, 3 * i % 11, i % 5 + 9]).collect());
    // Always yes: right where the first sum is larger. With a model, `adamllm_eval::evaluate` asks these questions.
    let answers: Vec<_> =
        (0..benchmark.len()).map(|i| Prediction::new(RecordId::given(i.to_string()), "Yes, it is.")).collect();
    let scored = score_all(&benchmark, &answers)?;
    println!("{}", report_table(&[("always yes", &scored.report)]));
    assert_eq!(scored.report.overall.n, 40);
    Ok(())
}
