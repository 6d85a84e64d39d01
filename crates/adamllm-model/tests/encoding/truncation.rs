//! What each policy keeps of an example that is too long.

use adamllm_core::Supervision;
use adamllm_model::{Encoded, Encoding, ModelError, Preset, Truncation};

use crate::support::{FAMILIES, conversation, encode, preset, processor, two_turns};

fn limited(max_tokens: usize, truncation: Truncation) -> Encoding {
    Encoding { max_tokens: Some(max_tokens), truncation, ..Encoding::default() }
}

#[test]
fn too_long_examples_are_refused_by_default() {
    let processor = processor("qwen2_vl/model");
    let n = encode(&processor, Encoding::default(), &two_turns()).expect("encodes").tokens.len();
    encode(&processor, limited(n, Truncation::DropSample), &two_turns()).expect("just fits");
    let error = encode(&processor, limited(n - 1, Truncation::DropSample), &two_turns()).expect_err("too long");
    assert!(matches!(error, ModelError::TooLong { tokens, limit, .. } if tokens == n && limit == n - 1), "{error}");
}

#[test]
fn tail_turns_go_with_their_images() {
    for folder in FAMILIES {
        let processor = processor(folder);
        let turns = ["<image>\nWhat?", "A cat.", "And <image>?", "A dog.", "Why?", "So."];
        let example = conversation(&turns, &["wide.png", "tall.png"]);
        let one = conversation(&turns[..2], &["wide.png"]);
        let alone = encode(&processor, Encoding::default(), &one).expect("encodes");
        let n = alone.tokens.len();
        let kept =
            encode(&processor, limited(n, Truncation::DropTailTurns), &example).expect("the first exchange fits");
        assert_eq!((&kept.tokens, &kept.targets, kept.images.len()), (&alone.tokens, &alone.targets, 1), "{folder}");
        assert_eq!((kept.tasks.len(), &kept.id), (2, &example.id));
        let error =
            encode(&processor, limited(n - 1, Truncation::DropTailTurns), &example).expect_err("nothing is left");
        assert!(matches!(error, ModelError::TooLong { .. }), "{error}");
    }
    // The synthesizer learns nothing of the first exchange, so that one alone will not do.
    let encoding = Encoding { supervision: Supervision::AfterFirstExchange, ..limited(40, Truncation::DropTailTurns) };
    let example = conversation(&["Hi", "A cat.", &"Why? ".repeat(40), "So."], &[]);
    let error = encode(&processor("qwen2_vl/model"), encoding, &example).expect_err("no target");
    assert!(matches!(error, ModelError::TooLong { .. }), "{error}");
}

#[test]
fn images_shrink_until_the_example_fits() {
    let processor = processor("qwen2_vl/model");
    let example = conversation(&["<image> and <image>?", "Yes."], &["large.png", "wide.png"]);
    let whole = encode(&processor, Encoding::default(), &example).expect("encodes");
    let images = |encoded: &Encoded| encoded.images.iter().map(|i| i.layout().n_placeholders).collect::<Vec<_>>();
    let words = whole.tokens.len() - images(&whole).iter().sum::<usize>();
    for room in [8, 10, 15, 20, 26] {
        let small = encode(&processor, limited(words + room, Truncation::ShrinkImages), &example).expect("fits");
        assert!(small.tokens.len() <= words + room, "{room}: {:?}", images(&small));
        assert_eq!(small.targets.iter().filter(|t| **t).count(), whole.targets.iter().filter(|t| **t).count());
    }
    let error = encode(&processor, limited(words + 1, Truncation::ShrinkImages), &example).expect_err("two images");
    assert!(matches!(error, ModelError::TooLong { .. }), "{error}");
}

/// The request keeps its head, the reply too, and an image that would be cut is an error of the example.
#[test]
fn cut_as_llama_factory() {
    let processor = processor("qwen2_vl/model");
    let text = |n: usize| "z ".repeat(n);
    let example = conversation(&[&text(60), &text(40)], &[]);
    let by = |max_tokens| Encoding {
        preset: Preset::LlamaFactory091Qwen2Vl,
        ..limited(max_tokens, Truncation::LlamaFactory)
    };
    let whole = encode(&processor, preset(Preset::LlamaFactory091Qwen2Vl), &example).expect("encodes");
    let source = whole.targets.iter().position(|target| *target).expect("a reply");
    let target = whole.tokens.len() - source;
    let room = whole.tokens.len() / 2;
    let of_reply = (room as f64 * (target as f64 / (source + target) as f64)) as usize;
    let cut = encode(&processor, by(room), &example).expect("encodes");
    let expected = [&whole.tokens[..room - of_reply], &whole.tokens[source..source + of_reply]].concat();
    assert_eq!(cut.tokens, expected);
    assert_eq!(cut.targets.iter().filter(|t| **t).count(), of_reply, "no end of turn is put after a cut reply");

    let late = format!("{}<image>", text(60));
    let example = conversation(&[&late, "Yes."], &["wide.png"]);
    let error = encode(&processor, by(40), &example).expect_err("the image is cut");
    assert!(matches!(&error, ModelError::ImageCut { image, limit: 40, .. } if image == "wide.png"), "{error}");
    let second = conversation(&[&text(60), "Yes.", "<image>", "No."], &["wide.png"]);
    let error = encode(&processor, by(50), &second).expect_err("the image is left out").to_string();
    assert!(error.contains("wide.png"), "{error}");
    let error = encode(&processor, by(1), &two_turns()).expect_err("no target, and the image gone").to_string();
    assert!(error.contains("wide.png"), "{error}");
}

#[test]
fn an_example_without_targets_is_an_error_unless_allowed() {
    let processor = processor("qwen2_vl/model");
    let one = conversation(&["Hi", "Hello."], &[]);
    let encoding = Encoding { supervision: Supervision::AfterFirstExchange, ..preset(Preset::LlamaFactory091Qwen2Vl) };
    // The end of the text after the first exchange is in the loss, which is a target.
    assert_eq!(encode(&processor, encoding, &one).expect("encodes").n_targets(), 1);
    let encoding = Encoding { max_tokens: Some(1), truncation: Truncation::LlamaFactory, ..Encoding::default() };
    let error = encode(&processor, encoding.clone(), &one).expect_err("no target");
    assert!(matches!(error, ModelError::NoTargets { .. }), "{error}");
    let allowed = Encoding { allow_no_targets: true, ..encoding };
    assert_eq!(encode(&processor, allowed, &one).expect("allowed").tokens.len(), 1);
    let open = conversation(&["Hi"], &[]);
    assert!(matches!(encode(&processor, Encoding::default(), &open), Err(ModelError::NoTargets { .. })));
}
