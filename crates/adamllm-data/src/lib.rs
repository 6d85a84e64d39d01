//! Image-caption pairs, conversations and pictures in.
mod decode;
mod error;
mod folder;

pub use decode::{Alpha, DecodeOptions, PILLOW_PIXEL_LIMIT, PictureFormat, decode, image_size, image_size_of_file};
pub use error::DecodeError;
pub use folder::FolderImages;
