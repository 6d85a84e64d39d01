//! The files of records that people have: one reader for captions, conversations, seeds, predictions and benchmarks.
//!
//! | what the file holds | how it is read |
//! |---|---|
//! | `[{...}, {...}]`, also several such lists one after the other | each element |
//! | JSON Lines | each line that is not blank |
//! | objects one after the other, on one line or over several (`jq`, `json.dump(indent=2)`) | each object |
//! | `{"data": [...]}` and the like, see [`WRAPPER_KEYS`] | each element of the list |
//! | any of these packed with gzip, with a byte order mark, with CRLF | the same |
//!
//! A record that is no JSON costs itself only. What is wrong with a whole file is an error of the file
//! ([`CoreError::Layout`](crate::CoreError::Layout)) before the first record is given out: a list without its closing bracket
//! (the file was cut off), text after it, UTF-16, another format. Memory holds one record.
//!
//! Values are read as Python's `json` reads them: of a key that occurs twice the last value counts, and `NaN`, `Infinity` and
//! numbers too large for a float are allowed where nobody asks for them ([`unreadable`]). A lone half of a surrogate pair,
//! which is no character, becomes U+FFFD.

mod file;
mod layout;
mod records;
mod scan;
mod source;
mod value;

pub use file::JsonFile;
pub use layout::WRAPPER_KEYS;
pub use records::{JsonRecords, RawRecord};
pub use value::{id_text, is_absent, parse, parse_columns, parse_object, shown, unreadable, unreadable_text};
