//! Benchmarks in every form, asked of the mini models.
#![cfg(all(feature = "data", feature = "eval", feature = "model", feature = "flex"))]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use adamllm::data::LocalDataset;
use adamllm::eval::{DescribedBenchmark, PredictOptions, Prediction, Scored, evaluate, files, read_predictions};
use adamllm::prelude::*;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn mini_model(images: Arc<dyn ImageStore>) -> LocalModel {
    let folder = ModelFolder::open(here("../../datasets/mini/models/base")).expect("a committed model");
    LocalModel::load(&folder, DType::F32, &Device::flex(), images).expect("loads")
}

#[test]
fn answers_do_not_depend_on_the_batch_size() {
    let images: Arc<dyn ImageStore> = Arc::new(FolderImages::new(here("../../datasets/mini/plates")));
    let benchmark = DescribedBenchmark::open(here("../../datasets/mini/plates/benchmark.toml")).expect("opens");
    let benchmark = benchmark.with_images(images.clone());
    let model = mini_model(images);
    let answers = |batch_size| -> Vec<Prediction> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = PredictOptions { batch_size, limit: Some(24), ..PredictOptions::default() };
        evaluate(&model, &benchmark, folder.path(), &options, &mut ()).expect("runs");
        read_predictions(folder.path().join(files::PREDICTIONS)).expect("reads").0
    };
    let alone = answers(1);
    assert_eq!(alone.len(), 24);
    assert!(alone.iter().any(|a| a.answer != alone[0].answer), "the model says more than one thing");
    assert_eq!(alone, answers(2));
    assert_eq!(alone, answers(8));
}

/// The forms that `tools/fixtures/make_benchmarks.py` wrote with Python's `datasets`.
#[cfg(feature = "tables")]
mod forms {
    use adamllm::core::{CoreError, LedgerEntry, Reason, jsonl};
    use adamllm::eval::{AnswerType, Benchmark, EvalError, tasks};

    use super::*;

    const FORMS: [&str; 4] = ["saved", "rows.parquet", "folder", "zipped"];

    fn slake(path: &Path) -> Result<(DescribedBenchmark, Arc<dyn ImageStore>), EvalError> {
        let set = LocalDataset::open(path, "test")?;
        let benchmark = tasks::open("SLAKE", Box::new(set.records()))?;
        Ok((benchmark.with_images(set.images()), set.images()))
    }

    fn asked(path: &Path) -> (Scored, Vec<Prediction>, Vec<LedgerEntry>) {
        let (benchmark, images) = slake(path).expect("opens");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = PredictOptions { decoding: Some(Decoding::greedy(12)), ..PredictOptions::default() };
        let scored = evaluate(&mini_model(images), &benchmark, folder.path(), &options, &mut ()).expect("runs");
        let (predictions, _) = read_predictions(folder.path().join(files::PREDICTIONS)).expect("reads");
        (scored, predictions, jsonl::read_all(folder.path().join(files::LEDGER)).expect("reads"))
    }

    #[test]
    fn every_form_is_the_same_benchmark() {
        let runs = FORMS.map(|form| asked(&here("tests/benchmark").join(form)));
        for ((scored, predictions, ledger), form) in runs.iter().zip(FORMS) {
            let answers = |run: &[Prediction]| run.iter().map(|p| p.answer.clone()).collect::<Vec<_>>();
            assert_eq!(answers(predictions), answers(&runs[0].1), "{form}");
            let n = |answer_type| scored.report.by_type[&answer_type].n;
            assert_eq!((n(AnswerType::Closed), n(AnswerType::Open)), (3, 2), "{form}");
            assert_eq!(scored.report.overall.n_clusters, 5, "{form}: an image each");
            assert_eq!(scored.report.run.as_ref().map(|run| run.n_asked), Some(Some(6)));
            assert_eq!(scored.report.unanswered, 1, "{form}");
            let [lost] = &ledger[..] else { panic!("{form}: one image is broken: {ledger:?}") };
            assert_eq!(lost.reason, Reason::ImageBroken, "{form}: {}", lost.detail);
        }
    }

    #[test]
    fn another_tasks_table_is_refused() {
        for form in FORMS {
            let set = LocalDataset::open(here("tests/benchmark").join(form), "test").expect("opens");
            let error = tasks::open("PMC_VQA", Box::new(set.records())).expect_err("no options");
            let text = error.to_string();
            assert!(matches!(error, EvalError::OtherTask { .. }) && !error.is_example_error(), "{text}");
            assert!(text.contains(" 1: expected records of PMC_VQA with the columns label, A, B, C, D"), "{text}");
            assert!(text.contains("answer_type"), "{text}");
        }
    }

    #[test]
    fn a_cut_table_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let whole = here("tests/benchmark/saved");
        for name in ["state.json", "data-00000-of-00002.arrow", "data-00001-of-00002.arrow"] {
            std::fs::copy(whole.join(name), folder.path().join(name)).expect("copied");
        }
        let cut = folder.path().join("data-00001-of-00002.arrow");
        let bytes = std::fs::read(&cut).expect("there");
        std::fs::write(&cut, &bytes[..bytes.len() * 2 / 3]).expect("written");
        let error = slake(folder.path()).map(drop).expect_err("cut");
        assert!(matches!(&error, EvalError::Core(CoreError::Io { path, .. }) if *path == cut), "{error}");
    }

    #[test]
    fn a_wrong_row_of_a_table_is_named() {
        let set = LocalDataset::open(here("tests/benchmark/rows.parquet"), "test").expect("opens");
        let task = tasks::open("Food101", Box::new(set.records())).expect("has a label");
        let error = task.example(1).expect_err("no dish");
        assert!(error.is_example_error());
        let text = error.to_string();
        assert!(
            text.ends_with("rows.parquet row 2 column `label`: expected one of the names, got left lung"),
            "{text}"
        );
    }
}
