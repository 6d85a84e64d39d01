//! Progressive scans (T.81, annex G): the coefficients arrive in bands and bit by bit.

use super::bits::Bits;
use super::broken;
use super::frame::Frame;
use super::huffman::{HuffmanTable, MAX_AC_SIZE, extended};
use super::scan::Scan;
use super::segments::{Tables, ZIGZAG};
use crate::JpegError;

/// All coefficients of a component, in natural order.
pub(super) struct Coefficients {
    pub(super) blocks: Vec<[i16; 64]>,
    pub(super) n_columns: usize,
}

struct State<'a> {
    /// The last DC value of each part.
    dc: Vec<i32>,
    /// Blocks that still belong to a run of ends of block.
    ends: u32,
    coefficients: &'a mut [Coefficients],
}

/// Decodes one scan into the coefficients of its components.
pub(super) fn decode(
    scan: &Scan,
    frame: &Frame,
    tables: &Tables,
    bits: &mut Bits<'_>,
    coefficients: &mut [Coefficients],
) -> Result<(), JpegError> {
    // The refinement of DC values is plain bits; every other scan needs a table.
    let (needs_dc, needs_ac) = (scan.start == 0 && scan.high == 0, scan.start > 0);
    let codes: Vec<_> =
        scan.parts.iter().map(|part| (tables.dc[part.dc].as_ref(), tables.ac[part.ac].as_ref())).collect();
    if codes.iter().any(|(dc, ac)| needs_dc && dc.is_none() || needs_ac && ac.is_none()) {
        return Err(broken("scan without its Huffman tables"));
    }

    let mut state = State { dc: vec![0; scan.parts.len()], ends: 0, coefficients };
    scan.walk(
        frame,
        tables,
        bits,
        &mut state,
        |state, bits, position| {
            let plane = &mut state.coefficients[scan.parts[position.part].component];
            let block = &mut plane.blocks[position.row * plane.n_columns + position.column];

            match (codes[position.part], scan.high) {
                // DC values first (T.81, G.1.2.1): differences, shifted by the scan's low bit.
                ((Some(dc), _), 0) if scan.start == 0 => {
                    bits.refill();
                    let size = u32::from(dc.symbol(bits)).min(15);
                    let last = &mut state.dc[position.part];
                    *last = last.wrapping_add(extended(bits.take(size), size));
                    block[0] = (*last << scan.low) as i16;
                }
                // Their refinement: one bit, at the place of the low bit.
                (_, _) if scan.start == 0 => block[0] |= (bits.take(1) << scan.low) as i16,
                ((_, Some(ac)), 0) => first_band(scan, bits, ac, &mut state.ends, block),
                ((_, Some(ac)), _) => refined_band(scan, bits, ac, &mut state.ends, block),
                _ => {}
            }
        },
        |state| {
            state.dc.fill(0);
            state.ends = 0;
        },
        |_, _| {},
    )
}

/// The first bits of a band (G.1.2.2).
fn first_band(scan: &Scan, bits: &mut Bits<'_>, ac: &HuffmanTable, ends: &mut u32, block: &mut [i16; 64]) {
    if *ends > 0 {
        *ends -= 1;
        return;
    }

    let mut k = scan.start;
    while k <= scan.end {
        bits.refill();
        let whole = ac.whole(bits);
        if whole.n_bits > 0 {
            bits.skip(whole.n_bits.into());
            k += usize::from(whole.run);
            block[natural(k)] = whole.value << scan.low;
            k += 1;
            continue;
        }

        // A size of 0 ends the band, here and in a run of further blocks, or stands for 16 zeros (run 15).
        let symbol = ac.symbol(bits);
        let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            if run < 15 {
                *ends = (1 << run) - 1 + bits.take(run);
                return;
            }
            k += 16;
            continue;
        }

        if size > MAX_AC_SIZE {
            bits.note_damage();
        }
        k += run as usize;
        block[natural(k)] = (extended(bits.take(size), size) << scan.low) as i16;
        k += 1;
    }

    // A run led out of the band.
    if k > scan.end + 1 {
        bits.note_damage();
    }
}

/// One more bit of a band (G.1.2.3): every value that is known already takes a correction bit on the way.
fn refined_band(scan: &Scan, bits: &mut Bits<'_>, ac: &HuffmanTable, ends: &mut u32, block: &mut [i16; 64]) {
    let (plus, minus) = (1_i16 << scan.low, -1_i16 << scan.low);

    let mut k = scan.start;
    if *ends == 0 {
        while k <= scan.end {
            bits.refill();

            let symbol = ac.symbol(bits);
            let mut run = u32::from(symbol >> 4);
            let mut value = 0;

            // A new value is 1 or -1 at the low bit; without one it is 16 zeros (run 15) or the end of the band, this
            // block's included.
            if symbol & 15 != 0 {
                value = if bits.take(1) == 1 { plus } else { minus };
            } else if run < 15 {
                *ends = (1 << run) + bits.take(run);
                break;
            }

            // The run counts values that are still zero only.
            while k <= scan.end {
                let coefficient = &mut block[natural(k)];
                if *coefficient != 0 {
                    correct(coefficient, bits, plus);
                } else if run == 0 {
                    *coefficient = value;
                    k += 1;
                    break;
                } else {
                    run -= 1;
                }
                k += 1;
            }
        }
    }

    // After the end of the band no new values come, but corrections do.
    if *ends > 0 {
        for k in k..=scan.end {
            let coefficient = &mut block[natural(k)];
            if *coefficient != 0 {
                correct(coefficient, bits, plus);
            }
        }
        *ends -= 1;
    }
}

#[inline(always)]
fn correct(coefficient: &mut i16, bits: &mut Bits<'_>, plus: i16) {
    if bits.take(1) == 1 && *coefficient & plus == 0 {
        *coefficient += if *coefficient >= 0 { plus } else { -plus };
    }
}

#[inline(always)]
fn natural(k: usize) -> usize {
    usize::from(ZIGZAG[k.min(63)])
}
