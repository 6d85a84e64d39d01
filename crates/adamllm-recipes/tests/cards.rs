//! The cards beside data and models: their front matter is YAML that says what is there, and a card changes nothing of a model.
#![cfg(feature = "train")]

use std::path::{Path, PathBuf};

use adamllm_core::RecordId;
use adamllm_eval::{AnswerType, BootstrapConfig, Outcome, Report};
use adamllm_model::{LocalModel, ModelFolder};
use adamllm_recipes::cards::{CardScore, ModelCard, write_model_card};
use adamllm_recipes::post_train::PostTrainSettings;
use adamllm_recipes::synthesize::SynthesisOptions;
use adamllm_recipes::{RunOptions, SourceSettings, SynthesisSettings, post_train, synthesize};
use adamllm_synth::Variant;
use burn::tensor::Device;
use saphyr::{LoadableYamlNode, Yaml};

fn mini() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mini")
}

/// A card's text after its front matter, and the front matter as JSON.
fn card(folder: &Path) -> (serde_json::Value, String) {
    let text = std::fs::read_to_string(folder.join("README.md")).expect("a card");
    let (front, body) = text.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n")).expect("front matter");
    let parsed = Yaml::load_from_str(front).expect("YAML");
    (json(&parsed[0]), body.to_owned())
}

fn json(yaml: &Yaml<'_>) -> serde_json::Value {
    match yaml {
        Yaml::Mapping(mapping) => {
            let entry = |(key, value): (&Yaml<'_>, &Yaml<'_>)| (key.as_str().expect("a name").to_owned(), json(value));
            serde_json::Value::Object(mapping.iter().map(entry).collect())
        }
        Yaml::Sequence(items) => items.iter().map(json).collect(),
        other => other
            .as_bool()
            .map(serde_json::Value::from)
            .or_else(|| other.as_integer().map(Into::into))
            .or_else(|| other.as_floating_point().map(Into::into))
            .or_else(|| other.as_str().map(Into::into))
            .expect("a scalar"),
    }
}

fn synthesized(variant: Variant) -> (tempfile::TempDir, adamllm_synth::RunSummary) {
    let out = tempfile::tempdir().expect("a temporary folder");
    let slides = mini().join("slides");
    let settings = SynthesisSettings {
        captions: slides.join("captions.json"),
        images: slides,
        variant,
        ..SynthesisSettings::default()
    };
    let options = SynthesisOptions { out: out.path().to_owned(), ..SynthesisOptions::default() };
    let report = synthesize::<LocalModel, LocalModel>(&settings, &options, None, None, &mut ()).expect("runs");
    (out, report.summary)
}

