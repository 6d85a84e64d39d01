//! A language model as the judge of open answers: a column of its own beside the two scorings, never a part of them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use adamllm_core::jsonl::{self, Journal};
use adamllm_core::{
    Completion, CoreError, Decoding, FailureStreak, Generate, Ledger, Message, Progress, Prompt, Reason, RecordId,
    Stage, TextTemplate, answer_key,
};
use serde::{Deserialize, Serialize};

use crate::metrics::without_reasoning;
use crate::statistics::{Bootstrap, Clusters};
use crate::{AnswerType, Benchmark, Estimate, EvalError, Outcome, Prediction, Scored, files};

mod agreement;
mod verdict;

pub use agreement::Agreement;
pub use verdict::read_verdict;

/// Our own prompt, with the placeholders `{question}`, `{expected}` and `{answer}`.
pub const JUDGE_PROMPT: &str = include_str!("judge/prompt.txt");

/// How a judge sees its prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JudgeForm {
    /// As a user's turn, for models that were tuned to instructions.
    #[default]
    Chat,
    /// As plain text that it continues, for base models with worked examples in the prompt.
    Text,
}

/// How a judge is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JudgeConfig {
    /// The prompt with the placeholders `{question}`, `{expected}` and `{answer}`.
    pub prompt: String,
    /// As a turn or as plain text.
    pub form: JudgeForm,
    /// How its verdict is decoded. In a chat it may reason first; a base model goes on for ever, so that [`JudgeConfig::of`] ends its line early.
    pub decoding: Decoding,
    /// Verdicts asked for, and synced to disk, at once.
    pub batch_size: usize,
}

impl Default for JudgeConfig {
    fn default() -> Self {
        Self::of(JudgeForm::default())
    }
}

impl JudgeConfig {
    /// The defaults for a form: 512 tokens in a chat, 8 tokens of one line of plain text.
    pub fn of(form: JudgeForm) -> Self {
        let decoding = match form {
            JudgeForm::Chat => Decoding::greedy(512),
            JudgeForm::Text => Decoding { stop: vec!["\n".into()], ..Decoding::greedy(8) },
        };
        Self { prompt: JUDGE_PROMPT.into(), form, decoding, batch_size: 32 }
    }

    /// Checks the prompt's placeholders.
    ///
    /// # Errors
    /// [`EvalError::Placeholder`].
    pub fn check(&self) -> Result<(), EvalError> {
        self.template().map(drop)
    }

    fn template(&self) -> Result<TextTemplate<3>, EvalError> {
        let template = TextTemplate::parse(&self.prompt, ["{question}", "{expected}", "{answer}"]);
        template.map_err(|placeholder| EvalError::Placeholder { placeholder })
    }
}

/// A model that says of an answer whether it is right.
#[derive(Debug)]
pub struct AnswerJudge<G> {
    model: G,
    config: JudgeConfig,
}

/// What a judge said of one answer: a line of `judged.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JudgedAnswer {
    /// The example.
    pub id: RecordId,
    /// Whether the answer is right; `null` where the text could not be read.
    pub right: Option<bool>,
    /// What the judge wrote.
    pub text: String,
}

/// What a judge made of a benchmark's open answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JudgeReport {
    /// The judge's identity, as in the cache keys.
    pub judge: String,
    /// A hash of its prompt, placeholders unfilled.
    pub prompt: String,
    /// Open questions with an answer.
    pub n: usize,
    /// Answers with a verdict that could be read.
    pub n_judged: usize,
    /// Verdicts that could not be read; they are in the ledger and in no score.
    pub n_unreadable: usize,
    /// Answers on which the judge failed; they are in the ledger and in no score.
    pub n_failed: usize,
    /// The share of the judged answers that are right, 0 to 100; `None` where none was judged.
    pub score: Option<Estimate>,
    /// Agreement with each lexical scoring, `paper` and `strict`.
    pub agreement: BTreeMap<String, Agreement>,
}

impl<G: Generate> AnswerJudge<G> {
    /// A judge with our prompt.
    pub fn new(model: G) -> Self {
        Self { model, config: JudgeConfig::default() }
    }

