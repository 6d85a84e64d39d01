//! The client against a real server: `tools/remote/check` starts one and runs this test, which is ignored otherwise.
//!
//! `ADAMLLM_SERVER` is the base URL, `ADAMLLM_SERVER_MODEL` the model's name where the server does not list it,
//! `ADAMLLM_SERVER_IMAGE` an image where the model sees, `ADAMLLM_SERVER_SCORES` `yes` or `no`: whether it gives log-probabilities
//! (with a model that knows the answers).

use std::path::PathBuf;
use std::sync::Arc;

use adamllm_core::{
    CoreError, Decoding, Finish, Generate, ImageRef, ImageStore, MemoryImages, Prompt, RgbImage, ScoreRequest,
};
use adamllm_remote::{RemoteConfig, RemoteError, RemoteModel, ScoreMethod};

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn connect(score_method: ScoreMethod, images: Arc<dyn ImageStore>) -> RemoteModel {
    let url = variable("ADAMLLM_SERVER").expect("the URL of a server in ADAMLLM_SERVER");
    let model = variable("ADAMLLM_SERVER_MODEL");
    let config = RemoteConfig { model, score_method, ..RemoteConfig::new([url]) };
    RemoteModel::connect(config, images).expect("the server answers")
}

struct OneImage(PathBuf);

impl ImageStore for OneImage {
    fn open(&self, image: &ImageRef) -> Result<RgbImage, CoreError> {
        Err(CoreError::ImageMissing { image: image.to_string(), location: "this test".into() })
    }
    fn bytes(&self, _: &ImageRef) -> Result<Option<Vec<u8>>, CoreError> {
        std::fs::read(&self.0).map(Some).map_err(CoreError::io("read", &self.0))
    }
}

#[test]
#[ignore = "needs a server; see tools/remote"]
fn text_is_continued_the_same_way_twice() {
    let model = connect(ScoreMethod::default(), Arc::new(MemoryImages::new()));
    let prompts: Vec<_> = (0..8).map(|i| Prompt::Text(format!("The number of cells is {i}, so the answer"))).collect();
    let say = || -> Vec<_> {
        let answers = model.generate(&prompts, &Decoding::greedy(6));
        answers.into_iter().map(|answer| answer.expect("an answer")).collect()
    };
    let answers = say();
    assert_eq!(answers, say(), "greedy");
    assert!(answers.iter().all(|answer| answer.n_prompt_tokens > 4 && (1..=6).contains(&answer.n_new_tokens)));
    assert!(answers.iter().all(|answer| answer.finish == Finish::Stop || answer.n_new_tokens == 6));
}

#[test]
#[ignore = "needs a server; see tools/remote"]
fn an_image_changes_the_answer() {
    let Some(image) = variable("ADAMLLM_SERVER_IMAGE") else { return };
    let see = |path: PathBuf| {
        let model = connect(ScoreMethod::default(), Arc::new(OneImage(path)));
        let answer = model.generate(&[Prompt::ask(&"a.png".into(), "Describe the image.")], &Decoding::greedy(24));
        answer.into_iter().next().expect("one result").expect("an answer")
    };
    let answer = see(PathBuf::from(&image));
    assert!(answer.n_prompt_tokens > 16, "the image has tokens: {}", answer.n_prompt_tokens);
    assert!(!answer.text.is_empty() && !answer.text.contains("<|"), "{}", answer.text);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let blank = folder.path().join("blank.png");
    image::RgbImage::from_pixel(112, 112, image::Rgb([255; 3])).save(&blank).expect("written");
    assert_ne!(answer.text, see(blank).text, "of {image} and of nothing");
}

#[test]
#[ignore = "needs a server; see tools/remote"]
fn both_ways_to_score_agree() {
    let continuations: Vec<_> = [" Yes", " No"].map(str::to_owned).into();
    let text = "Question: Is the ground ice?\nLong answer: It is.\nShort answer: yes\nVerdict:";
    let request = ScoreRequest { prompt: Prompt::Text(text.into()), continuations };
    let score = |method| connect(method, Arc::new(MemoryImages::new())).score(std::slice::from_ref(&request)).remove(0);
    let Some(scores) = variable("ADAMLLM_SERVER_SCORES") else { return };
    if scores == "no" {
        let refused = score(ScoreMethod::TopTokens(5));
        assert!(matches!(refused, Err(RemoteError::Refused { .. } | RemoteError::Answer { .. })), "{refused:?}");
        return;
    }
    let (top, echo) = (score(ScoreMethod::TopTokens(20)).expect("scored"), score(ScoreMethod::Echo).expect("scored"));
    assert!(top.iter().zip(&echo).all(|(a, b)| (a - b).abs() < 1e-3), "{top:?} {echo:?}");
    assert!(echo.iter().all(|score| *score < 0.0));
}

#[test]
#[ignore = "needs a server; see tools/remote"]
fn what_the_server_refuses_is_told() {
    let model = connect(ScoreMethod::default(), Arc::new(MemoryImages::new()));
    let answers = model.generate(&[Prompt::Text("word ".repeat(5000)), Prompt::Text("A".into())], &Decoding::greedy(2));
    assert!(answers[1].is_ok());
    if let Err(error) = &answers[0] {
        assert!(matches!(error, RemoteError::Refused { .. } | RemoteError::GaveUp { .. }), "{error}");
    }
}
