//! How an answer is decoded, as flags.

use adamllm::core::Sampling;
use adamllm::model::GenerationDefaults;
use adamllm::prelude::*;

use crate::cli::Answer;

/// How an answer is decoded.
#[derive(clap::Args, Clone, Debug)]
pub struct DecodingArguments {
    /// At most this many tokens are written [default: what the folder's generation_config.json says, else 64]
    #[arg(long)]
    pub max_new_tokens: Option<usize>,
    /// The end token is forbidden until this many tokens are written
    #[arg(long, default_value_t = 0)]
    pub min_new_tokens: usize,
    /// Draws at random as the folder's generation_config.json says, instead of greedily
    #[arg(long)]
    pub sample: bool,
    /// Draws at random, with this temperature
    #[arg(long)]
    pub temperature: Option<f64>,
    /// Keeps the k most probable tokens
    #[arg(long)]
    pub top_k: Option<usize>,
    /// Keeps the smallest set of tokens that holds this much probability
    #[arg(long)]
    pub top_p: Option<f64>,
    /// Divides the logits of tokens seen before; 1 for no penalty [default: what generation_config.json says]
    #[arg(long)]
    pub repetition_penalty: Option<f64>,
    /// Takes nothing from generation_config.json but the end tokens
    #[arg(long)]
    pub no_model_defaults: bool,
    /// Seeds the random draws
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl DecodingArguments {
    /// What the flags say, and the folder's own settings where they say nothing. `prompt` is the prompt's length in tokens.
    ///
    /// # Errors
    /// A temperature that is not positive; a folder that asks for a way of drawing that is not supported.
    pub fn decoding(&self, folder: &GenerationDefaults, prompt: usize) -> Answer<Decoding> {
        let seed = self.seed;
        let drawn = self.sample || self.temperature.is_some();
        let sampling = match self.temperature {
            _ if !drawn => Sampling::Greedy,
            Some(temperature) if temperature <= 0.0 || temperature.is_nan() => {
                return Err(format!("--temperature: expected a positive number, got {temperature}").into());
            }
            given => {
                let of_folder = match self.sample && !self.no_model_defaults {
                    true => folder.sampling(seed)?,
                    false => Sampling::Random { temperature: 1.0, top_k: None, top_p: None, seed },
                };
                let Sampling::Random { temperature, top_k, top_p, .. } = of_folder else {
                    unreachable!("random draws")
                };
                Sampling::Random {
                    temperature: given.unwrap_or(temperature),
                    top_k: self.top_k.or(top_k),
                    top_p: self.top_p.or(top_p),
                    seed,
                }
            }
        };
        let recommended = folder.max_new_tokens_for(prompt).filter(|_| !self.no_model_defaults);
        Ok(Decoding {
            max_new_tokens: self.max_new_tokens.or(recommended).unwrap_or(64),
            min_new_tokens: self.min_new_tokens,
            sampling,
            repetition_penalty: self.repetition_penalty,
            model_defaults: !self.no_model_defaults,
            ..Decoding::default()
        })
    }
}
