//! The segments around the scans: tables, restart interval, colour hints.

use super::huffman::HuffmanTable;
use super::{broken, truncated};
use crate::JpegError;

/// What colours mean, as far as application segments tell.
#[derive(Clone, Copy, Default)]
pub(super) struct ColourHints {
    /// A JFIF segment: three components are YCbCr.
    pub(super) jfif: bool,
    /// The transform that an Adobe segment names.
    pub(super) adobe: Option<u8>,
}

/// Everything that scans refer to.
#[derive(Default)]
pub(super) struct Tables {
    /// In natural (row by row) order.
    pub(super) quantisation: [Option<[i32; 64]>; 4],
    pub(super) dc: [Option<HuffmanTable>; 4],
    pub(super) ac: [Option<HuffmanTable>; 4],
    /// Coded units between restart markers; 0 for none.
    pub(super) restart_interval: usize,
}

/// Where the coefficients are in a block of eight rows, in the order of the file.
pub(super) const ZIGZAG: [u8; 64] = zigzag();

const fn zigzag() -> [u8; 64] {
    let mut order = [0; 64];
    let (mut row, mut column, mut up) = (0_u8, 0_u8, true);
    let mut i = 0;
    while i < 64 {
        order[i] = row * 8 + column;
        match (up, row, column) {
            (true, _, 7) => (row, up) = (row + 1, false),
            (true, 0, _) => (column, up) = (column + 1, false),
            (true, ..) => (row, column) = (row - 1, column + 1),
            (false, 7, _) => (column, up) = (column + 1, true),
            (false, _, 0) => (row, up) = (row + 1, true),
            (false, ..) => (row, column) = (row + 1, column - 1),
        }
        i += 1;
    }
    order
}

impl Tables {
    /// Quantisation tables (DQT).
    pub(super) fn read_quantisation(&mut self, mut segment: &[u8]) -> Result<(), JpegError> {
        while let [head, rest @ ..] = segment {
            let wide = usize::from(head >> 4 != 0);
            let n_bytes = 64 << wide;
            let entry = self.quantisation.get_mut(usize::from(head & 15));
            let (Some(entry), Some(values)) = (entry, rest.get(..n_bytes)) else {
                return Err(broken("quantisation table"));
            };
            let mut table = [0; 64];
            for (value, index) in values.chunks_exact(1 << wide).zip(ZIGZAG) {
                table[usize::from(index)] = value.iter().fold(0, |sum, &byte| sum * 256 + i32::from(byte));
            }
            *entry = Some(table);
            segment = &rest[n_bytes..];
        }
        Ok(())
    }

    /// Huffman tables (DHT).
    pub(super) fn read_huffman(&mut self, mut segment: &[u8]) -> Result<(), JpegError> {
        while let [head, rest @ ..] = segment {
            let Some((lengths, rest)) = rest.split_first_chunk::<16>() else { return Err(broken("Huffman table")) };
            let n_symbols = lengths.iter().map(|&n| usize::from(n)).sum();
            let Some(symbols) = rest.get(..n_symbols) else { return Err(broken("Huffman table")) };
            let family = if head >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            let table = family.get_mut(usize::from(head & 15)).ok_or_else(|| broken("Huffman table's number"))?;
            *table = Some(HuffmanTable::new(lengths, symbols)?);
            segment = &rest[n_symbols..];
        }
        Ok(())
    }

    /// The restart interval (DRI).
    pub(super) fn read_restart_interval(&mut self, segment: &[u8]) -> Result<(), JpegError> {
        let interval = segment.first_chunk().ok_or_else(|| broken("restart interval"))?;
        self.restart_interval = u16::from_be_bytes(*interval).into();
        Ok(())
    }
}

impl ColourHints {
    pub(super) fn read(&mut self, marker: u8, segment: &[u8]) {
        match marker {
            0xE0 if segment.starts_with(b"JFIF\0") => self.jfif = true,
            0xEE if segment.starts_with(b"Adobe") && segment.len() >= 12 => self.adobe = Some(segment[11]),
            _ => {}
        }
    }
}

/// A segment's content and what comes after it.
pub(super) fn split_segment(bytes: &[u8]) -> Result<(&[u8], &[u8]), JpegError> {
    let length = bytes.first_chunk().map(|length| usize::from(u16::from_be_bytes(*length)));
    let length = length.ok_or_else(|| truncated("inside a segment's length"))?;
    if length < 2 {
        return Err(broken("a segment shorter than its own length"));
    }
    if bytes.len() < length {
        return Err(truncated("inside a segment"));
    }
    Ok((&bytes[2..length], &bytes[length..]))
}
