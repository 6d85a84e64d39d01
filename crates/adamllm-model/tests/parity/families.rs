//! Each family: prompts, pixels, answers, losses and gradients.

use crate::checks::{check_features, check_generation, check_gradients, check_pixels, check_prompts, check_raw};
use crate::fixture::{Fixture, fixtures, qwen2_vl};

#[test]
fn qwen2_vl_prompts_in_both_layouts() {
    check_prompts(&qwen2_vl("model"));
    check_prompts(&qwen2_vl("hub2024"));
}

#[test]
fn qwen2_vl_generation() {
    check_generation(&qwen2_vl("model"));
}

#[test]
fn qwen2_vl_gradients() {
    let whole = std::fs::read(fixtures().join("qwen2_vl/gradients.safetensors")).expect("a committed fixture");
    check_gradients(&qwen2_vl("model"), Some(("one_image", &whole)));
}

#[test]
fn qwen2_vl_with_a_tied_head() {
    let fixture = Fixture::open("qwen2_vl", "tied", "tied_cases.json", "tied_expected.safetensors");
    check_prompts(&fixture);
    check_generation(&fixture);
    check_gradients(&fixture, None);
}

#[test]
fn qwen2_vl_pixels() {
    check_pixels(&qwen2_vl("model"));
}

/// All that is compared for a family with images; `gradients.safetensors` holds those of `one_image`.
fn check_family(family: &str) {
    let whole = std::fs::read(fixtures().join(family).join("gradients.safetensors")).expect("a committed fixture");
    for folder in ["model", "hub2024"] {
        let fixture = Fixture::open(family, folder, "cases.json", "expected.safetensors");
        check_prompts(&fixture);
        check_pixels(&fixture);
    }
    let fixture = Fixture::open(family, "model", "cases.json", "expected.safetensors");
    check_generation(&fixture);
    check_gradients(&fixture, Some(("one_image", &whole)));
}

#[test]
fn qwen2_5_vl() {
    check_family("qwen2_5_vl");
}

#[test]
fn qwen3_vl() {
    let fixture = Fixture::open("qwen3_vl", "model", "cases.json", "expected.safetensors");
    check_prompts(&fixture);
    check_pixels(&fixture);
    check_generation(&fixture);
    check_gradients(&fixture, None);
}

#[test]
fn llava_next() {
    check_family("llava_next");
}

#[test]
fn smolvlm() {
    let whole = std::fs::read(fixtures().join("smolvlm/gradients.safetensors")).expect("a committed fixture");
    let fixture = Fixture::open("smolvlm", "model", "cases.json", "expected.safetensors");
    check_prompts(&fixture);
    check_pixels(&fixture);
    check_features(&fixture);
    check_generation(&fixture);
    check_gradients(&fixture, Some(("two_images", &whole)));
}

/// Tiles of another side than the encoder's own, places of tiles that are words, a tied head.
#[test]
fn idefics3() {
    let fixture = Fixture::open("idefics3", "model", "cases.json", "expected.safetensors");
    check_prompts(&fixture);
    check_pixels(&fixture);
    check_features(&fixture);
    check_generation(&fixture);
    check_gradients(&fixture, None);
}

#[test]
fn mllama() {
    check_family("mllama");
}

#[test]
fn text_families() {
    for family in ["llama", "qwen2", "qwen3"] {
        let fixture = Fixture::open(family, "model", "cases.json", "expected.safetensors");
        check_prompts(&fixture);
        check_generation(&fixture);
        check_raw(&fixture);
        check_gradients(&fixture, None);
    }
}
