//! The parts that all image processors' config files share.

use serde::Deserialize;
use serde_json::Value;

use super::{Normalisation, PreprocessError, Resampling};

/// The object that describes the image processor: the whole of a `preprocessor_config.json`, or the member
/// `image_processor` of a `processor_config.json` (transformers 5).
pub(super) fn image_processor(text: &str) -> Result<Value, PreprocessError> {
    let mut file: Value = serde_json::from_str(text).map_err(|error| invalid("(file)", "JSON", error))?;
    if let Some(inner) = file.get_mut("image_processor").filter(|inner| inner.is_object()) {
        return Ok(inner.take());
    }
    if file.is_object() { Ok(file) } else { Err(invalid("(file)", "an object", &file)) }
}

pub(super) fn invalid(field: &'static str, expected: &str, got: impl std::fmt::Display) -> PreprocessError {
    PreprocessError::Config { field, expected: expected.into(), got: got.to_string() }
}

/// Members that every processor has, with transformers' defaults.
#[derive(Debug, Deserialize)]
pub(super) struct SharedFields {
    do_resize: Option<bool>,
    do_rescale: Option<bool>,
    do_normalize: Option<bool>,
    rescale_factor: Option<f64>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
    resample: Option<u64>,
}

impl SharedFields {
    pub(super) fn of(processor: &Value) -> Result<Self, PreprocessError> {
        Self::deserialize(processor).map_err(|error| invalid("(shared)", "an image processor's members", error))
    }

    /// Steps that are switched off are written as the values that make them do nothing.
    pub(super) fn normalisation(&self, default: Normalisation) -> Result<Normalisation, PreprocessError> {
        if self.do_resize == Some(false) {
            return Err(invalid("do_resize", "true", "false"));
        }
        let mut chosen = Normalisation {
            mean: self.image_mean.unwrap_or(default.mean),
            std: self.image_std.unwrap_or(default.std),
            rescale: self.rescale_factor.unwrap_or(default.rescale),
        };
        if self.do_normalize == Some(false) {
            (chosen.mean, chosen.std) = ([0.0; 3], [1.0; 3]);
        }
        if self.do_rescale == Some(false) {
            chosen.rescale = 1.0;
        }
        if chosen.std.contains(&0.0) {
            return Err(invalid("image_std", "values other than zero", format!("{:?}", chosen.std)));
        }
        Ok(chosen)
    }

    pub(super) fn resampling(&self, default: Resampling) -> Result<Resampling, PreprocessError> {
        self.resample.map_or(Ok(default), Resampling::from_pillow_code)
    }
}

/// A side length: a plain number, `{shortest_edge}` or `{height, width}`.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Edges {
    Side(u32),
    Square { height: u32, width: u32 },
    Shortest { shortest_edge: u32 },
}

impl Edges {
    pub(super) fn side(&self, field: &'static str) -> Result<u32, PreprocessError> {
        match *self {
            Self::Side(side) | Self::Shortest { shortest_edge: side } if side > 0 => Ok(side),
            Self::Square { height, width } if height == width && height > 0 => Ok(height),
            Self::Square { height, width } => Err(invalid(field, "a square", format!("{width}x{height}"))),
            _ => Err(invalid(field, "at least 1", 0)),
        }
    }
}