    /// A judge with settings of its own.
    ///
    /// # Errors
    /// [`EvalError::Placeholder`] where a placeholder is missing from the prompt.
    pub fn with_config(model: G, config: JudgeConfig) -> Result<Self, EvalError> {
        config.check()?;
        Ok(Self { model, config })
    }

    /// The model that is asked.
    pub fn model(&self) -> &G {
        &self.model
    }

    fn prompt(&self, template: &TextTemplate<3>, open: &OpenAnswer<'_>) -> Prompt {
        let text = template.fill([&open.question, &open.outcome.expected, without_reasoning(open.answer).trim()]);
        match self.config.form {
            JudgeForm::Chat => Prompt::chat(vec![Message::user(text)], Vec::new()),
            JudgeForm::Text => Prompt::Text(text),
        }
    }

    /// Judges the open answers of one benchmark, and leaves `judged.jsonl`, and the verdicts that could not be had in `judge-ledger.jsonl`,
    /// beside the predictions in `folder`. Verdicts are appended and synced batch by batch to `judge-journal.jsonl`: a run that was
    /// killed goes on from there, and only answers, prompts or judges that changed are asked about again. `scored` and `predictions` are
    /// the benchmark's.
    ///
    /// # Errors
    /// The folder's files; a benchmark that fails as a whole.
    pub fn judge(
        &self,
        benchmark: &dyn Benchmark,
        scored: &Scored,
        predictions: &[Prediction],
        folder: &Path,
        progress: &mut dyn Progress,
    ) -> Result<JudgeReport, EvalError> {
        let answers = open_answers(benchmark, &scored.outcomes, predictions)?;
        std::fs::create_dir_all(folder).map_err(CoreError::io("create", folder))?;

        let mut journal = Journal::<Completion>::open(folder.join(files::JUDGE_JOURNAL))?;
        let mut ledger = Ledger::create(folder.join(files::JUDGE_LEDGER))?;
        let (mut judged, mut failures) = (Vec::new(), FailureStreak::of(&self.model));
        progress.begin(&format!("judge {}", benchmark.name()), answers.len() as u64);

        for batch in answers.chunks(self.config.batch_size.max(1)) {
            progress.check_cancelled()?;
            judged.extend(self.judge_batch(batch, &mut journal, &mut ledger, &mut failures)?);
            progress.advance(batch.len() as u64);
        }

        progress.end();
        ledger.sync()?;
        jsonl::write(folder.join(files::JUDGED), &judged)?;
        Ok(self.report(&answers, &judged, &scored.report.resampling))
    }

