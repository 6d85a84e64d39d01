//! What the names and patterns of a [`LoraConfig`] mean in a model: which layers get an adapter, how large, and what is
//! trained in full.

use std::collections::{BTreeMap, BTreeSet};

use adamllm_nn::{LoraConfig, LoraTargets};
use fancy_regex::Regex;

use crate::{ModelError, ModelPart};

/// Names of linear layers: ours, and those of Hugging Face checkpoints.
const LAYERS: [(&str, &str); 14] = [
    ("query", "q_proj"),
    ("key", "k_proj"),
    ("value", "v_proj"),
    ("output", "o_proj"),
    ("output", "out_proj"),
    ("gate", "gate_proj"),
    ("up", "up_proj"),
    ("down", "down_proj"),
    ("projection", "proj"),
    ("fc1", "linear_fc1"),
    ("fc2", "linear_fc2"),
    ("fc1", "linear_1"),
    ("fc2", "linear_2"),
    ("projector", "multi_modal_projector"),
];

/// Names of modules, in the same way.
const MODULES: [(&str, &str); 4] = [
    ("language.head", "lm_head"),
    ("language.embedding", "embed_tokens"),
    ("vision.projector", "multi_modal_projector"),
    ("vision.projector", "modality_projection"),
];

/// A configuration whose patterns have been compiled.
#[derive(Debug)]
pub(super) struct Selection<'c> {
    config: &'c LoraConfig,
    /// Where the targets are a regular expression.
    targets: Option<Regex>,
    ranks: Vec<Patterned<'c, usize>>,
    alphas: Vec<Patterned<'c, f64>>,
}

/// An entry of `rank_pattern` or `alpha_pattern`.
#[derive(Debug)]
struct Patterned<'c, T> {
    pattern: &'c str,
    regex: Regex,
    value: T,
}

impl<'c> Selection<'c> {
    /// Compiles the patterns, and checks the numbers.
    pub(super) fn new(config: &'c LoraConfig) -> Result<Self, ModelError> {
        let ranks = std::iter::once(config.rank).chain(config.rank_pattern.values().copied());
        let alphas = std::iter::once(config.alpha).chain(config.alpha_pattern.values().copied());
        if let Some((rank, alpha)) = ranks.zip(alphas.clone()).find(|&(rank, _)| rank == 0) {
            return Err(fault(format!("expected a rank and an alpha above 0, got {rank} and {alpha}")));
        }
        if let Some(alpha) = alphas.into_iter().find(|alpha| !(alpha.is_finite() && *alpha > 0.0)) {
            return Err(fault(format!("expected a rank and an alpha above 0, got {} and {alpha}", config.rank)));
        }
        if let Some((pattern, _)) = config.rank_pattern.iter().find(|(_, rank)| **rank == 0) {
            return Err(fault(format!("expected ranks above 0 in rank_pattern, got 0 for {pattern:?}")));
        }
        if !(0.0..1.0).contains(&config.dropout) {
            return Err(fault(format!("expected a dropout from 0 to below 1, got {}", config.dropout)));
        }

        let targets = match &config.targets {
            LoraTargets::Names(names) if names.is_empty() => {
                return Err(fault("expected targets, got none: no layer would get an adapter".into()));
            }
            LoraTargets::Pattern(pattern) => Some(compiled("targets", pattern, &format!("^(?:{pattern})$"))?),
            LoraTargets::AllLinear | LoraTargets::Names(_) => None,
        };
        let ranks = patterned("rank_pattern", &config.rank_pattern)?;
        let alphas = patterned("alpha_pattern", &config.alpha_pattern)?;
        Ok(Self { config, targets, ranks, alphas })
    }

