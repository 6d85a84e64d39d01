//! Parameter names: ours on the left, Hugging Face's on the right.

use super::config::Family;

/// How a folder names its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyLayout {
    /// The Hub of 2024: `model.layers.*`, `visual.*`.
    Hub2024,
    /// transformers 5 in memory: `model.language_model.layers.*`, `model.visual.*`.
    Transformers5,
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

const QWEN2_VL_TOWER: &[(&str, &str)] = &[
    ("patch_embedding.", "patch_embed.proj."),
    ("qkv.", "attn.qkv."),
    ("projection.", "attn.proj."),
    ("merger.norm.", "merger.ln_q."),
    ("merger.mlp.fc1.", "merger.mlp.0."),
    ("merger.mlp.fc2.", "merger.mlp.2."),
];

impl KeyLayout {
    /// The layout of a folder that has these keys.
    pub fn detect<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let nested = |key: &str| key.starts_with("model.language_model.");
        if keys.into_iter().any(nested) { Self::Transformers5 } else { Self::Hub2024 }
    }

    /// The key of the parameter that we call `name`.
    pub fn key(self, family: Family, name: &str) -> String {
        let (vision, language) = match (self, family) {
            (Self::Transformers5, Family::Qwen2Vl) => ("model.visual.", "model.language_model."),
            _ => ("visual.", "model."),
        };
        if let Some(rest) = name.strip_prefix("vision.") {
            return format!("{vision}{}", rename(rest, QWEN2_VL_TOWER));
        }
        match name.strip_prefix("language.").unwrap_or(name) {
            "head.weight" => "lm_head.weight".into(),
            rest => format!("{language}{}", rename(rest, DECODER)),
        }
    }
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
        for (ours, theirs) in pairs {
            assert_eq!(KeyLayout::Hub2024.key(Family::Qwen2Vl, ours), theirs);
        }
        let key = KeyLayout::Transformers5.key(Family::Qwen2Vl, "language.norm.weight");
        assert_eq!(key, "model.language_model.norm.weight");
    }
}
