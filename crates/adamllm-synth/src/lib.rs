//! Image-caption pairs to filtered instruction tasks: part 1 of the paper, over any [`Generate`](adamllm_core::Generate).
//!
//! Three workers, each with one record in and one record out:
//!
//! ```text
//! ImageCaption -> Synthesizer::propose -> TaskTriplet -> ConsistencyFilter::judge -> Judged -> combine -> InstructionTask
//! ```
//!
//! [`SynthesisRun`] does all three over files, accounts for every record in a ledger, and survives being killed.
//!
//! | item | what it does |
//! |---|---|
//! | [`Captioner`], [`caption_images`] | where there are images alone: a model writes their captions first |
//! | [`Synthesizer`] | asks a vision-language model for a question with a precise and an informative answer |
//! | [`parse_turns`], [`find_triplet`] | from the model's raw text to the triplet in it |
//! | [`ConsistencyFilter`] | asks a language model whether the two answers come to the same |
//! | [`combine`] | makes one task of a consistent triplet |
//! | [`SynthesisRun`] | all of it, over JSONL files, resumable and sharded |
//! | [`kept_pairs`] | what a finished run hands on to training: pairs, with their tasks |
//! | [`Variant`] | the method, its baselines and its ablations |
//! | [`Sweep`], [`AuditSample`], [`AuditReport`] | how far the judge agrees with people, and which threshold to take |
//! | [`write_report`] | one self-contained page that shows a run |
//! | [`write_llama_factory`] | the finished conversations for LLaMA-Factory |
//! | [`hygiene`] | duplicates, near duplicates, and examples of a benchmark among the tasks |
//! | [`seed`] | public seed data to the conversations that a synthesizer is tuned on |
//!
//! ```
//! use adamllm_core::testing::ScriptedModel;
//! use adamllm_core::{ImageCaption, TurnMarkers};
//! use adamllm_synth::{ConsistencyFilter, Synthesizer, Verdict, combine};
//!
//! // Stands for a vision-language model that was tuned to write questions and answers.
//! let writer = ScriptedModel::new(|_| {
//!     Ok("Answer with a precise response.\nHow many nuclei are there?<|im_end|>\n\
//!         <|im_start|>assistant\nTwo<|im_end|>\n\
//!         <|im_start|>user\nAnswer with an informative response.\nHow many nuclei are there?<|im_end|>\n\
//!         <|im_start|>assistant\nThe cell holds a dark and a pale nucleus.<|im_end|>\n".into())
//! })
//! .with_turn_markers(TurnMarkers::chatml());
//! // Stands for a language model that reads the six worked examples and answers.
//! let reader = ScriptedModel::new(|_| Ok(" Yes".into()));
//!
//! let pair = ImageCaption::new("slide-7.png", "A round cell with two nuclei.");
//! let triplet = Synthesizer::new(&writer).propose(&[pair]).remove(0)?;
//! let judged = ConsistencyFilter::new(&reader).judge(&[triplet]).remove(0)?;
//! assert_eq!(judged.verdict, Verdict::Consistent);
//!
//! let task = combine(&judged, 0);
//! assert!(task.instruction.contains("How many nuclei are there?"));
//! assert!(task.response.contains("Two"));
//! # Ok::<(), adamllm_synth::SynthError>(())
//! ```

mod audit;
mod captioner;
mod combine;
mod consistency;
mod error;
pub mod hygiene;
mod llama_factory;
mod model_outputs;
mod prompt_template;
mod proportion;
mod report;
mod rules;
mod run;
pub mod seed;
mod sweep;
mod synthesizer;
mod task_type;
mod templates;
mod triplet;
mod turns;
mod variant;

pub use audit::{AUDIT_FILE, AUDIT_KEY_FILE, AuditReport, AuditSample};
pub use captioner::{CAPTION_PROMPT, Captioner, CaptionerConfig};
pub use combine::{CONCLUDING_WORDS, combine, response};
pub use consistency::{
    ANSWERS, CONSISTENCY_PROMPT, ConsistencyFilter, FilterConfig, JudgeMode, Opinion, decide, read_answer, weigh,
};
pub use error::SynthError;
pub use llama_factory::{DATASET_NAME, write_llama_factory};
pub use prompt_template::PromptTemplate;
pub use proportion::Proportion;
pub use report::{RecordCard, ReportConfig, record_cards, write_report};
pub use rules::task_by_rule;
pub use run::{
    CAPTIONS_FILE, CaptionCounts, InputRecord, KeptPairs, RunConfig, RunSummary, SynthesisRun, caption_images,
    caption_stays, captioned_images, kept_pairs,
};
pub use sweep::{Sweep, SweepPoint};
pub use synthesizer::{CAPTION_REQUEST, Synthesizer, SynthesizerConfig};
pub use task_type::TaskType;
pub use templates::{CHAIN_TEMPLATES, QUESTION_TEMPLATES};
pub use triplet::{Judged, TaskTriplet, Verdict};
pub use turns::{FoundTriplet, INFORMATIVE_HINT, PRECISE_HINT, Turn, find_special_token, find_triplet, parse_turns};
pub use variant::Variant;

/// The README's example is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
