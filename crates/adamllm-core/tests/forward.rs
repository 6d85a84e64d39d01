//! What stands for something else — a reference, a smart pointer, a wrapper — answers as that does, in every method.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use adamllm_core::json::JsonRecords;
use adamllm_core::{
    Budget, Budgeted, Cancellable, Completion, CoreError, Decoding, DiskTable, Generate, GenerateError, ImageHashes,
    ImageRef, ImageStore, JsonObject, MemoryImages, Progress, Prompt, RecordSource, RgbImage, ScoreRequest,
    TurnMarkers, boxed,
};

/// A model that says something of its own in every method; it fails on an empty prompt.
struct Own;

impl Generate for Own {
    type Error = std::fmt::Error;

    fn generate(&self, prompts: &[Prompt], options: &Decoding) -> Vec<Result<Completion, Self::Error>> {
        let answer = |prompt: &Prompt| match prompt.n_chars() {
            0 => Err(std::fmt::Error),
            n => Ok(Completion::new(format!("{n} of {}", options.max_new_tokens))),
        };
        prompts.iter().map(answer).collect()
    }
    fn score(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<f64>, Self::Error>> {
        requests.iter().map(|request| Ok(vec![-2.5; request.continuations.len()])).collect()
    }
    fn identity(&self) -> String {
        "own".into()
    }
    fn turn_markers(&self) -> Option<TurnMarkers> {
        Some(TurnMarkers::chatml())
    }
    fn stopped(&self) -> Option<String> {
        Some("closed".into())
    }
    fn answers_later(&self) -> bool {
        true
    }
}

fn answers_as_own(model: &impl Generate) {
    let answers = model.generate(&[Prompt::Text("abc".into()), Prompt::Text(String::new())], &Decoding::greedy(9));
    assert_eq!((answers.len(), answers[1].is_err()), (2, true));
    assert_eq!(answers[0].as_ref().expect("an answer").text, "3 of 9");
    let request = ScoreRequest { prompt: Prompt::Text("abc".into()), continuations: vec!["x".into(), "y".into()] };
    let scores: Vec<_> = model.score(&[request]).into_iter().map(|score| score.expect("scored")).collect();
    assert_eq!(scores, [[-2.5, -2.5]]);
    assert_eq!((model.identity().as_str(), model.turn_markers()), ("own", Some(TurnMarkers::chatml())));
    assert_eq!((model.stopped().as_deref(), model.answers_later()), (Some("closed"), true));
}

#[test]
fn models_behind_pointers_and_budgets() {
    let budget = Budget::default();
    answers_as_own(&Own);
    answers_as_own(&&Own);
    answers_as_own(&Box::new(Own));
    answers_as_own(&Rc::new(Own));
    answers_as_own(&Arc::new(Own));
    answers_as_own(&Budgeted::new(Own, &budget));
    let model = boxed(Own);
    answers_as_own(&model);
    let mut failed = model.generate(&[Prompt::Text(String::new())], &Decoding::default());
    let error: GenerateError = failed.remove(0).expect_err("an empty prompt");
    assert!(error.downcast_ref::<std::fmt::Error>().is_some() && error.downcast_ref::<CoreError>().is_none());
}

/// An image whose header says another size than its pixels have, so that the two can be distinguished.
struct Odd;

impl ImageStore for Odd {
    fn open(&self, _: &ImageRef) -> Result<RgbImage, CoreError> {
        Ok(RgbImage::new(2, 3))
    }
    fn size(&self, _: &ImageRef) -> Result<(u32, u32), CoreError> {
        Ok((20, 30))
    }
    fn bytes(&self, image: &ImageRef) -> Result<Option<Vec<u8>>, CoreError> {
        Ok(Some(image.as_str().into()))
    }
}

#[test]
fn images_behind_pointers() {
    fn is_odd(store: &impl ImageStore) {
        let name = ImageRef::from("a.png");
        assert_eq!(store.open(&name).expect("opens").dimensions(), (2, 3));
        assert_eq!(store.size(&name).expect("known"), (20, 30));
        assert_eq!(store.bytes(&name).expect("known").as_deref(), Some(&b"a.png"[..]));
    }
    is_odd(&Odd);
    is_odd(&&Odd);
    is_odd(&Arc::new(Odd));
    let mut memory = MemoryImages::new();
    memory.insert("a.png", RgbImage::new(4, 5));
    assert_eq!(memory.size(&"a.png".into()).expect("known"), (4, 5));
    assert_eq!(memory.bytes(&"a.png".into()).expect("no file"), None);
    let missing = memory.size(&"b.png".into()).expect_err("is not there").to_string();
    assert_eq!(missing, "image b.png not found in memory");
}

#[derive(Default)]
struct Heard {
    said: Vec<String>,
    stop: bool,
}

impl Progress for Heard {
    fn begin(&mut self, stage: &str, total: u64) {
        self.said.push(format!("begin {stage} {total}"));
    }
    fn advance(&mut self, n: u64) {
        self.said.push(format!("advance {n}"));
    }
    fn note(&mut self, text: &str) {
        self.said.push(format!("note {text}"));
    }
    fn end(&mut self) {
        self.said.push("end".into());
    }
    fn is_cancelled(&self) -> bool {
        self.stop
    }
}

fn work(mut progress: impl Progress) -> Result<(), CoreError> {
    progress.begin("fit", 3);
    progress.advance(2);
    progress.note("loss 1");
    progress.end();
    progress.check_cancelled()
}

#[test]
fn progress_behind_references_and_a_flag() {
    let flag = AtomicBool::new(false);
    let expected = ["begin fit 3", "advance 2", "note loss 1", "end"];
    let mut heard = Heard::default();
    work(&mut heard).expect("not stopped");
    assert_eq!(heard.said, expected);
    let mut heard = Heard::default();
    work(Cancellable::new(&mut heard, &flag)).expect("not stopped");
    assert_eq!(heard.said, expected);

    // Stopped by what is below, or by the flag alone.
    let mut stopped = Heard { stop: true, ..Heard::default() };
    assert!(matches!(work(&mut stopped), Err(CoreError::Cancelled)));
    assert!(matches!(work(Cancellable::new(&mut stopped, &flag)), Err(CoreError::Cancelled)));
    flag.store(true, Ordering::Relaxed);
    assert!(matches!(work(Cancellable::new((), &flag)), Err(CoreError::Cancelled)));
    assert!(work(()).is_ok());
}

struct Numbers(usize);

impl RecordSource for Numbers {
    fn len(&self) -> usize {
        self.0
    }
    fn record(&self, index: usize) -> Result<Cow<'_, JsonObject>, CoreError> {
        Ok(Cow::Owned([("n".to_owned(), index.into())].into_iter().collect()))
    }
    fn location(&self, index: usize) -> String {
        format!("number {}", index + 1)
    }
}

#[test]
fn records_behind_a_pointer() {
    let source = Arc::new(Numbers(3));
    assert_eq!((source.len(), source.is_empty(), Arc::new(Numbers(0)).is_empty()), (3, false, true));
    assert_eq!(source.record(2).expect("reads")["n"], 2);
    assert_eq!(source.location(2), "number 3");
}

#[test]
fn debug_texts_say_what_it_is_and_how_much_it_holds() {
    let mut hashes = ImageHashes::default();
    hashes.get(&"a.png".into()).expect("a name");
    assert_eq!(format!("{hashes:?}"), "ImageHashes { n_known: 1, .. }");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut table = DiskTable::new(folder.path()).expect("made");
    table.insert(7, 1).expect("written");
    assert_eq!(format!("{table:?}"), format!("DiskTable {{ folder: {:?}, len: 1, .. }}", folder.path()));
    let path = folder.path().join("records.jsonl");
    std::fs::write(&path, "{}\n{}\n").expect("written");
    let mut records = JsonRecords::open(&path).expect("opens");
    records.nth(1).expect("two records").expect("reads");
    assert!(format!("{records:?}").ends_with("number: 2 }"), "{records:?}");
}
