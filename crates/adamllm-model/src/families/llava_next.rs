//! LLaVA-NeXT (Liu et al. 2024; model card Lin-Chen/open-llava-next-llama3-8b), in the layout of Hugging Face and in its
//! first authors' (`llava_llama`).

use adamllm_core::json::shown;
use std::path::Path;

use adamllm_nn::Activation;
use adamllm_vision::ClipEncoderConfig;
use serde_json::{Map, Value};

use super::{Family, FamilyRules, text, with_vision};
use crate::hf::config::{ConfigFile, ModelConfig};
use crate::hf::fields::Fields;
use crate::hf::keys::{PartKeys, Renames};
use crate::hf::{defaults, vision as encoder};
use crate::text::read_json;
use crate::{ModelError, VisionConfig};

mod vision;

pub use vision::{LlavaNextVision, LlavaNextVisionConfig};

/// The `model_type` of the first authors' layout.
const FIRST_AUTHORS: &str = "llava_llama";
/// The encoder that the first authors' layout names by its Hub id.
const CLIP_LARGE_336: &str = "clip-vit-large-patch14-336";

pub(super) const RULES: FamilyRules = FamilyRules { model_types: &["llava_next", FIRST_AUTHORS], config, keys: KEYS };

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

fn config(file: &ConfigFile) -> Result<ModelConfig, ModelError> {
    if file.root.get("model_type").and_then(Value::as_str) == Some(FIRST_AUTHORS) {
        return first_authors(file);
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
    let vision = LlavaNextVisionConfig { encoder, d_model: decoder.d_model, activation, pinpoints };
    Ok(with_vision(Family::LlavaNext, decoder, VisionConfig::LlavaNext(vision), image_token, max_context))
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

/// The first authors' layout: the encoder's own configuration stands in the folder that `mm_vision_tower` names (relative to
/// the model), or is known by the encoder's Hub id.
fn first_authors(file: &ConfigFile) -> Result<ModelConfig, ModelError> {
    let fields = file.root_fields(FIRST_AUTHORS);
    let (mut decoder, max_context) = text::decoder(&fields, text::LLAMA)?;
    decoder.tied_head = file.tied()?;

    // The names of what is supported are not the class's defaults: a file that leaves one out has no images of this kind.
    let given = |name: &str, wanted: &str| match fields.word(name)? {
        Some(other) if fields.has(name) && other != wanted => Err(fields.fault(name, wanted, other)),
        _ => Ok(()),
    };
    given("mm_vision_select_feature", "patch")?;
    given("mm_projector_type", "mlp2x_gelu")?;
    given("mm_patch_merge_type", "spatial_unpad")?;
    given("image_aspect_ratio", "anyres")?;
    let name = fields.word("mm_vision_tower")?.unwrap_or("");
    let select = feature_layer(&fields, "mm_vision_select_layer", -2)?;
    // `(width, height)` here, the other way round than everywhere else.
    let turned = |points: Vec<(u32, u32)>| points.into_iter().map(|(width, height)| (height, width)).collect();
    let pinpoints = pinpoints(&fields)?.map(turned);
    fields.only("mm_use_im_start_end", false.into())?;
    fields.finish(&["mm_hidden_size", "mm_use_im_patch_token"])?;

    let (path, section) = first_authors_encoder(&file.path, name)?;
    let encoder_fields = Fields::new(&path, "", &section, defaults::of("llava_next", "vision_config"));
    let encoder = clip(&encoder_fields, select)?;
    encoder_fields.finish(&[])?;
    let vision = LlavaNextVisionConfig { encoder, d_model: decoder.d_model, activation: Activation::Gelu, pinpoints };
    let config = with_vision(Family::LlavaNext, decoder, VisionConfig::LlavaNext(vision), None, max_context);
    Ok(ModelConfig { first_layout: true, ..config })
}

/// The encoder's own `config.json`, and where it stands.
fn first_authors_encoder(path: &Path, name: &str) -> Result<(std::path::PathBuf, Map<String, Value>), ModelError> {
    let beside = path.parent().unwrap_or(Path::new(".")).join(name).join("config.json");
    let found = if name.is_empty() { None } else { read_json(&beside)? };
    match found {
        Some(json) => {
            let section = json.get("vision_config").cloned().unwrap_or(json);
            let wrong = |other: &Value| ModelError::config(&beside, "(root)", "an object", shown(other));
            let section = section.as_object().ok_or_else(|| wrong(&section))?.clone();
            Ok((beside, section))
        }
        None if name.ends_with(CLIP_LARGE_336) => {
            Ok((path.into(), defaults::absent("llava_next", "vision_config").clone()))
        }
        None => {
            let expected = format!("a folder beside config.json, or a name that ends with {CLIP_LARGE_336}");
            Err(ModelError::config(path, "mm_vision_tower", expected, name))
        }
    }
}
