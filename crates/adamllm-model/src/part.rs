use serde::{Deserialize, Serialize};

/// A part of a vision-language model that one may want to train at a rate of its own, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelPart {
    /// The vision encoder.
    Vision,
    /// What joins the encoder to the decoder: merger or projector, and line ends.
    Connector,
    /// The decoder's blocks and its last norm.
    Language,
    /// The head, where it is a matrix of its own; a head that is tied to the embeddings is part of those.
    Head,
    /// The table of token embeddings.
    Embeddings,
}

impl ModelPart {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Vision, Self::Connector, Self::Language, Self::Head, Self::Embeddings];

    /// What the names of its parameters begin with, in every family.
    pub fn prefixes(self) -> &'static [&'static str] {
        match self {
            Self::Vision => {
                &["vision.encoder.", "vision.patch_embedding.", "vision.position_embedding", "vision.blocks."]
            }
            Self::Connector => &[
                "vision.connector.",
                "vision.merger.",
                "vision.deepstack_mergers.",
                "vision.projector.",
                "vision.image_newline",
            ],
            Self::Language => &["language.layers.", "language.cross_layers.", "language.norm."],
            Self::Head => &["language.head."],
            Self::Embeddings => &["language.embedding"],
        }
    }

    /// The part that a parameter belongs to. What else an encoder of one's own has counts as encoder, and what else a backbone
    /// of one's own has as its blocks.
    pub fn of(name: &str) -> Option<Self> {
        let known = Self::ALL.into_iter().find(|part| part.prefixes().iter().any(|prefix| name.starts_with(prefix)));
        let own = [("vision.", Self::Vision), ("language.", Self::Language)];
        known.or_else(|| own.into_iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, part)| part))
    }
}

#[cfg(test)]
mod tests {
    use adamllm_nn::{Objective, ParameterKind, Parameters};
    use burn::tensor::Device;

    use super::*;
    use crate::{ModelConfig, VisionLanguageModel};

    #[test]
    fn every_parameter_of_every_family_belongs_to_one_part() {
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
        for family in ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava_next", "mllama", "smolvlm", "idefics3"] {
            let folder = crate::ModelFolder::open(format!("{fixtures}/{family}/model")).expect("opens");
            let config: &ModelConfig = folder.config();
            let model: VisionLanguageModel = VisionLanguageModel::init(config, &Device::flex());
            let mut found: Vec<ModelPart> = Vec::new();
            for name in Parameters::of(&model).names() {
                found.push(ModelPart::of(name).unwrap_or_else(|| panic!("{family}: {name} belongs to no part")));
            }
            found.sort();
            found.dedup();
            let tied = model.language.head.is_none();
            assert_eq!(found.len(), if tied { 4 } else { 5 }, "{family}: {found:?}");

            // The tables, the patch embedding and the head are what their parts say, everything else is between hidden states.
            for parameter in Parameters::of(&model).iter().filter(|parameter| parameter.shape.len() == 2) {
                let name = parameter.name.as_str();
                let expected = match ModelPart::of(name) {
                    Some(ModelPart::Head) => ParameterKind::Head,
                    Some(ModelPart::Embeddings) => ParameterKind::Embedding,
                    Some(ModelPart::Vision) if name.contains("embedding") => ParameterKind::Embedding,
                    _ => ParameterKind::Hidden,
                };
                assert_eq!(model.parameter_kind(name), expected, "{family}: {name}");
            }
        }
    }
}
