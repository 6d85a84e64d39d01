//! Equality with Hugging Face transformers, by the fixtures that `tools/fixtures` made. The formats are described in
//! `tools/fixtures/README.md`.

mod adapters;
mod checks;
mod families;
mod fixture;
mod folders;
mod frozen;
mod vision_adapters;
