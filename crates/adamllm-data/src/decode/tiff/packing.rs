//! How the bytes of a strip or tile are packed.

use std::io::Read;

use flate2::read::ZlibDecoder;
use ruzstd::decoding::StreamingDecoder;
use weezl::BitOrder;

use super::fax::{self, Coding};
use super::{broken, truncated, unsupported};
use crate::DecodeError;

/// The largest window that a Zstandard frame may ask for.
const MAX_WINDOW: u64 = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    /// Fax codes; `options` are those of group 3.
    Fax(Coding),
    Lzw,
    Jpeg,
    Deflate,
    PackBits,
    Zstd,
}

impl Packing {
    pub(super) fn of(code: u64, group3_options: u32) -> Result<Self, DecodeError> {
        let name = match code {
            1 => return Ok(Self::None),
            2 => return Ok(Self::Fax(Coding::Runs)),
            3 => {
                // Bits of T4Options: 0 for two-dimensional coding, 1 for uncompressed mode (TIFF 6.0, section 11).
                let two_dimensional = group3_options & 1 != 0;
                if group3_options & 2 != 0 {
                    return Err(unsupported("uncompressed mode of group 3 fax"));
                }
                return Ok(Self::Fax(Coding::Group3 { two_dimensional }));
            }
            4 => return Ok(Self::Fax(Coding::Group4)),
            5 => return Ok(Self::Lzw),
            7 => return Ok(Self::Jpeg),
            8 | 32946 => return Ok(Self::Deflate),
            32773 => return Ok(Self::PackBits),
            50000 => return Ok(Self::Zstd),
            6 => "old-style JPEG",
            32771 => "word-aligned fax",
            32809 => "ThunderScan",
            33003 | 33004 | 33005 | 34712 => "JPEG 2000",
            34887 => "LERC",
            34925 => "LZMA",
            34676 | 34677 => "SGI Log",
            50001 => "WebP",
            50002 | 52546 => "JPEG XL",
            other => return Err(unsupported(format!("compression {other}"))),
        };

        Err(unsupported(format!("{name} compression")))
    }

    /// Whether the packing knows predictors.
    pub(super) fn predicts(self) -> bool {
        matches!(self, Self::Lzw | Self::Deflate | Self::Zstd)
    }

    /// Unpacks `n_rows` rows of `row_bytes` each, holding `width` pixels (for fax). Memory grows with what comes out,
    /// not with what was announced.
    pub(super) fn unpack(
        self,
        packed: &[u8],
        row_bytes: usize,
        n_rows: usize,
        width: usize,
    ) -> Result<Vec<u8>, DecodeError> {
        let wanted = row_bytes * n_rows;
        let mut bytes = Vec::new();
        match self {
            Self::None => bytes.extend_from_slice(packed.get(..wanted).unwrap_or(packed)),
            Self::Lzw => {
                if matches!(packed, [0, second, ..] if second & 1 == 1) {
                    return Err(unsupported("old-style LZW compression"));
                }
                let mut decoder = weezl::decode::Decoder::with_tiff_size_switch(BitOrder::Msb, 8);
                unpack_lzw(&mut decoder, packed, wanted, &mut bytes)?;
            }
            Self::Deflate => {
                // One byte more than is wanted: at the stream's end its checksum is compared.
                let read = ZlibDecoder::new(packed).take(wanted as u64 + 1).read_to_end(&mut bytes);
                read.map_err(|error| broken(format!("deflate: {error}")))?;
            }
            Self::Zstd => {
                let decoder = StreamingDecoder::new_with_max_window_size(packed, MAX_WINDOW);
                let decoder = decoder.map_err(|error| broken(format!("Zstandard: {error}")))?;
                let read = decoder.take(wanted as u64).read_to_end(&mut bytes);
                read.map_err(|error| broken(format!("Zstandard: {error}")))?;
            }
            Self::PackBits => unpack_runs(packed, wanted, &mut bytes),
            Self::Fax(coding) => return fax::decode(coding, packed, width, n_rows),
            Self::Jpeg => return Err(broken("JPEG inside its strips")), // read as an image of its own
        }
        if bytes.len() < wanted {
            return Err(truncated(format!("a strip or tile of {} bytes holds {}", wanted, bytes.len())));
        }
        bytes.truncate(wanted);
        Ok(bytes)
    }
}

fn unpack_lzw(
    decoder: &mut weezl::decode::Decoder,
    mut packed: &[u8],
    wanted: usize,
    bytes: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let mut part = vec![0; wanted.clamp(1, 1 << 16)];
    while bytes.len() < wanted {
        let result = decoder.decode_bytes(packed, &mut part);
        packed = &packed[result.consumed_in..];
        bytes.extend_from_slice(&part[..result.consumed_out]);
        match result.status {
            Ok(weezl::LzwStatus::Ok) if result.consumed_out > 0 || result.consumed_in > 0 => {}
            Ok(_) => break,
            Err(_) if bytes.len() >= wanted => break,
            Err(error) => return Err(broken(format!("LZW: {error}"))),
        }
    }
    Ok(())
}

/// PackBits: a count, then that many bytes as they are, or one byte to repeat.
fn unpack_runs(mut packed: &[u8], wanted: usize, bytes: &mut Vec<u8>) {
    while let [count, rest @ ..] = packed {
        if bytes.len() >= wanted {
            return;
        }
        packed = match (*count as i8, rest) {
            (-128, _) => rest,
            (n @ 0.., _) => {
                let n = (n as usize + 1).min(rest.len());
                bytes.extend_from_slice(&rest[..n]);
                &rest[n..]
            }
            (n, [byte, rest @ ..]) => {
                bytes.resize(bytes.len() + 1 + usize::from(n.unsigned_abs()), *byte);
                rest
            }
            (_, []) => return,
        };
    }
}