    /// Refuses a name or a pattern that stands for nothing in a model with these linear layers and parameters.
    pub(super) fn check(&self, layers: &[String], parameters: &[&str]) -> Result<(), ModelError> {
        if let LoraTargets::Names(names) = &self.config.targets
            && let Some(name) = names.iter().find(|name| !layers.iter().any(|layer| is_named(layer, name)))
        {
            let known: BTreeSet<String> = layers.iter().map(|layer| target_of(layer)).collect();
            return Err(fault(format!("target {name:?} is none of {known:?}")));
        }
        for entry in &self.config.modules_to_save {
            if !parameters.iter().any(|parameter| belongs(parameter, entry)) {
                let parts = "a part (vision, connector, language, head, embeddings) or a module's field names";
                return Err(fault(format!(
                    "modules_to_save: {entry:?} names no module of the model; expected {parts}"
                )));
            }
        }

        let mut adapted = Vec::new();
        for layer in layers {
            if self.is_target(layer)? {
                adapted.push(layer);
            }
        }
        if adapted.is_empty() {
            let detail = format!("no layer would get an adapter: the targets are {:?}", self.config.targets);
            return Err(fault(detail));
        }
        let ranks = self.ranks.iter().map(|entry| ("rank_pattern", entry.pattern, &entry.regex));
        let alphas = self.alphas.iter().map(|entry| ("alpha_pattern", entry.pattern, &entry.regex));
        for (field, pattern, regex) in ranks.chain(alphas) {
            let mut matches = adapted.iter().map(|layer| is_match(regex, layer));
            if !matches.try_fold(false, |any, found| found.map(|found| any || found))? {
                return Err(fault(format!("{field}: {pattern:?} matches no layer with an adapter")));
            }
        }
        Ok(())
    }

    /// Whether a linear layer, by its path of field names in the model, gets an adapter. One that is trained in full gets none.
    pub(super) fn is_target(&self, layer: &str) -> Result<bool, ModelError> {
        if self.is_saved(&format!("{layer}.weight")) {
            return Ok(false);
        }
        match (&self.config.targets, &self.targets) {
            (LoraTargets::Names(names), _) => Ok(names.iter().any(|name| is_named(layer, name))),
            (LoraTargets::Pattern(_), Some(regex)) => is_match(regex, layer),
            _ => Ok(true),
        }
    }

    /// The configuration with a layer's own rank and alpha.
    pub(super) fn of_layer(&self, layer: &str) -> Result<LoraConfig, ModelError> {
        let rank = first_match(&self.ranks, layer)?.unwrap_or(self.config.rank);
        let alpha = first_match(&self.alphas, layer)?.unwrap_or(self.config.alpha);
        Ok(LoraConfig { rank, alpha, ..self.config.clone() })
    }

    /// Whether a parameter is trained in full beside the adapters.
    pub(super) fn is_saved(&self, parameter: &str) -> bool {
        self.config.modules_to_save.iter().any(|entry| belongs(parameter, entry))
    }
}

/// The value of the first entry that matches a layer.
fn first_match<T: Copy>(entries: &[Patterned<T>], layer: &str) -> Result<Option<T>, ModelError> {
    for entry in entries {
        if is_match(&entry.regex, layer)? {
            return Ok(Some(entry.value));
        }
    }
    Ok(None)
}

fn patterned<'c, T: Copy>(field: &str, entries: &'c BTreeMap<String, T>) -> Result<Vec<Patterned<'c, T>>, ModelError> {
    let compile = |(pattern, &value): (&'c String, &T)| {
        let regex = compiled(field, pattern, &pattern_at_end(pattern))?;
        Ok(Patterned { pattern, regex, value })
    };
    entries.iter().map(compile).collect()
}

/// As PEFT matches `rank_pattern` and `alpha_pattern`: the whole name, or what follows one of its dots.
pub(super) fn pattern_at_end(pattern: &str) -> String {
    format!(r"^(?:.*\.)?(?:{pattern})$")
}

fn compiled(field: &str, pattern: &str, whole: &str) -> Result<Regex, ModelError> {
    Regex::new(whole).map_err(|e| fault(format!("{field}: {pattern:?} is no regular expression: {e}")))
}

fn is_match(regex: &Regex, name: &str) -> Result<bool, ModelError> {
    regex.is_match(name).map_err(|e| fault(format!("the pattern {regex} on {name}: {e}")))
}

fn fault(detail: String) -> ModelError {
    ModelError::Adapter { detail }
}

/// A part by the name that settings give it.
fn part_named(name: &str) -> Option<ModelPart> {
    match name {
        "vision" => Some(ModelPart::Vision),
        "connector" => Some(ModelPart::Connector),
        "language" => Some(ModelPart::Language),
        "head" => Some(ModelPart::Head),
        "embeddings" => Some(ModelPart::Embeddings),
        _ => None,
    }
}

