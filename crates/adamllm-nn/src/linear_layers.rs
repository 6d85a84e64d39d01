//! The linear layers of a module by name, for what goes beside them.

use std::fmt::Display;

use crate::{GatedMlp, Linear, Mlp};

/// Linear layers of a module, each under its path of field names inside the module.
pub type LinearLayers<'a> = Vec<(String, &'a mut Linear)>;

/// The layers of a field, under names inside the module that has it.
pub fn prefixed_layers<'a>(field: impl Display, layers: LinearLayers<'a>) -> LinearLayers<'a> {
    layers.into_iter().map(|(name, layer)| (format!("{field}.{name}"), layer)).collect()
}

/// The layers of a list of modules, such as blocks.
pub fn numbered_layers<'a>(field: &str, modules: impl Iterator<Item = LinearLayers<'a>>) -> LinearLayers<'a> {
    modules.enumerate().flat_map(|(i, layers)| prefixed_layers(format_args!("{field}.{i}"), layers)).collect()
}

impl Mlp {
    /// Its linear layers.
    pub fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
        vec![("fc1".into(), &mut self.fc1), ("fc2".into(), &mut self.fc2)]
    }
}

impl GatedMlp {
    /// Its linear layers.
    pub fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
        vec![("gate".into(), &mut self.gate), ("up".into(), &mut self.up), ("down".into(), &mut self.down)]
    }
}
