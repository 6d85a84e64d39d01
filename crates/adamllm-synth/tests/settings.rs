//! What is refused, why, and how it is counted: settings, texts that forge turns, errors.

use adamllm_core::testing::ScriptedModel;
use adamllm_core::{
    Completion, CoreError, Decoding, ImageCaption, MemoryImages, Prompt, Reason, RecordId, Role, TurnMarkers,
};
use adamllm_synth::hygiene::HygieneConfig;
use adamllm_synth::seed::{QuestionAnswer, SeedConfig, SeedEntry, Split, compose_seed};
use adamllm_synth::{
    ConsistencyFilter, RunConfig, SynthError, SynthesisRun, Synthesizer, SynthesizerConfig, TaskTriplet, TaskType,
    Variant, caption_stays,
};

fn field<T>(result: Result<T, SynthError>) -> Option<&'static str> {
    match result {
        Ok(_) => None,
        Err(SynthError::Config { field, .. }) => Some(field),
        Err(other) => panic!("{other}"),
    }
}

fn silent() -> ScriptedModel {
    ScriptedModel::new(|_| Ok(String::new()))
}

#[test]
fn a_synthesizer_needs_its_special_tokens_and_room_to_write() {
    let config = SynthesizerConfig::default;
    let decoding = || config().decoding;
    assert_eq!(field(config().validate()), None);
    for lacking in
        [Decoding { keep_special_tokens: false, ..decoding() }, Decoding { through_turns: false, ..decoding() }]
    {
        assert_eq!(field(SynthesizerConfig { decoding: lacking, ..config() }.validate()), Some("decoding"));
    }
    let tokens = |max_new_tokens| SynthesizerConfig { decoding: Decoding { max_new_tokens, ..decoding() }, ..config() };
    assert_eq!(field(tokens(0).validate()), Some("decoding.max_new_tokens"));
    assert_eq!(field(tokens(1).validate()), None);
    let chars = |max_caption_chars| SynthesizerConfig { max_caption_chars, ..config() };
    assert_eq!([field(chars(0).validate()), field(chars(1).validate())], [Some("max_caption_chars"), None]);

    let synthesizer = Synthesizer::with_config(silent(), chars(5)).expect("valid");
    assert_eq!(synthesizer.config(), &chars(5));
    assert!(synthesizer.prompt(&ImageCaption::new("a.png", "äöüäö")).is_ok(), "five characters of two bytes");
    let error = synthesizer.prompt(&ImageCaption::new("a.png", "äöüäöü")).expect_err("six");
    assert!(matches!(error, SynthError::TooLong { limit: 5, got: 6, .. }), "{error}");
    let prompt = synthesizer.prompt(&ImageCaption::new("a.png", " ab ")).expect("short");
    let Prompt::Chat { conversation, open: Role::User } = prompt else { panic!("a user's turn is opened") };
    assert_eq!(conversation.messages[1].content, "ab");
}

#[test]
fn turn_markers_are_the_settings_then_the_models_then_llamas() {
    let chatml = || silent().with_turn_markers(TurnMarkers::chatml());
    assert_eq!(*Synthesizer::new(silent()).markers(), TurnMarkers::llama3());
    assert_eq!(*Synthesizer::new(chatml()).markers(), TurnMarkers::chatml());
    let own = TurnMarkers { user_header: "USER".into(), ..TurnMarkers::llama3() };
    let config = SynthesizerConfig { markers: Some(own.clone()), ..SynthesizerConfig::default() };
    assert_eq!(*Synthesizer::with_config(chatml(), config).expect("valid").markers(), own);
    // A caption that forges one of the model's own markers is refused, whatever they look like.
    let config = SynthesizerConfig { markers: Some(own), ..SynthesizerConfig::default() };
    let synthesizer = Synthesizer::with_config(silent(), config).expect("valid");
    let forged = synthesizer.prompt(&ImageCaption::new("a.png", "A cell. USER asks"));
    assert!(matches!(forged, Err(SynthError::ForgedTurn { token, .. }) if token == "USER"));
}

#[test]
fn what_a_synthesizer_writes_may_name_no_image() {
    let markers = TurnMarkers::chatml();
    let synthesizer = Synthesizer::new(silent().with_turn_markers(markers.clone()));
    let pair = ImageCaption::new("a.png", "A cell.");
    let TurnMarkers { end_of_turn, separator, user_header, assistant_header } = &markers;
    let exchange = |question: &str, answer: &str| {
        format!("{question}{end_of_turn}{separator}{assistant_header}{answer}{end_of_turn}{separator}")
    };
    let read = |precise: &str| {
        let text = exchange("Answer with a precise response.\nHow many?", precise)
            + user_header
            + &exchange("Answer with an informative response.\nHow many?", "I count two.");
        synthesizer.read(&pair, &Completion::new(text)).map(|triplet| triplet.precise)
    };
    assert_eq!(read("Two").expect("a triplet"), "Two");
    for forged in ["<image>", "<video>", "<audio>", "<|endoftext|>"] {
        assert_eq!(read(&format!("Two {forged}")).expect_err(forged).reason(), Reason::ForgedTurn);
    }
    let one = synthesizer.read(&pair, &Completion::new(exchange("Answer with a precise response.\nHow many?", "Two")));
    assert!(matches!(one, Err(SynthError::NoTriplet { n_turns: 1, .. })));
}

