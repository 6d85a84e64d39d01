//! Images in conversations, and their sizes.

use adamllm_core::ImageStore;
use adamllm_data::FolderImages;
use adamllm_model::{Encoding, ImageLimit, SpanKind};

use crate::support::{FAMILIES, conversation, encode, fixture, processor};

#[test]
fn several_images_and_none() {
    for folder in FAMILIES {
        let processor = processor(folder);
        let example = conversation(
            &["<image> and <image>?", "Yes.", "And <image>?", "No."],
            &["wide.png", "tall.png", "wide.png"],
        );
        let encoded = encode(&processor, Encoding::default(), &example).expect("encodes");
        let kinds: Vec<_> = encoded.spans.iter().filter(|s| matches!(s.kind, SpanKind::Image(_))).collect();
        assert_eq!(kinds.len(), 3, "{folder}");
        assert_eq!(kinds.iter().map(|span| span.message).collect::<Vec<_>>(), [Some(0), Some(0), Some(2)]);
        let text = encode(&processor, Encoding::default(), &conversation(&["Hi", "Hello."], &[])).expect("encodes");
        assert!(text.images.is_empty() && text.n_targets() > 0);
    }
}

#[test]
fn images_are_limited_before_they_are_cut() {
    let processor = processor("mllama/model");
    let example = conversation(&["<image>", "Yes."], &["large.png"]);
    let pixels = |image_limit| {
        let encoded = encode(&processor, Encoding { image_limit, ..Encoding::default() }, &example).expect("encodes");
        encoded.images[0].layout().clone()
    };
    assert_eq!(pixels(ImageLimit::LlamaFactory091), pixels(ImageLimit::None), "small enough");
}

/// Headers give the size that decoding gives, the turned images of cameras included.
#[test]
fn headers_give_the_size_of_the_upright_image() {
    let store = FolderImages::new(fixture("images"));
    let mut n = 0;
    for entry in std::fs::read_dir(fixture("images")).expect("lists") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        if name.ends_with(".png") || name.ends_with(".jpg") {
            let image = name.as_str().into();
            assert_eq!(
                store.size(&image).expect("a header"),
                store.open(&image).expect("opens").dimensions(),
                "{name}"
            );
            n += 1;
        }
    }
    assert!(n >= 10);
}
