//! Where the text leads by which a record names its image.

use std::path::{Component, Path, PathBuf};

use adamllm_core::{CoreError, ImageRef};

/// A reference, read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// A path from the folder or archive that holds the images.
    Relative(String),
    /// A path of this machine: absolute in the record, or a `file:` URL.
    Absolute(PathBuf),
}

impl Location {
    /// Reads a reference.
    ///
    /// # Errors
    /// [`CoreError::Field`] for a reference that no folder and no archive can hold: an address on the net, an image inside the
    /// record, an absolute path of another system, a path that leaves its folder with `..`.
    pub(crate) fn of(image: &ImageRef) -> Result<Self, CoreError> {
        let text = image.as_str();
        let refused = |expected: &str| {
            let shown: String = text.chars().take(80).collect();
            Err(CoreError::Field {
                record: shown.clone(),
                field: "image",
                expected: expected.into(),
                got: format!("{shown:?}"),
            })
        };

        if text.is_empty() {
            return refused("a path");
        }

        if let Some(path) = file_url(text) {
            return match path {
                Some(path) => Ok(Self::Absolute(path)),
                None => refused("a file: URL of this machine"),
            };
        }

        if text.starts_with("data:") {
            return refused("a path; images inside a record are not read");
        }
        if text.split_once("://").is_some_and(|(scheme, _)| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
            return refused("a path; images are not downloaded");
        }

        if Path::new(text).is_absolute() {
            return Ok(Self::Absolute(text.into()));
        }

        // A drive or a share of Windows would be a relative path elsewhere.
        if matches!(text.as_bytes(), [b'A'..=b'Z' | b'a'..=b'z', b':', b'\\' | b'/', ..]) || text.starts_with("\\\\") {
            return refused("a path of this machine, or a relative one");
        }

        match stays_inside(text) {
            true => Ok(Self::Relative(text.to_owned())),
            false => refused("a relative path inside the image folder"),
        }
    }
}

/// The names under which a folder or archive may hold a relative path: as it is written, with `\` for `/`, without `.` and `..`.
pub(crate) fn spellings(path: &str) -> Vec<String> {
    let mut all = vec![path.to_owned()];
    let plain = plain(path);
    if plain != path {
        all.push(plain);
    }
    all
}

/// A relative path with forward slashes, without `.` and `..`.
pub(crate) fn plain(path: &str) -> String {
    let mut names = Vec::new();
    for name in path.split(['/', '\\']) {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}

fn stays_inside(path: &str) -> bool {
    let mut depth = 0_i64;
    for name in path.split(['/', '\\']) {
        depth += match name {
            "" | "." => 0,
            ".." => -1,
            _ => 1,
        };
        if depth < 0 {
            return false;
        }
    }
    Path::new(path).components().all(|part| !matches!(part, Component::RootDir | Component::Prefix(_)))
}

/// The path of a `file:` URL; `Some(None)` where it is another machine's.
fn file_url(text: &str) -> Option<Option<PathBuf>> {
    let rest = text.strip_prefix("file:")?;
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
        None => rest,
    };
    Some(path.starts_with('/').then(|| percent_decoded(path)).flatten().map(PathBuf::from))
}

fn percent_decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let code = match (first, tail) {
            (b'%', [high, low, ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                digit(*high).zip(digit(*low)).map(|(high, low)| (high * 16 + low) as u8)
            }
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_as_tools_write_them() {
        let of = |text: &str| Location::of(&text.into()).map_err(|error| error.to_string());
        for inside in ["a.png", "./a.png", "sub/../a.png", "a/b c.png", "sub\\a.png", "a..b.png", "x:y.png"] {
            assert_eq!(of(inside), Ok(Location::Relative(inside.into())));
        }
        for (text, path) in [
            ("/data/a.png", "/data/a.png"),
            ("file:///data/a%20b.png", "/data/a b.png"),
            ("file://localhost/a.png", "/a.png"),
            ("file:/a%2.png", "/a%2.png"),
        ] {
            assert_eq!(of(text), Ok(Location::Absolute(path.into())));
        }
        for (text, cause) in [
            ("", "a path"),
            ("https://x.org/a.png", "not downloaded"),
            ("s3://bucket/a.png", "not downloaded"),
            ("data:image/png;base64,AAAA", "inside a record"),
            ("../a.png", "inside the image folder"),
            ("a/../../b.png", "inside the image folder"),
            ("..\\a.png", "inside the image folder"),
            ("./../a.png", "inside the image folder"),
            ("a//../../b.png", "inside the image folder"),
            ("C:\\data\\a.png", "of this machine"),
            ("\\\\server\\a.png", "of this machine"),
            ("file://server/a.png", "of this machine"),
        ] {
            assert!(of(text).is_err_and(|error| error.contains(cause)), "{text}");
        }
        assert_eq!(spellings("sub\\..\\./a.png"), ["sub\\..\\./a.png", "a.png"]);
    }
}
