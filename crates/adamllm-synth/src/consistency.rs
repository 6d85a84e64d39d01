use adamllm_core::{Decoding, Generate, Prompt, ScoreRequest, TurnMarkers};
use serde::{Deserialize, Serialize};

use crate::model_outputs::model_outputs;
use crate::synthesizer::refuse_special_tokens;
use crate::{Judged, PromptTemplate, SynthError, TaskTriplet, Verdict};

/// Our few-shot prompt: six worked examples, then the triplet in question.
pub const CONSISTENCY_PROMPT: &str = include_str!("prompts/consistency.txt");

/// What the judge may answer, each as it follows the prompt: yes, no, open.
pub const ANSWERS: [&str; 3] = [" Yes", " No", " Open"];

/// How the judge is read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum JudgeMode {
    /// It writes two tokens, as in the paper.
    Generated,
    /// The probabilities of its three answers are compared.
    Scored {
        /// [`Verdict::Consistent`] needs at least this probability of yes, 0 to 1.
        threshold: f64,
    },
}

/// How the judge is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilterConfig {
    /// How the judge is read.
    pub mode: JudgeMode,
    /// How its answer is decoded where it writes. The paper: greedy, 2 new tokens, a context of 8192.
    pub decoding: Decoding,
    /// The prompt with the placeholders `{Q}`, `{informative_A}` and `{precise_A}`.
    pub prompt: String,
}

impl Default for FilterConfig {
    fn default() -> Self {
        let decoding = Decoding { max_context: Some(8192), ..Decoding::greedy(2) };
        Self { mode: JudgeMode::Generated, decoding, prompt: CONSISTENCY_PROMPT.into() }
    }
}

impl FilterConfig {
    /// The default prompt, read through probabilities.
    pub fn scored(threshold: f64) -> Self {
        Self { mode: JudgeMode::Scored { threshold }, ..Self::default() }
    }

    /// The most tokens that the judge writes, or is scored on, for a triplet.
    pub fn max_answer_tokens(&self) -> usize {
        match self.mode {
            JudgeMode::Generated => self.decoding.max_new_tokens,
            JudgeMode::Scored { .. } => 1,
        }
    }

    /// Checks the threshold, the number of tokens and the prompt's placeholders.
    ///
    /// # Errors
    /// [`SynthError::Config`], [`SynthError::Placeholder`].
    pub fn validate(&self) -> Result<(), SynthError> {
        if let JudgeMode::Scored { threshold } = self.mode
            && !(0.0..=1.0).contains(&threshold)
        {
            return Err(SynthError::Config { field: "threshold", expected: "0 to 1", got: threshold.to_string() });
        }
        if self.decoding.max_new_tokens == 0 {
            let field = "decoding.max_new_tokens";
            return Err(SynthError::Config { field, expected: "at least 1", got: "0".into() });
        }
        PromptTemplate::parse(&self.prompt).map(drop)
    }
}

/// What the judge said about one triplet, before a verdict is made of it: what a run remembers, so that another
/// threshold needs no model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opinion {
    /// The text that it wrote.
    Text(String),
    /// The probabilities of yes, no and open, summing to 1, rounded to nine decimals so that they survive JSON exactly.
    Probabilities([f64; 3]),
}

/// Asks a language model whether a triplet's two answers come to the same (paper section 3.2).
///
/// ```
/// use adamllm_core::testing::ScriptedModel;
/// use adamllm_core::RecordId;
/// use adamllm_synth::{ConsistencyFilter, TaskTriplet, Verdict};
///
/// let judge = ScriptedModel::new(|_| Ok(" No".into())); // any `Generate`
/// let pair = RecordId::given("7");
/// let triplet = TaskTriplet::new(pair, "a.png".into(), "How many?", "I count three.", "Two");
/// let judged = ConsistencyFilter::new(&judge).judge(&[triplet]).remove(0)?;
/// assert_eq!(judged.verdict, Verdict::Inconsistent);
/// # Ok::<(), adamllm_synth::SynthError>(())
/// ```
#[derive(Debug)]
pub struct ConsistencyFilter<G> {
    model: G,
    config: FilterConfig,
    template: PromptTemplate,
    markers: TurnMarkers,
}

impl<G: Generate> ConsistencyFilter<G> {
    /// The paper's way: two greedy tokens.
    pub fn new(model: G) -> Self {
        Self::with_config(model, FilterConfig::default()).expect("the default settings are valid")
    }

    /// A filter with settings of its own.
    ///
    /// # Errors
    /// As [`FilterConfig::validate`].
    pub fn with_config(model: G, config: FilterConfig) -> Result<Self, SynthError> {
        config.validate()?;
        let template = PromptTemplate::parse(&config.prompt)?;
        let markers = model.turn_markers().unwrap_or_else(TurnMarkers::llama3);
        Ok(Self { model, config, template, markers })
    }

    /// The model that is asked.
    pub fn model(&self) -> &G {
        &self.model
    }

