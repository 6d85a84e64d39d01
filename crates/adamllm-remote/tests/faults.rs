//! The client against servers that misbehave in every way that servers do.

mod faulty_server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use adamllm_core::{
    CoreError, Decoding, Generate, ImageRef, MemoryImages, Prompt, RgbImage, ScoreRequest, TurnMarkers,
};
use adamllm_remote::{ApiKey, AttemptError, RemoteConfig, RemoteError, RemoteModel, Retry, ScoreMethod};
use faulty_server::{Fault, FaultyServer};

fn config(servers: &[&FaultyServer]) -> RemoteConfig {
    let retry = Retry {
        attempts: 4,
        pause: Duration::from_millis(10),
        longest_pause: Duration::from_millis(80),
        patience: Duration::from_secs(5),
    };
    let urls = servers.iter().map(|server| server.url());
    RemoteConfig { retry, request_timeout: Duration::from_millis(700), ..RemoteConfig::new(urls) }
}

fn connect(config: RemoteConfig) -> RemoteModel {
    let mut images = MemoryImages::new();
    images.insert("a.png", RgbImage::new(2, 2));
    RemoteModel::connect(config, Arc::new(images)).expect("a server answers")
}

fn ask(model: &RemoteModel, texts: &[&str]) -> Vec<Result<String, RemoteError>> {
    let prompts: Vec<_> = texts.iter().map(|text| Prompt::Text((*text).into())).collect();
    let answers = model.generate(&prompts, &Decoding::greedy(8));
    answers.into_iter().map(|result| result.map(|answer| answer.text)).collect()
}

fn one(model: &RemoteModel) -> Result<String, RemoteError> {
    ask(model, &["x"]).remove(0)
}

#[test]
fn what_may_pass_is_tried_again() {
    for fault in [Fault::Status(500), Fault::Status(502), Fault::Status(408), Fault::Cut, Fault::NotJson, Fault::Slow] {
        let server = FaultyServer::start("m");
        server.fails(&[fault, fault]);
        let model = connect(config(&[&server]));
        assert_eq!(one(&model).expect("the third attempt"), "answer to x", "{fault:?}");
        assert_eq!(server.n_posts(), 3, "{fault:?}");
    }
}

#[test]
fn what_does_not_pass_is_given_up_and_says_why() {
    for fault in [Fault::Status(500), Fault::Status(429), Fault::Cut, Fault::NotJson, Fault::Slow] {
        let server = FaultyServer::start("m");
        server.fails(&[fault; 10]);
        let start = Instant::now();
        let Err(RemoteError::GaveUp { attempts: 4, last, url }) = one(&connect(config(&[&server]))) else {
            panic!("{fault:?} is no answer")
        };
        let is_right = match fault {
            Fault::Status(429) => matches!(last, AttemptError::Busy { status: 429, .. }),
            Fault::Status(_) => matches!(last, AttemptError::Server { status: 500, .. }),
            Fault::NotJson => matches!(last, AttemptError::NotJson(_)),
            Fault::Slow => matches!(last, AttemptError::TimedOut(_)),
            _ => matches!(last, AttemptError::Connection(_)),
        };
        assert!(is_right, "{fault:?} became {last:?}");
        assert!(url.starts_with("http://127.0.0.1:") && url.ends_with("/v1/completions"));
        assert!(start.elapsed() < Duration::from_secs(5), "a request has a time-out of its own");
    }
}

#[test]
fn what_will_not_pass_is_not_tried_again() {
    for status in [400, 401, 403, 404, 413, 422] {
        let server = FaultyServer::start("m");
        server.fails(&[Fault::Status(status)]);
        let refused = one(&connect(config(&[&server])));
        assert!(matches!(refused, Err(RemoteError::Refused { status: got, .. }) if got == status));
        assert_eq!(server.n_posts(), 1);
    }
    let server = FaultyServer::start("m");
    server.fails(&[Fault::OtherJson]);
    assert!(matches!(one(&connect(config(&[&server]))), Err(RemoteError::Answer { .. })));
}

#[test]
fn retry_after_is_obeyed() {
    for fault in [Fault::Busy(429, 1), Fault::Busy(503, 1)] {
        let server = FaultyServer::start("m");
        server.fails(&[fault]);
        let start = Instant::now();
        assert_eq!(one(&connect(config(&[&server]))).expect("the second attempt"), "answer to x");
        assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    }
}

