//! Conversations to examples: what each preset writes and supervises, what each policy keeps, and that a measured example is the
//! encoded one. The formats are LLaMA-Factory's and Open-LLaVA-NeXT's.

mod images;
mod presets;
mod random_examples;
mod support;
mod truncation;
