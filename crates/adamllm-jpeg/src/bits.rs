use super::{broken, truncated};
use crate::JpegError;

/// The bits of a scan, without the zero bytes that are stuffed after `FF`.
///
/// At a marker, and at the file's end, zero bits follow; [`Bits::overrun`] tells when one of those was used.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    offset: usize,
    /// The next bits, left-aligned.
    buffer: u64,
    /// How many bits of the buffer are accounted for.
    n_ready: u32,
    /// How many of these are past the end of the data.
    n_invented: u32,
    /// Something was read that no encoder writes.
    is_damaged: bool,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0, buffer: 0, n_ready: 0, n_invented: 0, is_damaged: false }
    }

    /// Makes at least 32 bits ready.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        if self.n_ready >= 32 {
            return;
        }
        if let Some(next) = self.bytes.get(self.offset..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_be_bytes(*next);
            let has_ff = word & !word.wrapping_add(0x0101_0101_0101_0101) & 0x8080_8080_8080_8080 != 0;
            if !has_ff && self.n_invented == 0 {
                self.buffer |= word >> self.n_ready;
                self.offset += (63 - self.n_ready as usize) >> 3;
                self.n_ready |= 56;
                return;
            }
        }
        self.refill_by_bytes();
    }

    #[cold]
    fn refill_by_bytes(&mut self) {
        // What the fast path left of a byte that is not accounted for would stand twice.
        self.buffer &= !(u64::MAX.checked_shr(self.n_ready).unwrap_or(0));
        while self.n_ready <= 56 {
            let byte = match self.next_byte() {
                Some(byte) if self.n_invented == 0 => byte,
                _ => {
                    self.n_invented += 8;
                    0
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.n_ready);
            self.n_ready += 8;
        }
    }

    fn next_byte(&mut self) -> Option<u8> {
        let &byte = self.bytes.get(self.offset)?;
        if byte != 0xFF {
            self.offset += 1;
            return Some(byte);
        }
        let after = self.offset + self.bytes[self.offset..].iter().position(|&byte| byte != 0xFF)?;
        if self.bytes[after] != 0 {
            return None;
        }
        self.offset = after + 1;
        Some(0xFF)
    }

    /// The next `n` bits (1 to 32), which must be ready.
    #[inline(always)]
    pub(super) fn peek(&self, n: u32) -> u32 {
        (self.buffer >> (64 - n)) as u32
    }

    /// Passes over `n` bits, which must be ready.
    #[inline(always)]
    pub(super) fn skip(&mut self, n: u32) {
        self.buffer <<= n;
        self.n_ready -= n;
    }

    /// Takes `n` bits (0 to 16).
    #[inline(always)]
    pub(super) fn take(&mut self, n: u32) -> u32 {
        if n == 0 {
            return 0;
        }
        self.refill();
        let bits = self.peek(n);
        self.skip(n);
        bits
    }

    /// Whether bits were used that the scan does not have.
    #[inline(always)]
    pub(super) fn overrun(&self) -> bool {
        self.n_invented > self.n_ready
    }

    /// Notes a code that is in no table, or a run that leads out of its block. libjpeg warns of them and goes on, and
    /// what it makes of the rest depends on its version.
    #[cold]
    pub(super) fn note_damage(&mut self) {
        self.is_damaged |= !self.overrun();
    }

    /// An error where the data are damaged, or the file itself was too short (a marker at the wrong offset is tolerated,
    /// as in libjpeg).
    pub(super) fn check_end(&self) -> Result<(), JpegError> {
        if self.is_damaged {
            return Err(broken("damaged pixels: codes that no encoder writes"));
        }
        if self.overrun() && self.bytes[self.offset..].iter().all(|&byte| byte == 0xFF) {
            return Err(truncated("inside the pixels"));
        }
        Ok(())
    }

    /// Goes past the next restart marker, number `index` of the scan; stays before any other marker.
    ///
    /// # Errors
    /// A marker with another number: a part of the scan is lost, and decoders differ in what they put there instead.
    pub(super) fn restart(&mut self, index: usize) -> Result<(), JpegError> {
        (self.buffer, self.n_ready, self.n_invented) = (0, 0, 0);
        let Some(marker) = next_marker(self.bytes, self.offset) else {
            self.offset = self.bytes.len();
            return Ok(());
        };
        let code = self.bytes[marker];
        let is_restart = (0xD0..=0xD7).contains(&code);
        if is_restart && usize::from(code & 7) != index % 8 {
            return Err(broken("a part between two restart markers is lost"));
        }
        self.offset = if is_restart { marker + 1 } else { marker - 1 };
        Ok(())
    }

    /// Where the first marker after the scan begins, its `FF` included.
    pub(super) fn end_of_scan(mut self) -> usize {
        loop {
            let Some(marker) = next_marker(self.bytes, self.offset) else { return self.bytes.len() };
            if !(0xD0..=0xD7).contains(&self.bytes[marker]) {
                return marker - 1;
            }
            self.offset = marker + 1;
        }
    }
}

/// Where the code of the next marker stands.
fn next_marker(bytes: &[u8], from: usize) -> Option<usize> {
    let mut offset = from;
    loop {
        offset += bytes.get(offset..)?.iter().position(|&byte| byte == 0xFF)?;
        offset += bytes[offset..].iter().position(|&byte| byte != 0xFF)?;
        if bytes[offset] != 0 {
            return Some(offset);
        }
    }
}
