//! What stands beside the weights in the tiny models' folders, in the layout of the Hub.

use std::fs::create_dir_all;
use std::path::Path;

use adamllm_core::{CoreError, write_atomically};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::vocabulary::{CHAT_SPECIALS, JUDGE_SPECIALS};
use super::{MiniError, SIDE};

/// The chat template of the mini models: ChatML, with Qwen2-VL's way of writing images.
const CHAT_TEMPLATE: &str = include_str!("chat_template.jinja");

/// The size of a tiny Qwen2-VL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatModelSize {
    /// Width of the decoder.
    pub d_model: usize,
    /// Inner width of the decoder's MLP.
    pub d_mlp: usize,
    /// Layers of the decoder.
    pub n_layers: usize,
    /// Query heads of the decoder.
    pub n_heads: usize,
    /// Key and value heads of the decoder.
    pub n_kv_heads: usize,
    /// Width of the vision encoder.
    pub d_vision: usize,
    /// Blocks of the vision encoder.
    pub n_vision_blocks: usize,
    /// Heads of the vision encoder.
    pub n_vision_heads: usize,
}

impl Default for ChatModelSize {
    fn default() -> Self {
        Self {
            d_model: 128,
            d_mlp: 256,
            n_layers: 4,
            n_heads: 4,
            n_kv_heads: 2,
            d_vision: 96,
            n_vision_blocks: 2,
            n_vision_heads: 3,
        }
    }
}

/// The size of a tiny Llama.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JudgeSize {
    /// Width.
    pub d_model: usize,
    /// Inner width of the MLP.
    pub d_mlp: usize,
    /// Layers.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
}

impl Default for JudgeSize {
    fn default() -> Self {
        Self { d_model: 128, d_mlp: 256, n_layers: 4, n_heads: 4, n_kv_heads: 2 }
    }
}

/// Writes `config.json`, `generation_config.json`, `preprocessor_config.json`, `chat_template.json` and the tokenizer's
/// files of a `Qwen2VLForConditionalGeneration`.
///
/// # Errors
/// [`MiniError`] where a file cannot be written.
pub fn write_chat_model_files(
    folder: impl AsRef<Path>,
    tokenizer: &Tokenizer,
    size: &ChatModelSize,
) -> Result<(), MiniError> {
    let folder = folder.as_ref();
    let id = |token: &str| tokenizer.token_to_id(token);
    let ends = [id("<|im_end|>"), id("<|endoftext|>")];
    let generation = json!({
        "bos_token_id": id("<|endoftext|>"), "pad_token_id": id("<|endoftext|>"), "eos_token_id": ends, "do_sample": false,
    });
    let tokenizer_config = json!({
        "add_prefix_space": false,
        "added_tokens_decoder": added_tokens(tokenizer, &CHAT_SPECIALS),
        "additional_special_tokens": CHAT_SPECIALS[1..],
        "bos_token": null,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": false,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": MAX_POSITIONS,
        "pad_token": "<|endoftext|>",
        "padding_side": "left",
        "split_special_tokens": false,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": null,
    });
    let files = [
        ("config.json", chat_config(tokenizer, size)),
        ("generation_config.json", generation),
        ("preprocessor_config.json", preprocessor()),
        ("chat_template.json", json!({ "chat_template": CHAT_TEMPLATE })),
        ("tokenizer_config.json", tokenizer_config),
    ];
    write_files(folder, tokenizer, &files)
}

/// Writes `config.json`, `generation_config.json` and the tokenizer's files of a `LlamaForCausalLM`.
///
/// # Errors
/// [`MiniError`] where a file cannot be written.
pub fn write_judge_files(folder: impl AsRef<Path>, tokenizer: &Tokenizer, size: &JudgeSize) -> Result<(), MiniError> {
    let id = |token: &str| tokenizer.token_to_id(token);
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": false,
        "attention_dropout": 0.0,
        "bos_token_id": id("<|begin_of_text|>"),
        "eos_token_id": id("<|end_of_text|>"),
        "hidden_act": "silu",
        "hidden_size": size.d_model,
        "initializer_range": 0.02,
        "intermediate_size": size.d_mlp,
        "max_position_embeddings": MAX_POSITIONS,
        "mlp_bias": false,
        "model_type": "llama",
        "num_attention_heads": size.n_heads,
        "num_hidden_layers": size.n_layers,
        "num_key_value_heads": size.n_kv_heads,
        "rms_norm_eps": 1e-5,
        "rope_scaling": null,
        "rope_theta": 10000.0,
        "tie_word_embeddings": true,
        "torch_dtype": "float32",
        "use_cache": true,
        "vocab_size": tokenizer.get_vocab_size(true),
    });
    let generation = json!({
        "bos_token_id": id("<|begin_of_text|>"), "eos_token_id": id("<|end_of_text|>"), "do_sample": false,
    });
    let tokenizer_config = json!({
        "added_tokens_decoder": added_tokens(tokenizer, &JUDGE_SPECIALS),
        "bos_token": "<|begin_of_text|>",
        "clean_up_tokenization_spaces": false,
        "eos_token": "<|end_of_text|>",
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": MAX_POSITIONS,
        "pad_token": "<|end_of_text|>",
        "padding_side": "left",
        "tokenizer_class": "PreTrainedTokenizerFast",
    });
    let files =
        [("config.json", config), ("generation_config.json", generation), ("tokenizer_config.json", tokenizer_config)];
    write_files(folder.as_ref(), tokenizer, &files)
}

