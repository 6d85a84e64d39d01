//! What records, prompts and ledgers say about themselves.

use adamllm_core::{
    Completion, Conversation, CoreError, Finish, ImageCaption, Ledger, LostRecords, Message, Prompt, Reason, RecordId,
    Role, Stage, TurnMarkers,
};

#[test]
fn a_conversation_alternates_after_an_optional_system_turn() {
    let turn = |role| Message::new(role, "x");
    let holds = |roles: &[Role]| Conversation::new(roles.iter().map(|role| turn(*role)).collect(), vec![]).validate();
    use Role::{Assistant, System, User};
    for good in [&[User][..], &[User, Assistant], &[System, User, Assistant, User], &[User, Assistant, User, Assistant]]
    {
        assert!(holds(good).is_ok(), "{good:?}");
    }
    for bad in [
        &[][..],
        &[System],
        &[Assistant],
        &[User, User],
        &[User, System],
        &[System, Assistant],
        &[System, System, User],
    ] {
        assert!(holds(bad).is_err(), "{bad:?}");
    }
    let error = holds(&[System, User, User]).expect_err("out of order").to_string();
    assert!(error.contains("expected role assistant in turn 2, got user"), "{error}");
    let marked = Conversation::new(vec![Message::user("<image><image>x <image>")], vec!["a.png".into()]);
    assert_eq!(marked.n_image_markers(), 3);
}

#[test]
fn an_id_of_the_file_stays_and_an_absent_one_is_made() {
    let made = Conversation::new(vec![Message::user("x")], vec![]);
    let given = Conversation { id: RecordId::given("7"), ..made.clone() };
    assert_eq!(given.clone().with_id().id, RecordId::given("7"));
    assert_eq!(Conversation { id: RecordId::given(""), ..made.clone() }.with_id(), made);
    assert_eq!(given.content_id(), made.id);
    assert_ne!(Conversation::new(vec![Message::assistant("x")], vec![]).id, made.id, "the role counts");
    assert_eq!(format!("{} {:?}", RecordId::given("7"), RecordId::given("7")), "7 RecordId(7)");
    assert_ne!(RecordId::given("7").to_u64(), RecordId::given("8").to_u64());
}

#[test]
fn a_caption_says_something_and_holds_no_marker() {
    assert!(ImageCaption::new("a.png", "A cell.").validate().is_ok());
    assert!(matches!(ImageCaption::new("a.png", " \n").validate(), Err(CoreError::EmptyCaption { .. })));
    let twice = ImageCaption::new("a.png", "<image> and <image>").validate();
    assert!(matches!(twice, Err(CoreError::ImageCount { markers: 3, images: 1, .. })));
    assert!(matches!(ImageCaption::new("a.png", "<audio>").validate(), Err(CoreError::Field { field: "caption", .. })));
    let asked = ImageCaption::new("a.png", "A cell.").with_request("What?");
    assert_eq!((asked.request.as_deref(), asked.id), (Some("What?"), ImageCaption::new("a.png", "A cell.").id));
}

#[test]
fn prompts_and_answers_count_their_texts() {
    let prompt = Prompt::ask(&"a.png".into(), "Größe?");
    assert_eq!((prompt.n_chars(), prompt.images()), ("<image>\nGröße?".chars().count(), &["a.png".into()][..]));
    assert_eq!((Prompt::Text("Größe?".into()).n_chars(), Prompt::Text(String::new()).images().len()), (6, 0));
    let answer = Completion::new("x").with_tokens(vec![4, 5, 6], 10).ended_by(Finish::Length);
    assert_eq!((answer.n_new_tokens, answer.n_prompt_tokens, answer.finish), (3, 10, Finish::Length));
    assert_eq!((answer.tokens.as_slice(), answer.text.as_str()), (&[4, 5, 6][..], "x"));
    let answer = Completion::new("x").with_counts(10, 4);
    assert_eq!((answer.n_prompt_tokens, answer.n_new_tokens, answer.finish), (10, 4, Finish::Stop));
}