    fn judge_batch(
        &self,
        batch: &[OpenAnswer<'_>],
        journal: &mut Journal<Completion>,
        ledger: &mut Ledger,
        failures: &mut FailureStreak,
    ) -> Result<Vec<JudgedAnswer>, EvalError> {
        let (identity, decoding) = (self.model.identity(), &self.config.decoding);
        let template = self.config.template()?;
        let prompts: Vec<Prompt> = batch.iter().map(|open| self.prompt(&template, open)).collect();
        let keys: Vec<_> =
            prompts.iter().map(|prompt| answer_key("judge-answer", &identity, decoding, prompt, &[])).collect();
        let said = journal.complete(&keys, &prompts, |missing| self.model.generate(missing, decoding))?;

        failures.observe(said.iter().map(|said| said.as_ref().err().map(ToString::to_string)))?;
        let mut judged = Vec::new();
        for (OpenAnswer { outcome, .. }, said) in batch.iter().zip(said) {
            let id = &outcome.id;
            match said {
                Ok(Completion { text, .. }) => {
                    let right = read_verdict(&text);
                    if right.is_none() {
                        let start: String = text.chars().take(300).collect();
                        let detail = format!("expected a verdict, correct or incorrect, got {start:?}");
                        ledger.drop_record(id, Stage::Judge, Reason::UnclearVerdict, detail)?;
                    }
                    judged.push(JudgedAnswer { id: id.clone(), right, text });
                }
                Err(error) => ledger.drop_record(id, Stage::Judge, Reason::ModelError, error)?,
            }
        }
        Ok(judged)
    }

    fn report(
        &self,
        answers: &[OpenAnswer<'_>],
        judged: &[JudgedAnswer],
        resampling: &crate::BootstrapConfig,
    ) -> JudgeReport {
        let verdicts: HashMap<&RecordId, bool> =
            judged.iter().filter_map(|judged| Some((&judged.id, judged.right?))).collect();
        let of = |open: &OpenAnswer<'_>| verdicts.get(&open.outcome.id).copied();

        // Answers without a verdict are in no cluster's sum; they are counted below.
        let clusters = Clusters::new(answers.iter().map(|open| open.outcome.cluster.as_str()));
        let scores = answers.iter().map(|open| of(open).map(|right| if right { 100.0 } else { 0.0 }));
        let score = Bootstrap::draw(&[clusters.sums(scores)], resampling).pop().flatten();

        // Scores may be parts of 100; the judge says right or wrong, which is compared with full marks.
        let agreement = |score: fn(&Outcome) -> Option<f64>| {
            let pair = |open: &OpenAnswer<'_>| Some((of(open)?, score(open.outcome)? >= 100.0));
            Agreement::of(&answers.iter().filter_map(pair).collect::<Vec<_>>())
        };
        let agreement =
            [("paper", agreement(|outcome| outcome.paper)), ("strict", agreement(|outcome| Some(outcome.strict)))];

        JudgeReport {
            judge: self.model.identity(),
            prompt: RecordId::of("judge-prompt", [self.config.prompt.as_str()]).to_string(),
            n: answers.len(),
            n_judged: verdicts.len(),
            n_unreadable: judged.len() - verdicts.len(),
            n_failed: answers.len() - judged.len(),
            score,
            agreement: agreement.into_iter().filter_map(|(name, of)| Some((name.to_owned(), of?))).collect(),
        }
    }
}

impl JudgeReport {
    /// What the judge found, in a sentence.
    pub fn sentence(&self) -> String {
        let Self { n, n_judged, n_unreadable, n_failed, .. } = self;
        let score = self.score.map_or_else(|| "no score".into(), |score| format!("{:.1} right", score.mean));
        let agreement = self.agreement.iter().map(|(name, with)| {
            let kappa = with.kappa.map_or_else(|| "not defined".into(), |kappa| format!("{kappa:.2}"));
            format!("; agrees with {name} on {:.1} % (kappa {kappa})", with.percent)
        });
        format!(
            "judge, of {n} open answers: {n_judged} judged, {n_unreadable} verdicts unreadable, {n_failed} failed; {score}{}",
            agreement.collect::<String>()
        )
    }
}

/// An open question with an answer.
struct OpenAnswer<'a> {
    question: String,
    answer: &'a str,
    outcome: &'a Outcome,
}

/// The open questions that were answered, in the benchmark's order.
fn open_answers<'a>(
    benchmark: &dyn Benchmark,
    outcomes: &'a [Outcome],
    predictions: &'a [Prediction],
) -> Result<Vec<OpenAnswer<'a>>, EvalError> {
    let mut said: HashMap<&RecordId, &str> = HashMap::new();
    for prediction in predictions {
        said.entry(&prediction.id).or_insert(&prediction.answer);
    }

    let open = |outcome: &&Outcome| outcome.answer_type == AnswerType::Open;
    let mut outcomes: HashMap<&RecordId, &Outcome> = outcomes.iter().filter(open).map(|o| (&o.id, o)).collect();
    let mut answers = Vec::new();

    for index in 0..benchmark.len() {
        let example = match benchmark.example(index) {
            Ok(example) => example,
            Err(error) if error.is_example_error() => continue,
            Err(error) => return Err(error),
        };

        // Taken out, so that a second example with the same id is not judged again.
        if let Some(outcome) = outcomes.remove(&example.id)
            && let Some(answer) = said.get(&example.id)
        {
            answers.push(OpenAnswer { question: example.question, answer, outcome });
        }
    }

    Ok(answers)
}
