//! The vision side's part of `config.json`, family by family.

use std::path::Path;

use adamllm_nn::Activation;
use adamllm_vision::{ClipTowerConfig, MllamaTowerConfig, Qwen2_5VlTowerConfig, Qwen2VlTowerConfig};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::config::{Family, section};
use crate::llava_next::LlavaNextVisionConfig;
use crate::mllama::MllamaVisionConfig;
use crate::text::read_json;
use crate::{ModelError, VisionConfig};

/// The `model_type` of LLaVA's first layout.
pub(super) const LLAVA_LLAMA: &str = "llava_llama";
/// The tower that LLaVA's first layout names by its Hub id.
const CLIP_LARGE_336: &str = "clip-vit-large-patch14-336";

/// The vision side that `config.json` describes; `None` for text-only families.
pub(super) fn read(
    path: &Path,
    root: &Map<String, Value>,
    family: Family,
    first_layout: bool,
    d_model: usize,
) -> Result<Option<VisionConfig>, ModelError> {
    if first_layout {
        return first_llava(path, root, d_model).map(|config| Some(VisionConfig::LlavaNext(config)));
    }
    let config = match family {
        Family::Qwen2Vl => VisionConfig::Qwen2Vl(raw::<RawQwen2Vl>(path, root)?.tower(path, d_model)?),
        Family::Qwen2_5Vl => VisionConfig::Qwen2_5Vl(raw::<RawQwen2_5Vl>(path, root)?.tower(path, d_model)?),
        Family::LlavaNext => VisionConfig::LlavaNext(llava(path, root, d_model)?),
        Family::Mllama => {
            let tower = raw::<RawMllama>(path, root)?.tower(path)?;
            VisionConfig::Mllama(MllamaVisionConfig { tower, d_model })
        }
        Family::Llama | Family::Qwen2 => return Ok(None),
    };
    Ok(Some(config))
}

fn raw<T: DeserializeOwned>(path: &Path, root: &Map<String, Value>) -> Result<T, ModelError> {
    section(path, "vision_config", root.get("vision_config").cloned().unwrap_or(Value::Null))
}

fn activation(path: &Path, field: &str, found: Option<&str>, default: Activation) -> Result<Activation, ModelError> {
    match found {
        None => Ok(default),
        Some("quick_gelu") => Ok(Activation::QuickGelu),
        Some("gelu") => Ok(Activation::Gelu),
        Some("gelu_pytorch_tanh") => Ok(Activation::GeluPytorchTanh),
        Some(other) => Err(ModelError::config(path, field, "quick_gelu, gelu or gelu_pytorch_tanh", other)),
    }
}

/// `d` must be `multiple_of * n_heads * k` for some `k`.
fn check_heads(path: &Path, field: &str, n_heads: usize, d: usize, multiple_of: usize) -> Result<(), ModelError> {
    if n_heads > 0 && d.is_multiple_of(multiple_of * n_heads) {
        return Ok(());
    }
    let expected = format!("{multiple_of} * {field} to divide the tower's width {d}");
    Err(ModelError::config(path, format!("vision_config.{field}"), expected, n_heads))
}

#[derive(Deserialize)]
struct RawQwen2Vl {
    depth: usize,
    embed_dim: usize,
    hidden_size: usize,
    num_heads: usize,
    mlp_ratio: usize,
    #[serde(alias = "in_chans")]
    in_channels: Option<usize>,
    patch_size: usize,
    spatial_merge_size: Option<usize>,
    temporal_patch_size: Option<usize>,
    hidden_act: Option<String>,
}

impl RawQwen2Vl {
    fn tower(&self, path: &Path, d_model: usize) -> Result<Qwen2VlTowerConfig, ModelError> {
        if self.hidden_size != d_model {
            let expected = format!("the decoder's width {d_model}");
            return Err(ModelError::config(path, "vision_config.hidden_size", expected, self.hidden_size));
        }
        check_heads(path, "num_heads", self.num_heads, self.embed_dim, 4)?;
        let field = "vision_config.hidden_act";
        Ok(Qwen2VlTowerConfig {
            n_layers: self.depth,
            d_vision: self.embed_dim,
            d_model,
            n_heads: self.num_heads,
            mlp_ratio: self.mlp_ratio,
            n_channels: self.in_channels.unwrap_or(3),
            patch_size: self.patch_size,
            temporal_patch_size: self.temporal_patch_size.unwrap_or(2),
            merge_size: self.spatial_merge_size.unwrap_or(2),
            activation: activation(path, field, self.hidden_act.as_deref(), Activation::QuickGelu)?,
        })
    }
}

