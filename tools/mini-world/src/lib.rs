//! The mini world: three small domains that code draws from a seed, with everything that the path needs to run on them.
//!
//! A [`Scene`] is five facts. The image, the caption, the questions and their answers are made from the facts, so they
//! agree; wrong answers, for the judge, are made wrong on purpose. All domains share one grammar, and differ in their
//! words and in what the words look like: that is what post-training has to learn.
//!
//! ```
//! use adamllm_core::random::named_stream;
//! use adamllm_mini_world::{CaptionPlan, Domain, Form, Scene, Task};
//!
//! let scene = Scene::new(7, Domain::Slides, 0);
//! let mut random = named_stream(7, "example", "0");
//! let caption = CaptionPlan::draw(&mut random).write(&scene);
//! let task = Task::draw(&scene, Form::Open, &mut random);
//! assert!(caption.contains(&task.precise()));
//! assert!(task.informative(&scene).contains(&task.precise()));
//! assert_eq!(scene.image().dimensions(), (112, 112));
//! ```

mod caption;
mod dataset;
mod domain;
mod drawing;
mod error;
mod judging;
mod model_files;
mod scene;
mod task;
mod training;
mod vocabulary;

pub use caption::CaptionPlan;
pub use dataset::{BenchmarkExample, DatasetSize, write_dataset};
pub use domain::{Aspect, Domain};
pub use drawing::{Canvas, SIDE};
pub use error::MiniError;
pub use judging::{Labelled, Verdict, examination};
pub use model_files::{ChatModelSize, JudgeSize, write_chat_model_files, write_judge_files};
pub use scene::Scene;
pub use task::{Form, Task};
pub use training::{
    CAPTION_REQUEST, CAPTIONS_FIRST, CONSISTENT_FIRST, INFORMATIVE_HINT, JudgeExample, PRECISE_HINT, Question,
    Supervised, TEXTS_FIRST, TrainingExample, base_training, blank_image, judge_training, questions,
    synthesizer_training,
};
pub use vocabulary::{chat_tokenizer, judge_tokenizer};

/// The few-shot prompt of the mini judge, with the placeholders `{Q}`, `{informative_A}` and `{precise_A}`.
pub const JUDGE_PROMPT: &str = include_str!("judge_prompt.txt");
