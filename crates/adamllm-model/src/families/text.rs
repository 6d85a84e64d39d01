//! The decoder's part of `config.json`, as Llama, Mistral, Qwen2 and Qwen3 write it: families with such a decoder read it with
//! [`decoder`].

use adamllm_core::json::shown;
use adamllm_language::{DecoderConfig, RopeConfig, RopeScaling, SlidingWindow};
use serde_json::{Map, Value};

use crate::ModelError;
use crate::hf::fields::{Fields, MOST};
use crate::hf::keys::PartKeys;

/// What distinguishes one kind of text model from another.
#[derive(Clone, Copy, Debug)]
pub struct TextKind {
    /// Whether query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether queries and keys are normalised head by head.
    pub qk_norm: bool,
    /// Which layers attend within a window.
    pub window: WindowRule,
    /// Whether positions have three axes (M-RoPE).
    pub mrope: bool,
    /// Whether the channels of the three axes alternate.
    pub mrope_interleaved: bool,
    /// Embeddings that the head does not have.
    pub n_extra_embeddings: usize,
}

/// Which layers attend within a window.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum WindowRule {
    /// None: the class has no such field.
    None,
    /// All, where `sliding_window` has a number (Mistral).
    All,
    /// Those from `max_window_layers` on, where `use_sliding_window` is set, or those that `layer_types` lists (Qwen2).
    FromLayer,
}

/// Llama 3.
pub const LLAMA: TextKind = TextKind {
    qkv_bias: false,
    qk_norm: false,
    window: WindowRule::None,
    mrope: false,
    mrope_interleaved: false,
    n_extra_embeddings: 0,
};
/// Mistral.
pub const MISTRAL: TextKind = TextKind { window: WindowRule::All, ..LLAMA };
/// Qwen2.
pub const QWEN2: TextKind = TextKind { qkv_bias: true, window: WindowRule::FromLayer, ..LLAMA };
/// Qwen3.
pub const QWEN3: TextKind = TextKind { qkv_bias: false, qk_norm: true, ..QWEN2 };
/// The decoder of Qwen2-VL and Qwen2.5-VL.
pub const QWEN_VL: TextKind = TextKind { mrope: true, ..QWEN2 };

/// The decoder of Qwen3-VL.
pub const QWEN3_VL: TextKind = TextKind { window: WindowRule::None, mrope: true, mrope_interleaved: true, ..QWEN3 };

/// The keys of text-only families. A bare model without a head is saved without its prefix.
pub const TEXT_KEYS: &[PartKeys] =
    &[PartKeys::language("model.", "model.", &["", "model.model."]), PartKeys::head("lm_head.", &["model.lm_head."])];

/// The longest context and the widest window that a file may ask for.
const LONGEST: usize = 1 << 31;
const MOST_LAYERS: usize = 1 << 16;

/// The decoder's sizes and the longest context, from the section that holds them. `tied_head` is the section's own flag.
///
/// # Errors
/// [`ModelError::ConfigField`].
pub fn decoder(fields: &Fields, kind: TextKind) -> Result<(DecoderConfig, usize), ModelError> {
    let n_heads = fields.size("num_attention_heads")?;
    let n_kv_heads = match fields.is_null("num_key_value_heads") {
        true => n_heads,
        false => fields.optional_count(&["num_key_value_heads"], 1..=MOST)?.unwrap_or(n_heads),
    };
    if !n_heads.is_multiple_of(n_kv_heads) {
        let expected = format!("a divisor of num_attention_heads = {n_heads}");
        return Err(fields.fault("num_key_value_heads", expected, n_kv_heads));
    }

    let d_model = fields.size("hidden_size")?;
    let d_head = match fields.optional_count(&["head_dim"], 1..=MOST)? {
        Some(d_head) => d_head,
        None if d_model.is_multiple_of(n_heads) => d_model / n_heads,
        None => {
            let expected = format!("a multiple of num_attention_heads = {n_heads}, or a head_dim");
            return Err(fields.fault("hidden_size", expected, d_model));
        }
    };
    if !d_head.is_multiple_of(2) {
        return Err(fields.fault("head_dim", "an even number, for rotary positions", d_head));
    }

    match fields.word("hidden_act")? {
        None | Some("silu" | "swish") => {}
        Some(other) => return Err(fields.fault("hidden_act", "silu: nothing else is supported", other)),
    }
    fields.only("is_encoder_decoder", false.into())?;
    fields.only("partial_rotary_factor", 1.0.into())?;
    let n_layers = fields.count(&["num_hidden_layers"], 1..=MOST_LAYERS)?;
    let decoder = DecoderConfig {
        d_model,
        n_layers,
        n_heads,
        n_kv_heads,
        d_head,
        d_hidden: fields.size("intermediate_size")?,
        vocab_size: fields.size("vocab_size")?,
        rms_epsilon: fields.not_negative("rms_norm_eps")?,
        qkv_bias: kind.qkv_bias,
        qk_norm: kind.qk_norm,
        n_extra_embeddings: kind.n_extra_embeddings,
        cross_layers: Vec::new(),
        tied_head: fields.flag("tie_word_embeddings")?,
        rope: rope(fields, d_head, kind)?,
        sliding_window: window(fields, kind.window, n_layers)?,
    };
    Ok((decoder, fields.count(&["max_position_embeddings"], 1..=LONGEST)?))
}

