use std::path::Path;

use maud::{Markup, html};
use serde::Serialize;
use serde_json::Value;

use super::count;

/// What went into a job: files and folders with their sizes, names of models, and all settings.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// What it is, its path or name, its size.
    lines: Vec<[String; 3]>,
    /// Keys and values.
    settings: Option<Vec<(String, String)>>,
}

impl Inputs {
    /// A file or folder; nothing where no path was named.
    pub(crate) fn path(self, what: &str, path: &Path) -> Self {
        if path.as_os_str().is_empty() {
            return self;
        }
        let size = match std::fs::metadata(path) {
            Ok(file) if file.is_file() => format!("{} bytes", count(file.len())),
            Ok(_) => "folder".into(),
            Err(_) => String::new(),
        };
        self.line(what, &path.display().to_string(), &size)
    }

    /// Something with a name instead of a path.
    pub(crate) fn name(self, what: &str, name: &str) -> Self {
        self.line(what, name, "")
    }

    fn line(mut self, what: &str, value: &str, size: &str) -> Self {
        self.lines.push([what, value, size].map(str::to_owned));
        self
    }

    /// Every setting of the job by its key, as a settings file names it.
    pub(crate) fn settings(mut self, settings: &impl Serialize) -> Self {
        let mut list = Vec::new();
        push(&mut list, "", &serde_json::to_value(settings).unwrap_or_default());
        self.settings = Some(list);
        self
    }

    pub(crate) fn html(&self) -> Markup {
        html! {
            table class="inputs" {
                tbody {
                    @for [what, value, size] in &self.lines {
                        tr { td { (what) } td { (value) } td class="muted" { (size) } }
                    }
                }
            }
            @if let Some(settings) = &self.settings {
                details {
                    summary { "All settings" }
                    dl { @for (key, value) in settings { dt { (key) } dd { (value) } } }
                }
            }
        }
    }
}

/// One line for each value that is no table; settings that are not set are left out.
fn push(list: &mut Vec<(String, String)>, key: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::Object(table) => {
            for (name, value) in table {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                push(list, &key, value);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(i, item)| push(list, &format!("{key}.{i}"), item));
        }
        Value::String(text) => list.push((key.to_owned(), text.clone())),
        other => list.push((key.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_listed_by_their_keys() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("a&b.json");
        std::fs::write(&file, [b'x'; 1234]).expect("written");
        let settings =
            serde_json::json!({"train": {"rate": 1e-3, "groups": [{"prefix": "<v>"}], "ids": [1, 2]}, "none": null});
        let inputs =
            Inputs::default().path("captions", &file).path("images", folder.path()).path("unnamed", Path::new(""));
        let html = inputs.name("judge", "<model>").settings(&settings).html().into_string();
        assert!(html.contains("a&amp;b.json</td><td class=\"muted\">1,234 bytes</td>"), "{html}");
        assert!(html.contains("<td class=\"muted\">folder</td>") && html.contains("<td>&lt;model&gt;</td>"));
        assert!(
            html.contains("<dt>train.rate</dt><dd>0.001</dd>") && html.contains("<dt>train.ids</dt><dd>[1,2]</dd>")
        );
        assert!(html.contains("<dt>train.groups.0.prefix</dt><dd>&lt;v&gt;</dd>"));
        assert!(!html.contains("none") && !html.contains("unnamed"));
    }
}
