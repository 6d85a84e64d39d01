//! Parameter names: ours on the left, Hugging Face's on the right.
//!
//! A checkpoint's key is a prefix, which names the part of the model, and a rest. Tools and versions mix the prefixes
//! freely (`model.visual.*` beside `model.layers.*`), so each part is looked for under each of its prefixes.

use super::config::ModelConfig;

/// How new files name their tensors. Reading knows no layout: each part of a folder may have any of its family's prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyLayout {
    /// The Hub of 2024: `model.layers.*`, `visual.*`; `language_model.model.*`, `vision_tower.vision_model.*`.
    Hub2024,
    /// transformers 5 in memory: `model.language_model.layers.*`, `model.visual.*`.
    Transformers5,
}

/// The keys of one part of a model.
#[derive(Debug)]
pub struct PartKeys {
    /// What our names of the part begin with.
    pub ours: &'static str,
    /// The prefix in memory in transformers 5.
    pub transformers5: &'static str,
    /// The prefix on the Hub of 2024.
    pub hub2024: &'static str,
    /// Prefixes that other tools and versions write.
    pub others: &'static [&'static str],
    /// The rest of a key: where its start is ours, theirs.
    pub starts: Renames,
    /// The rest of a key: ours, theirs, at its start or after a dot.
    pub names: Renames,
}

impl PartKeys {
    /// The decoder, under these prefixes.
    pub const fn language(transformers5: &'static str, hub2024: &'static str, others: &'static [&'static str]) -> Self {
        Self { names: DECODER, ..Self::plain(LANGUAGE, transformers5, hub2024, others) }
    }

    /// The head, which transformers 5 has at the root.
    pub const fn head(hub2024: &'static str, others: &'static [&'static str]) -> Self {
        Self::plain("language.head.", "lm_head.", hub2024, others)
    }

    /// A part whose rest of a key is the same in ours and theirs.
    pub const fn plain(
        ours: &'static str,
        transformers5: &'static str,
        hub2024: &'static str,
        others: &'static [&'static str],
    ) -> Self {
        Self { ours, transformers5, hub2024, others, starts: &[], names: &[] }
    }
}

/// Our name, theirs.
pub type Renames = &'static [(&'static str, &'static str)];

/// The decoder's names.
const DECODER: Renames = &[
    ("embedding", "embed_tokens.weight"),
    ("attention_norm.", "input_layernorm."),
    ("attention.query_norm.", "self_attn.q_norm."),
    ("attention.key_norm.", "self_attn.k_norm."),
    ("attention.query.", "self_attn.q_proj."),
    ("attention.key.", "self_attn.k_proj."),
    ("attention.value.", "self_attn.v_proj."),
    ("attention.output.", "self_attn.o_proj."),
    ("mlp_norm.", "post_attention_layernorm."),
    ("mlp.gate.", "mlp.gate_proj."),
    ("mlp.up.", "mlp.up_proj."),
    ("mlp.down.", "mlp.down_proj."),
];