/// The layers that attend within a window, as transformers fills `layer_types`.
fn window(fields: &Fields, rule: WindowRule, n_layers: usize) -> Result<Option<SlidingWindow>, ModelError> {
    let used = match rule {
        WindowRule::None => return Ok(None),
        WindowRule::All => true,
        WindowRule::FromLayer => fields.flag("use_sliding_window")?,
    };

    // Qwen2's files name a width even where no layer uses it.
    let used = used && !fields.is_null("sliding_window");
    let width = fields.optional_count(&["sliding_window"], 1..=LONGEST)?.filter(|_| used);
    let first = match rule {
        WindowRule::FromLayer => fields.optional_count(&["max_window_layers"], 0..=LONGEST)?.unwrap_or(0),
        _ => 0,
    };

    // A list of layers counts more than the rule that older files have in its place.
    let listed = fields.value(&["layer_types"])?.map(|types| layer_types(fields, types, n_layers)).transpose()?;
    let layers: Vec<usize> = match (listed, width) {
        (Some(layers), _) => layers,
        (None, Some(_)) => (first..n_layers).collect(),
        (None, None) => Vec::new(),
    };

    match (layers.is_empty(), width) {
        (true, _) => Ok(None),
        (false, Some(width)) => Ok(Some(SlidingWindow { width, layers })),
        (false, None) => {
            let expected = "a number, as layer_types lists layers with sliding_attention";
            Err(fields.fault("sliding_window", expected, "none"))
        }
    }
}

/// The layers with `sliding_attention`.
fn layer_types(fields: &Fields, types: &Value, n_layers: usize) -> Result<Vec<usize>, ModelError> {
    let expected = || format!("{n_layers} of full_attention or sliding_attention");
    let wrong = || fields.fault("layer_types", expected(), shown(types));
    let types = types.as_array().filter(|types| types.len() == n_layers).ok_or_else(wrong)?;
    let mut layers = Vec::new();
    for (i, layer) in types.iter().enumerate() {
        match layer.as_str() {
            Some("full_attention") => {}
            Some("sliding_attention") => layers.push(i),
            _ => return Err(fields.fault("layer_types", expected(), shown(layer))),
        }
    }
    Ok(layers)
}

/// `rope_parameters` (transformers 5), or `rope_theta` with `rope_scaling` (2024). Where several say the same thing, they
/// must agree.
fn rope(fields: &Fields, d_head: usize, family: TextKind) -> Result<RopeConfig, ModelError> {
    let given = |name: &str| Ok::<_, ModelError>(fields.value(&[name])?.filter(|_| fields.has(name)));
    let raw = match (given("rope_parameters")?, given("rope_scaling")?) {
        (Some(parameters), Some(scaling)) if !same_rope(parameters, scaling) => {
            let expected = format!("the same as rope_parameters beside it, {}", shown(parameters));
            return Err(fields.fault("rope_scaling", expected, shown(scaling)));
        }
        (Some(given), _) | (None, Some(given)) => object(fields, given)?,
        (None, None) => super::nothing(),
    };
    let raw = Rope { fields, raw };
    let kind = raw.kind(family.mrope)?;

    // transformers takes the inner one where both stand.
    let (inner, outer) = (raw.number("rope_theta")?, fields.positive("rope_theta")?);
    if inner.is_some_and(|inner| inner != outer) && fields.has("rope_theta") {
        tracing::warn!(file = %fields.path().display(), "rope_parameters.rope_theta is used, not the other rope_theta beside it");
    }
    let theta = inner.unwrap_or(outer);

    let scaling = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: raw.needed("factor")? },
        "llama3" => raw.llama3()?,
        other => {
            let expected = "default, mrope, linear or llama3: nothing else is supported";
            return Err(fields.fault("rope_scaling.rope_type", expected, other));
        }
    };
    raw.only_known(family.mrope_interleaved)?;
    let mrope_section = family.mrope.then(|| raw.section(d_head, family.mrope_interleaved)).transpose()?;
    Ok(RopeConfig { theta, scaling, mrope_section, mrope_interleaved: family.mrope_interleaved })
}

