//! Shows how a training example is rendered: every token, whether it counts for the loss, and where the images are. We will:
//! read a file of conversations, encode one record by the preset and the limits that were asked for, and print it token by token.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::PathBuf;
use std::process::ExitCode;

use adamllm::core::Supervision;
use adamllm::model::{Encoded, Encoder, Encoding, Preset, Truncation};
use adamllm::prelude::*;
use adamllm_examples::cli::{self, JobResult};
use adamllm_examples::folders;
use adamllm_examples::pixels::PixelArguments;
use clap::Parser;
use serde_json::{Value, json};

/// Shows how a training example is rendered.
#[derive(Parser, Debug)]
struct Arguments {
    /// A model folder; its weights are not read
    #[arg(long)]
    model: String,
    /// ShareGPT conversations: a JSON array or JSON Lines
    #[arg(long)]
    conversations: PathBuf,
    /// Where the images are; the conversations' folder otherwise
    #[arg(long)]
    images: Option<PathBuf>,
    /// The record, counted from 0; all of them otherwise
    #[arg(long, alias = "row")]
    record: Option<usize>,
    /// Which tokens count: replies, last-reply, everything, or after-first-exchange (the synthesizer's way)
    #[arg(long, value_parser = cli::setting::<Supervision>, default_value = "replies")]
    supervision: Supervision,
    /// Whose format: chat-template, or a training tool's, such as llama-factory-0-9-1-qwen2-vl or llava-llama-3
    #[arg(long, value_parser = cli::setting::<Preset>, default_value = "chat-template")]
    preset: Preset,
    /// The longest example in tokens
    #[arg(long)]
    max_tokens: Option<usize>,
    /// What becomes of a longer one: drop-sample, drop-tail-turns, shrink-images or llama-factory
    #[arg(long, value_parser = cli::setting::<Truncation>, default_value = "drop-sample")]
    truncation: Truncation,
    #[command(flatten)]
    pixels: PixelArguments,
    /// Prints one JSON object (a list of them without --record)
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(arguments: Arguments) -> JobResult {
    let folder = arguments.pixels.of(folders::model_folder(&arguments.model)?);
    let processor = Processor::read(&folder)?;
    let beside = arguments.conversations.parent().unwrap_or_else(|| ".".as_ref()).to_owned();
    let images = FolderImages::new(arguments.images.clone().unwrap_or(beside));
    let encoding = Encoding {
        preset: arguments.preset,
        supervision: arguments.supervision,
        max_tokens: arguments.max_tokens,
        truncation: arguments.truncation,
        ..Encoding::default()
    };
    let whole = Encoder::new(&processor, Encoding { max_tokens: None, ..encoding.clone() })?;
    let encoder = Encoder::new(&processor, encoding)?;
    let mut shown = Vec::new();
    for (record, conversation) in adamllm::data::conversations(&arguments.conversations)?.enumerate() {
        if arguments.record.is_some_and(|wanted| wanted != record) {
            continue;
        }
        let conversation = conversation?;
        let encoded = encoder.encode(&conversation, &images)?;
        if arguments.json {
            let n_whole = whole.example_size(&conversation, &images)?.tokens;
            shown.push(to_json(record, &encoded, &processor, &encoder, n_whole)?);
        } else {
            print_example(record, &encoded, &processor)?;
            shown.push(Value::Null);
        }
    }
    match (arguments.record, arguments.json) {
        (Some(record), _) if shown.is_empty() => return Err(format!("there is no record {record}").into()),
        (Some(_), true) => println!("{}", shown.remove(0)),
        (None, true) => println!("{}", Value::Array(shown)),
        _ => {}
    }
    Ok(())
}

fn to_json(
    record: usize,
    encoded: &Encoded,
    processor: &Processor,
    encoder: &Encoder,
    n_whole: usize,
) -> Result<Value, Box<dyn std::error::Error>> {
    let Encoding { preset, truncation, max_tokens, .. } = encoder.encoding();
    let codec = processor.text();
    let token = |(i, &id): (usize, &u32)| json!({ "id": id, "text": codec.decode(&[id], true).unwrap_or_default(), "target": encoded.targets[i] });
    let image = |(image, &start): (&adamllm::model::EncodedImage, &usize)| {
        let n_features = image.layout().n_features;
        json!({
            "image": image.image, "start": start, "n_features": n_features,
            "n_placeholders": image.layout().n_placeholders, "layout": image.layout(),
        })
    };
    Ok(json!({
        "record": record,
        "id": encoded.id,
        "text": codec.decode(&encoded.tokens, true)?,
        "n_tokens": encoded.tokens.len(),
        "n_targets": encoded.n_targets(),
        "tokens": encoded.tokens.iter().enumerate().map(token).collect::<Vec<_>>(),
        "images": encoded.images.iter().zip(&encoded.image_starts).map(image).collect::<Vec<_>>(),
        "preset": preset,
        "spans": encoded.spans,
        "truncation": {
            "policy": truncation, "max_tokens": max_tokens, "dropped_tokens": n_whole - encoded.tokens.len(),
        },
    }))
}

/// Trained text between `»` and `«`, images as their number of tokens.
fn print_example(record: usize, encoded: &Encoded, processor: &Processor) -> JobResult {
    println!("record {record} ({}): {} tokens, {} trained", encoded.id, encoded.tokens.len(), encoded.n_targets());
    let mut at = 0;
    while at < encoded.tokens.len() {
        if let Some(i) = encoded.image_starts.iter().position(|&start| start == at) {
            let layout = encoded.images[i].layout();
            println!(
                "  [{}: {} image tokens of {} patches]",
                encoded.images[i].image, layout.n_features, layout.n_patches
            );
            at = encoded.span_of(at).map_or(at + layout.n_placeholders, |span| span.tokens.end);
            continue;
        }
        let same = |&i: &usize| encoded.targets[i] == encoded.targets[at] && !encoded.image_starts.contains(&i);
        let end = (at..encoded.tokens.len()).take_while(same).count() + at;
        let text = processor.text().decode(&encoded.tokens[at..end], true)?;
        println!("  {}", if encoded.targets[at] { format!("»{text}«") } else { text });
        at = end;
    }
    Ok(())
}