    /// The settings.
    pub fn config(&self) -> &FilterConfig {
        &self.config
    }

    /// Judges each triplet: one result per triplet, in the same order.
    pub fn judge(&self, triplets: &[TaskTriplet]) -> Vec<Result<Judged, SynthError>> {
        let opinions = self.ask(triplets);
        let decide =
            |(triplet, opinion): (&TaskTriplet, Result<Opinion, _>)| Ok(self.decide(triplet.clone(), &opinion?));
        triplets.iter().zip(opinions).map(decide).collect()
    }

    /// What the model is asked about one triplet.
    ///
    /// # Errors
    /// [`SynthError::ForgedTurn`].
    pub fn prompt(&self, triplet: &TaskTriplet) -> Result<Prompt, SynthError> {
        refuse_special_tokens(triplet, &self.markers)?;
        Ok(Prompt::Text(self.template.fill(triplet)))
    }

    /// First half of [`ConsistencyFilter::judge`]: what the model says about each triplet.
    pub fn ask(&self, triplets: &[TaskTriplet]) -> Vec<Result<Opinion, SynthError>> {
        let prompts: Vec<_> = triplets.iter().map(|triplet| self.prompt(triplet)).collect();
        let ids: Vec<_> = triplets.iter().map(|triplet| &triplet.pair).collect();

        match self.config.mode {
            JudgeMode::Generated => {
                let written =
                    model_outputs(&self.model, &ids, prompts, |m, prompts| m.generate(&prompts, &self.config.decoding));
                written.into_iter().map(|output| output.map(|completion| Opinion::Text(completion.text))).collect()
            }
            JudgeMode::Scored { .. } => {
                let continuations: Vec<_> = ANSWERS.map(str::to_owned).into();
                let request = |prompt| ScoreRequest { prompt, continuations: continuations.clone() };
                let requests = prompts.into_iter().map(|prompt| prompt.map(request)).collect();
                let scored = model_outputs(&self.model, &ids, requests, |model, requests| model.score(&requests));

                let normalise = |(output, triplet): (Result<Vec<f64>, _>, &TaskTriplet)| {
                    let got: Vec<f64> = output?;
                    let record = triplet.pair.clone();
                    probabilities(&got).map(Opinion::Probabilities).ok_or(SynthError::Scores { record, got })
                };
                scored.into_iter().zip(triplets).map(normalise).collect()
            }
        }
    }

    /// Second half of [`ConsistencyFilter::judge`]: the verdict that an opinion comes to.
    pub fn decide(&self, triplet: TaskTriplet, opinion: &Opinion) -> Judged {
        let threshold = match self.config.mode {
            JudgeMode::Scored { threshold } => threshold,
            JudgeMode::Generated => 0.5,
        };
        decide(triplet, opinion, threshold)
    }
}

/// The verdict that an opinion comes to; `threshold` matters to probabilities only.
pub fn decide(triplet: TaskTriplet, opinion: &Opinion, threshold: f64) -> Judged {
    match opinion {
        Opinion::Text(answer) => Judged {
            triplet,
            verdict: read_answer(answer),
            p_yes: None,
            p_no: None,
            p_open: None,
            answer: Some(answer.clone()),
        },
        Opinion::Probabilities(p) => {
            let [p_yes, p_no, p_open] = p.map(Some);
            Judged { triplet, verdict: weigh(*p, threshold), p_yes, p_no, p_open, answer: None }
        }
    }
}

/// The verdict of a written answer: its first word, whatever its case and the punctuation around it.
pub fn read_answer(answer: &str) -> Verdict {
    let start = answer.trim_start_matches(|c: char| !c.is_alphanumeric());
    let word = start.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    match word.to_ascii_lowercase().as_str() {
        "yes" => Verdict::Consistent,
        "no" => Verdict::Inconsistent,
        "open" => Verdict::Open,
        _ => Verdict::Unclear,
    }
}

/// The verdict of probabilities: consistent from the threshold on, else the more probable of the other two; unclear
/// where yes is the most probable answer and still too weak.
pub fn weigh([p_yes, p_no, p_open]: [f64; 3], threshold: f64) -> Verdict {
    if p_yes >= threshold {
        Verdict::Consistent
    } else if p_yes > p_no && p_yes > p_open {
        Verdict::Unclear
    } else if p_no >= p_open {
        Verdict::Inconsistent
    } else {
        Verdict::Open
    }
}

/// Softmax over the three answers, rounded to nine decimals.
fn probabilities(log_probabilities: &[f64]) -> Option<[f64; 3]> {
    let [yes, no, open] = *log_probabilities else { return None };
    let largest = yes.max(no).max(open);
    if !largest.is_finite() || [yes, no, open].iter().any(|p| p.is_nan()) {
        return None;
    }
    let weights = [yes, no, open].map(|p| (p - largest).exp());
    let sum: f64 = weights.iter().sum();
    Some(weights.map(|weight| (weight / sum * 1e9).round() / 1e9))
}

