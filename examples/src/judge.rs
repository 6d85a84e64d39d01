//! A judge of open answers, as a command line names it.

use std::path::PathBuf;

use adamllm::core::{BoxedModel, MemoryImages};
use adamllm::eval::{AnswerJudge, JudgeConfig, JudgeForm};

use crate::cli::{Answer, setting};
use crate::models::{self, ModelArguments};

/// A model that says of open answers whether they are right.
#[derive(clap::Args, Clone, Debug)]
pub struct JudgeArguments {
    /// A judge of the open answers: a model folder, or URLs of servers. Its score is a column of its own
    #[arg(long)]
    pub judge: Option<String>,
    /// The judge's prompt with {question}, {expected} and {answer}; ours otherwise
    #[arg(long, requires = "judge")]
    pub judge_prompt: Option<PathBuf>,
    /// How the judge sees its prompt: chat (a user's turn), or text that a base model continues
    #[arg(long, value_parser = setting::<JudgeForm>, default_value = "chat", requires = "judge")]
    pub judge_form: JudgeForm,
}

impl JudgeArguments {
    /// Finds out that a judge or its prompt cannot be had before anything is asked.
    ///
    /// # Errors
    /// As [`JudgeArguments::open`], for folders and the prompt.
    pub fn check(&self) -> Answer<()> {
        self.config()?.check()?;
        self.judge.iter().try_for_each(|name| models::check(name))
    }

    /// The judge, where one is named.
    ///
    /// # Errors
    /// The prompt's file or its placeholders; a model folder; servers.
    pub fn open(&self, arguments: &ModelArguments) -> Answer<Option<AnswerJudge<BoxedModel>>> {
        let Some(name) = &self.judge else { return Ok(None) };
        let model = models::open(name, arguments, std::sync::Arc::new(MemoryImages::new()))?.model;
        Ok(Some(AnswerJudge::with_config(model, self.config()?)?))
    }

    fn config(&self) -> Answer<JudgeConfig> {
        let ours = JudgeConfig::of(self.judge_form);
        Ok(match &self.judge_prompt {
            Some(file) => JudgeConfig { prompt: adamllm::core::read_text(file)?, ..ours },
            None => ours,
        })
    }
}
