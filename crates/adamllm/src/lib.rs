//! Adapts multimodal language models to a domain by post-training.
