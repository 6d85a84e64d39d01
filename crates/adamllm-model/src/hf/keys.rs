//! Parameter names: ours on the left, Hugging Face's on the right.

use super::config::{Family, ModelConfig};

/// How a folder names its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyLayout {
    /// The Hub of 2024: `model.layers.*`, `visual.*`; `language_model.model.*`, `vision_tower.vision_model.*`.
    Hub2024,
    /// transformers 5 in memory: `model.language_model.layers.*`, `model.visual.*`.
    Transformers5,
    /// LLaVA's first authors: `model.layers.*`, `model.vision_tower.vision_tower.*`, `model.mm_projector.*`.
    FirstLlava,
}

const DECODER: &[(&str, &str)] = &[
    ("embedding", "embed_tokens.weight"),
    ("attention_norm.", "input_layernorm."),
    ("attention.query.", "self_attn.q_proj."),
    ("attention.key.", "self_attn.k_proj."),
    ("attention.value.", "self_attn.v_proj."),
    ("attention.output.", "self_attn.o_proj."),
    ("mlp_norm.", "post_attention_layernorm."),
    ("mlp.gate.", "mlp.gate_proj."),
    ("mlp.up.", "mlp.up_proj."),
    ("mlp.down.", "mlp.down_proj."),
];

const CROSS_LAYERS: &[(&str, &str)] = &[
    ("attention_norm.", "input_layernorm."),
    ("attention.query_norm.", "cross_attn.q_norm."),
    ("attention.key_norm.", "cross_attn.k_norm."),
    ("attention.query.", "cross_attn.q_proj."),
    ("attention.key.", "cross_attn.k_proj."),
    ("attention.value.", "cross_attn.v_proj."),
    ("attention.output.", "cross_attn.o_proj."),
    ("attention_gate", "cross_attn_attn_gate"),
    ("mlp_norm.", "post_attention_layernorm."),
    ("mlp_gate", "cross_attn_mlp_gate"),
    ("mlp.gate.", "mlp.gate_proj."),
    ("mlp.up.", "mlp.up_proj."),
    ("mlp.down.", "mlp.down_proj."),
];

/// Qwen2-VL and Qwen2.5-VL; the gated MLPs are the latter's.
const QWEN_VL_TOWER: &[(&str, &str)] = &[
    ("patch_embedding.", "patch_embed.proj."),
    ("qkv.", "attn.qkv."),
    ("projection.", "attn.proj."),
    ("merger.norm.", "merger.ln_q."),
    ("merger.mlp.fc1.", "merger.mlp.0."),
    ("merger.mlp.fc2.", "merger.mlp.2."),
    ("mlp.gate.", "mlp.gate_proj."),
    ("mlp.up.", "mlp.up_proj."),
    ("mlp.down.", "mlp.down_proj."),
];

