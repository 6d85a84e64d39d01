use std::fmt;

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, Unexpected, VariantAccess,
    Visitor,
};
use toml::Value;

use super::SettingsError;

/// A value of a settings file with its key from the root, for the error.
pub(super) struct Node<'a> {
    value: &'a Value,
    key: String,
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Value) -> Self {
        Self { value, key: String::new() }
    }

    fn below(&self, part: &str, value: &'a Value) -> Self {
        let key = if self.key.is_empty() { part.to_owned() } else { format!("{}.{part}", self.key) };
        Self { value, key }
    }

    /// Errors of serde know no keys; they are given this one.
    fn at<T>(&self, result: Result<T, SettingsError>) -> Result<T, SettingsError> {
        result.map_err(|error| placed(error, &self.key))
    }
}

fn placed(error: SettingsError, at: &str) -> SettingsError {
    match error {
        SettingsError::Value { key, detail } if key.is_empty() => SettingsError::Value { key: at.into(), detail },
        SettingsError::UnknownKey { key, known } if !key.contains('.') && !at.is_empty() => {
            SettingsError::UnknownKey { key: format!("{at}.{key}"), known }
        }
        other => other,
    }
}

impl de::Error for SettingsError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Value { key: String::new(), detail: message.to_string() }
    }

    fn invalid_type(found: Unexpected, expected: &dyn de::Expected) -> Self {
        Self::custom(format!("expected {expected}, got {}", shown(found)))
    }

    fn invalid_value(found: Unexpected, expected: &dyn de::Expected) -> Self {
        Self::custom(format!("expected {expected}, got {}", shown(found)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::UnknownKey { key: field.into(), known: expected.iter().map(|&name| name.into()).collect() }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format!("expected one of {}, got {variant}", expected.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format!("`{field}` is missing"))
    }
}

fn shown(found: Unexpected) -> String {
    match found {
        Unexpected::Str(text) => format!("{text:?}"),
        Unexpected::Signed(number) => number.to_string(),
        Unexpected::Unsigned(number) => number.to_string(),
        Unexpected::Float(number) => number.to_string(),
        Unexpected::Bool(value) => value.to_string(),
        other => other.to_string(),
    }
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = SettingsError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        let visited = match self.value {
            Value::String(text) => visitor.visit_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Datetime(time) => visitor.visit_str(&time.to_string()),
            Value::Array(values) => {
                let items = values.iter().enumerate().map(|(i, value)| self.below(&i.to_string(), value));
                visitor.visit_seq(Items(items.collect::<Vec<_>>().into_iter()))
            }
            Value::Table(table) => {
                let fields = table.iter().map(|(key, value)| (key.clone(), self.below(key, value)));
                visitor.visit_map(Fields { rest: fields.collect::<Vec<_>>().into_iter(), value: None })
            }
        };
        self.at(visited)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        match self.value {
            Value::String(text) if text == "none" => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        let visited = match self.value {
            Value::String(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            Value::Table(table) if table.len() == 1 => {
                let (name, value) = table.iter().next().expect("one entry");
                visitor.visit_enum(Variant { name: name.clone(), node: self.below(name, value) })
            }
            other => Err(de::Error::custom(format!("expected a name, got {other}"))),
        };
        self.at(visited)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct Items<'a>(std::vec::IntoIter<Node<'a>>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = SettingsError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, SettingsError> {
        self.0.next().map(|node| seed.deserialize(node)).transpose()
    }
}

struct Fields<'a> {
    rest: std::vec::IntoIter<(String, Node<'a>)>,
    value: Option<Node<'a>>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = SettingsError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, SettingsError> {
        let Some((key, node)) = self.rest.next() else { return Ok(None) };
        self.value = Some(node);
        seed.deserialize(IntoDeserializer::<SettingsError>::into_deserializer(key)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, SettingsError> {
        let node = self.value.take().expect("asked for after its key");
        let key = node.key.clone();
        seed.deserialize(node).map_err(|error| placed(error, &key))
    }
}

/// A variant with content: a table of one entry.
struct Variant<'a> {
    name: String,
    node: Node<'a>,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = SettingsError;
    type Variant = Node<'a>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Node<'a>), SettingsError> {
        let name = seed.deserialize(IntoDeserializer::<SettingsError>::into_deserializer(self.name))?;
        Ok((name, self.node))
    }
}

impl<'de> VariantAccess<'de> for Node<'_> {
    type Error = SettingsError;

    fn unit_variant(self) -> Result<(), SettingsError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, SettingsError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, SettingsError> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        self.deserialize_any(visitor)
    }
}
