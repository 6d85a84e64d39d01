//! The parts that all image processors' config files share.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::resize::RESAMPLINGS;
use super::{Normalisation, PreprocessError, Resampling};

/// The object that describes the image processor: the whole of a `preprocessor_config.json`, or the member
/// `image_processor` of a `processor_config.json` (transformers 5).
pub(crate) fn image_processor(text: &str) -> Result<Value, PreprocessError> {
    let mut file: Value = serde_json::from_str(text).map_err(|error| invalid("(file)", "JSON", error))?;
    if let Some(inner) = file.get_mut("image_processor").filter(|inner| inner.is_object()) {
        return Ok(inner.take());
    }
    if file.is_object() { Ok(file) } else { Err(invalid("(file)", "an object", &file)) }
}

pub(crate) fn invalid(field: &'static str, expected: &str, got: impl std::fmt::Display) -> PreprocessError {
    PreprocessError::Config { field, expected: expected.into(), got: got.to_string() }
}

/// A member, `None` where it is absent or null; of a wrong kind it is an error that names it.
pub(crate) fn member<T: DeserializeOwned>(
    processor: &Value,
    field: &'static str,
    expected: &str,
) -> Result<Option<T>, PreprocessError> {
    match &processor[field] {
        Value::Null => Ok(None),
        value => T::deserialize(value).map(Some).map_err(|_| invalid(field, expected, value)),
    }
}

/// Larger pixels would overflow in the vision encoder.
const MOST_NORMALISED: f32 = 1e6;

/// The longest side that a processor may scale a whole image or a tile to.
pub(crate) const LONGEST_SIDE: u32 = 8192;

/// Members that every processor has, with transformers' defaults.
#[derive(Debug)]
pub(crate) struct SharedFields {
    do_resize: Option<bool>,
    do_rescale: Option<bool>,
    do_normalize: Option<bool>,
    rescale_factor: Option<f64>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
    resample: Option<u64>,
}

impl SharedFields {
    pub(crate) fn of(processor: &Value) -> Result<Self, PreprocessError> {
        let switch = |field| member(processor, field, "true or false");
        let channels = |field| {
            let expected = "three numbers, one for each channel";
            let values: Option<[f32; 3]> = member(processor, field, expected)?;
            match values.filter(|values| !values.iter().all(|value| value.is_finite())) {
                None => Ok(values),
                Some(_) => Err(invalid(field, expected, &processor[field])),
            }
        };
        Ok(Self {
            do_resize: switch("do_resize")?,
            do_rescale: switch("do_rescale")?,
            do_normalize: switch("do_normalize")?,
            rescale_factor: member(processor, "rescale_factor", "a number")?,
            image_mean: channels("image_mean")?,
            image_std: channels("image_std")?,
            resample: member(processor, "resample", RESAMPLINGS)?,
        })
    }

    /// Steps that are switched off are written as the values that make them do nothing.
    pub(crate) fn normalisation(&self, default: Normalisation) -> Result<Normalisation, PreprocessError> {
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
        // So that no byte becomes anything but a number.
        if !chosen.std.iter().all(|std| std.is_normal()) {
            return Err(invalid("image_std", "values other than zero", format!("{:?}", chosen.std)));
        }
        if !(1e-12..=1e12).contains(&chosen.rescale) {
            return Err(invalid("rescale_factor", "a positive number", chosen.rescale));
        }
        let reasonable = |value: &f32| value.is_finite() && value.abs() <= MOST_NORMALISED;
        if !chosen.table().iter().flatten().all(reasonable) {
            let got = format!("{:?} with image_std {:?}", chosen.mean, chosen.std);
            return Err(invalid("image_mean", "numbers near those of a byte times rescale_factor", got));
        }
        Ok(chosen)
    }

    pub(crate) fn resampling(&self, default: Resampling) -> Result<Resampling, PreprocessError> {
        self.resample.map_or(Ok(default), Resampling::from_pillow_code)
    }
}

/// A side length: a plain number, `{shortest_edge}` or `{height, width}`.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Edges {
    Side(u32),
    Square { height: u32, width: u32 },
    Shortest { shortest_edge: u32 },
}

impl Edges {
    pub(crate) fn side(&self, field: &'static str) -> Result<u32, PreprocessError> {
        let side = match *self {
            Self::Side(side) | Self::Shortest { shortest_edge: side } => side,
            Self::Square { height, width } if height == width => height,
            Self::Square { height, width } => return Err(invalid(field, "a square", format!("{width}x{height}"))),
        };
        if (1..=LONGEST_SIDE).contains(&side) { Ok(side) } else { Err(invalid(field, "1 to 8192 pixels", side)) }
    }
}