/// The mini models' context, in tokens.
const MAX_POSITIONS: usize = 1024;

fn chat_config(tokenizer: &Tokenizer, size: &ChatModelSize) -> Value {
    let id = |token: &str| tokenizer.token_to_id(token);
    // Half a head's width, dealt out to time, height and width as in Qwen2-VL (16, 24, 24 of 64).
    let half = size.d_model / size.n_heads / 2;
    let space = half * 3 / 8;
    json!({
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "attention_dropout": 0.0,
        "bos_token_id": id("<|endoftext|>"),
        "eos_token_id": id("<|im_end|>"),
        "vision_start_token_id": id("<|vision_start|>"),
        "vision_end_token_id": id("<|vision_end|>"),
        "vision_token_id": id("<|vision_pad|>"),
        "image_token_id": id("<|image_pad|>"),
        "video_token_id": id("<|video_pad|>"),
        "hidden_act": "silu",
        "hidden_size": size.d_model,
        "initializer_range": 0.02,
        "intermediate_size": size.d_mlp,
        "max_position_embeddings": MAX_POSITIONS,
        "max_window_layers": size.n_layers,
        "model_type": "qwen2_vl",
        "num_attention_heads": size.n_heads,
        "num_hidden_layers": size.n_layers,
        "num_key_value_heads": size.n_kv_heads,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "sliding_window": MAX_POSITIONS,
        "tie_word_embeddings": true,
        "torch_dtype": "float32",
        "use_cache": true,
        "use_sliding_window": false,
        "vision_config": {
            "depth": size.n_vision_blocks,
            "embed_dim": size.d_vision,
            "hidden_size": size.d_model,
            "mlp_ratio": 4,
            "num_heads": size.n_vision_heads,
            "in_chans": 3,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
        },
        "rope_scaling": { "type": "mrope", "mrope_section": [half - 2 * space, space, space] },
        "vocab_size": tokenizer.get_vocab_size(true),
    })
}

/// Every image, whatever its size, is brought to at most the mini world's own number of pixels.
fn preprocessor() -> Value {
    json!({
        "min_pixels": 56 * 56,
        "max_pixels": SIDE * SIDE,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2VLProcessor",
    })
}

fn added_tokens(tokenizer: &Tokenizer, specials: &[&str]) -> Value {
    let entries = specials.iter().filter_map(|text| {
        let entry = json!({
            "content": text, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false, "special": true,
        });
        tokenizer.token_to_id(text).map(|id| (id.to_string(), entry))
    });
    Value::Object(entries.collect())
}

fn write_files(folder: &Path, tokenizer: &Tokenizer, files: &[(&str, Value)]) -> Result<(), MiniError> {
    create_dir_all(folder).map_err(CoreError::io("create", folder))?;
    for (name, content) in files {
        write_atomically(folder.join(name), format!("{content:#}\n"))?;
    }
    let text = tokenizer.to_string(true);
    let text = text.map_err(|error| MiniError::Tokenizer { action: "write", detail: error.to_string() })?;
    write_atomically(folder.join("tokenizer.json"), text)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{chat_tokenizer, judge_tokenizer, judge_training};

    #[test]
    fn tokenizers_are_reproducible_and_lose_nothing() {
        let tokenizer = chat_tokenizer(1).expect("trains");
        let again = chat_tokenizer(1).expect("trains");
        assert_eq!(tokenizer.to_string(false).ok(), again.to_string(false).ok());
        let text = "On this slide the stain is eosin.\nÄpfel, 漢字 & \"quotes\" 123";
        let ids = tokenizer.encode(text, false).expect("encodes");
        assert_eq!(tokenizer.decode(ids.get_ids(), false).expect("decodes"), text);
        let special = tokenizer.encode("<|im_start|>user\n", false).expect("encodes");
        assert_eq!(special.get_tokens()[0], "<|im_start|>");
    }

    #[test]
    fn verdicts_are_one_token_each() {
        let tokenizer = judge_tokenizer(1).expect("trains");
        for verdict in [" Yes", " No", " Open"] {
            assert_eq!(tokenizer.encode(verdict, false).expect("encodes").len(), 1, "{verdict}");
        }
        let example = judge_training(1).next().expect("endless");
        let ids = tokenizer.encode(example.text(), true).expect("encodes");
        assert_eq!(ids.get_tokens()[0], "<|begin_of_text|>");
    }

    #[test]
    fn folders_hold_real_configurations() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tokenizer = chat_tokenizer(1).expect("trains");
        write_chat_model_files(folder.path(), &tokenizer, &ChatModelSize::default()).expect("written");
        let config = std::fs::read(folder.path().join("config.json")).expect("there");
        let config: Value = serde_json::from_slice(&config).expect("valid");
        assert_eq!(config["rope_scaling"]["mrope_section"], json!([4, 6, 6]));
        assert_eq!(config["image_token_id"].as_u64(), tokenizer.token_to_id("<|image_pad|>").map(u64::from));
    }
}
