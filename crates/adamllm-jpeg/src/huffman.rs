use super::bits::Bits;
use super::broken;
use crate::JpegError;

/// Codes of up to this many bits are found by one look.
const LOOK: u32 = 10;

/// One Huffman code (T.81, annex C and F.2.2.3).
pub(super) struct HuffmanTable {
    /// For the next [`LOOK`] bits: code length and symbol; length 0 for longer codes.
    short: Box<[(u8, u8); 1 << LOOK]>,
    /// For the next [`LOOK`] bits, where a run, a size and the value's own bits all fit in.
    whole: Box<[Whole; 1 << LOOK]>,
    /// Behind the last code of each length, left-aligned in 16 bits.
    ends: [u32; 17],
    /// Added to a code of each length gives its symbol's index.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

/// A run of zeros and the value after it, read at once; no bits where it does not fit.
#[derive(Clone, Copy, Default)]
pub(super) struct Whole {
    pub(super) n_bits: u8,
    pub(super) run: u8,
    pub(super) value: i16,
}

impl HuffmanTable {
    /// From the number of codes of each length and the symbols in order.
    pub(super) fn new(lengths: &[u8; 16], symbols: &[u8]) -> Result<Self, JpegError> {
        let mut table = Self {
            short: Box::new([(0, 0); 1 << LOOK]),
            whole: Box::new([Whole::default(); 1 << LOOK]),
            ends: [0; 17],
            offsets: [0; 17],
            symbols: symbols.to_vec(),
        };

        // Codes of a length are consecutive; the next length begins at twice the code after them (T.81, C.2).
        let (mut code, mut index) = (0_u32, 0_usize);
        for (length, &n) in (1_u32..).zip(lengths) {
            table.offsets[length as usize] = index as i32 - code as i32;
            let next = code + u32::from(n);
            if next > 1 << length {
                return Err(broken("Huffman table with too many codes"));
            }

            // A short code stands for every look that begins with it.
            for code in code..next {
                if length <= LOOK {
                    let first = (code << (LOOK - length)) as usize;
                    table.short[first..first + (1 << (LOOK - length))].fill((length as u8, symbols[index]));
                }
                index += 1;
            }

            table.ends[length as usize] = next << (16 - length);
            code = next << 1;
        }

        table.fill_whole();
        Ok(table)
    }

    fn fill_whole(&mut self) {
        for (look, whole) in self.whole.iter_mut().enumerate() {
            let (length, symbol) = self.short[look];
            let size = u32::from(symbol & 15);
            let n_bits = u32::from(length) + size;
            if length > 0 && (1..=MAX_AC_SIZE).contains(&size) && n_bits <= LOOK {
                let bits = (look as u32 >> (LOOK - n_bits)) & ((1 << size) - 1);
                *whole = Whole { n_bits: n_bits as u8, run: symbol >> 4, value: extended(bits, size) as i16 };
            }
        }
    }

    /// The next symbol. An impossible code reads as 0, and is noted. At least 16 bits must be ready.
    #[inline(always)]
    pub(super) fn symbol(&self, bits: &mut Bits<'_>) -> u8 {
        let (length, symbol) = self.short[bits.peek(LOOK) as usize];
        if length > 0 {
            bits.skip(length.into());
            return symbol;
        }
        self.long_symbol(bits)
    }

    #[cold]
    fn long_symbol(&self, bits: &mut Bits<'_>) -> u8 {
        let look = bits.peek(16);
        for length in LOOK + 1..=16 {
            if look < self.ends[length as usize] {
                bits.skip(length);
                let index = (look >> (16 - length)) as i32 + self.offsets[length as usize];
                let symbol = usize::try_from(index).ok().and_then(|index| self.symbols.get(index));
                return symbol.copied().unwrap_or_else(|| {
                    bits.note_damage();
                    0
                });
            }
        }
        bits.skip(16);
        bits.note_damage();
        0
    }

    /// A run and its value in one look, if they fit into it.
    #[inline(always)]
    pub(super) fn whole(&self, bits: &Bits<'_>) -> Whole {
        self.whole[bits.peek(LOOK) as usize]
    }
}

/// Bits of an AC value of 8-bit samples; no encoder writes more.
pub(super) const MAX_AC_SIZE: u32 = 10;

/// Bits of a difference of DC values.
pub(super) const MAX_DC_SIZE: u32 = 11;

/// A value of `size` bits: those that begin with 0 are negative (T.81, F.2.2.1).
#[inline(always)]
pub(super) fn extended(bits: u32, size: u32) -> i32 {
    let negative = size > 0 && bits >> (size - 1) == 0;
    bits as i32 - if negative { (1 << size) - 1 } else { 0 }
}