const CROSS_LAYERS: Renames = &[
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

/// What wrapping modules add anywhere in a key: `torch.compile`, FSDP, activation checkpointing.
const WRAPPERS: &[&str] = &["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."];
/// What they add in front of it: data parallel training, PEFT.
const OUTER_WRAPPERS: &[&str] = &["module.", "base_model.model.", "base_model."];

/// A key without the names of modules that were wrapped around the model or parts of it.
pub(crate) fn unwrapped(key: &str) -> String {
    let mut key = key.to_owned();
    for wrapper in WRAPPERS {
        key = key.replace(wrapper, "");
    }
    while let Some(rest) = OUTER_WRAPPERS.iter().find_map(|wrapper| key.strip_prefix(wrapper)) {
        key = rest.to_owned();
    }
    key
}

impl KeyLayout {
    /// The key of the parameter that we call `name`; its own name where the family knows no such part.
    pub fn key(self, config: &ModelConfig, name: &str) -> String {
        let Some((part, rest)) = part(config, name) else { return name.to_owned() };
        let prefix = match self {
            Self::Hub2024 => part.hub2024,
            Self::Transformers5 => part.transformers5,
        };
        format!("{prefix}{rest}")
    }
}

/// Every key under which the parameter that we call `name` may stand, as prefix and rest, likelier ones first.
pub(crate) fn candidates(config: &ModelConfig, name: &str) -> Vec<(&'static str, String)> {
    let Some((part, rest)) = part(config, name) else { return vec![("", name.to_owned())] };
    let others = part.others.iter().copied().filter(|prefix| ![part.transformers5, part.hub2024].contains(prefix));
    let new = (part.transformers5 != part.hub2024).then_some(part.transformers5);
    new.into_iter().chain([part.hub2024]).chain(others).map(|prefix| (prefix, rest.clone())).collect()
}

/// The part that a parameter belongs to, and the rest of its key.
fn part(config: &ModelConfig, name: &str) -> Option<(&'static PartKeys, String)> {
    let parts = config.family.keys().iter();
    let part = parts.filter(|part| name.starts_with(part.ours)).max_by_key(|part| part.ours.len())?;
    let rest = &name[part.ours.len()..];
    let cross = &config.decoder.cross_layers;
    if part.ours == LANGUAGE {
        // The checkpoint counts both kinds of layers together, in the order in which they are passed.
        if let Some((i, rest)) = numbered(rest, "cross_layers.") {
            return Some((part, format!("layers.{}.{}", cross.get(i)?, rename(rest, CROSS_LAYERS))));
        }
        if let Some((i, rest)) = numbered(rest, "layers.") {
            let index = (0..).filter(|index| !cross.contains(index)).nth(i)?;
            return Some((part, format!("layers.{index}.{}", rename(rest, part.names))));
        }
    }
    let rest = match part.starts.iter().find_map(|(ours, theirs)| Some((theirs, rest.strip_prefix(ours)?))) {
        Some((theirs, rest)) => format!("{theirs}{}", rename(rest, part.names)),
        None => rename(rest, part.names),
    };
    Some((part, rest))
}

/// Our names of the decoder begin with this.
const LANGUAGE: &str = "language.";

/// `prefix`, a number, a dot and the rest.
fn numbered<'a>(name: &'a str, prefix: &str) -> Option<(usize, &'a str)> {
    let (number, rest) = name.strip_prefix(prefix)?.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

/// Replaces the one entry of the table that matches at the name's start or after a dot.
fn rename(name: &str, table: Renames) -> String {
    for (ours, theirs) in table {
        if let Some(rest) = name.strip_prefix(ours) {
            return format!("{theirs}{rest}");
        }
        if let Some(dot) = name.find(&format!(".{ours}")) {
            return format!("{}.{theirs}{}", &name[..dot], &name[dot + 1 + ours.len()..]);
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

    #[test]
    fn blocks_and_mergers_of_one_encoder_have_their_own_names() {
        let config = ModelConfig::qwen3_vl_2b();
        for (ours, theirs) in [
            ("language.layers.1.attention.key_norm.weight", "model.language_model.layers.1.self_attn.k_norm.weight"),
            ("vision.position_embedding", "model.visual.pos_embed.weight"),
            ("vision.blocks.3.mlp.fc1.bias", "model.visual.blocks.3.mlp.linear_fc1.bias"),
            ("vision.merger.mlp.fc1.bias", "model.visual.merger.linear_fc1.bias"),
            ("vision.merger.norm.bias", "model.visual.merger.norm.bias"),
            ("vision.deepstack_mergers.2.mlp.fc2.weight", "model.visual.deepstack_merger_list.2.linear_fc2.weight"),
        ] {
            assert_eq!(KeyLayout::Hub2024.key(&config, ours), theirs);
        }
        let key = KeyLayout::Transformers5.key(&config, "language.norm.weight");
        assert_eq!(key, "model.language_model.norm.weight");
    }

    #[test]
    fn a_connector_between_two_models_of_one_file() {
        let config = ModelConfig::smolvlm_256m();
        for (ours, theirs) in [
            ("language.layers.1.attention.query.weight", "model.text_model.layers.1.self_attn.q_proj.weight"),
            ("language.head.weight", "lm_head.weight"),
            ("vision.encoder.patch_embedding.bias", "model.vision_model.embeddings.patch_embedding.bias"),
            ("vision.encoder.position_embedding", "model.vision_model.embeddings.position_embedding.weight"),
            (
                "vision.encoder.layers.3.attention.output.bias",
                "model.vision_model.encoder.layers.3.self_attn.out_proj.bias",
            ),
            ("vision.encoder.layers.3.mlp.fc1.bias", "model.vision_model.encoder.layers.3.mlp.fc1.bias"),
            ("vision.encoder.post_norm.weight", "model.vision_model.post_layernorm.weight"),
            ("vision.projector.weight", "model.connector.modality_projection.proj.weight"),
        ] {
            assert_eq!(KeyLayout::Hub2024.key(&config, ours), theirs);
            assert_eq!(KeyLayout::Transformers5.key(&config, ours), theirs);
        }
    }

    #[test]
    fn layers_of_two_kinds_are_counted_together() {
        let config = ModelConfig::llama3_2_11b_vision();
        let key = |name| KeyLayout::Hub2024.key(&config, name);
        assert_eq!(key("language.layers.3.mlp.up.weight"), "language_model.model.layers.4.mlp.up_proj.weight");
        let gate = "language_model.model.layers.8.cross_attn_attn_gate";
        assert_eq!(key("language.cross_layers.1.attention_gate"), gate);
        assert_eq!(
            key("vision.encoder.global_layers.2.attention_gate"),
            "vision_model.global_transformer.layers.2.gate_attn"
        );
    }

    #[test]
    fn wrappers_are_no_part_of_a_key() {
        for (key, bare) in [
            ("_orig_mod.model.norm.weight", "model.norm.weight"),
            ("model.layers.0._orig_mod.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
            ("base_model.model.model.norm.weight", "model.norm.weight"),
            ("module.visual.merger.ln_q.weight", "visual.merger.ln_q.weight"),
            ("model.visual.blocks.0.norm1.weight", "model.visual.blocks.0.norm1.weight"),
        ] {
            assert_eq!(unwrapped(key), bare);
        }
    }

    #[test]
    fn a_part_may_stand_under_each_of_its_prefixes() {
        let config = ModelConfig::llava_next_llama3_8b();
        let candidates = |name| -> Vec<String> {
            candidates(&config, name).into_iter().map(|(prefix, rest)| prefix.to_owned() + &rest).collect()
        };
        let keys = candidates("vision.encoder.layers.0.norm1.bias");
        for prefix in
            ["vision_tower.", "vision_tower.vision_model.", "model.vision_tower.", "model.vision_tower.vision_model."]
        {
            assert!(keys.contains(&format!("{prefix}encoder.layers.0.layer_norm1.bias")), "{keys:?}");
        }
        let projector = candidates("vision.projector.fc2.bias");
        assert!(projector.contains(&"model.mm_projector.2.bias".to_owned()), "{projector:?}");
    }
}
