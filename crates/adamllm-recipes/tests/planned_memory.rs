//! The memory that a plan says by formula, against what the allocator counts in the same pass.
#![cfg(feature = "train")]

mod resized;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use adamllm_core::{Ledger, jsonl};
use adamllm_model::{ModelFolder, Processor, VisionLanguageModel};
use adamllm_nn::{Parameters, snapshots};
use adamllm_recipes::PostTrainSettings;
use adamllm_recipes::post_train::PostTraining;
use burn::tensor::Device;
use serde_json::{Value, json};

/// The system's allocator, which counts what is held.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

impl Counting {
    fn grow(bytes: usize) {
        let held = HELD.fetch_add(bytes, Relaxed) + bytes;
        PEAK.fetch_max(held, Relaxed);
    }
}

// SAFETY: every call is handed on to the system's allocator as it came; the counters touch no memory of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::grow(layout.size());
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's pointer, which came from `alloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A family, and sizes at which activations are most of what is held.
struct Sized {
    fixture: &'static str,
    config: Value,
    processor: Value,
}

fn families() -> Vec<Sized> {
    let text = |more: Value| {
        let mut text = json!({"hidden_size": 128, "intermediate_size": 384, "num_attention_heads": 4, "num_key_value_heads": 2,
            "num_hidden_layers": 4, "layer_types": null, "head_dim": 32});
        resized::merge(&mut text, &more);
        text
    };
    let mrope = json!({"rope_theta": 1e6, "rope_type": "default", "mrope_section": [4, 6, 6]});
    let qwen = json!({"image_processor": {"size": {"shortest_edge": 3136, "longest_edge": 200_704}}});
    vec![
        Sized {
            fixture: "qwen2_vl",
            config: json!({"text_config": text(json!({"rope_parameters": mrope, "max_window_layers": 4, "head_dim": null})),
                "vision_config": {"depth": 3, "embed_dim": 96, "hidden_size": 128, "mlp_ratio": 4, "num_heads": 4}}),
            processor: qwen.clone(),
        },
        Sized {
            fixture: "qwen2_5_vl",
            config: json!({"text_config": text(json!({"rope_parameters": mrope, "max_window_layers": 4, "head_dim": null})),
                "vision_config": {"depth": 3, "hidden_size": 96, "intermediate_size": 256, "num_heads": 4, "out_hidden_size": 128}}),
            processor: qwen.clone(),
        },
        Sized {
            fixture: "qwen3_vl",
            config: json!({"text_config": text(json!({"rope_parameters":
                {"rope_theta": 1e6, "rope_type": "default", "mrope_interleaved": true, "mrope_section": [4, 6, 6]}})),
                "vision_config": {"depth": 4, "hidden_size": 96, "intermediate_size": 256, "num_heads": 4, "out_hidden_size": 128}}),
            processor: qwen,
        },
        Sized {
            fixture: "llava_next",
            config: json!({"text_config": text(json!({})),
                "vision_config": {"hidden_size": 96, "intermediate_size": 384, "num_attention_heads": 4, "num_hidden_layers": 4}}),
            processor: json!({}),
        },
        Sized {
            fixture: "mllama",
            config: json!({"text_config": text(json!({"num_hidden_layers": 6, "head_dim": null})),
                "vision_config": {"hidden_size": 96, "intermediate_size": 384, "attention_heads": 4, "num_hidden_layers": 4,
                    "vision_output_dim": 288}}),
            processor: json!({}),
        },
        Sized {
            fixture: "smolvlm",
            config: json!({"text_config": text(json!({})),
                "vision_config": {"hidden_size": 96, "intermediate_size": 384, "num_attention_heads": 4, "num_hidden_layers": 4}}),
            processor: json!({}),
        },
    ]
}

/// Four conversations about an image each, about 200 tokens of text.
fn write_data(folder: &Path) -> PathBuf {
    let answer = "On this slide the number is two, the stain is malachite, and the cells are bacilli. ".repeat(3);
    let conversation = |n: u32| {
        // A batch holds an image once, however many of its examples show it: these differ.
        let image = image::RgbImage::from_fn(224, 224, |x, y| image::Rgb([x as u8, y as u8, (x ^ y ^ n) as u8]));
        image.save(folder.join(format!("{n}.png"))).expect("written");
        json!({"images": [format!("{n}.png")], "messages": [
            {"role": "user", "content": "<image>Describe the image."}, {"role": "assistant", "content": answer}]})
    };
    let path = folder.join("conversations.jsonl");
    jsonl::write(&path, &(0..4).map(conversation).collect::<Vec<_>>()).expect("written");
    path
}

/// A name, and what it changes in the settings.
const SETTINGS: [(&str, &str); 6] = [
    ("full", ""),
    ("full, checkpointed", "[train]\ngradient_checkpointing = \"blocks\""),
    ("head in chunks", "[train]\nloss_chunk = 100"),
    ("frozen encoder", "[parts.vision]\nfrozen = true"),
    ("LoRA", "[adapter]\nrank = 4\nalpha = 8.0"),
    (
        "LoRA with dropout, checkpointed",
        "[train]\ngradient_checkpointing = \"blocks\"\n[adapter]\nrank = 4\nalpha = 8.0\ndropout = 0.1",
    ),
];

/// The bytes of weights are exact, and what a pass holds beside them is as counted, in every family.
#[test]
fn a_pass_holds_what_the_plan_says() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let data = write_data(scratch.path());
    let mut off = Vec::new();
    for family in families() {
        let folder = scratch.path().join(family.fixture);
        resized::write(family.fixture, &family.config, &family.processor, &folder);
        let base = ModelFolder::open(&folder).expect("opens");
        for (name, more) in SETTINGS {
            let file = scratch.path().join("settings.toml");
            let source = format!("[[data.sources]]\nconversations = {data:?}\nimages = [{:?}]\n", scratch.path());
            fs::write(&file, format!("[model]\nfolder = {folder:?}\n{more}\n{source}")).expect("written");
            let settings = PostTrainSettings::read(&file, &[]).expect("valid").for_base(&base);
            let processor = Processor::read(&base).expect("a processor");
            let mut job = PostTraining::read(&settings, &base, &processor, Ledger::new(), &mut ()).expect("records");
            let device = Device::flex().autodiff();
            job.plan_memory(&device);
            let memory = job.stages()[0].plan.memory.clone().expect("a family of ours");

            let model = VisionLanguageModel::init(base.config(), &device);
            let model = match &settings.adapter {
                Some(adapter) => model.with_lora(adapter).expect("fits"),
                None => model,
            };
            // Made now, and not when they are first used.
            snapshots(&model);
            let weights = 4 * Parameters::of(&model).n_elements() as u64;
            assert_eq!(memory.trained_weights + memory.untrained_weights, weights, "{}: {name}", family.fixture);

            let before = HELD.load(Relaxed);
            PEAK.store(before, Relaxed);
            job.dry_run(&model, &mut ()).expect("runs");
            let measured = (PEAK.load(Relaxed) - before) as f64;
            let [pass, allocator] = [memory.pass_peak, memory.allocator].map(|bytes| bytes.expect("known"));
            let planned = (pass - allocator - memory.process - weights) as f64;
            if (planned / measured - 1.0).abs() > 0.15 {
                off.push(format!("{}, {name}: planned {planned}, measured {measured}", family.fixture));
            }
        }
    }
    assert!(off.is_empty(), "{off:#?}");
}