#[cfg(test)]
mod tests {
    use adamllm_core::testing::ScriptedModel;
    use adamllm_core::{Reason, RecordId};

    use super::*;

    fn triplet(instruction: &str) -> TaskTriplet {
        TaskTriplet::new(RecordId::given(instruction), "a.png".into(), instruction, "long", "short")
    }

    #[test]
    fn reads_written_answers() {
        let model = ScriptedModel::new(|prompt| {
            let Prompt::Text(text) = prompt else { panic!("text only") };
            assert!(text.ends_with("Reply:") && text.matches("Reply:").count() == 7);
            let question = text.rsplit("Question: ").next().and_then(|tail| tail.lines().next());
            Ok(question.expect("a question").to_owned())
        });
        let answers = [" Yes", "No.", " open\n", "Maybe", "", "Nothing", "**Yes**"];
        let judged = ConsistencyFilter::new(&model).judge(&answers.map(triplet));
        let verdicts: Vec<_> = judged.iter().map(|result| result.as_ref().expect("judged").verdict).collect();
        use Verdict::*;
        assert_eq!(verdicts, [Consistent, Inconsistent, Open, Unclear, Unclear, Unclear, Consistent]);
    }

    #[test]
    fn weighs_scored_answers() {
        let model = ScriptedModel::new(|_| panic!("scored only")).with_score(|_, continuation| match continuation {
            " Yes" => 0.6f64.ln(),
            " No" => 0.3f64.ln(),
            _ => 0.1f64.ln(),
        });
        for (threshold, verdict) in [(0.5, Verdict::Consistent), (0.7, Verdict::Unclear)] {
            let filter = ConsistencyFilter::with_config(&model, FilterConfig::scored(threshold)).expect("valid");
            let judged = filter.judge(&[triplet("q")]).remove(0).expect("judged");
            assert_eq!((judged.verdict, judged.p_yes, judged.p_no), (verdict, Some(0.6), Some(0.3)));
        }
        assert_eq!(weigh([0.2, 0.3, 0.5], 0.5), Verdict::Open);
        assert_eq!(probabilities(&[f64::NEG_INFINITY, 0.0, f64::NEG_INFINITY]), Some([0.0, 1.0, 0.0]));
        assert_eq!(probabilities(&[f64::NEG_INFINITY; 3]), None);
        assert_eq!(probabilities(&[f64::NAN, 0.0, 0.0]), None);
    }

    #[test]
    fn a_forged_turn_costs_its_record_only() {
        let model = ScriptedModel::new(|_| Ok("Yes".into()));
        let judged = ConsistencyFilter::new(&model).judge(&[triplet("a <|im_end|> b"), triplet("fine")]);
        assert_eq!(judged[0].as_ref().map_err(SynthError::reason).err(), Some(Reason::ForgedTurn));
        assert!(judged[1].is_ok());
    }
    #[test]
    fn weak_probabilities_go_to_the_strongest_answer() {
        use Verdict::*;
        for (p, verdict) in [
            ([0.5, 0.3, 0.2], Consistent),
            ([0.49, 0.31, 0.2], Unclear),
            ([0.4, 0.4, 0.2], Inconsistent),
            ([0.4, 0.2, 0.4], Open),
            ([0.2, 0.4, 0.4], Inconsistent),
            ([0.1, 0.3, 0.6], Open),
        ] {
            assert_eq!(weigh(p, 0.5), verdict, "{p:?}");
        }
        assert_eq!(probabilities(&[0.0, 2f64.ln(), 5f64.ln()]), Some([0.125, 0.25, 0.625]));
        assert_eq!([probabilities(&[0.0, 0.0]), probabilities(&[0.0, f64::INFINITY, 0.0])], [None, None]);
    }

    #[test]
    fn settings_are_the_ones_given() {
        let model = ScriptedModel::new(|_| Ok("Yes".into()));
        let config = FilterConfig::scored(0.75);
        let filter = ConsistencyFilter::with_config(&model, config.clone()).expect("valid");
        assert_eq!(filter.config(), &config);
        // An opinion is kept beside its verdict, so that another threshold needs no second question.
        for opinion in [Opinion::Text("Yes, both".into()), Opinion::Probabilities([0.7, 0.2, 0.1])] {
            assert_eq!(filter.decide(triplet("q"), &opinion).opinion(), Some(opinion));
        }
        let verdict = |filter: &ConsistencyFilter<&ScriptedModel>| {
            filter.decide(triplet("q"), &Opinion::Probabilities([0.7, 0.2, 0.1])).verdict
        };
        assert_eq!(
            [verdict(&filter), verdict(&ConsistencyFilter::new(&model))],
            [Verdict::Unclear, Verdict::Consistent]
        );
        assert_eq!(Judged::unjudged(triplet("q")).opinion(), None);
    }
}
