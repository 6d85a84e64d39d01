use std::borrow::Borrow;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use adamllm_core::{Conversation, CoreError, write_atomically};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::SynthError;

/// LLaMA-Factory's name for the finished data set (as published for AdaMLLM).
pub const DATASET_NAME: &str = "image_caption_and_synthetic_task";

/// One element of the data set: no id, since LLaMA-Factory knows none.
#[derive(Serialize)]
struct ShareGptRecord<'a> {
    messages: &'a [adamllm_core::Message],
    images: &'a [adamllm_core::ImageRef],
}

/// Writes conversations so that LLaMA-Factory trains on them: `{name}.json`, one JSON array with messages and images, and its
/// entry in `dataset_info.json` (other entries of that file stay). Image paths are written as they are; set
/// `media_dir` there to the folder that they are relative to. Records stream through: memory holds one.
///
/// # Errors
/// Files that cannot be written; a `dataset_info.json` that is not a JSON object.
pub fn write_llama_factory(
    folder: &Path,
    name: &str,
    conversations: impl IntoIterator<Item = impl Borrow<Conversation>>,
) -> Result<[PathBuf; 2], SynthError> {
    fs::create_dir_all(folder).map_err(CoreError::io("create", folder))?;
    let (data, info) = (folder.join(format!("{name}.json")), folder.join("dataset_info.json"));
    let beside = data.with_added_extension("partial");
    write_array(&beside, conversations).map_err(CoreError::io("write", &beside))?;
    fs::rename(&beside, &data).map_err(CoreError::io("rename", &beside))?;
    let mut entries = read_entries(&info)?;
    entries.insert(name.into(), entry(name));
    let content = serde_json::to_vec_pretty(&entries).expect("names and texts are JSON");
    write_atomically(&info, content)?;
    Ok([data, info])
}

fn write_array(path: &Path, conversations: impl IntoIterator<Item = impl Borrow<Conversation>>) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(b"[")?;
    for (i, conversation) in conversations.into_iter().enumerate() {
        let Conversation { messages, images, .. } = conversation.borrow();
        file.write_all(if i == 0 { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut file, &ShareGptRecord { messages, images })?;
    }
    file.write_all(b"\n]\n")?;
    file.into_inner()?.sync_all()
}

fn read_entries(path: &Path) -> Result<Map<String, Value>, CoreError> {
    if !path.exists() {
        return Ok(Map::new());
    }
    let content = fs::read(path).map_err(CoreError::io("read", path))?;
    serde_json::from_slice(&content).map_err(|source| CoreError::Json { path: path.into(), number: 1, source })
}

/// How LLaMA-Factory reads the file: its ShareGPT form with OpenAI's role names.
fn entry(name: &str) -> Value {
    json!({
        "file_name": format!("{name}.json"),
        "formatting": "sharegpt",
        "columns": { "messages": "messages", "images": "images" },
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "system_tag": "system",
        },
    })
}

#[cfg(test)]
mod tests {
    use adamllm_core::Message;

    use super::*;

    #[test]
    fn images_stay_and_other_entries_too() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let info = folder.path().join("dataset_info.json");
        fs::write(&info, r#"{"other": {"file_name": "other.json"}}"#).expect("written");
        let messages = vec![Message::user("<image>\nWhat is it?"), Message::assistant("A \"cell\".")];
        let conversations: Vec<_> =
            ["a.png", "b/c.jpg"].map(|i| Conversation::new(messages.clone(), vec![i.into()])).into();
        let [data, info] = write_llama_factory(folder.path(), DATASET_NAME, &conversations).expect("writes");
        let read: Vec<Conversation> = serde_json::from_slice(&fs::read(data).expect("reads")).expect("JSON");
        assert_eq!(read.into_iter().map(Conversation::with_id).collect::<Vec<_>>(), conversations);
        let entries: Value = serde_json::from_slice(&fs::read(info).expect("reads")).expect("JSON");
        assert_eq!(entries["other"]["file_name"], "other.json");
        assert_eq!(entries[DATASET_NAME]["columns"]["images"], "images");
    }
}