const CLIP_TOWER: &[(&str, &str)] = &[
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

const MLLAMA_TOWER: &[(&str, &str)] = &[
    ("positions.embedding", "gated_positional_embedding.embedding"),
    ("positions.tile_embedding", "gated_positional_embedding.tile_embedding.weight"),
    ("positions.gate", "gated_positional_embedding.gate"),
    ("pre_tile.embedding", "pre_tile_positional_embedding.embedding.weight"),
    ("pre_tile.gate", "pre_tile_positional_embedding.gate"),
    ("post_tile.embedding", "post_tile_positional_embedding.embedding.weight"),
    ("post_tile.gate", "post_tile_positional_embedding.gate"),
    ("pre_norm.", "layernorm_pre."),
    ("post_norm.", "layernorm_post."),
    ("norm1.", "input_layernorm."),
    ("norm2.", "post_attention_layernorm."),
    ("attention.query.", "self_attn.q_proj."),
    ("attention.key.", "self_attn.k_proj."),
    ("attention.value.", "self_attn.v_proj."),
    ("attention.output.", "self_attn.o_proj."),
    ("attention_gate", "gate_attn"),
    ("mlp_gate", "gate_ffn"),
];

impl KeyLayout {
    /// The layout of a folder that has these keys.
    pub fn detect<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        keys.into_iter()
            .find_map(|key| {
                let found = |prefix: &str, layout| key.starts_with(prefix).then_some(layout);
                found("model.language_model.", Self::Transformers5)
                    .or_else(|| found("model.vision_tower.vision_tower.", Self::FirstLlava))
            })
            .unwrap_or(Self::Hub2024)
    }

    /// The key of the parameter that we call `name`.
    pub fn key(self, config: &ModelConfig, name: &str) -> String {
        match name.strip_prefix("vision.") {
            Some(rest) => self.vision_key(config.family, rest),
            None => self.language_key(config, name.strip_prefix("language.").unwrap_or(name)),
        }
    }

    /// The head's key, whether the model has one of its own or not.
    pub fn head_key(self, family: Family) -> &'static str {
        match (self, family) {
            (Self::Hub2024, Family::LlavaNext | Family::Mllama) => "language_model.lm_head.weight",
            _ => "lm_head.weight",
        }
    }

    fn language_key(self, config: &ModelConfig, name: &str) -> String {
        if name == "head.weight" {
            return self.head_key(config.family).into();
        }
        let prefix = match (self, config.family) {
            (_, Family::Llama | Family::Qwen2) | (Self::FirstLlava, _) => "model.",
            (Self::Transformers5, _) => "model.language_model.",
            (Self::Hub2024, Family::LlavaNext | Family::Mllama) => "language_model.model.",
            (Self::Hub2024, Family::Qwen2Vl | Family::Qwen2_5Vl) => "model.",
        };
        let cross = &config.decoder.cross_layers;
        if let Some((i, rest)) = numbered(name, "cross_layers.") {
            return format!("{prefix}layers.{}.{}", cross[i], rename(rest, CROSS_LAYERS));
        }
        if let Some((i, rest)) = numbered(name, "layers.") {
            let place = (0..).filter(|place| !cross.contains(place)).nth(i).expect("endless");
            return format!("{prefix}layers.{place}.{}", rename(rest, DECODER));
        }
        format!("{prefix}{}", rename(name, DECODER))
    }

    fn vision_key(self, family: Family, name: &str) -> String {
        let transformers5 = if self == Self::Transformers5 { "model." } else { "" };
        match family {
            Family::LlavaNext => self.llava_key(name),
            Family::Mllama => match name.strip_prefix("tower.") {
                Some(rest) => {
                    let rest = match rest.strip_prefix("global_layers.") {
                        Some(layer) => format!("global_transformer.layers.{layer}"),
                        None => rest.replacen("layers.", "transformer.layers.", 1),
                    };
                    format!("{transformers5}vision_model.{}", rename(&rest, MLLAMA_TOWER))
                }
                None => format!("{transformers5}multi_modal_{name}"),
            },
            Family::Qwen2Vl | Family::Qwen2_5Vl | Family::Llama | Family::Qwen2 => {
                format!("{transformers5}visual.{}", rename(name, QWEN_VL_TOWER))
            }
        }
    }

    fn llava_key(self, name: &str) -> String {
        let (tower, projector, newline) = match self {
            Self::Hub2024 => ("vision_tower.vision_model.", "multi_modal_projector.linear_", "image_newline"),
            Self::Transformers5 => {
                ("model.vision_tower.", "model.multi_modal_projector.linear_", "model.image_newline")
            }
            Self::FirstLlava => {
                ("model.vision_tower.vision_tower.vision_model.", "model.mm_projector.", "model.image_newline")
            }
        };
        if let Some(rest) = name.strip_prefix("tower.") {
            let rest = rest.replacen("layers.", "encoder.layers.", 1);
            return format!("{tower}{}", rename(&rest, CLIP_TOWER));
        }
        match (numbered(name, "projector.fc"), self) {
            // The first layout counts the nonlinearity between the layers.
            (Some((i, rest)), Self::FirstLlava) => format!("{projector}{}.{rest}", 2 * (i - 1)),
            (Some((i, rest)), _) => format!("{projector}{i}.{rest}"),
            (None, _) => newline.into(),
        }
    }
}

/// `prefix`, a number, a dot and the rest.
fn numbered<'a>(name: &'a str, prefix: &str) -> Option<(usize, &'a str)> {
    let (number, rest) = name.strip_prefix(prefix)?.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

/// Replaces the one row of the table that matches at the name's start or behind a dot.
fn rename(name: &str, table: &[(&str, &str)]) -> String {
    for (ours, theirs) in table {
        if let Some(rest) = name.strip_prefix(ours) {
            return format!("{theirs}{rest}");
        }
        if let Some(at) = name.find(&format!(".{ours}")) {
            return format!("{}.{theirs}{}", &name[..at], &name[at + 1 + ours.len()..]);
        }
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_every_kind_of_parameter() {
        let pairs = [
            ("language.embedding", "model.embed_tokens.weight"),
            ("language.layers.11.attention.query.bias", "model.layers.11.self_attn.q_proj.bias"),
            ("language.layers.0.mlp_norm.weight", "model.layers.0.post_attention_layernorm.weight"),
            ("language.norm.weight", "model.norm.weight"),
            ("language.head.weight", "lm_head.weight"),
            ("vision.patch_embedding.weight", "visual.patch_embed.proj.weight"),
            ("vision.blocks.3.qkv.bias", "visual.blocks.3.attn.qkv.bias"),
            ("vision.blocks.3.mlp.fc1.bias", "visual.blocks.3.mlp.fc1.bias"),
            ("vision.merger.mlp.fc2.weight", "visual.merger.mlp.2.weight"),
            ("vision.merger.norm.weight", "visual.merger.ln_q.weight"),
        ];
        let config = ModelConfig::qwen2_vl_2b();
        for (ours, theirs) in pairs {
            assert_eq!(KeyLayout::Hub2024.key(&config, ours), theirs);
        }
        let key = KeyLayout::Transformers5.key(&config, "language.norm.weight");
        assert_eq!(key, "model.language_model.norm.weight");
    }
}
