//! Image-caption pairs, conversations and pictures in: ShareGPT JSON and JSONL, folders.
