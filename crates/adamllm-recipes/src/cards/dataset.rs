use std::path::{Path, PathBuf};

use adamllm_core::{CoreError, write_atomically};
use adamllm_synth::RunSummary;
use serde_json::{Map, Value, json};

use super::{CARD, card, last_element, table};

/// What a folder of synthesized data has to say of itself.
#[derive(Clone, Copy, Debug)]
pub struct DatasetCard<'a> {
    /// The pairs that the tasks were made of.
    pub captions: &'a Path,
    /// How the tasks were made: names and values.
    pub settings: &'a [(String, String)],
    /// What became of the pairs.
    pub summary: &'a RunSummary,
}

/// The files of a run that are data, as `load_dataset` is to call them.
const CONFIGS: [(&str, &str, &str); 4] = [
    ("conversations", "conversations.jsonl", "what a model is trained on: `messages` and the names of their `images`"),
    ("conversations-stage1", "conversations-stage1.jsonl", "the first stage's: captions"),
    ("conversations-stage2", "conversations-stage2.jsonl", "the second stage's: tasks"),
    ("tasks", "tasks.jsonl", "the tasks, each with the id of its pair"),
];

/// Writes `README.md` into a folder that [`synthesize`](crate::synthesize()) filled. Files without a record are left out: no type can be
/// inferred from them. Gives the card's path.
///
/// # Errors
/// Files.
pub fn write_dataset_card(folder: &Path, data: &DatasetCard<'_>) -> Result<PathBuf, CoreError> {
    let configs = configs(folder);
    let path = folder.join(CARD);
    write_atomically(&path, card(&front_matter(data, &configs), &body(data, &configs)))?;
    Ok(path)
}

/// The files in a folder that hold data: a configuration's name, its file, what it holds. Files without a record are left out.
pub(super) fn configs(folder: &Path) -> Vec<(&'static str, &'static str, &'static str)> {
    let holds_data =
        |file: &str| std::fs::metadata(folder.join(file)).is_ok_and(|file| file.is_file() && file.len() > 0);
    CONFIGS.into_iter().filter(|(_, file, _)| holds_data(file)).collect()
}

/// What the data are, in a paragraph.
pub(super) fn description() -> &'static str {
    "The tasks were made from image-caption pairs without people; nobody has checked them one by one. Images are named, not \
     included, and keep their own licence."
}

fn front_matter(data: &DatasetCard<'_>, configs: &[(&str, &str, &str)]) -> Map<String, Value> {
    let mut front = Map::new();
    front.insert("pretty_name".into(), format!("Synthesized tasks from {}", last_element(data.captions)).into());
    front.insert("task_categories".into(), json!(["image-text-to-text", "visual-question-answering"]));
    front.insert("annotations_creators".into(), json!(["machine-generated"]));
    front.insert("tags".into(), json!(["synthetic", "adamllm"]));
    let config = |(i, (name, file, _)): (usize, &(&str, &str, &str))| {
        let mut config = json!({"config_name": name, "data_files": [{"split": "train", "path": file}]});
        if i == 0 {
            config["default"] = true.into();
        }
        config
    };
    // Without one, `load_dataset` would take every file of the folder for data.
    front.insert("configs".into(), configs.iter().enumerate().map(config).collect::<Vec<_>>().into());
    front
}

fn body(data: &DatasetCard<'_>, configs: &[(&str, &str, &str)]) -> String {
    let summary = data.summary;
    let counts = [
        ("pairs in", summary.records_in),
        ("triplets", summary.triplets),
        ("consistent", summary.consistent),
        ("inconsistent", summary.inconsistent),
        ("open", summary.open),
        ("verdict unclear", summary.unclear),
        ("not judged", summary.unjudged),
        ("tasks out", summary.records_out),
        ("in the ledger", summary.ledger_entries),
    ];

    let counts = counts.map(|(name, count)| (name.to_owned(), count.to_string()));
    let configs: Vec<_> = configs.iter().map(|(name, _, holds)| (format!("`{name}`"), (*holds).to_owned())).collect();

    format!(
        "# Synthesized tasks from {}\n\n{}\n\n{}{}{}`summary.json` has the counts, `ledger.jsonl` every record that was left out, with its reason.\n",
        last_element(data.captions),
        description(),
        table(["configuration", "holds"], &configs),
        table(["made with", ""], data.settings),
        table(["records", ""], &counts),
    )
}
