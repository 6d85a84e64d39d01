use adamllm_model::ModelPart;
use adamllm_train::ParameterGroup;
use serde::{Deserialize, Serialize};

/// Parts of the model with settings of their own. Where `train.groups` name some of the same parameters, those count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PartsSettings {
    /// The encoder that reads patches.
    pub vision: Option<PartSettings>,
    /// Merger or projector, and line ends.
    pub connector: Option<PartSettings>,
    /// The decoder's blocks and its last norm.
    pub language: Option<PartSettings>,
    /// The head, where it is a matrix of its own.
    pub head: Option<PartSettings>,
    /// The token embeddings, and a head that is tied to them.
    pub embeddings: Option<PartSettings>,
}

/// The settings of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PartSettings {
    /// A peak learning rate of its own.
    pub learning_rate: Option<f64>,
    /// A decay of its own.
    pub weight_decay: Option<f64>,
    /// Not trained at all.
    pub frozen: bool,
}

impl PartsSettings {
    /// The parts that have settings, by their keys.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, ModelPart, PartSettings)> + '_ {
        let parts = [
            ("vision", ModelPart::Vision, &self.vision),
            ("connector", ModelPart::Connector, &self.connector),
            ("language", ModelPart::Language, &self.language),
            ("head", ModelPart::Head, &self.head),
            ("embeddings", ModelPart::Embeddings, &self.embeddings),
        ];
        parts.into_iter().filter_map(|(key, part, settings)| Some((key, part, (*settings)?)))
    }

    /// The same as groups of parameters, of every family.
    pub(super) fn groups(&self) -> impl Iterator<Item = ParameterGroup> + '_ {
        self.named().flat_map(|(_, part, PartSettings { learning_rate, weight_decay, frozen })| {
            let group =
                move |&prefix: &&str| ParameterGroup { prefix: prefix.into(), learning_rate, weight_decay, frozen };
            part.prefixes().iter().map(group)
        })
    }
}
