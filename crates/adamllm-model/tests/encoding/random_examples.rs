//! Whatever the conversation and the settings: an example that is measured by headers alone is the encoded one, and its spans, images and
//! targets fit each other.

use adamllm_core::{Conversation, CoreError, ImageStore, MemoryImages, RgbImage, Supervision};
use adamllm_model::{Encoder, Encoding, ImageLimit, Preset, SpanKind, Truncation};
use adamllm_nn::ImageLayout;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::{FAMILIES, conversation, images, preset, processor};

/// Opens no image: what is measured must be found in headers.
struct HeadersOnly(MemoryImages);

impl ImageStore for HeadersOnly {
    fn open(&self, image: &adamllm_core::ImageRef) -> Result<RgbImage, CoreError> {
        panic!("{image} is opened for its size")
    }

    fn size(&self, image: &adamllm_core::ImageRef) -> Result<(u32, u32), CoreError> {
        self.0.size(image)
    }
}

fn presets(folder: &str) -> Vec<Preset> {
    let all = [
        Preset::ChatTemplate,
        Preset::LlamaFactory091Qwen2Vl,
        Preset::LlamaFactory092Qwen2Vl,
        Preset::LlamaFactoryMllama,
        Preset::LlavaLlama3,
        Preset::LlavaLlama3DoubleBos,
    ];
    let processor = processor(folder);
    all.into_iter().filter(|&p| Encoder::new(&processor, preset(p)).is_ok()).collect()
}

#[derive(Clone, Debug)]
struct Case {
    turns: Vec<(String, Option<&'static str>)>,
    limit: usize,
    truncation: Truncation,
    supervision: Supervision,
    preset: usize,
    image_limit: ImageLimit,
}

fn case() -> impl Strategy<Value = Case> {
    let image = prop_oneof![2 => Just(None), 1 => select(&["wide.png", "tall.png", "large.png"][..]).prop_map(Some)];
    let turn = ("[a-z ,.\n]{0,40}", image);
    let policies =
        [Truncation::DropSample, Truncation::DropTailTurns, Truncation::ShrinkImages, Truncation::LlamaFactory];
    let masks =
        [Supervision::Replies, Supervision::LastReply, Supervision::Everything, Supervision::AfterFirstExchange];
    let limits = [ImageLimit::None, ImageLimit::LlamaFactory090, ImageLimit::LlamaFactory092];
    (
        proptest::collection::vec((turn.clone(), turn), 1..4),
        1_usize..220,
        select(policies.to_vec()),
        select(masks.to_vec()),
        0_usize..8,
        select(limits.to_vec()),
    )
        .prop_map(|(exchanges, limit, truncation, supervision, preset, image_limit)| Case {
            turns: exchanges.into_iter().flat_map(|(a, b)| [a, b]).collect(),
            limit,
            truncation,
            supervision,
            preset,
            image_limit,
        })
}

fn example(case: &Case) -> Conversation {
    let images: Vec<&str> = case.turns.iter().filter_map(|(_, image)| *image).collect();
    let texts = case.turns.iter().map(|(text, image)| match image {
        Some(_) => format!("<image>\n{text}"),
        None => text.clone(),
    });
    let texts: Vec<String> = texts.collect();
    conversation(&texts.iter().map(String::as_str).collect::<Vec<_>>(), &images)
}

fn check(folder: &str, case: &Case) {
    let processor = processor(folder);
    let presets = presets(folder);
    let encoding = Encoding {
        preset: presets[case.preset % presets.len()],
        supervision: case.supervision,
        max_tokens: Some(case.limit),
        truncation: case.truncation,
        image_limit: case.image_limit,
        ..Encoding::default()
    };
    let Ok(encoder) = Encoder::new(&processor, encoding) else { return };
    let example = example(case);
    let measured = encoder.example_size(&example, &HeadersOnly(images()));
    let encoded = encoder.encode(&example, &images());
    let (measured, encoded) = match (measured, encoded) {
        (Ok(measured), Ok(encoded)) => (measured, encoded),
        (Err(a), Err(b)) => return assert_eq!(a.to_string(), b.to_string()),
        (a, b) => panic!("measured {a:?}, encoded {b:?}"),
    };
    assert!(encoded.tokens.len() <= case.limit);
    assert_eq!(encoded.tokens.len(), encoded.targets.len());
    assert!(encoded.n_targets() > 0);
    let image_token = processor.image_token().expect("reads images");
    let mut end = 0;
    let mut n_images = 0;
    for span in &encoded.spans {
        assert_eq!(span.tokens.start, end, "spans follow each other");
        end = span.tokens.end;
        assert!(!span.tokens.is_empty());
        assert!(encoded.targets[span.tokens.clone()].iter().all(|&target| target == span.target));
        if let SpanKind::Image(image) = span.kind {
            assert_eq!(image, n_images);
            assert_eq!(encoded.image_starts[image], span.tokens.start);
            let placeholders = encoded.tokens[span.tokens.clone()].iter().filter(|&&token| token == image_token);
            assert_eq!(encoded.images[image].layout().n_placeholders, placeholders.count(), "whole, with its pixels");
            assert!(!span.target);
            n_images += 1;
        }
    }
    assert_eq!((end, n_images), (encoded.tokens.len(), encoded.images.len()));
    for (token, id) in encoded.tokens.iter().enumerate() {
        assert!(*id != image_token || encoded.is_image(token), "no placeholder outside an image");
    }
    for image in &encoded.images {
        assert_eq!(image.pixels.values.len(), image.layout().pixel_shape.iter().product::<usize>());
    }
    assert_eq!((measured.tokens, measured.targets), (encoded.tokens.len(), encoded.n_targets()));
    let sum = |of: fn(&ImageLayout) -> usize| encoded.images.iter().map(|i| of(i.layout())).sum::<usize>();
    assert_eq!((measured.images, measured.patches), (n_images, sum(|layout| layout.n_patches)));
    assert_eq!(measured.image_features, sum(|layout| layout.n_features));
    let steady = matches!(case.supervision, Supervision::Replies | Supervision::Everything);
    if case.truncation != Truncation::LlamaFactory && steady {
        let whole = Encoding { max_tokens: None, ..encoder.encoding().clone() };
        let whole = Encoder::new(&processor, whole).expect("as before").encode(&example, &images()).expect("encodes");
        assert!(encoded.n_targets() <= whole.n_targets(), "targets are those of the whole example, or fewer");
        if case.truncation != Truncation::ShrinkImages {
            assert!(whole.tokens.starts_with(&encoded.tokens) && whole.targets.starts_with(&encoded.targets));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn hold_together(case in case()) {
        FAMILIES.iter().for_each(|folder| check(folder, &case));
    }
}