#[test]
fn a_server_that_asks_for_more_than_the_patience_is_not_waited_for() {
    let server = FaultyServer::start("m");
    server.fails(&[Fault::Busy(429, 3600)]);
    let start = Instant::now();
    let gave_up = one(&connect(config(&[&server])));
    assert!(matches!(gave_up, Err(RemoteError::GaveUp { attempts: 1, .. })));
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(server.n_posts(), 1);
}

#[test]
fn a_pause_longer_than_the_patience_is_not_started() {
    let server = FaultyServer::start("m");
    server.fails(&[Fault::Status(500); 10]);
    let (pause, longest_pause) = (Duration::from_secs(30), Duration::from_secs(60));
    let mut config = config(&[&server]);
    config.retry = Retry { pause, longest_pause, patience: Duration::from_secs(1), ..config.retry };
    let start = Instant::now();
    assert!(matches!(one(&connect(config)), Err(RemoteError::GaveUp { attempts: 1, .. })));
    assert!(start.elapsed() < Duration::from_secs(10) && server.n_posts() == 1);
}

#[test]
fn one_failed_prompt_costs_itself_only() {
    let server = FaultyServer::start("m");
    let model = connect(config(&[&server]));
    let texts: Vec<String> = (0..40).map(|i| if i % 7 == 3 { format!("refuse {i}") } else { format!("{i}") }).collect();
    let answers = ask(&model, &texts.iter().map(String::as_str).collect::<Vec<_>>());
    for (text, answer) in texts.iter().zip(answers) {
        match answer {
            Ok(answer) => assert_eq!(answer, format!("answer to {text}")),
            Err(RemoteError::Refused { status: 400, message, .. }) => {
                assert!(text.starts_with("refuse"));
                assert_eq!(message, "no such thing");
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn concurrency_is_bounded_and_used() {
    let server = FaultyServer::start("m");
    server.takes(Duration::from_millis(40));
    let model = connect(RemoteConfig { concurrency: 4, ..config(&[&server]) });
    let start = Instant::now();
    let answers = ask(&model, &["x"; 24]);
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(server.most_at_once(), 4);
    assert!(start.elapsed() < Duration::from_millis(24 * 40), "side by side: {:?}", start.elapsed());
}

#[test]
fn work_moves_to_the_servers_that_are_there() {
    let (down, busy, up) = (FaultyServer::start("m"), FaultyServer::start("m"), FaultyServer::start("m"));
    for server in [&down, &busy, &up] {
        server.takes(Duration::from_millis(10));
    }
    let model = connect(config(&[&down, &busy, &up]));
    assert!(ask(&model, &["x"; 30]).iter().all(Result::is_ok));
    assert!([&down, &busy, &up].iter().all(|server| server.n_posts() >= 5), "all take part");
    down.goes_down();
    busy.fails(&[Fault::Busy(429, 3600); 100]);
    let before = up.n_posts();
    assert!(ask(&model, &["x"; 30]).iter().all(Result::is_ok));
    assert!(up.n_posts() >= before + 28, "the third one did it all");
    assert!(busy.n_posts() <= 30, "a busy server is left alone");
}

#[test]
fn a_server_that_comes_back_is_used_again() {
    let (a, b) = (FaultyServer::start("m"), FaultyServer::start("m"));
    let model = connect(config(&[&a, &b]));
    a.goes_down();
    assert!(ask(&model, &["x"; 8]).iter().all(Result::is_ok));
    a.comes_back();
    std::thread::sleep(Duration::from_millis(300));
    let before = a.n_posts();
    assert!(ask(&model, &["x"; 20]).iter().all(Result::is_ok));
    assert!(a.n_posts() > before, "its health was checked");
}

#[test]
fn servers_that_are_down_or_serve_something_else_are_named() {
    let (a, other) = (FaultyServer::start("m"), FaultyServer::start("other"));
    let images = || Arc::new(MemoryImages::new());
    let mixed = RemoteModel::connect(config(&[&a, &other]), images());
    assert!(matches!(mixed, Err(RemoteError::Model { offered, .. }) if offered == ["other"]));
    let wanted = RemoteConfig { model: Some("n".into()), ..config(&[&a]) };
    assert!(matches!(RemoteModel::connect(wanted, images()), Err(RemoteError::Model { .. })));
    a.goes_down();
    let Err(RemoteError::NoServer { failures }) = RemoteModel::connect(config(&[&a]), images()) else {
        panic!("nobody is there")
    };
    assert_eq!(failures.len(), 1);
    other.goes_down();
    other.comes_back();
    let model = connect(config(&[&a, &other]));
    assert_eq!(model.name(), "other", "one of two is enough");
    assert!(one(&model).is_ok());
}

#[test]
fn the_key_is_sent_and_never_shown() {
    let server = FaultyServer::start("m");
    server.wants_key("sk-very-secret");
    let images = || Arc::new(MemoryImages::new());
    let refused = RemoteModel::connect(config(&[&server]), images());
    assert!(matches!(refused, Err(RemoteError::Refused { status: 401, .. })));
    let with = |key: &str| RemoteConfig { api_key: Some(ApiKey::from(key)), ..config(&[&server]) };
    let wrong = RemoteModel::connect(with("sk-wrong"), images()).expect_err("another key").to_string();
    assert!(wrong.contains("(the API key)") && !wrong.contains("sk-wrong"), "{wrong}");
    let config = with("sk-very-secret");
    assert!(!format!("{config:?}").contains("secret"));
    let model = connect(config);
    assert_eq!(one(&model).expect("let in"), "answer to x");
    assert!(!format!("{model:?} {}", model.identity()).contains("secret"));
}

#[test]
fn a_redirect_takes_the_key_nowhere() {
    let (server, thief) = (FaultyServer::start("m"), FaultyServer::start("m"));
    server.wants_key("sk-very-secret");
    server.redirects_posts_to(&thief.url());
    let key = Some(ApiKey::from("sk-very-secret"));
    let model = connect(RemoteConfig { api_key: key, ..config(&[&server]) });
    assert!(matches!(one(&model), Err(RemoteError::Refused { status: 307, .. })));
    assert_eq!(thief.n_posts(), 0);
}

#[test]
fn images_arrive_and_missing_ones_cost_themselves() {
    let server = FaultyServer::start("m");
    let model = connect(config(&[&server]));
    let ask = |image: &str| Prompt::ask(&ImageRef::from(image), "What?");
    let answers = model.generate(&[ask("a.png"), ask("gone.png"), ask("a.png")], &Decoding::greedy(4));
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert!(matches!(answers[1], Err(RemoteError::Core(CoreError::ImageMissing { .. }))));
    let body = server.last_body();
    let content = body["messages"][0]["content"].as_array().expect("parts");
    assert!(content[0]["image_url"]["url"].as_str().is_some_and(|url| url.starts_with("data:image/png;base64,")));
}

#[test]
fn answers_are_scored_both_ways() {
    let server = FaultyServer::start("m");
    let continuations: Vec<_> = [" Yes", " No", " Open"].map(str::to_owned).into();
    let request = ScoreRequest { prompt: Prompt::Text("Same?".into()), continuations };
    let model = connect(config(&[&server]));
    let top = model.score(std::slice::from_ref(&request)).remove(0).expect("scored");
    assert_eq!(top, [-0.25, -2.0, f64::NEG_INFINITY], "the third is not among the most probable");
    let model = connect(RemoteConfig { score_method: ScoreMethod::Echo, ..config(&[&server]) });
    let echoed = model.score(&[request]).remove(0).expect("scored");
    assert_eq!(echoed, [-0.25, -2.0, -3.5]);
}

#[test]
fn a_server_tells_no_turn_markers_and_the_settings_may() {
    let server = FaultyServer::start("m");
    assert_eq!(connect(config(&[&server])).turn_markers(), None);
    let markers = Some(TurnMarkers::chatml());
    assert_eq!(connect(RemoteConfig { markers: markers.clone(), ..config(&[&server]) }).turn_markers(), markers);
}

#[test]
fn the_identity_tells_models_and_settings_apart() {
    let server = FaultyServer::start("m");
    let identity = |change: &dyn Fn(&mut RemoteConfig)| {
        let mut config = config(&[&server]);
        change(&mut config);
        connect(config).identity()
    };
    let plain = identity(&|_| ());
    assert!(plain.starts_with("remote:m:/weights/m:"), "{plain}");
    assert_eq!(plain, identity(&|config| config.concurrency = 1), "how it is asked does not matter");
    assert_ne!(plain, identity(&|config| config.revision = "2".into()));
    assert_ne!(plain, identity(&|config| config.end_of_text = Some("<|end|>".into())));
    assert_ne!(plain, identity(&|config| drop(config.extra.insert("top_k".into(), 5.into()))));
}