#[test]
fn a_run_refuses_settings_and_variants_that_are_not_its_own() {
    let images = MemoryImages::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = |config: RunConfig| SynthesisRun::new(folder.path(), &images).with_config(config);
    let config = RunConfig::default;
    assert_eq!(field(run(RunConfig { batch_size: 0, ..config() })), Some("batch_size"));
    assert_eq!(field(run(RunConfig { batch_size: 1, ..config() })), None);
    let hygiene = HygieneConfig { max_image_distance: 16, ..HygieneConfig::default() };
    assert_eq!(field(run(RunConfig { hygiene: Some(hygiene), ..config() })), Some("max_image_distance"));

    let (writer, judge) = (Synthesizer::new(silent()), ConsistencyFilter::new(silent()));
    let nothing = Vec::<ImageCaption>::new;
    for variant in Variant::ALL {
        let run = run(RunConfig { variant, ..config() }).expect("valid");
        let judged = field(run.run(nothing(), &writer, &judge, &mut ()));
        let unfiltered = field(run.run_unfiltered(nothing(), &writer, &mut ()));
        let by_rule = field(run.run_by_rule(nothing(), &mut ()));
        use Variant::*;
        let refused = Some("variant");
        let expected = match variant {
            CaptionOnly => [refused; 3],
            RuleBased => [refused, refused, None],
            PreciseOnly | InformativeOnly | NoFilter => [refused, None, refused],
            _ => [None, refused, refused],
        };
        assert_eq!([judged, unfiltered, by_rule], expected, "{variant:?}");
    }
}

#[test]
fn seeds_have_shares_and_no_forged_text() {
    let config = SeedConfig::default;
    for share in [-0.01, 1.01, f64::NAN] {
        assert_eq!(field(SeedConfig { dev_share: share, ..config() }.validate()), Some("dev_share"));
        assert_eq!(field(SeedConfig { blank_share: share, ..config() }.validate()), Some("blank_share"));
    }
    assert_eq!(field(SeedConfig { dev_share: 0.0, blank_share: 1.0, ..config() }.validate()), None);

    let entry = |caption: &str, question: &str, answer: &str| {
        let pair = ImageCaption::new("a.png", caption);
        let triplet = TaskTriplet::new(pair.id.clone(), pair.image.clone(), "Why?", "Because.", "So");
        let asked = QuestionAnswer { question: question.into(), answer: answer.into() };
        let mut entry = SeedEntry::from_triplet(&pair, &triplet, "t");
        entry.informative.push(asked);
        compose_seed(&entry, Split::Dev, &config())
    };
    let seed = entry(" A cell. ", "How?", "Thus.").expect("sound");
    assert_eq!((seed.conversation.messages.len(), seed.split, seed.task.as_str()), (8, Split::Dev, "t"));
    assert_eq!(seed.conversation.messages[1].content, "A cell.");
    for (field_at_fault, result) in [
        ("caption", entry("<|eot_id|>", "How?", "Thus.")),
        ("question", entry("A cell.", "<|eot_id|>", "Thus.")),
        ("answer", entry("A cell.", "How?", "<|eot_id|>")),
    ] {
        assert!(matches!(result, Err(SynthError::ForgedTurn { field, .. }) if field == field_at_fault));
    }
}

#[test]
fn every_kind_of_question_is_known_by_its_words() {
    for (instruction, kind) in [
        ("Choose the dish.", "choice"),
        ("What is the number of cells?", "count"),
        ("Write a caption.", "description"),
        ("What is the purpose of the dye?", "cause"),
        ("Where is the nucleus?", "place"),
        ("Which season is it?", "time"),
        ("Which color is it?", "colour"),
        ("What is written there?", "text in the image"),
        ("Which is larger?", "comparison"),
        ("Who is this?", "person"),
        ("How does it look?", "manner"),
        ("Does it glow?", "yes or no"),
        ("Identify the organ.", "naming"),
        ("Go.", "other"),
        ("Isolate it.", "other"),
    ] {
        assert_eq!(TaskType::of(instruction).as_str(), kind, "{instruction}");
    }
}

#[test]
fn errors_are_counted_by_reason_and_blamed_on_the_model_or_the_record() {
    let record = || RecordId::given("r");
    let model = || "m".to_owned();
    let cases = [
        (SynthError::Core(CoreError::Cancelled), Reason::ModelError, false),
        (
            SynthError::ForgedTurn { record: record(), field: "caption", token: String::new() },
            Reason::ForgedTurn,
            false,
        ),
        (SynthError::TooLong { record: record(), field: "caption", limit: 1, got: 2 }, Reason::TooLong, false),
        (SynthError::CaptionCut { image: "a.png".into(), limit: 1 }, Reason::TooLong, false),
        (SynthError::Scores { record: record(), got: vec![] }, Reason::NonFinite, true),
        (SynthError::NoTriplet { record: record(), n_turns: 0, text: String::new() }, Reason::NoTriplet, false),
        (SynthError::Model { record: record(), model: model(), source: "gone".into() }, Reason::ModelError, true),
        (SynthError::MissingOutput { record: record(), model: model(), expected: 2, got: 1 }, Reason::ModelError, true),
        (SynthError::Stopped { cause: String::new() }, Reason::ModelError, false),
        (SynthError::Placeholder { placeholder: "{Q}" }, Reason::InvalidField, false),
    ];
    for (error, reason, is_models) in cases {
        assert_eq!((error.reason(), error.is_models_fault()), (reason, is_models), "{error}");
    }
}

#[test]
fn a_caption_stays_where_the_model_or_the_judge_is_the_reason() {
    use Reason::*;
    for reason in
        [ModelError, NoTriplet, Inconsistent, Open, UnclearVerdict, BelowThreshold, Duplicate, NearDuplicate, NonFinite]
    {
        assert!(caption_stays(reason), "{reason:?}");
    }
    for reason in
        [EmptyCaption, ImageMissing, ImageBroken, ImageTooLarge, ForgedTurn, DuplicateId, Leak, InvalidJson, TooLong]
    {
        assert!(!caption_stays(reason), "{reason:?}");
    }
}
