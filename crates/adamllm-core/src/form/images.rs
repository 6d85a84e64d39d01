use serde_json::Value;

use super::RecordForm;
use crate::json::{is_absent, shown};
use crate::{CoreError, ImageRef};

impl RecordForm<'_> {
    /// The images under `images` or `image`. An empty text is no image: the count of the markers tells where one is missing.
    pub(super) fn listed_images(&self) -> Result<Vec<ImageRef>, CoreError> {
        if let (Some(Value::Array(many)), Some(one @ Value::String(_))) =
            (self.value.get("images"), self.value.get("image"))
            && let [only] = &many[..]
            && only == one
        {
            return Ok(vec![self.image(one)?]);
        }
        match self.either(["images", "image"], "images")? {
            Value::Null => Ok(Vec::new()),
            Value::String(path) if path.is_empty() => Ok(Vec::new()),
            Value::Array(values) => values.iter().map(|value| self.image(value)).collect(),
            value => Ok(vec![self.image(&value)?]),
        }
    }

    /// One image: its path, or an object of a path and no bytes.
    pub(super) fn image(&self, value: &Value) -> Result<ImageRef, CoreError> {
        match value {
            Value::String(path) if !path.is_empty() => self.path(path),
            Value::Object(members) => {
                if !is_absent(members.get("bytes")) {
                    let expected = "the path of an image; bytes inside JSON are not read";
                    return Err(self.field("images", expected, shown(value)));
                }
                let path = ["path", "url", "image", "file_name"].into_iter().find_map(|key| members.get(key)?.as_str());
                match path {
                    Some(path) if !path.is_empty() => self.path(path),
                    _ => Err(self.field("images", "a path", shown(value))),
                }
            }
            other => Err(self.field("images", "a path", shown(other))),
        }
    }

    fn path(&self, path: &str) -> Result<ImageRef, CoreError> {
        if path.starts_with("data:") {
            let expected = "the path of an image; images inside JSON are not read";
            return Err(self.field("images", expected, shown(&path.into())));
        }
        Ok(ImageRef::from(path))
    }
}
