use std::io;

use super::scan::{End, Nesting, Scanner};
use super::source::Source;
use crate::CoreError;

/// The keys under which tools put the list of records where a file is one object.
pub const WRAPPER_KEYS: [&str; 10] =
    ["data", "rows", "records", "examples", "samples", "items", "instances", "entries", "predictions", "results"];

/// Keys that only a record has: an object with one of them is no wrapper.
const RECORD_KEYS: [&str; 11] = [
    "image",
    "images",
    "messages",
    "conversations",
    "caption",
    "question",
    "prompt",
    "answer",
    "pred",
    "label",
    "doc_id",
];

/// Splits that `{"train": [...], "test": [...]}` keeps in one object.
const SPLIT_KEYS: [&str; 5] = ["train", "test", "validation", "val", "dev"];

/// How the records stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// In one list or several, one after the other.
    Lists,
    /// In the list that begins at this byte, under a key of the only object.
    Wrapped(u64),
    /// One on each line.
    Lines,
    /// One after the other, each of one line or several.
    Objects,
}

/// What the first object of a file looks like.
struct FirstObject {
    end: End,
    /// It ends on the line that it began on.
    is_one_line: bool,
    /// Its keys whose values are lists of objects, with the lists' offsets.
    lists: Vec<(String, u64)>,
    has_record_key: bool,
}

/// Looks at a file's beginning; at the whole of a file that is one object.
pub(super) fn detect(source: &Source) -> Result<Layout, CoreError> {
    let failed = |error| source.failed(error);
    let (input, offset) = source.reader()?;
    let mut scanner = Scanner::new(input, offset);
    match scanner.solid().map_err(failed)? {
        None => return Ok(Layout::Lines),
        Some(b'[') => return Ok(Layout::Lists),
        Some(b'{') => {}
        Some(_) => return text(source),
    }
    let first = first_object(&mut scanner).map_err(failed)?;
    if first.end != End::Whole {
        return broken_first(source, &first);
    }

    // What comes after the first object, and on which line.
    let line = scanner.line();
    match scanner.solid().map_err(failed)? {
        None => only_object(source, &first),
        Some(_) if !first.is_one_line || scanner.line() == line => Ok(Layout::Objects),
        Some(_) => Ok(Layout::Lines),
    }
}

/// The layout of a file that is one object.
fn only_object(source: &Source, first: &FirstObject) -> Result<Layout, CoreError> {
    let expected = "a list of records, JSON Lines, or an object with one list of records";
    match &first.lists[..] {
        _ if first.has_record_key => Ok(Layout::Objects),
        [] => Ok(Layout::Objects),
        [(key, list)] if WRAPPER_KEYS.contains(&key.as_str()) => Ok(Layout::Wrapped(*list)),
        several => {
            let keys: Vec<_> = several.iter().map(|(key, _)| format!("`{key}`")).collect();
            Err(source.layout(expected, format!("one object with lists under {}", keys.join(", "))))
        }
    }
}

/// The layout of a file whose first object does not end as it should: a broken line, or an object of several lines.
fn broken_first(source: &Source, first: &FirstObject) -> Result<Layout, CoreError> {
    let in_wrapper = !first.has_record_key && first.lists.iter().any(|(key, _)| WRAPPER_KEYS.contains(&key.as_str()));
    let failed = |error| source.failed(error);
    let (input, offset) = source.reader()?;
    let mut scanner = Scanner::new(input, offset);
    scanner.solid().map_err(failed)?;
    scanner.rest_of_line(None).map_err(failed)?;
    let has_second = scanner.solid().map_err(failed)? == Some(b'{');
    let line = scanner.line();
    let lines = has_second && scanner.value(None).map_err(failed)?.0 == End::Whole && scanner.line() == line;
    match (lines, in_wrapper && first.end == End::CutOff) {
        (_, true) => Err(source.layout("the object's closing brace", "the end of the file: it is cut off")),
        (true, _) => Ok(Layout::Lines),
        (false, _) => Ok(Layout::Objects),
    }
}

/// A file that begins with neither bracket: JSON Lines of which the first is broken, or no JSON at all.
fn text(source: &Source) -> Result<Layout, CoreError> {
    const LINES_LOOKED_AT: usize = 100;
    let failed = |error| source.failed(error);
    let (input, offset) = source.reader()?;
    let (mut scanner, mut first) = (Scanner::new(input, offset), Vec::new());
    for i in 0..LINES_LOOKED_AT {
        if scanner.solid().map_err(failed)? == Some(b'{') {
            return Ok(Layout::Lines);
        }
        if !scanner.rest_of_line((i == 0).then_some(&mut first)).map_err(failed)? {
            break;
        }
    }
    let text = String::from_utf8_lossy(&first[..first.len().min(200)]).trim_end().to_owned();
    let text: String = text.chars().take(40).collect();
    Err(source.layout("JSON: a list of records, or a record on each line", format!("text that begins with {text:?}")))
}

/// Goes through the object that the scanner stands before.
fn first_object(scanner: &mut Scanner) -> io::Result<FirstObject> {
    const KEY_BYTES: u64 = 1 << 10;
    let first_line = scanner.line();
    let mut found = FirstObject { end: End::CutOff, is_one_line: true, lists: Vec::new(), has_record_key: false };
    scanner.bump(b'{');
    loop {
        match scanner.solid()? {
            None => return Ok(found),
            Some(b'}') => {
                scanner.bump(b'}');
                found.end = End::Whole;
                found.is_one_line = scanner.line() == first_line;
                return Ok(found);
            }
            Some(b',') => {
                scanner.bump(b',');
                continue;
            }
            Some(b'"') => {}
            Some(_) => return Ok(FirstObject { end: End::Broken, ..found }),
        }

        // A key and its colon.
        let mut key = Vec::new();
        let (end, length) = scanner.value(Some(&mut key))?;
        if end != End::Whole || length > KEY_BYTES {
            return Ok(FirstObject { end: if end == End::CutOff { end } else { End::Broken }, ..found });
        }
        match scanner.solid()? {
            None => return Ok(found),
            Some(b':') => scanner.bump(b':'),
            Some(_) => return Ok(FirstObject { end: End::Broken, ..found }),
        }
        let key: String = serde_json::from_slice(&key).unwrap_or_default();
        found.has_record_key |= RECORD_KEYS.contains(&key.as_str());

        // Its value: of a list, what the first element is.
        let mut nesting = Nesting::default();
        match scanner.solid()? {
            None => return Ok(found),
            Some(b'}' | b',' | b']') => return Ok(FirstObject { end: End::Broken, ..found }),
            Some(b'[') => {
                let start = scanner.offset();
                scanner.bump(b'[');
                nesting = Nesting::in_list();
                let is_wrapper = WRAPPER_KEYS.contains(&key.as_str());
                match scanner.solid()? {
                    Some(b'{') if is_wrapper || SPLIT_KEYS.contains(&key.as_str()) => found.lists.push((key, start)),
                    Some(b']') if is_wrapper => found.lists.push((key, start)),
                    _ => {}
                }
            }
            Some(_) => {}
        }
        let (end, _) = scanner.value_inside(nesting, None)?;
        if end != End::Whole {
            return Ok(FirstObject { end, ..found });
        }
    }
}
