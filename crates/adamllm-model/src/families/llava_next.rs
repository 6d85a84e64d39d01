//! LLaVA-NeXT (Liu et al. 2024; model card Lin-Chen/open-llava-next-llama3-8b), in the layout of Hugging Face and in its
//! first authors' (`llava_llama`).

use std::path::Path;
use std::sync::Arc;

use adamllm_core::json::shown;
use adamllm_nn::{Activation, ExampleSize, MlpShape, PassSegment, TrainedParameters};
use adamllm_vision::preprocess::{ImageProcessor, LlavaNextImageConfig, LlavaNextImageProcessor};
use adamllm_vision::{ClipEncoderConfig, LlavaNextVisionConfig};
use burn::tensor::Device;
use serde_json::{Map, Value};

use super::{Family, ModelFamily, llama, text};
use crate::flops::matrix;
use crate::hf::config::{ConfigFile, ModelConfig};
use crate::hf::fields::Fields;
use crate::hf::keys::{PartKeys, Renames};
use crate::hf::{defaults, vision as encoder};
use crate::image_processor::{agrees, invalid, settings};
use crate::memory::{Attention, EncoderShape, mlp_connector};
use crate::text::read_json;
use crate::{AutoVisionEncoder, ImagePrompt, ModelError, Preset, VisionConfig};

mod first_authors;

/// The family.
#[derive(Debug)]
pub(super) struct LlavaNext;

const FAMILY: Family = Family::new(&LlavaNext);

/// The `model_type` of the first authors' layout.
const FIRST_AUTHORS: &str = "llava_llama";
const KEYS: &[PartKeys] = &[
    PartKeys::language(
        "model.language_model.",
        "language_model.model.",
        &["model.", "language_model.", "language_model.model.model.", "model.language_model.model."],
    ),
    PartKeys::head("language_model.lm_head.", &["model.lm_head.", "model.language_model.lm_head."]),
    PartKeys {
        starts: &[("layers.", "encoder.layers.")],
        names: CLIP,
        ..PartKeys::plain(
            "vision.encoder.",
            "model.vision_tower.",
            "vision_tower.vision_model.",
            &[
                "vision_tower.",
                "model.vision_tower.vision_model.",
                "model.vision_tower.vision_tower.vision_model.",
                "model.vision_tower.vision_tower.",
            ],
        )
    },
    PartKeys::plain(
        "vision.projector.fc1.",
        "model.multi_modal_projector.linear_1.",
        "multi_modal_projector.linear_1.",
        &["model.mm_projector.0.", "mm_projector.0."],
    ),
    // The first authors count the nonlinearity between the layers.
    PartKeys::plain(
        "vision.projector.fc2.",
        "model.multi_modal_projector.linear_2.",
        "multi_modal_projector.linear_2.",
        &["model.mm_projector.2.", "mm_projector.2."],
    ),
    PartKeys::plain("vision.image_newline", "model.image_newline", "image_newline", &[]),
];

const CLIP: Renames = &[
    ("class_embedding", "embeddings.class_embedding"),
    ("patch_embedding.", "embeddings.patch_embedding."),
    ("position_embedding", "embeddings.position_embedding.weight"),
    ("pre_norm.", "pre_layrnorm."), // the files' own spelling
    ("post_norm.", "post_layernorm."),
    ("norm1.", "layer_norm1."),
    ("norm2.", "layer_norm2."),
    ("attention.query.", "self_attn.q_proj."),
    ("attention.key.", "self_attn.k_proj."),
    ("attention.value.", "self_attn.v_proj."),
    ("attention.output.", "self_attn.out_proj."),
];

impl ModelFamily for LlavaNext {
    fn model_types(&self) -> &'static [&'static str] {
        &["llava_next", FIRST_AUTHORS]
    }

    fn config(&self, file: &ConfigFile) -> Result<ModelConfig, ModelError> {
        config(file)
    }

    fn keys(&self) -> &'static [PartKeys] {
        KEYS
    }

    fn presets(&self) -> &'static [Preset] {
        &[Preset::LlavaLlama3, Preset::LlavaLlama3DoubleBos]
    }
}

/// The vision side of a folder.
#[derive(Clone, Debug, PartialEq)]
struct LlavaNextFolder {
    vision: LlavaNextVisionConfig,
    /// The canvases to choose from, as `(height, width)` in pixels, where `config.json` has them.
    pinpoints: Option<Vec<(u32, u32)>>,
    /// Whether the folder has the first authors' layout, whose settings for images stand in `config.json`.
    first_authors: bool,
}

