//! CCITT fax codes (ITU-T T.4 and T.6): runs of white and black, by row alone or by the row above.

use std::convert::Infallible;

use fax::maps::{Mode, black, mode, white};
use fax::{BitReader, ByteReader};

use super::{broken, truncated, unsupported};
use crate::DecodeError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Coding {
    /// Runs alone, every row from a new byte (TIFF's "modified Huffman").
    Runs,
    /// Group 3: rows end with a mark; in two dimensions a bit after the mark says how the next row is coded.
    Group3 { two_dimensional: bool },
    /// Group 4: every row by the row above.
    Group4,
}

type Bits<'a> = ByteReader<Box<dyn Iterator<Item = Result<u8, Infallible>> + 'a>>;

/// Rows of packed bits, 1 for black, each from a new byte.
pub(super) fn decode(coding: Coding, packed: &[u8], width: usize, n_rows: usize) -> Result<Vec<u8>, DecodeError> {
    // The tables look further ahead than the last code goes.
    let stream: Box<dyn Iterator<Item = _>> = Box::new(packed.iter().copied().chain([0; 2]).map(Ok));
    let Ok(mut bits) = ByteReader::new(stream);
    let width = u32::try_from(width).map_err(|_| broken("fax row"))?;
    let row_bytes = width.div_ceil(8) as usize;
    // A row takes a bit at least, so what is announced cannot exceed what the file could hold.
    if n_rows > packed.len().saturating_mul(8) {
        return Err(truncated("fax rows"));
    }
    let mut out = vec![0; row_bytes * n_rows];
    let (mut above, mut current) = (Vec::new(), Vec::new());
    for row in out.chunks_exact_mut(row_bytes) {
        current.clear();
        let by_row_above = match coding {
            Coding::Runs => false,
            Coding::Group4 => true,
            Coding::Group3 { two_dimensional } => {
                skip_mark(&mut bits)?;
                two_dimensional && take(&mut bits, 1)? == 0
            }
        };
        match by_row_above {
            true => two_dimensional_row(&mut bits, &above, &mut current, width)?,
            false => runs(&mut bits, &mut current, width)?,
        }
        if coding == Coding::Runs {
            let n = bits.bits_to_byte_boundary();
            let Ok(()) = bits.consume(n);
        }
        paint(row, &current, width);
        std::mem::swap(&mut above, &mut current);
    }
    Ok(out)
}

fn take(bits: &mut Bits<'_>, n: u8) -> Result<u16, DecodeError> {
    let value = bits.peek(n).ok_or_else(|| truncated("fax codes"))?;
    let Ok(()) = bits.consume(n);
    Ok(value)
}

/// Skips the mark at a row's beginning: eleven zeros or more, then a one. Rows without one are read as they are.
fn skip_mark(bits: &mut Bits<'_>) -> Result<(), DecodeError> {
    if bits.peek(11) != Some(0) {
        return Ok(());
    }
    while take(bits, 1)? == 0 {}
    Ok(())
}

fn run(bits: &mut Bits<'_>, is_black: bool) -> Result<u32, DecodeError> {
    let mut length = 0_u32;
    loop {
        let code = if is_black { black::decode(bits) } else { white::decode(bits) };
        let code = code.ok_or_else(|| broken("unknown fax code, or codes that end too early"))?;
        length = length.saturating_add(code.into());
        if code < 64 {
            return Ok(length);
        }
    }
}

/// Alternating runs; `changes` gets the columns where the colour changes.
fn runs(bits: &mut Bits<'_>, changes: &mut Vec<u32>, width: u32) -> Result<(), DecodeError> {
    let (mut x, mut is_black) = (0_u32, false);
    while x < width {
        x = x.saturating_add(run(bits, is_black)?);
        if x > width {
            return Err(broken("a fax row that is too long"));
        }
        changes.push(x);
        is_black = !is_black;
    }
    Ok(())
}

fn two_dimensional_row(
    bits: &mut Bits<'_>,
    above: &[u32],
    changes: &mut Vec<u32>,
    width: u32,
) -> Result<(), DecodeError> {
    let (mut x, mut is_black, mut started) = (0_u32, false, false);
    let mut cursor = 0;
    while x < width {
        // The first change of the row above to the other colour, right of here; and the one after it. Changes to black
        // have even indices. At a row's beginning one in the first column counts as right of here.
        while above.get(cursor).is_some_and(|&column| column <= x && (started || column > 0)) {
            cursor += 1;
        }
        let index = cursor + usize::from((cursor % 2 == 1) != is_black);
        let first = above.get(index).copied().unwrap_or(width);
        let second = above.get(index + 1).copied().unwrap_or(width);
        match mode::decode(bits).ok_or_else(|| truncated("fax codes"))? {
            Mode::Pass => x = second,
            Mode::Vertical(shift) => {
                let to = i64::from(first) + i64::from(shift);
                let to = u32::try_from(to).ok().filter(|to| (x..=width).contains(to));
                x = to.ok_or_else(|| broken("a fax row's change outside the row"))?;
                changes.push(x);
                is_black = !is_black;
            }
            Mode::Horizontal => {
                for colour in [is_black, !is_black] {
                    x = x.saturating_add(run(bits, colour)?).min(width);
                    changes.push(x);
                }
            }
            Mode::Extension => return Err(unsupported("uncompressed mode of fax")),
            Mode::EOF => return Err(truncated("fax rows")),
        }
        started = true;
        if changes.len() > width as usize * 2 + 4 {
            return Err(broken("a fax row that does not end"));
        }
    }
    Ok(())
}

fn paint(row: &mut [u8], changes: &[u32], width: u32) {
    for pair in changes.chunks(2) {
        let end = pair.get(1).copied().unwrap_or(width);
        for column in pair[0]..end.min(width) {
            row[column as usize / 8] |= 0x80 >> (column % 8);
        }
    }
}
