use std::path::{Path, PathBuf};

use adamllm_core::{CoreError, write_atomically};
use adamllm_eval::Report;
use adamllm_train::TrainConfig;
use serde_json::{Map, Value, json};

use super::{CARD, card, last_element, table};

/// What an exported model has to say of itself.
#[derive(Clone, Debug, Default)]
pub struct ModelCard<'a> {
    /// The model's name.
    pub name: String,
    /// The base model's folder, or its Hub id.
    pub base: PathBuf,
    /// Whether the folder holds an adapter alone.
    pub is_adapter: bool,
    /// What it was trained on: sources and their records.
    pub data: Vec<(String, String)>,
    /// How it was trained: names and values.
    pub settings: Vec<(String, String)>,
    /// What came of it: losses and the like.
    pub outcome: Vec<(String, String)>,
    /// Its scores on benchmarks.
    pub scores: Vec<CardScore<'a>>,
}

/// What a card says of a training loop's settings.
pub(crate) fn training_settings(train: &TrainConfig) -> Vec<(String, String)> {
    let entries = [
        ("epochs", train.epochs.to_string()),
        ("batch size", train.batch_size.to_string()),
        ("learning rate", format!("{:e}", train.learning_rate)),
        ("warm-up", train.schedule.warmup.to_string()),
        ("weight decay", train.weight_decay.to_string()),
        ("optimizer", serde_json::json!(train.optimizer).to_string().trim_matches('"').to_owned()),
        ("seed", train.seed.to_string()),
    ];
    entries.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

/// A benchmark's scores in a model card.
#[derive(Clone, Copy, Debug)]
pub struct CardScore<'a> {
    /// The base's.
    pub base: Option<&'a Report>,
    /// The model's.
    pub model: &'a Report,
}

/// Writes `README.md` into a model's folder, in place of the base's own, which an export does not copy. It is no part of the model:
/// [`ModelFolder::verify`](adamllm_model::ModelFolder::verify) does not look at it. Gives the card's path.
///
/// # Errors
/// Files.
pub fn write_model_card(folder: &Path, model: &ModelCard<'_>) -> Result<PathBuf, CoreError> {
    let path = folder.join(CARD);
    write_atomically(&path, card(&front_matter(model), &body(model)))?;
    Ok(path)
}

fn front_matter(model: &ModelCard<'_>) -> Map<String, Value> {
    let mut front = Map::new();
    front.insert("base_model".into(), base_name(&model.base).into());
    front.insert("base_model_relation".into(), if model.is_adapter { "adapter" } else { "finetune" }.into());
    front.insert("library_name".into(), if model.is_adapter { "peft" } else { "transformers" }.into());
    front.insert("pipeline_tag".into(), "image-text-to-text".into());
    front.insert("tags".into(), json!(["adamllm", "domain-adaptation"]));
    if !model.scores.is_empty() {
        let results: Vec<Value> = model.scores.iter().map(|score| result(score.model)).collect();
        front.insert("model-index".into(), json!([{"name": model.name, "results": results}]));
    }
    front
}

/// A benchmark's scores as `model-index` has them.
fn result(report: &Report) -> Value {
    let scores = [("strict", report.overall.strict), ("paper", report.overall.paper)];
    let metric = |(name, estimate): (&str, Option<adamllm_eval::Estimate>)| {
        Some(json!({"type": name, "name": name, "value": estimate?.mean}))
    };
    json!({
        "task": {"type": "image-text-to-text"},
        "dataset": {"name": report.benchmark, "type": report.benchmark},
        "metrics": scores.into_iter().filter_map(metric).collect::<Vec<_>>(),
    })
}

fn body(model: &ModelCard<'_>) -> String {
    let what = if model.is_adapter { "A low-rank adapter of" } else { "Post-trained from" };

    let mut scores = String::new();
    if !model.scores.is_empty() {
        scores.push_str("| benchmark | scoring | n | base | this model |\n|---|---|--:|--:|--:|\n");
        for CardScore { base, model } in &model.scores {
            let base = base.map(|base| &base.overall);
            for (scoring, before, after) in [
                ("strict", base.and_then(|base| base.strict), model.overall.strict),
                ("paper", base.and_then(|base| base.paper), model.overall.paper),
            ] {
                let (n, benchmark) = (model.overall.n, super::cell(&model.benchmark));
                scores.push_str(&format!("| {benchmark} | {scoring} | {n} | {} | {} |\n", shown(before), shown(after)));
            }
        }
        scores.push_str("\nScores are 0 to 100, with their 95 % intervals.\n\n");
    }

    format!(
        "# {}\n\n{what} `{}` by adamllm, on the data below. The base's licence and limits apply; nobody has checked the answers for a \
         use outside of research.\n\n{scores}{}{}{}",
        model.name,
        base_name(&model.base),
        table(["data", "records"], &model.data),
        table(["setting", "value"], &model.settings),
        table(["training", ""], &model.outcome),
    )
}

fn shown(estimate: Option<adamllm_eval::Estimate>) -> String {
    estimate.map_or("–".into(), |estimate| estimate.to_string())
}

/// The base's Hub id where its folder is in the Hub's cache or is called as one, else its folder's name.
fn base_name(base: &Path) -> String {
    let cached = base.components().rev().find_map(|part| part.as_os_str().to_str()?.strip_prefix("models--"));
    match cached {
        Some(id) => id.replacen("--", "/", 1),
        None if !base.exists() && base.components().count() == 2 && base.is_relative() => base.display().to_string(),
        None => last_element(&base.canonicalize().unwrap_or_else(|_| base.to_owned())),
    }
}