impl VisionConfig for LlavaNextFolder {
    fn image_processor(&self, folder: &Path) -> Result<Arc<dyn ImageProcessor>, ModelError> {
        let encoder = &self.vision.encoder;
        let (path, mut read) = if self.first_authors {
            let tile = encoder.tile as u32;
            (folder.join("config.json"), LlavaNextImageConfig { tile, ..Default::default() })
        } else {
            settings(folder, LlavaNextImageConfig::from_json)?
        };
        if let Some(pinpoints) = self.pinpoints.as_ref().filter(|_| self.first_authors) {
            read.pinpoints.clone_from(pinpoints);
            read.validate().map_err(|e| invalid(&path, e))?;
        }
        agrees(&path, "crop_size", read.tile, encoder.tile)?;
        Ok(Arc::new(LlavaNextImageProcessor { config: read, patch_size: encoder.patch_size as u32 }))
    }

    fn n_blocks(&self) -> usize {
        self.vision.encoder.n_layers
    }

    fn forward_flops(&self, size: &ExampleSize) -> f64 {
        let (patches, pairs, encoder) = (size.patches as f64, size.attention_pairs as f64, &self.vision.encoder);
        let (d, d_model) = (encoder.d_vision, self.vision.d_model);
        let block = patches * (matrix(d, 4 * d) + matrix(d, 2 * encoder.d_hidden)) + 4.0 * d as f64 * pairs;
        let projector = patches * (matrix(d, d_model) + matrix(d_model, d_model));
        let patch = matrix(encoder.n_channels * encoder.patch_size.pow(2), d);
        patches * patch + encoder.n_used_layers as f64 * block + projector
    }

    /// A class token stands before each tile's patches, and a norm before the first block.
    fn pass_segments(&self, size: &ExampleSize, trained: &TrainedParameters) -> Option<Vec<PassSegment>> {
        let (config, d_model) = (&self.vision.encoder, self.vision.d_model);
        let encoder = EncoderShape {
            name: "vision.encoder",
            positions: size.patches + size.patches / config.n_patches().max(1),
            d_vision: config.d_vision,
            n_heads: config.n_heads,
            d_hidden: config.d_hidden,
            mlp: MlpShape::Plain,
        };
        let d_patch = config.n_channels * config.patch_size.pow(2);
        let mut segments = vec![encoder.patch_embedding(d_patch, trained), encoder.norm("pre_norm", trained)];
        let block = |i| encoder.block(&format!("vision.encoder.layers.{i}"), Attention::Separate, trained);
        segments.extend((0..config.n_used_layers).map(block));
        let projector = [config.d_vision, d_model, d_model];
        segments.push(mlp_connector("vision.projector", size.patches, projector, trained));
        Some(segments)
    }

    fn init(&self, device: &Device) -> Option<AutoVisionEncoder> {
        Some(self.vision.init(device).into())
    }

    fn image_prompt(&self) -> ImagePrompt {
        match self.first_authors {
            true => first_authors::PROMPT,
            false => ImagePrompt::default(),
        }
    }

    fn has_encoder_folder(&self) -> bool {
        self.first_authors
    }

    fn patch_kernel(&self) -> Vec<usize> {
        let encoder = &self.vision.encoder;
        vec![encoder.n_channels, encoder.patch_size, encoder.patch_size]
    }
}

fn config(file: &ConfigFile) -> Result<ModelConfig, ModelError> {
    if file.root.get("model_type").and_then(Value::as_str) == Some(FIRST_AUTHORS) {
        return first_authors::config(file);
    }
    let root = file.root_fields("llava_next");
    let image_token = file.image_token(&root)?;
    let feature_layer = feature_layer(&root, "vision_feature_layer", -2)?;
    root.only("vision_feature_select_strategy", "default".into())?;
    root.only("multimodal_projector_bias", true.into())?;
    let activation = encoder::activation(&root, "projector_hidden_act", Activation::Gelu)?;
    let pinpoints = pinpoints(&root)?;
    root.finish(&["tie_word_embeddings"])?;

    let (mut decoder, max_context) = decoder(file)?;
    decoder.tied_head = file.tied()?;
    let vision_fields = file.vision_fields("llava_next")?;
    vision_fields.value(&["model_type"])?.map_or(Ok(()), |kind| match kind.as_str() {
        Some("clip_vision_model") => Ok(()),
        _ => Err(vision_fields.fault("model_type", "clip_vision_model: no other encoder is supported", shown(kind))),
    })?;
    let encoder = clip(&vision_fields, feature_layer)?;
    vision_fields.finish(&[])?;
    let vision = LlavaNextVisionConfig { encoder, d_model: decoder.d_model, activation };
    let vision = Arc::new(LlavaNextFolder { vision, pinpoints, first_authors: false });
    Ok(ModelConfig { vision: Some(vision), image_token, ..ModelConfig::text_only(FAMILY, decoder, max_context) })
}

