//! Image-caption pairs, conversations and images in: what a domain brings, read record by record and image by image.
//!
//! | item | what it reads |
//! |---|---|
//! | [`image_captions`], [`conversations`] | JSON files in every form: ShareGPT (LLaMA-Factory), LLaVA, OpenAI's messages, `captions.jsonl` |
//! | [`LocalDataset`] | records and images of a data set on disk, whatever its form |
//! | [`JsonFile`] | records of such a file, each read when it is asked for |
//! | [`FolderImages`], [`FirstOf`], [`CurrentImages`], [`images_at`], [`image_names_at`] | images in a folder, in several stores, in one after the other, at any path; their names |
//! | `ZipImages`, `TarImages` (feature `zip`) | images in a zip or tar archive |
//! | `Table` (features `arrow`, `parquet`) | rows and their images in `datasets` folders and parquet files |
//! | `hub` (feature `hub`) | models and data sets from the Hugging Face Hub, in Python's cache |
//! | [`decode`], [`image_size`] | one image's bytes: JPEG, PNG, WebP, GIF, BMP, TIFF, PNM, TGA, ICO, JPEG 2000 |
//!
//! A record that is wrong costs itself only: it is an `Err` that names the file, the record's number, the field, what was
//! expected and what was found. Images have the values that Pillow's `convert("RGB")` gives, because that is what
//! the published models were trained on.
//!
//! ```
//! use adamllm_core::{ImageRef, ImageStore};
//! use adamllm_data::{FolderImages, image_captions};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("captions.jsonl");
//! std::fs::write(&path, "{\"image\": \"a.png\", \"caption\": \"A red cell.\"}\n{\"image\": 3}\n")?;
//! let pairs: Vec<_> = image_captions(&path)?.collect();
//! assert_eq!(pairs[0].as_ref().map(|pair| pair.caption.as_str()).ok(), Some("A red cell."));
//! let error = pairs[1].as_ref().expect_err("a number is no path").to_string();
//! assert!(error.ends_with("record 2 field `images`: expected a path, got 3"), "{error}");
//!
//! let images = FolderImages::new(folder.path());
//! assert!(images.open(&ImageRef::from("../elsewhere.png")).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "zip")]
mod archive;
mod decode;
mod error;
mod folder;
#[cfg(feature = "hub")]
pub mod hub;
mod local;
mod location;
mod read;
#[cfg(feature = "zip")]
mod shared_file;
mod stores;
#[cfg(feature = "arrow")]
mod table;
#[cfg(feature = "zip")]
mod tar_archive;

pub use adamllm_core::json::JsonFile;
#[cfg(feature = "zip")]
pub use archive::ZipImages;
pub use decode::{Alpha, DecodeOptions, ImageFormat, PILLOW_PIXEL_LIMIT, decode, image_size, image_size_of_file};
pub use error::DecodeError;
pub use folder::FolderImages;
pub use local::LocalDataset;
pub use read::{Records, conversations, image_captions};
pub use stores::{CurrentImages, FirstOf, image_names_at, images_at};
#[cfg(feature = "arrow")]
pub use table::Table;
#[cfg(feature = "zip")]
pub use tar_archive::TarImages;

/// The README's example is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
