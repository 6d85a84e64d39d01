use std::path::{Path, PathBuf};

use adamllm_core::CoreError;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::dataset::{DatasetCard, configs, description};
use super::last_element;
use crate::files::write_json;

/// The file's name in a folder of data.
pub const CROISSANT: &str = "croissant.json";

/// The version of the format: ML Commons' Croissant.
const CONFORMS_TO: &str = "http://mlcommons.org/croissant/1.0";

/// Writes `croissant.json` beside a data set's card: what is in its files, field by field, in JSON-LD ([Croissant 1.0](https://docs.mlcommons.org/croissant/docs/croissant-spec.html)).
/// It says what the card says, and no more: no licence, since the images' own is not known here. Gives the path.
///
/// # Errors
/// Files.
pub fn write_croissant(folder: &Path, data: &DatasetCard<'_>) -> Result<PathBuf, CoreError> {
    let mut files = Vec::new();
    let mut record_sets = Vec::new();

    for (name, file, holds) in configs(folder) {
        files.push(json!({
            "@type": "cr:FileObject", "@id": file, "name": file, "description": holds, "contentUrl": file,
            "encodingFormat": "application/jsonlines", "sha256": sha256(&folder.join(file))?,
        }));
        let fields: Vec<Value> = fields_of(name).iter().map(|field| field.json(name, file)).collect();
        record_sets
            .push(json!({"@type": "cr:RecordSet", "@id": name, "name": name, "description": holds, "field": fields}));
    }

    let source = last_element(data.captions);

    let mut croissant = Map::new();
    croissant.insert("@context".into(), context());
    croissant.insert("@type".into(), "sc:Dataset".into());
    croissant.insert("conformsTo".into(), CONFORMS_TO.into());
    croissant.insert("name".into(), format!("Synthesized tasks from {source}").into());
    croissant.insert("description".into(), description().into());
    croissant.insert("keywords".into(), json!(["synthetic", "instruction tuning", "vision-language", "adamllm"]));
    croissant.insert("distribution".into(), files.into());
    croissant.insert("recordSet".into(), record_sets.into());

    let path = folder.join(CROISSANT);
    write_json(&path, &croissant)?;
    Ok(path)
}

/// A field of a record: its name, what it holds, and how often it occurs.
struct Field {
    name: &'static str,
    holds: &'static str,
    form: Form,
}

enum Form {
    Text,
    Texts,
    /// Objects of these texts.
    Objects(&'static [(&'static str, &'static str)]),
}

const fn text(name: &'static str, holds: &'static str) -> Field {
    Field { name, holds, form: Form::Text }
}

/// The fields of a conversation's record.
const CONVERSATION: [Field; 3] = [
    text("id", "made of the record's content"),
    Field {
        name: "messages",
        holds: "the turns, in order",
        form: Form::Objects(&[
            ("role", "user or assistant"),
            ("content", "what is said; <image> stands where the image is shown"),
        ]),
    },
    Field { name: "images", holds: "the names of the images, which are not included", form: Form::Texts },
];

/// The fields of a task's record.
const TASK: [Field; 5] = [
    text("id", "made of the record's content"),
    text("pair", "the id of the image-caption pair that it was made from"),
    text("image", "the name of the image, which is not included"),
    text("instruction", "what the user asks"),
    text("response", "what a model shall answer"),
];

fn fields_of(config: &str) -> &'static [Field] {
    if config == "tasks" { &TASK } else { &CONVERSATION }
}

impl Field {
    fn json(&self, record_set: &str, file: &str) -> Value {
        let id = format!("{record_set}/{}", self.name);

        // A member of a list's objects is taken out by a JSON path.
        let source = |transform: Option<String>| {
            let mut source = json!({"fileObject": {"@id": file}, "extract": {"column": self.name}});
            if let Some(path) = transform {
                source["transform"] = json!({"jsonPath": path});
            }
            source
        };

        let mut field = json!({"@type": "cr:Field", "@id": id, "name": id, "description": self.holds});
        match self.form {
            Form::Text | Form::Texts => {
                field["dataType"] = "sc:Text".into();
                field["source"] = source(None);
            }
            Form::Objects(parts) => {
                let part = |(name, holds): &(&str, &str)| {
                    let id = format!("{id}/{name}");
                    json!({
                        "@type": "cr:Field", "@id": id, "name": id, "description": holds, "dataType": "sc:Text",
                        "source": source(Some(format!("$[*].{name}"))),
                    })
                };
                field["subField"] = parts.iter().map(part).collect();
            }
        }

        if !matches!(self.form, Form::Text) {
            field["repeated"] = true.into();
        }

        field
    }
}

/// A file's SHA-256 as hexadecimal digits, which the format wants.
fn sha256(path: &Path) -> Result<String, CoreError> {
    let mut file = std::fs::File::open(path).map_err(CoreError::io("open", path))?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        let n = std::io::Read::read(&mut file, &mut buffer).map_err(CoreError::io("read", path))?;
        if n == 0 {
            return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hasher.update(&buffer[..n]);
    }
}

/// The names that the format's readers expect: the context of its specification.
fn context() -> Value {
    let mut context = json!({
        "@language": "en",
        "@vocab": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "dct": "http://purl.org/dc/terms/",
        "sc": "https://schema.org/",
        "conformsTo": "dct:conformsTo",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "examples": {"@id": "cr:examples", "@type": "@json"},
    });
    for name in CONTEXT_NAMES {
        context[name] = format!("cr:{name}").into();
    }
    context
}

const CONTEXT_NAMES: [&str; 26] = [
    "citeAs",
    "column",
    "equivalentProperty",
    "extract",
    "field",
    "fileProperty",
    "fileObject",
    "fileSet",
    "format",
    "includes",
    "isLiveDataset",
    "jsonPath",
    "key",
    "md5",
    "parentField",
    "path",
    "recordSet",
    "references",
    "regex",
    "repeated",
    "replace",
    "samplingRate",
    "separator",
    "source",
    "subField",
    "transform",
];
