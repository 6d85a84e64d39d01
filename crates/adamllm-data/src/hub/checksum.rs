use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// A file's checksum while it arrives: the Hub names large files by their SHA-256, others by their Git blob id.
pub(super) enum Checksum {
    Sha256(Sha256),
    GitBlob(Sha1),
}

impl Checksum {
    /// For a file of this name (64 or 40 hexadecimal digits) and size; `None` for a name that is no checksum.
    pub(super) fn for_etag(etag: &str, size: u64) -> Option<Self> {
        match (etag.len(), etag.bytes().all(|digit| digit.is_ascii_hexdigit())) {
            (64, true) => Some(Self::Sha256(Sha256::new())),
            (40, true) => {
                let mut hasher = Sha1::new();
                hasher.update(format!("blob {size}\0"));
                Some(Self::GitBlob(hasher))
            }
            _ => None,
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::GitBlob(hasher) => hasher.update(bytes),
        }
    }

    /// Takes in what an earlier attempt left on the disk.
    pub(super) fn update_from_file(&mut self, path: &Path) -> io::Result<()> {
        let mut file = File::open(path)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(()),
                n => self.update(&buffer[..n]),
            }
        }
    }

    /// Hexadecimal digits, in lower case.
    pub(super) fn finish(self) -> String {
        let hex = |bytes: &[u8]| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}"); // a String takes everything
                text
            })
        };
        match self {
            Self::Sha256(hasher) => hex(&hasher.finalize()),
            Self::GitBlob(hasher) => hex(&hasher.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_checksums() {
        let of = |etag: String, text: &str| {
            let mut checksum = Checksum::for_etag(&etag, text.len() as u64).expect("a checksum");
            checksum.update(text.as_bytes());
            checksum.finish()
        };
        // `printf abc | sha256sum` and `printf abc | git hash-object --stdin`.
        assert_eq!(of("0".repeat(64), "abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(of("0".repeat(40), "abc"), "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f");
        assert!(Checksum::for_etag("W/\"abc\"", 3).is_none());
    }
}