#[derive(Deserialize)]
struct RawQwen2_5Vl {
    depth: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_heads: usize,
    out_hidden_size: usize,
    #[serde(alias = "in_chans")]
    in_channels: Option<usize>,
    patch_size: usize,
    spatial_merge_size: Option<usize>,
    temporal_patch_size: Option<usize>,
    window_size: Option<usize>,
    fullatt_block_indexes: Vec<usize>,
    hidden_act: Option<String>,
}

impl RawQwen2_5Vl {
    fn tower(&self, path: &Path, d_model: usize) -> Result<Qwen2_5VlTowerConfig, ModelError> {
        if self.out_hidden_size != d_model {
            let expected = format!("the decoder's width {d_model}");
            return Err(ModelError::config(path, "vision_config.out_hidden_size", expected, self.out_hidden_size));
        }
        check_heads(path, "num_heads", self.num_heads, self.hidden_size, 4)?;
        if let Some(other) = self.hidden_act.as_deref().filter(|act| *act != "silu") {
            return Err(ModelError::config(path, "vision_config.hidden_act", "silu", other));
        }
        Ok(Qwen2_5VlTowerConfig {
            n_layers: self.depth,
            d_vision: self.hidden_size,
            d_hidden: self.intermediate_size,
            d_model,
            n_heads: self.num_heads,
            full_attention_layers: self.fullatt_block_indexes.clone(),
            window_size: self.window_size.unwrap_or(112),
            n_channels: self.in_channels.unwrap_or(3),
            patch_size: self.patch_size,
            temporal_patch_size: self.temporal_patch_size.unwrap_or(2),
            merge_size: self.spatial_merge_size.unwrap_or(2),
        })
    }
}

/// CLIP's fields, with transformers' defaults for those that old files leave out (they wrote changed ones only).
#[derive(Deserialize)]
struct RawClip {
    #[serde(default = "d768")]
    hidden_size: usize,
    #[serde(default = "d3072")]
    intermediate_size: usize,
    #[serde(default = "d12")]
    num_hidden_layers: usize,
    #[serde(default = "d12")]
    num_attention_heads: usize,
    #[serde(default = "d224")]
    image_size: usize,
    #[serde(default = "d32")]
    patch_size: usize,
    num_channels: Option<usize>,
    layer_norm_eps: Option<f64>,
    hidden_act: Option<String>,
}

fn d768() -> usize {
    768
}
fn d3072() -> usize {
    3072
}
fn d12() -> usize {
    12
}
fn d224() -> usize {
    224
}
fn d32() -> usize {
    32
}

impl RawClip {
    fn tower(&self, path: &Path, feature_layer: i64) -> Result<ClipTowerConfig, ModelError> {
        check_heads(path, "num_attention_heads", self.num_attention_heads, self.hidden_size, 1)?;
        // Hidden states are counted from the embeddings (0) to the last block's output (n).
        let n = self.num_hidden_layers as i64;
        let used = if feature_layer < 0 { n + 1 + feature_layer } else { feature_layer };
        if !(0..=n).contains(&used) {
            let expected = format!("a layer of a tower of {n} layers");
            return Err(ModelError::config(path, "vision_feature_layer", expected, feature_layer));
        }
        let field = "vision_config.hidden_act";
        Ok(ClipTowerConfig {
            n_layers: self.num_hidden_layers,
            n_used_layers: used as usize,
            d_vision: self.hidden_size,
            n_heads: self.num_attention_heads,
            d_hidden: self.intermediate_size,
            tile: self.image_size,
            patch_size: self.patch_size,
            n_channels: self.num_channels.unwrap_or(3),
            activation: activation(path, field, self.hidden_act.as_deref(), Activation::QuickGelu)?,
            epsilon: self.layer_norm_eps.unwrap_or(1e-5),
        })
    }
}

#[derive(Deserialize)]
struct RawLlava {
    vision_feature_layer: Option<i64>,
    vision_feature_select_strategy: Option<String>,
    projector_hidden_act: Option<String>,
    image_grid_pinpoints: Option<Vec<(u32, u32)>>,
}

fn llava(path: &Path, root: &Map<String, Value>, d_model: usize) -> Result<LlavaNextVisionConfig, ModelError> {
    let fields: RawLlava = section(path, "(root)", Value::Object(root.clone()))?;
    if let Some(other) = fields.vision_feature_select_strategy.as_deref().filter(|s| *s != "default") {
        return Err(ModelError::config(path, "vision_feature_select_strategy", "default", other));
    }
    let field = "projector_hidden_act";
    Ok(LlavaNextVisionConfig {
        tower: raw::<RawClip>(path, root)?.tower(path, fields.vision_feature_layer.unwrap_or(-2))?,
        d_model,
        activation: activation(path, field, fields.projector_hidden_act.as_deref(), Activation::Gelu)?,
        pinpoints: fields.image_grid_pinpoints,
    })
}