#[test]
fn a_data_sets_card_names_the_files_that_hold_data() {
    let (out, summary) = synthesized(Variant::RuleBased);
    let (front, body) = card(out.path());
    let configs = front["configs"].as_array().expect("configurations");
    let names: Vec<_> = configs.iter().map(|config| config["config_name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["conversations", "tasks"]);
    assert_eq!((&configs[0]["default"], configs[1].get("default")), (&serde_json::json!(true), None));
    for config in configs {
        let file = config["data_files"][0]["path"].as_str().expect("a file");
        let text = std::fs::read_to_string(out.path().join(file)).expect("the file");
        assert!(text.lines().count() > 10, "{file}");
        assert_eq!(config["data_files"][0]["split"], "train");
    }
    assert!(body.contains(&format!("| pairs in | {} |", summary.records_in)), "{body}");
    assert!(body.contains(&format!("| tasks out | {} |", summary.records_out)), "{body}");
    assert!(body.contains("| variant | rule_based |"), "{body}");
    assert!(summary.files.contains(&out.path().join("README.md")));
    assert!(!body.contains(mini().to_str().expect("UTF-8")), "a card names no folder of this machine");
}

/// The structure that Croissant's specification wants: every reference leads somewhere, and every column is in the records.
#[test]
fn a_croissant_says_what_the_files_hold() {
    let (out, summary) = synthesized(Variant::RuleBased);
    let path = out.path().join("croissant.json");
    assert!(summary.files.contains(&path));
    let text = std::fs::read_to_string(&path).expect("reads");
    assert!(!text.contains(mini().to_str().expect("UTF-8")), "it names no folder of this machine");
    let croissant: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (&croissant["@type"], &croissant["conformsTo"]),
        (&"sc:Dataset".into(), &"http://mlcommons.org/croissant/1.0".into())
    );

    let list = |value: &serde_json::Value| value.as_array().expect("a list").clone();
    let word = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let mut files = Vec::new();
    for file in list(&croissant["distribution"]) {
        assert_eq!(
            (&file["@type"], &file["encodingFormat"]),
            (&"cr:FileObject".into(), &"application/jsonlines".into())
        );
        let bytes = std::fs::read(out.path().join(word(&file["contentUrl"]))).expect("the file");
        let sha256 = sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(&bytes));
        assert_eq!(word(&file["sha256"]), sha256.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        files.push(word(&file["@id"]));
    }
    assert_eq!(files, ["conversations.jsonl", "tasks.jsonl"]);

    let mut ids = std::collections::BTreeSet::from_iter(files.iter().cloned());
    for (set, file) in list(&croissant["recordSet"]).iter().zip(&files) {
        assert!(ids.insert(word(&set["@id"])), "ids are unique");
        let text = std::fs::read_to_string(out.path().join(file)).expect("the file");
        let record: serde_json::Value = serde_json::from_str(text.lines().next().expect("a record")).expect("JSON");
        let mut columns = Vec::new();
        for field in list(&set["field"]) {
            let parts = field.get("subField").map_or_else(|| vec![field.clone()], list);
            for part in &parts {
                let (source, column) = (&part["source"], word(&part["source"]["extract"]["column"]));
                assert_eq!((word(&source["fileObject"]["@id"]), &part["dataType"]), (file.clone(), &"sc:Text".into()));
                assert_eq!(field["repeated"] == true, record[&column].is_array(), "{column}");
                if let Some(path) = source["transform"]["jsonPath"].as_str() {
                    assert!(record[&column][0][path.trim_start_matches("$[*].")].is_string(), "{path}");
                }
                assert!(ids.insert(word(&part["@id"])), "ids are unique");
                columns.push(column);
            }
        }
        columns.dedup();
        let there: Vec<_> = record.as_object().expect("an object").keys().cloned().collect();
        assert_eq!(columns, there, "every column of {file}");
    }
    // Keys without a colon or an @ are names of the context or of schema.org.
    let context = croissant["@context"].as_object().expect("a context");
    for name in
        ["recordSet", "field", "subField", "fileObject", "extract", "column", "transform", "jsonPath", "repeated"]
    {
        assert_eq!(context[name], format!("cr:{name}"), "{name}");
    }
}

#[test]
fn files_without_a_record_are_no_configuration() {
    let (out, _) = synthesized(Variant::CaptionOnly);
    let (front, _) = card(out.path());
    assert_eq!(front["configs"].as_array().map(Vec::len), Some(1), "{front}");
    assert_eq!(front["configs"][0]["config_name"], "conversations");
}

#[test]
fn an_exported_model_has_a_card_that_is_no_part_of_it() {
    let (out, slides) = (tempfile::tempdir().expect("a temporary folder"), mini().join("slides"));
    let base = ModelFolder::open(mini().join("models/base")).expect("opens");
    let mut settings = PostTrainSettings::default();
    settings.train.max_steps = Some(1);
    settings.train.batch_size = 2;
    settings.data.sources = vec![SourceSettings {
        captions: Some(slides.join("captions.json")),
        images: vec![slides],
        ..Default::default()
    }];
    let run = RunOptions::new(out.path());
    let report = post_train(&settings, &base, &Device::flex(), &run, &mut ()).expect("trains");
    let folder = report.model.expect("an export");

    let (front, body) = card(&folder);
    assert_eq!((&front["base_model"], &front["base_model_relation"]), (&"base".into(), &"finetune".into()));
    assert_eq!((&front["library_name"], front.get("model-index")), (&"transformers".into(), None));
    assert!(body.contains("| slides/captions.json | 360 examples |"), "{body}");
    assert!(body.contains("| batch size | 2 |") && body.contains("| stage 1 | 1 steps, loss "), "{body}");
    let exported = ModelFolder::open(&folder).expect("opens");
    assert_eq!(exported.verify(&base).expect("compares"), []);
    let with_card = exported.fingerprint().expect("hashes");
    std::fs::remove_file(folder.join("README.md")).expect("removed");
    assert_eq!(ModelFolder::open(&folder).expect("opens").fingerprint().expect("hashes"), with_card);
}

#[test]
fn scores_stand_in_a_cards_index() {
    let report = |scores: [f64; 2]| {
        let outcome = |(i, strict): (usize, f64)| Outcome {
            id: RecordId::given(i.to_string()),
            answer_type: AnswerType::Open,
            cluster: i.to_string(),
            paper: None,
            strict,
            unparsed: false,
            random: false,
            expected: String::new(),
            strict_read: None,
            paper_read: None,
        };
        let outcomes: Vec<_> = scores.into_iter().enumerate().map(outcome).collect();
        Report::new("cells: \"new\" | #1", &[], &outcomes, &BootstrapConfig::default())
    };
    let (before, after) = (report([0.0, 50.0]), report([100.0, 50.0]));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = ModelCard {
        name: "ours".into(),
        base: "/cache/models--Qwen--Qwen2-VL-2B-Instruct/snapshots/0123".into(),
        is_adapter: true,
        scores: vec![CardScore { base: Some(&before), model: &after }],
        ..ModelCard::default()
    };
    write_model_card(folder.path(), &model).expect("writes");
    let (front, body) = card(folder.path());
    assert_eq!(front["base_model"], "Qwen/Qwen2-VL-2B-Instruct");
    assert_eq!((&front["base_model_relation"], &front["library_name"]), (&"adapter".into(), &"peft".into()));
    let result = &front["model-index"][0]["results"][0];
    assert_eq!(result["dataset"]["name"], "cells: \"new\" | #1");
    let metrics = serde_json::json!([{"type": "strict", "name": "strict", "value": 75.0}]);
    assert_eq!(result["metrics"], metrics, "no paper score, no metric");
    assert!(body.contains("| cells: \"new\" \\| #1 | strict | 2 | 25.0 "), "{body}");
}
