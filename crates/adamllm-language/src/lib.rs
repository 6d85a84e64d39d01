//! Embeddings to next tokens: decoders, key-value cache, sampling.
