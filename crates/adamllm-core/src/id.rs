use std::fmt;

use serde::{Deserialize, Serialize};

/// An id made of a record's content: the first 16 bytes of a BLAKE3 hash, as 32 hexadecimal digits.
///
/// Two records with the same content have the same id wherever they are, so adding, dropping or reordering records
/// changes no other record's id, and anything seeded by the id stays as it was.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecordId(String);

impl RecordId {
    /// Hashes a record's `kind` and fields. Each part is preceded by its length, so `["ab", "c"]` and `["a", "bc"]`
    /// differ.
    pub fn of<'a>(kind: &'a str, parts: impl IntoIterator<Item = &'a str>) -> Self {
        Self::of_bytes(kind, parts.into_iter().map(str::as_bytes))
    }

    /// [`RecordId::of`] for parts that are not text (an image file's bytes, token ids).
    pub fn of_bytes<'a>(kind: &'a str, parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in std::iter::once(kind.as_bytes()).chain(parts) {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let hex = hasher.finalize().to_hex();
        Self(hex[..32].to_owned())
    }

    /// Takes over an id that a user's file brings, unchanged.
    pub fn given(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// 64 bits derived from the id, for sharding and for seeding.
    pub fn to_u64(&self) -> u64 {
        let hash = blake3::hash(self.0.as_bytes());
        u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_delimited() {
        assert_ne!(RecordId::of("t", ["ab", "c"]), RecordId::of("t", ["a", "bc"]));
        assert_ne!(RecordId::of("t", ["a"]), RecordId::of("u", ["a"]));
        assert_eq!(RecordId::of("t", ["a"]).as_str().len(), 32);
    }
}
