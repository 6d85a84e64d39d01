//! Baseline and extended sequential scans (T.81, annex F): every block complete, transformed row by row.

use super::bits::Bits;
use super::broken;
use super::frame::Frame;
use super::huffman::{HuffmanTable, MAX_AC_SIZE, MAX_DC_SIZE, extended};
use super::idct::transform_row;
use super::planes::Plane;
use super::scan::Scan;
use super::segments::{Tables, ZIGZAG};
use crate::JpegError;

struct State<'a> {
    /// The last DC value of each part.
    dc: Vec<i32>,
    /// One row of coded units: the blocks of each part.
    rows: Vec<Vec<[i16; 64]>>,
    planes: &'a mut [Plane],
    is_damaged: bool,
}

/// Decodes one scan into the planes of its components.
pub(super) fn decode(
    scan: &Scan,
    frame: &Frame,
    tables: &Tables,
    bits: &mut Bits<'_>,
    planes: &mut [Plane],
) -> Result<(), JpegError> {
    let codes = scan.parts.iter().map(|part| Some((tables.dc[part.dc].as_ref()?, tables.ac[part.ac].as_ref()?)));
    let codes: Vec<_> = codes.collect::<Option<_>>().ok_or_else(|| broken("scan without its Huffman tables"))?;
    let quantisation = scan.parts.iter().map(|part| tables.quantisation[frame.components[part.component].table]);
    let quantisation: Vec<_> =
        quantisation.collect::<Option<_>>().ok_or_else(|| broken("scan without its quantisation table"))?;
    // Rows of blocks in a row of coded units; one where the scan has a single component.
    let rows_in_unit: Vec<_> = match scan.parts[..] {
        [_] => vec![1],
        _ => scan.parts.iter().map(|part| frame.components[part.component].v).collect(),
    };
    let columns: Vec<_> = scan.parts.iter().map(|part| frame.components[part.component].n_block_columns).collect();
    let rows = rows_in_unit.iter().zip(&columns).map(|(rows, columns)| vec![[0; 64]; rows * columns]).collect();
    let mut state = State { dc: vec![0; scan.parts.len()], rows, planes, is_damaged: false };
    scan.walk(
        frame,
        tables,
        bits,
        &mut state,
        |state, bits, position| {
            let (dc, ac) = codes[position.part];
            let index = position.row % rows_in_unit[position.part] * columns[position.part] + position.column;
            decode_block(bits, dc, ac, &mut state.dc[position.part], &mut state.rows[position.part][index]);
        },
        |state| state.dc.fill(0),
        |state, unit_row| {
            for (i, part) in scan.parts.iter().enumerate() {
                for (y, blocks) in state.rows[i].chunks_exact_mut(columns[i]).enumerate() {
                    let row = unit_row * rows_in_unit[i] + y;
                    state.is_damaged |= beyond_range(blocks, &quantisation[i]);
                    state.planes[part.component].transform(row, blocks, &quantisation[i], transform_row);
                    blocks.fill([0; 64]);
                }
            }
        },
    )?;
    if state.is_damaged { Err(broken("damaged pixels: values that no encoder writes")) } else { Ok(()) }
}

/// Whether a block's mean lies twice beyond what 8 bits can hold: decoders overflow differently there.
pub(super) fn beyond_range(blocks: &[[i16; 64]], quantisation: &[i32; 64]) -> bool {
    const MOST: u32 = 2 * 1024 * 8;
    blocks.iter().any(|block| i32::from(block[0]).wrapping_mul(quantisation[0]).unsigned_abs() > MOST)
}

#[inline(always)]
fn decode_block(bits: &mut Bits<'_>, dc: &HuffmanTable, ac: &HuffmanTable, last: &mut i32, block: &mut [i16; 64]) {
    // The mean, as a difference from the block before (T.81, F.2.2.1).
    bits.refill();
    let size = u32::from(dc.symbol(bits)).min(15);
    if size > MAX_DC_SIZE {
        bits.note_damage();
    }
    *last = last.wrapping_add(extended(bits.take(size), size));
    block[0] = *last as i16;

    // The other values in zigzag order, each after a run of zeros (F.2.2.2).
    let mut k = 1;
    while k < 64 {
        bits.refill();
        let whole = ac.whole(bits);
        if whole.n_bits > 0 {
            bits.skip(whole.n_bits.into());
            k += usize::from(whole.run);
            block[natural(k)] = whole.value;
            k += 1;
            continue;
        }

        // A size of 0 ends the block, or stands for 16 zeros (run 15).
        let symbol = ac.symbol(bits);
        let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            if run != 15 {
                break;
            }
            k += 16;
            continue;
        }

        if size > MAX_AC_SIZE {
            bits.note_damage();
        }
        k += run;
        block[natural(k)] = extended(bits.take(size), size) as i16;
        k += 1;
    }

    // A run led out of the block.
    if k > 64 {
        bits.note_damage();
    }
}

/// A run that leads out of the block ends at its last coefficient, and is noted.
#[inline(always)]
fn natural(k: usize) -> usize {
    usize::from(ZIGZAG[k.min(63)])
}
