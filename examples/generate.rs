//! Asks a model one question about images, or about none. We will: open a model folder, encode the prompt, decode, and
//! print what went in and what came out.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use adamllm::core::{IMAGE_MARKER, Sampling};
use adamllm::model::{Encoded, EncodedImage, GenerationDefaults};
use adamllm::prelude::*;
use adamllm_examples::cli::{self, Dtype, JobResult};
use clap::Parser;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Asks a model one question about images, or about none.
#[derive(Parser, Debug)]
struct Arguments {
    /// A model folder
    #[arg(long)]
    model: String,
    /// Images, in the order in which the model sees them, before the prompt
    #[arg(long, num_args = 1..)]
    image: Vec<PathBuf>,
    /// The question
    #[arg(long)]
    prompt: String,
    /// At most this many tokens are written [default: what the folder's generation_config.json says, else 64]
    #[arg(long)]
    max_new_tokens: Option<usize>,
    /// The end token is forbidden until this many tokens are written
    #[arg(long, default_value_t = 0)]
    min_new_tokens: usize,
    /// Draws at random as the folder's generation_config.json says, instead of greedily
    #[arg(long)]
    sample: bool,
    /// Draws at random, with this temperature
    #[arg(long)]
    temperature: Option<f64>,
    /// Keeps the k most probable tokens
    #[arg(long)]
    top_k: Option<usize>,
    /// Keeps the smallest set of tokens that holds this much probability
    #[arg(long)]
    top_p: Option<f64>,
    /// Divides the logits of tokens seen before; 1 for no penalty [default: what generation_config.json says]
    #[arg(long)]
    repetition_penalty: Option<f64>,
    /// Takes nothing from generation_config.json but the end tokens
    #[arg(long)]
    no_model_defaults: bool,
    /// Seeds the random draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// flex (the CPU), or another backend that is compiled in
    #[arg(long, default_value = "flex")]
    device: String,
    /// The dtype of the weights on the device
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    /// Adds the logits of the token behind the prompt to the JSON
    #[arg(long)]
    logits: bool,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(arguments: Arguments) -> JobResult {
    let begun = Instant::now();
    let folder = cli::model_folder(&arguments.model)?;
    let device = cli::device(&arguments.device)?;
    let images = Arc::new(cli::Files);
    let model = LocalModel::load(&folder, arguments.dtype.into(), &device, images)?;
    let load_s = begun.elapsed().as_secs_f64();

    let prompt = prompt(&arguments)?;
    let begun = Instant::now();
    let encoded = model.processor().encode_prompt(&prompt, model.images())?;
    let encode_s = begun.elapsed().as_secs_f64();
    let options = decoding(&arguments, model.generation_defaults(), encoded.tokens.len())?;
    // The prompt alone, for its time and its logits; the answer's time is the rest of the generation.
    let begun = Instant::now();
    let logits = model.last_logits(&encoded);
    let prefill_s = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let completion = model.generate(std::slice::from_ref(&prompt), &options).remove(0)?;
    let decode_s = (begun.elapsed().as_secs_f64() - prefill_s - encode_s).max(0.0);

    if !arguments.json {
        println!("{}", completion.text);
        return Ok(());
    }
    let output_ids = &completion.tokens;
    let pixels = PixelStatistics::of(&encoded);
    let mut answer = json!({
        "family": folder.config().family,
        "prompt_text": model.processor().render(&prompt)?.text,
        "input_ids": encoded.tokens,
        "n_image_rows": encoded.images.iter().map(|image| image.layout().n_features).collect::<Vec<_>>(),
        "pixel_shape": pixels.shape,
        "pixel_mean": pixels.mean,
        "pixel_std": pixels.std,
        "output_ids": output_ids,
        "text": completion.text,
        "decoding": options,
        "generation_defaults": model.generation_defaults(),
        "timing": {
            "load_s": load_s,
            "encode_s": encode_s,
            "prefill_s": prefill_s,
            "prefill_tokens": completion.n_prompt_tokens,
            "decode_s": decode_s,
            "decode_tokens": completion.n_new_tokens,
        },
    });
    if arguments.logits {
        answer["logits_last"] = json!(logits);
    }
    println!("{answer}");
    Ok(())
}

fn prompt(arguments: &Arguments) -> Result<Prompt, std::io::Error> {
    let absolute = |path: &PathBuf| std::path::absolute(path).map(|p| p.to_string_lossy().into_owned().into());
    let images: Vec<ImageRef> = arguments.image.iter().map(absolute).collect::<Result<_, _>>()?;
    let markers = IMAGE_MARKER.repeat(images.len());
    Ok(Prompt::chat(vec![Message::user(format!("{markers}{}", arguments.prompt))], images))
}

/// What the flags say, and the folder's own settings where they say nothing.
fn decoding(
    arguments: &Arguments,
    folder: &GenerationDefaults,
    prompt: usize,
) -> Result<Decoding, Box<dyn std::error::Error>> {
    let seed = arguments.seed;
    let drawn = arguments.sample || arguments.temperature.is_some();
    let sampling = match arguments.temperature {
        _ if !drawn => Sampling::Greedy,
        Some(temperature) if temperature <= 0.0 || temperature.is_nan() => {
            return Err(format!("--temperature: expected a positive number, got {temperature}").into());
        }
        given => {
            let of_folder = match arguments.sample && !arguments.no_model_defaults {
                true => folder.sampling(seed)?,
                false => Sampling::Random { temperature: 1.0, top_k: None, top_p: None, seed },
            };
            let Sampling::Random { temperature, top_k, top_p, .. } = of_folder else { unreachable!("random draws") };
            Sampling::Random {
                temperature: given.unwrap_or(temperature),
                top_k: arguments.top_k.or(top_k),
                top_p: arguments.top_p.or(top_p),
                seed,
            }
        }
    };
    let recommended = folder.max_new_tokens_for(prompt).filter(|_| !arguments.no_model_defaults);
    Ok(Decoding {
        max_new_tokens: arguments.max_new_tokens.or(recommended).unwrap_or(64),
        min_new_tokens: arguments.min_new_tokens,
        sampling,
        repetition_penalty: arguments.repetition_penalty,
        model_defaults: !arguments.no_model_defaults,
        ..Decoding::default()
    })
}

/// What the encoder reads, in numbers that can be compared with another implementation's.
struct PixelStatistics {
    shape: Vec<usize>,
    mean: f64,
    std: f64,
}

impl PixelStatistics {
    fn of(encoded: &Encoded) -> Self {
        let values = || encoded.images.iter().flat_map(|image| image.pixels.values.iter().map(|&v| f64::from(v)));
        let n = values().count();
        let mean = values().fold(0.0, |sum, v| sum + v) / n.max(1) as f64;
        let variance = values().fold(0.0, |sum, v| sum + (v - mean).powi(2)) / n.saturating_sub(1).max(1) as f64;
        let shape_of = |image: &EncodedImage| image.layout().pixel_shape.clone();
        let joined = |mut all: Vec<usize>, one: Vec<usize>| {
            all[0] += one[0];
            all
        };
        let shape = encoded.images.iter().map(shape_of).reduce(joined).unwrap_or_default();
        Self { shape, mean, std: variance.sqrt() }
    }
}
