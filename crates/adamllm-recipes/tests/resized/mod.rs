//! Model folders of other sizes than the tiny ones that lend their files.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// The folder of a family's tiny model, with values of `config.json` and `processor_config.json` put over its own, and without weights.
pub(crate) fn write(fixture: &str, config: &Value, processor: &Value, folder: &Path) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../adamllm-model/tests/fixtures");
    fs::create_dir_all(folder).expect("made");
    for entry in fs::read_dir(fixtures.join(fixture).join("model")).expect("a fixture") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        let over = match name.as_str() {
            "config.json" => config,
            "processor_config.json" => processor,
            name if name.ends_with(".safetensors") => continue,
            _ => &Value::Null,
        };
        let text = fs::read_to_string(entry.path()).expect("text");
        let text = match over {
            Value::Null => text,
            over => {
                let mut value: Value = serde_json::from_str(&text).expect("JSON");
                merge(&mut value, over);
                value.to_string()
            }
        };
        fs::write(folder.join(name), text).expect("written");
    }
}

/// Puts values over those of the same names; a null takes the name out.
pub(crate) fn merge(into: &mut Value, over: &Value) {
    let (Some(into), Some(over)) = (into.as_object_mut(), over.as_object()) else { return };
    for (name, value) in over {
        match value {
            Value::Null => drop(into.remove(name)),
            Value::Object(_) if into.get(name).is_some_and(Value::is_object) && !name.contains("rope") => {
                merge(&mut into[name], value);
            }
            _ => drop(into.insert(name.clone(), value.clone())),
        }
    }
}
