//! Every ready settings file is planned for a model of its true sizes. Nobody here has the weights, and a plan reads none: the folders
//! hold what the tests' tiny models hold (tokenizer, template, image processor), with the published sizes in `config.json`.
#![cfg(feature = "train")]

mod resized;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use adamllm_core::{Ledger, jsonl};
use adamllm_model::{ModelFolder, Processor, VisionLanguageModel};
use adamllm_nn::Parameters;
use adamllm_recipes::PostTrainSettings;
use adamllm_recipes::post_train::PostTraining;
use adamllm_recipes::training_set::ImageCheck;
use burn::tensor::Device;
use serde_json::{Value, json};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A published model: its name in the settings files, whose tiny model lends its files, the published sizes, and how many parameters
/// the Hub counts in its files.
struct Published {
    name: &'static str,
    fixture: &'static str,
    config: Value,
    processor: Value,
    n_parameters: usize,
    /// Image tokens of an image of 896 x 672 pixels, by the rules of the model's own image processor.
    image_tokens: usize,
}

fn published() -> Vec<Published> {
    let rope = |theta: f64| json!({"rope_theta": theta, "rope_type": "default"});
    let mrope = json!({"rope_theta": 1e6, "rope_type": "default", "mrope_section": [16, 24, 24]});
    let llama3 = json!({"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128_256, "max_position_embeddings": 8192, "rope_parameters": rope(5e5)});
    let grid = json!([[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]);
    vec![
        Published {
            name: "Qwen/Qwen2-VL-2B-Instruct",
            fixture: "qwen2_vl",
            config: json!({"tie_word_embeddings": true,
                "text_config": {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_hidden_layers": 28,
                    "num_key_value_heads": 2, "vocab_size": 151_936, "max_position_embeddings": 32768, "tie_word_embeddings": true,
                    "max_window_layers": 28, "layer_types": null, "rope_parameters": mrope},
                "vision_config": {"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "mlp_ratio": 4, "num_heads": 16}}),
            processor: json!({"image_processor": {"size": {"shortest_edge": 3136, "longest_edge": 12_845_056}}}),
            n_parameters: 2_208_985_600,
            // 32 x 24 squares of 28 pixels.
            image_tokens: 32 * 24,
        },
        Published {
            name: "Qwen/Qwen2.5-VL-3B-Instruct",
            fixture: "qwen2_5_vl",
            config: json!({"tie_word_embeddings": true,
                "text_config": {"hidden_size": 2048, "intermediate_size": 11008, "num_attention_heads": 16, "num_hidden_layers": 36,
                    "num_key_value_heads": 2, "vocab_size": 151_936, "max_position_embeddings": 128_000, "tie_word_embeddings": true,
                    "max_window_layers": 36, "layer_types": null, "rope_parameters": mrope},
                "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048,
                    "fullatt_block_indexes": [7, 15, 23, 31], "window_size": 112}}),
            processor: json!({"image_processor": {"size": {"shortest_edge": 3136, "longest_edge": 12_845_056}}}),
            n_parameters: 3_754_622_976,
            image_tokens: 32 * 24,
        },
        Published {
            name: "Lin-Chen/open-llava-next-llama3-8b",
            fixture: "llava_next",
            config: json!({"image_grid_pinpoints": grid, "image_seq_length": 576, "text_config": llama3,
                "vision_config": {"hidden_size": 1024, "image_size": 336, "intermediate_size": 4096, "num_attention_heads": 16,
                    "num_hidden_layers": 24, "projection_dim": 768}}),
            processor: json!({"image_processor": {"crop_size": {"height": 336, "width": 336}, "image_grid_pinpoints": grid,
                "size": {"shortest_edge": 336}}}),
            n_parameters: 8_354_752_512,
            // The whole image, and a grid of 48 x 48 from which the padding above and below is cut (48 x 36), with a token that ends each line.
            image_tokens: 576 + 36 * 49,
        },
        Published {
            name: "meta-llama/Llama-3.2-11B-Vision-Instruct",
            fixture: "mllama",
            config: json!({
                "text_config": {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_hidden_layers": 40,
                    "num_key_value_heads": 8, "vocab_size": 128_256, "max_position_embeddings": 131_072,
                    "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38],
                    "rope_parameters": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                        "original_max_position_embeddings": 8192, "rope_theta": 5e5, "rope_type": "llama3"}},
                "vision_config": {"attention_heads": 16, "hidden_size": 1280, "image_size": 560,
                    "intermediate_layers_indices": [3, 7, 15, 23, 30], "intermediate_size": 5120, "num_global_layers": 8,
                    "num_hidden_layers": 32, "vision_output_dim": 7680}}),
            processor: json!({"image_processor": {"size": {"height": 560, "width": 560}}}),
            n_parameters: 10_670_220_835,
            // One placeholder: the image itself is attended to across.
            image_tokens: 1,
        },
        Published {
            name: "HuggingFaceTB/SmolVLM-256M-Instruct",
            fixture: "smolvlm",
            config: json!({"scale_factor": 4,
                "text_config": {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_hidden_layers": 30,
                    "num_key_value_heads": 3, "head_dim": 64, "vocab_size": 49_280, "max_position_embeddings": 8192},
                "vision_config": {"hidden_size": 768, "image_size": 512, "intermediate_size": 3072, "num_attention_heads": 12,
                    "num_hidden_layers": 12, "patch_size": 16}}),
            processor: json!({"image_seq_len": 64,
                "image_processor": {"max_image_size": {"longest_edge": 512}, "size": {"longest_edge": 2048}}}),
            n_parameters: 256_484_928,
            // Enlarged to 2048 x 1536: four times three tiles, and the whole image.
            image_tokens: 64 * (4 * 3 + 1),
        },
    ]
}

/// What every settings file is pointed at.
struct Data {
    conversations: PathBuf,
    images: PathBuf,
}

impl Data {
    /// Twelve conversations about one image of 896 x 672 pixels.
    fn write(folder: &Path) -> Self {
        let data = Self { conversations: folder.join("conversations.jsonl"), images: folder.join("images") };
        fs::create_dir_all(&data.images).expect("made");
        let white = image::RgbImage::from_pixel(896, 672, image::Rgb([255; 3]));
        white.save(data.images.join("plate.png")).expect("written");
        let turn = |role: &str, text: &str| json!({"role": role, "content": text});
        let conversation = |n: usize| {
            let question = format!("How many carrots are on plate {n}?");
            let messages = [
                turn("user", "<image>Describe the image."),
                turn("assistant", "A plate of carrots."),
                turn("user", &question),
                turn("assistant", "There are three."),
            ];
            json!({"images": ["plate.png"], "messages": messages})
        };
        jsonl::write(&data.conversations, &(0..12).map(conversation).collect::<Vec<_>>()).expect("written");
        data
    }

    /// Assignments that point a file's sources here.
    fn assignments(&self, settings: &PostTrainSettings) -> Vec<String> {
        let mut places: Vec<String> = (0..settings.data.sources.len()).map(|i| format!("data.sources.{i}")).collect();
        places.extend(settings.validation.is_some().then(|| "validation.source".into()));
        let assign = |place: String| {
            let Self { conversations, images } = self;
            [format!("{place}.conversations={conversations:?}"), format!("{place}.images=[{images:?}]")]
        };
        places.into_iter().flat_map(assign).collect()
    }
}

/// The ready settings files, by name.
fn ready_files() -> BTreeMap<String, (PathBuf, PostTrainSettings)> {
    let files = fs::read_dir(repository().join("examples/configs")).expect("the folder");
    let read = |file: PathBuf| {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        let settings = PostTrainSettings::read(&file, &[]).expect("valid");
        (name, (file, settings))
    };
    files.map(|entry| read(entry.expect("an entry").path())).collect()
}

/// Read, planned and counted: records, steps, tokens of images, floating-point operations, and the parts that the file names.
#[test]
fn every_ready_file_plans_a_run_of_its_true_sizes() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let (data, files) = (Data::write(scratch.path()), ready_files());
    let mut planned = 0;
    for published in published() {
        let folder = scratch.path().join(published.fixture);
        resized::write(published.fixture, &published.config, &published.processor, &folder);
        let base = ModelFolder::open(&folder).unwrap_or_else(|error| panic!("{}: {error}", published.name));
        let model: VisionLanguageModel = VisionLanguageModel::init(base.config(), &Device::flex());
        let parameters = Parameters::of(&model);
        assert_eq!(parameters.n_elements(), published.n_parameters, "{}", published.name);

        for (name, (file, as_it_is)) in &files {
            if as_it_is.model.folder != published.name {
                continue;
            }
            let settings = PostTrainSettings::read(file, &data.assignments(as_it_is)).expect("valid").for_base(&base);
            let processor = Processor::read(&settings.model.with_pixels(&base)).expect("an image processor");
            let check = ImageCheck::Headers;
            let job = PostTraining::read_checking(&settings, &base, &processor, check, Ledger::new(), &mut ());
            let mut job = job.unwrap_or_else(|error| panic!("{name}: {error}"));
            job.plan_memory(&Device::flex());
            let plan = job.plan();

            let n_sources = as_it_is.data.sources.len() + usize::from(as_it_is.validation.is_some());
            assert_eq!(plan.counts.records_out, 12 * n_sources as u64, "{name}");
            for stage in &plan.stages {
                let (read, epochs) = (&stage.run.read, settings.train.epochs);
                assert_eq!(stage.run.steps, epochs as usize, "{name}: twelve examples are one step of 128");
                assert_eq!(read.image_tokens, (12.0 * epochs) as usize * published.image_tokens, "{name}: {stage}");
                assert!(read.targets > 0 && read.tokens > read.targets, "{name}: {stage}");
                // All of them in f32; the activations of every family are known.
                let memory = stage.memory.as_ref().unwrap_or_else(|| panic!("{name}: {:?}", stage.memory_unknown));
                let weights = memory.trained_weights + memory.untrained_weights;
                let known = if settings.model.dtype == adamllm_recipes::Dtype::F32 { 4 } else { 2 };
                assert_eq!(weights, known * published.n_parameters as u64, "{name}");
                assert_eq!(memory.peak.is_some(), known == 4, "{name}: {stage}");
                let told = stage.to_string();
                assert!(told.contains("memory in GB: "), "{name}: {told}");
                assert_eq!(told.contains("memory that is not known: activations"), known == 2, "{name}: {told}");
                // Every token costs two operations for each weight it passes: most of the weights, but not the table of embeddings, and not
                // the encoder's. More than a hundred times that would be a mistake too.
                let least = 2.0 * parameters.n_elements() as f64 * 0.3 * read.tokens as f64;
                assert!(stage.flops > least && stage.flops < 100.0 * least, "{name}: {:e} of {least:e}", stage.flops);
            }
            // A part that the model does not have, or a rate for nothing, would be an error here.
            let names = parameters.names();
            let training = settings.training_of(&names).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(training.groups.is_empty(), as_it_is.parts == Default::default(), "{name}");
            planned += 1;
        }
    }
    // All but the mini world's own.
    assert_eq!(planned, 15);
}
