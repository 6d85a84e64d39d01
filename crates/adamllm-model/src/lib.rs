//! Vision-language models joined from tower, connector and decoder, read from and written to Hugging Face folders.
