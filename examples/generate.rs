//! Asks a model one question about images, or about none. We will: open a model folder, encode the prompt, decode, and
//! print what went in and what came out.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use adamllm::core::IMAGE_MARKER;
use adamllm::model::{Encoded, EncodedImage};
use adamllm::nn::FrozenForm;
use adamllm::prelude::*;
use adamllm::recipes::Dtype;
use adamllm_examples::cli::{self, JobResult};
use adamllm_examples::decoding::DecodingArguments;
use adamllm_examples::pixels::PixelArguments;
use adamllm_examples::{Files, devices, folders};
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
    #[command(flatten)]
    decoding: DecodingArguments,
    /// flex (the CPU), or another backend that is compiled in
    #[arg(long, default_value = "flex")]
    device: String,
    /// The dtype of the weights on the device: f32, bf16 or f16
    #[arg(long, value_parser = cli::setting::<Dtype>, default_value = "f32")]
    dtype: Dtype,
    /// The form of the linear layers' weights: stored (as in the file, which is mapped), int8 or nf4; left out, in --dtype
    #[arg(long, value_parser = cli::setting::<FrozenForm>)]
    quantize: Option<FrozenForm>,
    #[command(flatten)]
    pixels: PixelArguments,
    /// Adds the logits of the token after the prompt to the JSON
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
    let started = Instant::now();
    let folder = arguments.pixels.of(folders::model_folder(&arguments.model)?);
    let device = devices::device(&arguments.device)?;
    let images = Arc::new(Files);
    let dtype = arguments.dtype.into();
    let model = LocalModel::load_frozen(&folder, dtype, arguments.quantize, &device, images)?;
    let load_s = started.elapsed().as_secs_f64();

    let prompt = prompt(&arguments)?;
    let started = Instant::now();
    let encoded = model.processor().encode_prompt(&prompt, model.images())?;
    let encode_s = started.elapsed().as_secs_f64();
    let options = arguments.decoding.decoding(model.generation_defaults(), encoded.tokens.len())?;
    // The prompt alone, for its time and its logits; the answer's time is the rest of the generation.
    let started = Instant::now();
    let logits = model.last_logits(&encoded);
    let prefill_s = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let completion = model.generate(std::slice::from_ref(&prompt), &options).remove(0)?;
    let decode_s = (started.elapsed().as_secs_f64() - prefill_s - encode_s).max(0.0);

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
        "n_image_tokens": encoded.images.iter().map(|image| image.layout().n_features).collect::<Vec<_>>(),
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
