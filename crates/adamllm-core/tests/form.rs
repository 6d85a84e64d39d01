//! One record in the forms that tools write, and what is refused with its cause.

use std::path::Path;

use adamllm_core::{Conversation, CoreError, Message, RecordForm, RecordId, Role};
use serde_json::{Value, json};

fn form(value: Value) -> RecordForm<'static> {
    RecordForm::new(Path::new("data.json"), 7, value)
}

/// Turns as (role, text), and images.
type Read = (Vec<(&'static str, String)>, Vec<String>);

fn read(value: Value) -> Result<Read, String> {
    let conversation = form(value).into_conversation().map_err(|error| error.to_string())?;
    let turns = conversation.messages.iter().map(|turn| (turn.role.as_str(), turn.content.clone())).collect();
    Ok((turns, conversation.images.iter().map(ToString::to_string).collect()))
}

/// A question about one image, with these keys beside or in place of the usual ones; `null` removes a key.
fn question(keys: Value) -> Value {
    let mut record = json!({
        "messages": [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "A cell."}],
        "images": ["a.png"],
    });
    let object = record.as_object_mut().expect("an object");
    for (key, value) in keys.as_object().expect("an object") {
        match value {
            Value::Null => drop(object.remove(key)),
            value => drop(object.insert(key.clone(), value.clone())),
        }
    }
    record
}

/// [`question`] with these keys in its reply.
fn reply(keys: Value) -> Value {
    let mut turn = json!({"role": "assistant", "content": "A cell."});
    turn.as_object_mut().expect("an object").extend(keys.as_object().expect("an object").clone());
    question(json!({"messages": [{"role": "user", "content": "<image>What?"}, turn]}))
}

fn asked() -> Read {
    (vec![("user", "<image>What?".into()), ("assistant", "A cell.".into())], vec!["a.png".into()])
}

fn refused(value: &Value, cause: &str) {
    let error = read(value.clone()).expect_err(cause);
    assert!(error.starts_with("data.json record 7") && error.contains(cause), "{value}: {error} without {cause}");
}

#[test]
fn the_forms_of_several_tools_say_the_same() {
    let parts = json!([{"type": "image"}, {"type": "text", "text": "What?"}]);
    let named = json!([{"type": "image_url", "image_url": {"url": "a.png"}}, {"text": "What?"}]);
    let table = json!([
        {"type": "image", "image": "a.png", "text": null, "url": ""},
        {"type": "text", "text": "What?", "image": null},
    ]);
    let mut records = vec![
        question(json!({})),
        question(json!({"images": null, "image": "a.png"})),
        question(json!({"images": "a.png"})),
        question(json!({"image": "a.png"})),
        question(json!({"images": [{"path": "a.png", "bytes": null}]})),
        question(json!({"images": [{"file_name": "a.png"}]})),
        question(json!({"conversations": []})),
        question(json!({"messages": null, "conversations": [
            {"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": "A cell."}]})),
        question(json!({"system": "", "id": ""})),
    ];
    for (content, images) in [(&parts, json!(["a.png"])), (&named, Value::Null), (&table, json!(["a.png"]))] {
        let messages = json!([{"role": "user", "content": content}, {"role": "assistant", "content": "A cell."}]);
        records.push(question(json!({"messages": messages, "images": images})));
    }
    for record in records {
        assert_eq!(read(record.clone()), Ok(asked()), "{record}");
    }
}

#[test]
fn a_system_text_is_the_first_turn_once() {
    let mut expected = asked();
    expected.0.insert(0, ("system", "Be brief.".into()));
    let turn = |text: &str| json!({"role": "system", "content": text});
    let with = |first: Value| {
        let turns = question(json!({}))["messages"].as_array().expect("turns").clone();
        let turns = [vec![first], turns].concat();
        question(json!({"system": "Be brief.", "messages": turns}))
    };
    assert_eq!(read(question(json!({"system": "Be brief."}))), Ok(expected.clone()));
    assert_eq!(read(with(turn("Be brief."))), Ok(expected));
    refused(&with(turn("Be long.")), "expected one system text");
    refused(&question(json!({"system": 3})), "field `system`: expected text, got 3");
}

#[test]
fn keys_that_would_be_lost_are_refused() {
    for (key, cause) in [
        ("video", "videos are not read"),
        ("videos", "videos are not read"),
        ("audios", "sounds are not read"),
        ("tools", "tool calls are not trained on"),
        ("rejected", "no preference pair"),
        ("kto_tag", "no preference"),
    ] {
        refused(&question(json!({key: ["x"]})), cause);
        assert!(RecordForm::has_key(key), "{key}");
        for nothing in [json!([]), json!(""), json!(" [] "), json!("null"), json!({}), json!(false)] {
            assert_eq!(read(question(json!({key: nothing}))), Ok(asked()), "{key}: {nothing}");
        }
    }
    // A weight of one says nothing; one of any other key does.
    assert_eq!(read(question(json!({"weight": 1.0}))), Ok(asked()));
    refused(&question(json!({"weight": 0.5})), "give the source a weight");
    refused(&question(json!({"kto_tag": 1})), "no preference");
    // Boxes are filled into the text by their names; lists of what is in the image are a note.
    assert_eq!(read(question(json!({"objects": {"label": ["cell"]}}))), Ok(asked()));
    for boxes in [json!({"bbox": [[0, 0, 1, 1]]}), json!({"ref": ["cell"]})] {
        refused(&question(json!({"objects": boxes})), "write the boxes into the text");
    }
    assert!(RecordForm::has_key("caption") && !RecordForm::has_key("note"));
    assert_eq!(read(question(json!({"note": ["x"]}))), Ok(asked()), "any other key");
}

#[test]
fn replies_count_for_the_loss_or_are_refused() {
    for key in ["weight", "loss", "loss_scale", "train", "training"] {
        for counts in [json!(true), json!(1), json!(1.0), json!(null)] {
            assert_eq!(read(reply(json!({key: counts}))), Ok(asked()), "{key}: {counts}");
        }
        for does_not in [json!(false), json!(0), json!(0.5), json!("yes")] {
            refused(&reply(json!({key: does_not})), "replies that all count for the loss");
        }
    }
    let user = json!({"role": "user", "content": "<image>What?", "loss": false});
    let messages = json!([user, {"role": "assistant", "content": "A cell."}]);
    assert_eq!(read(question(json!({"messages": messages}))), Ok(asked()), "a question is in no loss");
    for (key, cause) in [("tool_calls", "no tool call"), ("reasoning", "the reasoning in `content`")] {
        refused(&reply(json!({key: ["x"]})), cause);
        assert_eq!(read(reply(json!({key: []}))), Ok(asked()));
    }
}

#[test]
fn turns_that_can_be_read_in_two_ways_are_refused() {
    let user = json!({"role": "user", "content": "<image>What?"});
    let with = |turn: Value| question(json!({"messages": [user, turn]}));
    let same = json!({"role": "assistant", "from": "assistant", "content": "A cell.", "value": "A cell."});
    assert_eq!(read(with(same)), Ok(asked()));
    for (turn, cause) in [
        (json!({"role": "assistant", "content": "A", "value": "B"}), "one text under `content` and `value`"),
        (json!({"role": "assistant", "from": "gpt", "content": "A"}), "`role` or `from`"),
        (json!({"role": "assistant"}), "a turn with `content` or `value`"),
        (json!({"role": "assistant", "content": 3}), "text as a turn's content"),
        (json!({"role": "tool", "content": "A"}), "no tool calls"),
        (json!({"role": "narrator", "content": "A"}), "`role` or `from`"),
        (json!({"role": "assistant", "content": "A <video>"}), "no `<video>`"),
        (json!({"role": "assistant", "content": "A <audio>"}), "no `<audio>`"),
        (json!({"role": "assistant", "content": ["A"]}), "parts with a type"),
        (json!({"role": "assistant", "content": [null]}), "parts with a type"),
        (json!({"role": "assistant", "content": [{"type": "text"}]}), "a part with `text`"),
        (json!({"role": "assistant", "content": [{"type": "file"}]}), "parts of type text or image"),
        (json!({"role": "assistant", "content": [{"text": "A", "n": 1}]}), "parts of type text or image"),
    ] {
        refused(&with(turn), cause);
    }
    refused(&question(json!({"conversations": [user]})), "one value under `messages` and `conversations`");
    refused(&question(json!({"messages": null})), "got neither");
    refused(&question(json!({"messages": "hello"})), "an array of turns");
    refused(&json!(["a.png", "A cell."]), "expected an object");
}

#[test]
fn images_of_the_turns_and_of_the_record_must_be_the_same() {
    let part = |name: Option<&str>| match name {
        Some(name) => json!({"type": "image", "image": name}),
        None => json!({"type": "image"}),
    };
    let record = |parts: &[Option<&str>], images: Value| {
        let content: Vec<Value> = parts.iter().map(|name| part(*name)).collect();
        let messages = json!([{"role": "user", "content": content}, {"role": "assistant", "content": "A cell."}]);
        question(json!({"messages": messages, "images": images}))
    };
    let images = |value: Value| read(value).map(|(_, images)| images);
    let both = || Ok(vec!["a.png".to_owned(), "b.png".to_owned()]);
    assert_eq!(images(record(&[Some("a.png"), Some("b.png")], Value::Null)), both());
    assert_eq!(images(record(&[None, None], json!(["a.png", "b.png"]))), both());
    assert_eq!(images(record(&[Some("a.png"), Some("b.png")], json!(["a.png", "b.png"]))), both());
    refused(&record(&[Some("a.png"), None], Value::Null), "got 1 named in the turns, 1 without a name, 0 listed");
    refused(&record(&[Some("a.png"), None], json!(["a.png", "b.png"])), "1 named in the turns");
    refused(&record(&[Some("b.png")], json!(["a.png"])), "1 named in the turns, 0 without a name, 1 listed");
    refused(&record(&[None, None], json!(["a.png"])), "2 image markers `<image>` but 1 images");
    refused(&question(json!({"image": "b.png"})), "one value under `images` and `image`");
    refused(&question(json!({"images": ""})), "1 image markers `<image>` but 0 images");
    for (image, cause) in [
        (json!(3), "expected a path"),
        (json!([""]), "expected a path"),
        (json!({"path": ""}), "expected a path"),
        (json!({"bytes": "AAAA", "path": "a.png"}), "bytes inside JSON are not read"),
        (json!("data:image/png;base64,AAAA"), "images inside JSON are not read"),
    ] {
        refused(&question(json!({"images": image})), cause);
    }
}

#[test]
fn an_id_is_kept_as_the_file_has_it() {
    let id = |value: Value| form(question(json!({"id": value}))).into_conversation().map(|read| read.id);
    let messages = vec![Message::user("<image>What?"), Message::assistant("A cell.")];
    let made = Conversation::new(messages, vec!["a.png".into()]).id;
    assert_eq!(id(json!("x-1")).expect("reads"), RecordId::given("x-1"));
    assert_eq!(id(json!(7.0)).expect("reads"), RecordId::given("7"));
    assert_eq!([id(json!("")).expect("reads"), id(Value::Null).expect("reads")], [made.clone(), made]);
    assert!(matches!(id(json!([1])), Err(CoreError::Field { field: "id", .. })));
}

#[test]
fn a_caption_is_native_or_the_first_reply() {
    let read = |value: Value| {
        let pair = form(value).into_image_caption().map_err(|error| error.to_string())?;
        Ok::<_, String>((pair.image.to_string(), pair.caption, pair.request, pair.id))
    };
    let id = adamllm_core::ImageCaption::new("a.png", "A cell.").id;
    let expected =
        |request: Option<&str>| Ok(("a.png".into(), "A cell.".into(), request.map(str::to_owned), id.clone()));
    assert_eq!(read(json!({"image": "a.png", "caption": "A cell."})), expected(None));
    assert_eq!(
        read(json!({"image": "a.png", "caption": "A cell.", "request": "<image> What?"})),
        expected(Some("What?"))
    );
    assert_eq!(read(question(json!({}))), expected(Some("What?")));
    assert_eq!(read(question(json!({"system": "Be brief."}))), expected(Some("What?")), "after the system turn");
    assert_eq!(read(question(json!({"id": 3}))).expect("reads").3, RecordId::given("3"));
    for (value, cause) in [
        (json!({"images": ["a.png", "b.png"], "caption": "A"}), "expected one image, got 2 images"),
        (json!({"caption": "A"}), "expected one image, got 0 images"),
        (json!({"image": "a.png", "caption": 3}), "field `caption`: expected text, got 3"),
        (json!({"image": "a.png", "caption": " "}), "the caption is empty"),
        (json!({"image": "a.png", "caption": "<image>"}), "image markers"),
        (json!({"image": "a.png", "caption": "A", "video": "v.mp4"}), "videos are not read"),
        (question(json!({"images": ["a.png", "b.png"]})), "expected one image, got 2 images"),
        (
            question(json!({"messages": [{"role": "user", "content": "<image>What?"}]})),
            "a user turn, then an assistant turn, got user, nothing",
        ),
        (json!("A cell."), "expected an object"),
    ] {
        let error = read(value.clone()).expect_err(cause);
        assert!(error.contains("data.json record 7") && error.contains(cause), "{value}: {error}");
    }
}

#[test]
fn seed_turns_have_one_image_and_any_order() {
    let seed = json!({"image": "a.png", "messages": [{"role": "assistant", "content": "A cell."}]});
    let (image, turns) = form(seed).into_turns().expect("reads");
    assert_eq!((image.as_str(), turns.len(), turns[0].role), ("a.png", 1, Role::Assistant));
    for images in [json!([]), json!(["a.png", "b.png"])] {
        let seed = json!({"images": images, "messages": [{"role": "user", "content": "What?"}]});
        assert!(matches!(form(seed).into_turns(), Err(CoreError::Field { field: "images", .. })));
    }
    assert_eq!(form(json!({"note": "x"})).text("note").expect("text").as_deref(), Some("x"));
    assert_eq!(
        [form(json!({"note": null})).text("note"), form(json!({})).text("note")].map(|t| t.expect("absent")),
        [None, None]
    );
}