#[derive(Deserialize)]
struct RawFirstLlava {
    mm_vision_tower: String,
    mm_vision_select_layer: Option<i64>,
    mm_vision_select_feature: Option<String>,
    mm_projector_type: Option<String>,
    mm_patch_merge_type: Option<String>,
    image_aspect_ratio: Option<String>,
    /// `(width, height)` here, the other way round than everywhere else.
    image_grid_pinpoints: Option<Vec<(u32, u32)>>,
}

/// LLaVA's first layout: the tower's own configuration stands in the folder that `mm_vision_tower` names (relative to the
/// model), or is known by the tower's Hub id.
fn first_llava(path: &Path, root: &Map<String, Value>, d_model: usize) -> Result<LlavaNextVisionConfig, ModelError> {
    let fields: RawFirstLlava = section(path, "(root)", Value::Object(root.clone()))?;
    let only = |field: &str, found: &Option<String>, wanted: &str| match found.as_deref() {
        Some(other) if other != wanted => Err(ModelError::config(path, field, wanted, other)),
        _ => Ok(()),
    };
    only("mm_vision_select_feature", &fields.mm_vision_select_feature, "patch")?;
    only("mm_projector_type", &fields.mm_projector_type, "mlp2x_gelu")?;
    only("mm_patch_merge_type", &fields.mm_patch_merge_type, "spatial_unpad")?;
    only("image_aspect_ratio", &fields.image_aspect_ratio, "anyres")?;
    let beside = path.parent().unwrap_or(Path::new(".")).join(&fields.mm_vision_tower).join("config.json");
    let tower: RawClip = match read_json(&beside)? {
        Some(json) => section(&beside, "(root)", json.get("vision_config").cloned().unwrap_or(json))?,
        None if fields.mm_vision_tower.ends_with(CLIP_LARGE_336) => RawClip {
            hidden_size: 1024,
            intermediate_size: 4096,
            num_hidden_layers: 24,
            num_attention_heads: 16,
            image_size: 336,
            patch_size: 14,
            num_channels: None,
            layer_norm_eps: None,
            hidden_act: None,
        },
        None => {
            let expected = format!("a folder beside config.json, or a name that ends with {CLIP_LARGE_336}");
            return Err(ModelError::config(path, "mm_vision_tower", expected, &fields.mm_vision_tower));
        }
    };
    let turned = |points: Vec<(u32, u32)>| points.into_iter().map(|(width, height)| (height, width)).collect();
    Ok(LlavaNextVisionConfig {
        tower: tower.tower(path, fields.mm_vision_select_layer.unwrap_or(-2))?,
        d_model,
        activation: Activation::Gelu,
        pinpoints: fields.image_grid_pinpoints.map(turned),
    })
}

#[derive(Deserialize)]
struct RawMllama {
    attention_heads: usize,
    hidden_size: usize,
    image_size: usize,
    intermediate_layers_indices: Vec<usize>,
    intermediate_size: usize,
    max_num_tiles: usize,
    norm_eps: Option<f64>,
    num_channels: Option<usize>,
    num_global_layers: usize,
    num_hidden_layers: usize,
    patch_size: usize,
    supported_aspect_ratios: Vec<[usize; 2]>,
    vision_output_dim: usize,
    hidden_act: Option<String>,
}

impl RawMllama {
    fn tower(&self, path: &Path) -> Result<MllamaTowerConfig, ModelError> {
        check_heads(path, "attention_heads", self.attention_heads, self.hidden_size, 1)?;
        let mut intermediate = self.intermediate_layers_indices.clone();
        intermediate.sort_unstable();
        if intermediate != self.intermediate_layers_indices || intermediate.last() >= Some(&self.num_hidden_layers) {
            let expected = format!("rising numbers below {}", self.num_hidden_layers);
            let got = format!("{:?}", self.intermediate_layers_indices);
            return Err(ModelError::config(path, "vision_config.intermediate_layers_indices", expected, got));
        }
        let config = MllamaTowerConfig {
            n_layers: self.num_hidden_layers,
            n_global_layers: self.num_global_layers,
            d_vision: self.hidden_size,
            n_heads: self.attention_heads,
            d_hidden: self.intermediate_size,
            tile: self.image_size,
            patch_size: self.patch_size,
            max_tiles: self.max_num_tiles,
            n_aspect_ratios: self.supported_aspect_ratios.len() + 1,
            intermediate_layers: intermediate,
            n_channels: self.num_channels.unwrap_or(3),
            activation: activation(path, "vision_config.hidden_act", self.hidden_act.as_deref(), Activation::Gelu)?,
            epsilon: self.norm_eps.unwrap_or(1e-5),
        };
        if self.vision_output_dim != config.d_output() {
            let expected = format!("hidden_size * (1 + the intermediate layers) = {}", config.d_output());
            return Err(ModelError::config(path, "vision_config.vision_output_dim", expected, self.vision_output_dim));
        }
        Ok(config)
    }
}
