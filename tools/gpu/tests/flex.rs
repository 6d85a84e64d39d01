//! The program itself on the CPU, as a person starts it: every case passes there, and a wrong argument is an error.
#![allow(missing_docs)]

use std::path::Path;
use std::process::{Command, Output};

fn start(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adamllm-gpu-check"));
    // Below the repository's root, whose fixtures it finds.
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).output().expect("starts")
}

#[test]
fn every_case_passes_on_the_cpu() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("check.json");
    let done = start(&["check", "--device", "flex", "--json", &file.to_string_lossy()]);
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&file).expect("a report")).expect("valid JSON");
    let cases = report["cases"].as_array().expect("a list");
    assert!(cases.len() > 60 && cases.iter().all(|case| case["verdict"] == "pass"), "{report:#}");
}

#[test]
fn bf16_passes_on_the_cpu() {
    let done = start(&[
        "check",
        "--dtype",
        "bf16",
        "--only",
        "qwen2_vl/g",
        "--only",
        "qwen2_vl/new",
        "--only",
        "mllama/l",
        "--only",
        "operations/",
    ]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

#[test]
fn a_selection_of_nothing_and_an_unknown_device_are_errors() {
    for (arguments, word) in
        [(["check", "--only", "no such case"], "no such case"), (["check", "--device", "abacus"], "abacus")]
    {
        let done = start(&arguments);
        assert!(!done.status.success());
        assert!(String::from_utf8_lossy(&done.stderr).contains(word));
    }
}

/// On a fixture's tiny model: every part comes to its end.
#[test]
fn the_bench_measures_on_the_cpu() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/adamllm-model/tests/fixtures/qwen2_vl/model");
    let (model, report, batch) = (model.to_string_lossy(), path("bench.json"), path("batch.json"));
    let sizes = ["--dtype", "f32", "--examples", "2", "--tokens", "64", "--side", "56", "--steps", "2"];
    let more = ["--new-tokens", "4", "--matrix", "64", "--json", &report, "--write-batch", &batch];
    let arguments = [&["bench", "--model", &model][..], &sizes, &more].concat();
    let done = start(&arguments);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    let read = |file: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(file).expect("written")).expect("valid JSON")
    };
    let report = read(&report);
    let parts = report["parts"].as_array().expect("a list");
    assert_eq!(parts.len(), 5, "{report:#}");
    let steps = parts.iter().filter(|part| part["step_s"].as_f64().is_some_and(|s| s > 0.0)).count();
    let answers = parts.iter().filter(|part| part["decode_tokens_per_s"].as_f64().is_some_and(|n| n > 0.0)).count();
    assert_eq!((steps, answers), (2, 2), "{report:#}");
    assert_eq!(read(&batch)["ids"].as_array().map(Vec::len), Some(8));
}