fn part_of(layer: &str) -> Option<ModelPart> {
    ModelPart::of(&format!("{layer}.weight"))
}

/// Whether a target that is a name stands for a layer: one of the decoder, unless the name begins with another part.
fn is_named(layer: &str, target: &str) -> bool {
    let in_part = target.split_once('.').and_then(|(part, name)| Some((part_named(part)?, Some(name))));
    let whole_part = part_named(target).map(|part| (part, None));
    let (part, name) = in_part.or(whole_part).unwrap_or((ModelPart::Language, Some(target)));
    part_of(layer) == Some(part) && name.is_none_or(|name| is_called(last(layer), name))
}

/// Whether `name` is a layer's name, ours or that of checkpoints.
fn is_called(layer: &str, name: &str) -> bool {
    layer == name || LAYERS.iter().any(|(ours, theirs)| *ours == layer && *theirs == name)
}

/// The target that stands for a layer.
fn target_of(layer: &str) -> String {
    match part_of(layer) {
        Some(ModelPart::Vision) => format!("vision.{}", last(layer)),
        Some(ModelPart::Connector) => format!("connector.{}", last(layer)),
        _ => last(layer).to_owned(),
    }
}

/// Whether a parameter belongs to what an entry of `modules_to_save` names.
fn belongs(parameter: &str, entry: &str) -> bool {
    if let Some(part) = part_named(entry) {
        return ModelPart::of(parameter) == Some(part);
    }
    let module = MODULES.iter().filter(|(_, theirs)| *theirs == entry).map(|(ours, _)| *ours).chain([entry]);
    let path = format!(".{parameter}.");
    module.into_iter().any(|module| path.contains(&format!(".{module}.")))
}

/// The last part of a path of field names.
fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_the_decoders() {
        for (layer, target, named) in [
            ("language.layers.3.attention.query", "query", true),
            ("language.layers.3.attention.query", "q_proj", true),
            ("language.layers.3.attention.query", "language", true),
            ("language.layers.3.attention.query", "vision.query", false),
            ("vision.encoder.layers.3.attention.query", "query", false),
            ("vision.encoder.layers.3.attention.query", "vision.q_proj", true),
            ("vision.encoder.layers.3.attention.output", "vision.out_proj", true),
            ("vision.blocks.0.qkv", "vision", true),
            ("vision.merger.mlp.fc1", "vision", false),
            ("vision.merger.mlp.fc1", "connector.fc1", true),
            ("vision.projector", "connector", true),
        ] {
            assert_eq!(is_named(layer, target), named, "{layer} {target}");
        }
    }

    #[test]
    fn a_module_is_named_by_its_part_or_its_fields() {
        for (parameter, entry, found) in [
            ("vision.merger.norm.weight", "connector", true),
            ("vision.merger.norm.weight", "merger", true),
            ("vision.merger.norm.weight", "merger.norm", true),
            ("vision.blocks.0.norm1.weight", "norm", false),
            ("language.head.weight", "lm_head", true),
            ("language.embedding", "embed_tokens", true),
            ("vision.projector.fc1.bias", "multi_modal_projector", true),
            ("vision.image_newline", "projector", false),
        ] {
            assert_eq!(belongs(parameter, entry), found, "{parameter} {entry}");
        }
    }

    #[test]
    fn ranks_and_alphas_follow_patterns() {
        let mut config = LoraConfig::new(8, 16.0);
        config.rank_pattern = [(r"vision\..*".to_owned(), 2), ("1.attention.query".to_owned(), 4)].into();
        config.alpha_pattern = [("query|key".to_owned(), 1.0)].into();
        let selection = Selection::new(&config).expect("patterns");
        let of = |layer| selection.of_layer(layer).map(|config| (config.rank, config.alpha)).expect("matches");
        assert_eq!(of("vision.blocks.0.qkv"), (2, 16.0));
        assert_eq!(of("language.layers.1.attention.query"), (4, 1.0));
        assert_eq!(of("language.layers.11.attention.query"), (8, 1.0));
        assert_eq!(of("language.layers.11.mlp.up"), (8, 16.0));
    }
}
