//! What is said of general benchmarks before and after post-training.

use adamllm_core::RecordId;
use adamllm_eval::{AnswerType, BootstrapConfig, Outcome, Report, compare};
use adamllm_recipes::Kept;

fn kept(wrong_after: impl Fn(usize) -> bool) -> Kept {
    let outcomes = |wrong: &dyn Fn(usize) -> bool| -> Vec<Outcome> {
        let outcome = |i: usize| Outcome {
            id: RecordId::given(i.to_string()),
            answer_type: AnswerType::Closed,
            cluster: i.to_string(),
            paper: None,
            strict: if wrong(i) { 0.0 } else { 100.0 },
            unparsed: false,
            random: false,
            expected: String::new(),
            strict_read: None,
            paper_read: None,
        };
        (0..100).map(outcome).collect()
    };
    let (before, after) = (outcomes(&|i| i % 10 == 0), outcomes(&wrong_after));
    let report = |outcomes: &[Outcome]| Report::new("general", &[], outcomes, &BootstrapConfig::default());
    let comparison = compare(&before, &after, &BootstrapConfig::default());
    Kept { benchmark: "general".into(), base: report(&before), post_trained: report(&after), comparison }
}

#[test]
fn a_loss_beyond_chance_is_called_one() {
    let worse = kept(|i| i % 2 == 0);
    assert!(worse.is_worse() && worse.sentence("A", "B").starts_with("Forgotten: on general, B is worse than A"));
    assert!(worse.sentence("A", "B").contains("90.0 to 50.0, a difference of -40.0 (-"));
    let same = kept(|i| i % 10 == 1);
    assert!(!same.is_worse() && same.sentence("A", "B").contains("no difference beyond chance: 90.0 to 90.0"));
    assert!(kept(|_| false).sentence("A", "B").contains("B is better than A"));
}