/// The decoder: a Llama where `text_config` names none.
fn decoder(file: &ConfigFile) -> Result<(adamllm_language::DecoderConfig, usize), ModelError> {
    let section = file.section("text_config")?.unwrap_or(super::nothing());
    let (class, kind) = match section.get("model_type").and_then(Value::as_str) {
        None | Some("llama") => ("llama", text::LLAMA),
        Some("mistral") => ("mistral", text::MISTRAL),
        Some("qwen2") => ("qwen2", text::QWEN2),
        Some(other) => {
            let expected = "llama, mistral or qwen2: no other decoder is supported";
            return Err(ModelError::config(&file.path, "text_config.model_type", expected, other));
        }
    };
    let fields = Fields::new(&file.path, "text_config", section, defaults::of(class, "config"));
    let decoder = text::decoder(&fields, kind)?;
    fields.finish(&[])?;
    Ok(decoder)
}

/// CLIP's sizes, up to the layer whose features are used.
fn clip(fields: &Fields, feature_layer: i64) -> Result<ClipEncoderConfig, ModelError> {
    let (d_vision, n_layers) = (fields.size("hidden_size")?, encoder::n_layers(fields, &["num_hidden_layers"])?);
    // Hidden states are counted from the embeddings (0) to the last block's output (n).
    let n = n_layers as i64;
    let used = if feature_layer < 0 { n + 1 + feature_layer } else { feature_layer };
    if !(0..=n).contains(&used) {
        let expected = format!("a layer of an encoder of {n} layers");
        return Err(ModelError::config(fields.path(), "vision_feature_layer", expected, feature_layer));
    }
    let patch_size = encoder::patch_size(fields)?;
    Ok(ClipEncoderConfig {
        n_layers,
        n_used_layers: used as usize,
        d_vision,
        n_heads: encoder::n_heads(fields, &["num_attention_heads"], d_vision, 1)?,
        d_hidden: fields.size("intermediate_size")?,
        tile: encoder::tile(fields, patch_size)?,
        patch_size,
        n_channels: encoder::n_channels(fields, &["num_channels"])?,
        activation: encoder::activation(fields, "hidden_act", Activation::QuickGelu)?,
        epsilon: fields.positive("layer_norm_eps")?,
    })
}

/// One layer, counted from the end where it is negative; a list of them is another architecture.
fn feature_layer(fields: &Fields, name: &str, default: i64) -> Result<i64, ModelError> {
    match fields.value(&[name])? {
        None => Ok(default),
        Some(value) => {
            let number = value.as_i64().filter(|n| n.unsigned_abs() < 1 << 20);
            number.ok_or_else(|| fields.fault(name, "one whole number: several layers are not supported", shown(value)))
        }
    }
}

/// The canvases, `(height, width)` in pixels. Without any, or with the class's own, the image processor's are used.
fn pinpoints(fields: &Fields) -> Result<Option<Vec<(u32, u32)>>, ModelError> {
    let Some(value) = fields.value(&["image_grid_pinpoints"])?.filter(|_| fields.has("image_grid_pinpoints")) else {
        return Ok(None);
    };
    let expected = "a list of pairs of pixels";
    let wrong = |value: &Value| fields.fault("image_grid_pinpoints", expected, shown(value));
    let list = value.as_array().filter(|list| !list.is_empty()).ok_or_else(|| wrong(value))?;
    let pair = |point: &Value| {
        let sides = point.as_array().filter(|pair| pair.len() == 2);
        let side = |i: usize| {
            let side = sides.and_then(|pair| pair[i].as_u64()).and_then(|n| u32::try_from(n).ok());
            side.filter(|n| (1..=1 << 14).contains(n))
        };
        side(0).zip(side(1)).ok_or_else(|| wrong(point))
    };
    list.iter().map(pair).collect::<Result<_, _>>().map(Some)
}

impl ModelConfig {
    /// Lin-Chen/open-llava-next-llama3-8b.
    pub fn llava_next_llama3_8b() -> Self {
        let vision = LlavaNextVisionConfig::vit_large_336();
        let vision = Arc::new(LlavaNextFolder { vision, pinpoints: None, first_authors: false });
        Self { vision: Some(vision), ..Self::text_only(FAMILY, llama::llama3_8b(), 8192) }
    }
}