/// Whether both of the names say the same: the base may stand in one of them alone.
fn same_rope(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return a == b };
    let number = |value: &Value| value.as_f64();
    let agree = |(name, value): (&String, &Value)| match b.get(name) {
        None => name == "rope_theta" || name == "type" || name == "rope_type",
        Some(other) => value == other || number(value).zip(number(other)).is_some_and(|(a, b)| a == b),
    };
    let known = |name: &String| a.contains_key(name) || ["rope_theta", "type", "rope_type"].contains(&name.as_str());
    a.iter().all(agree) && b.keys().all(known)
}

fn object<'a>(fields: &Fields, value: &'a Value) -> Result<&'a Map<String, Value>, ModelError> {
    value.as_object().ok_or_else(|| fields.fault("rope_scaling", "an object", shown(value)))
}

/// The rotary positions' own object.
struct Rope<'a> {
    fields: &'a Fields<'a>,
    raw: &'a Map<String, Value>,
}

impl Rope<'_> {
    /// Refuses what this code does not know: a field that it would read over may change every angle.
    fn only_known(&self, interleaved: bool) -> Result<(), ModelError> {
        const KNOWN: &[&str] = &[
            "rope_theta",
            "rope_type",
            "type",
            "mrope_section",
            "factor",
            "low_freq_factor",
            "high_freq_factor",
            "original_max_position_embeddings",
        ];

        for (name, value) in self.raw {
            let neutral = match name.as_str() {
                "partial_rotary_factor" | "attention_factor" => value.as_f64() == Some(1.0),
                "mrope_interleaved" => *value == Value::Bool(interleaved),
                name => KNOWN.contains(&name),
            };

            if !neutral && !value.is_null() {
                let expected = match name.as_str() {
                    "mrope_interleaved" => format!("{interleaved}: the family has no other form"),
                    _ => format!("one of {KNOWN:?}"),
                };
                return Err(self.fields.fault(&format!("rope_scaling.{name}"), expected, shown(value)));
            }
        }

        Ok(())
    }

    /// `rope_type`, or `type` as it was called before; `mrope` is the default with three axes.
    fn kind(&self, mrope: bool) -> Result<&str, ModelError> {
        let plain = |word| if mrope && word == "mrope" { "default" } else { word };
        let word = |name: &str| self.raw.get(name).and_then(Value::as_str).map(plain);
        match (word("rope_type"), word("type")) {
            (Some(kind), Some(old)) if kind != old => {
                let expected = format!("the same as rope_type beside it, {kind}");
                Err(self.fields.fault("rope_scaling.type", expected, old))
            }
            (kind, old) => Ok(kind.or(old).unwrap_or("default")),
        }
    }

    fn number(&self, name: &str) -> Result<Option<f64>, ModelError> {
        let Some(value) = self.raw.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
        let number = value.as_f64().filter(|n| n.is_finite() && *n > 0.0);
        let field = format!("rope_scaling.{name}");
        number.map(Some).ok_or_else(|| self.fields.fault(&field, "a number above 0", shown(value)))
    }

    fn needed(&self, name: &str) -> Result<f64, ModelError> {
        let missing = || self.fields.fault(&format!("rope_scaling.{name}"), "a number above 0", "nothing");
        self.number(name)?.ok_or_else(missing)
    }

    fn llama3(&self) -> Result<RopeScaling, ModelError> {
        let (low, high) = (self.needed("low_freq_factor")?, self.needed("high_freq_factor")?);
        if low >= high {
            let expected = format!("below high_freq_factor = {high}");
            return Err(self.fields.fault("rope_scaling.low_freq_factor", expected, low));
        }
        // The decoder's own field wins over the one in here, and the longest context stands in for both.
        let name = "original_max_position_embeddings";
        let original = match (self.fields.has(name), self.number(name)?) {
            (true, _) => self.fields.positive(name)?,
            (false, Some(original)) => original,
            (false, None) => self.fields.positive("max_position_embeddings")?,
        };
        Ok(RopeScaling::Llama3 {
            factor: self.needed("factor")?,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_positions: original as usize,
        })
    }

    /// Interleaved ones have a default.
    fn section(&self, d_head: usize, interleaved: bool) -> Result<[usize; 3], ModelError> {
        let found = self.raw.get("mrope_section").filter(|value| !value.is_null());
        let numbers = found.and_then(Value::as_array).map(|list| {
            let number = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n <= MOST);
            list.iter().map_while(number).collect::<Vec<_>>()
        });
        let default = if found.is_none() && interleaved { Some([24, 20, 20]) } else { None };
        match numbers.and_then(|numbers| <[usize; 3]>::try_from(numbers).ok()).or(default) {
            Some(section) if section.iter().sum::<usize>() * 2 == d_head => Ok(section),
            _ => {
                let expected = format!("three whole numbers that sum to {}, half a head's width", d_head / 2);
                Err(self.fields.fault("rope_scaling.mrope_section", expected, found.map_or("nothing".into(), shown)))
            }
        }
    }
}
