//! Our side of `tools/peers/encoding.py`: reads a file of conversations, makes batches of it twice, and prints what the second
//! pass took as a JSON line, in seconds of the clock and of this thread's time on a core. Arguments: MODEL CONVERSATIONS
//! IMAGES BATCH.
#![allow(missing_docs)]
#![allow(clippy::print_stdout, reason = "the script reads what is printed")]

use std::time::Instant;

use adamllm::model::{Encoded, Encoder, Encoding, Padding, Preset, VlmBatch};
use adamllm::prelude::*;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [model, conversations, images, batch] = &arguments[..] else {
        println!("usage: encoding_peer MODEL CONVERSATIONS IMAGES BATCH");
        return Ok(());
    };
    let processor = Processor::read(&ModelFolder::open(model)?)?;
    let encoding = Encoding { preset: Preset::LlamaFactory092Qwen2Vl, ..Encoding::default() };
    let encoder = Encoder::new(&processor, encoding)?;
    let conversations: Vec<Conversation> = adamllm::data::conversations(conversations)?.collect::<Result<_, _>>()?;
    let images = FolderImages::new(images);
    let batch: usize = batch.parse()?;
    let (mut encoded_in, mut measured_in, mut totals) = (json!(null), json!(null), json!(null));
    for _ in 0..2 {
        let clock = Clock::start();
        let mut sums = [0_u64; 3];
        for chunk in conversations.chunks(batch) {
            let encoded = chunk
                .iter()
                .map(|conversation| encoder.encode(conversation, &images))
                .collect::<Result<Vec<_>, _>>()?;
            let together = VlmBatch::collate(&encoded.iter().collect::<Vec<&Encoded>>(), Padding::Right, &processor);
            assert_eq!(together.dims()[0], chunk.len());
            for example in &encoded {
                sums[0] += example.tokens.len() as u64;
                sums[1] += example.tokens.iter().map(|&token| u64::from(token)).sum::<u64>();
                sums[2] += example.targets.iter().filter(|target| **target).count() as u64;
            }
        }
        encoded_in = clock.read();
        totals = json!({ "tokens": sums[0], "sum_of_ids": sums[1], "targets": sums[2] });
        let clock = Clock::start();
        for conversation in &conversations {
            encoder.example_size(conversation, &images)?;
        }
        measured_in = clock.read();
    }
    println!(
        "{}",
        json!({ "encode": encoded_in, "measure": measured_in, "examples": conversations.len(), "totals": totals })
    );
    Ok(())
}

/// The clock, and what Linux says about this thread's time on a core.
struct Clock {
    started: Instant,
    on_core: Option<f64>,
}

impl Clock {
    fn start() -> Self {
        Self { started: Instant::now(), on_core: on_core() }
    }

    fn read(&self) -> serde_json::Value {
        let on_core = on_core().zip(self.on_core).map(|(now, then)| now - then);
        json!({ "wall_s": self.started.elapsed().as_secs_f64(), "cpu_s": on_core })
    }
}

fn on_core() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split(' ').next()?.parse::<f64>().ok()? / 1e9)
}