#[test]
fn turns_are_opened_as_the_families_templates_write_them() {
    let [llama, chatml] = [TurnMarkers::llama3(), TurnMarkers::chatml()];
    assert_eq!(llama.user_header, "<|start_header_id|>user<|end_header_id|>\n\n");
    assert_eq!((llama.end_of_turn.as_str(), llama.separator.as_str()), ("<|eot_id|>", ""));
    assert_eq!((chatml.assistant_header.as_str(), chatml.separator.as_str()), ("<|im_start|>assistant\n", "\n"));
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::new();
    let mut drop = |stage, reason, detail: &str| {
        ledger.drop_record(&RecordId::given("x"), stage, reason, detail).expect("in memory");
    };
    drop(Stage::Read, Reason::ImageMissing, "first");
    drop(Stage::Read, Reason::ImageMissing, "second");
    drop(Stage::Read, Reason::InvalidJson, "third");
    drop(Stage::Judge, Reason::Open, "fourth");
    ledger
}

#[test]
fn a_ledger_counts_by_stage_and_reason() {
    let ledger = ledger();
    assert_eq!([Stage::Read, Stage::Judge, Stage::Fit].map(|stage| ledger.dropped_in(stage)), [3, 1, 0]);
    assert_eq!((ledger.total(), ledger.counts()[&(Stage::Read, Reason::ImageMissing)]), (4, 2));
    let causes: Vec<(String, u64)> = ledger.causes().into_iter().collect();
    let expected = [("judge/open", 1), ("read/image_missing", 2), ("read/invalid_json", 1)];
    assert_eq!(causes, expected.map(|(cause, n)| (cause.to_owned(), n)));
    let lost = ledger.lost_records(12);
    assert_eq!((lost.n_lost(), lost.share()), (3, 0.25));
    let expected = "3 of 12 records were lost: 2 read/image_missing, 1 read/invalid_json; the first: first";
    assert_eq!(lost.to_string(), expected);
    assert_eq!(LostRecords::of(5).to_string(), "0 of 5 records were lost");
}

#[test]
fn losses_of_parts_add_up_and_those_before_are_taken_off() {
    let mut whole = LostRecords::of(10);
    // Twelve records of which three were lost, nine came out of it; and a part without a loss.
    whole.join(ledger().lost_records(9));
    whole.join(LostRecords::of(2));
    assert_eq!((whole.n_lost(), whole.share()), (3, 3.0 / 24.0));
    let before = ledger().lost_records(0);
    assert_eq!(ledger().lost_records(0).since(&before), LostRecords::of(0), "nothing since");
    let mut after = before.clone();
    after.add_all(Stage::Read, Reason::ImageMissing, 5, "later".into());
    after.add_all(Stage::Fit, Reason::TooLong, 4, "long".into());
    after.add_all(Stage::Fit, Reason::Duplicate, 4, "a filter's".into());
    after.add_all(Stage::Fit, Reason::NonFinite, 0, "none".into());
    let since = after.since(&before).to_string();
    assert_eq!(since, "9 of 0 records were lost: 5 read/image_missing, 4 fit/too_long; the first: first");
}

#[test]
fn every_error_of_a_record_has_its_reason() {
    let (record, path) = (String::new(), std::path::PathBuf::new());
    let json = serde_json::from_str::<u8>("x").expect_err("no number");
    let io = || std::io::Error::other("gone");
    let image = || String::from("a.png");
    let cases = [
        (CoreError::Json { path: path.clone(), number: 1, source: json }, Reason::InvalidJson),
        (CoreError::Layout { path: path.clone(), expected: String::new(), got: String::new() }, Reason::InvalidJson),
        (CoreError::EmptyCaption { record: record.clone() }, Reason::EmptyCaption),
        (
            CoreError::Field { record: record.clone(), field: "id", expected: String::new(), got: String::new() },
            Reason::InvalidField,
        ),
        (CoreError::ImageCount { record, markers: 1, images: 2 }, Reason::ImageCountMismatch),
        (CoreError::ImageMissing { image: image(), location: String::new() }, Reason::ImageMissing),
        (CoreError::ImageTooLarge { image: image(), width: 1, height: 1, limit: 0 }, Reason::ImageTooLarge),
        (CoreError::ImageDecode { image: image(), source: "broken".into() }, Reason::ImageBroken),
        (CoreError::io("read", path)(io()), Reason::ImageBroken),
        (CoreError::Cancelled, Reason::ModelError),
        (CoreError::ModelFails { n: 1, detail: String::new() }, Reason::ModelError),
    ];
    for (error, reason) in cases {
        assert_eq!(Reason::from(&error), reason, "{error}");
    }
}
