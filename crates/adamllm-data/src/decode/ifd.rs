//! Directories of a TIFF structure, which EXIF blocks are too: read as leniently as Pillow reads them, so that the same
//! fields count. What cannot be read ends the directory; it never ends the image.

use std::io::{Read, Seek, SeekFrom};

/// The first directory's fields, those that were asked for.
#[derive(Debug, Default)]
pub(super) struct Ifd {
    pub(super) big_endian: bool,
    /// Every entry could be read.
    pub(super) is_whole: bool,
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    tag: u16,
    kind: u16,
    data: Vec<u8>,
}

/// How a TIFF structure begins.
#[derive(Clone, Copy, Debug)]
struct Head {
    big_endian: bool,
    /// 64-bit offsets.
    big: bool,
    /// Where the first directory stands.
    first: u64,
}

impl Head {
    /// Both byte orders, both sizes of offsets, and the two forms whose magic number is written in the other order.
    fn read(reader: &mut (impl Read + Seek)) -> Option<Self> {
        let mut head = [0; 8];
        reader.read_exact(&mut head).ok()?;
        let (big_endian, big) = match &head[..4] {
            b"MM\0\x2a" | b"MM\x2a\0" => (true, false),
            b"II\x2a\0" | b"II\0\x2a" => (false, false),
            b"MM\0\x2b" => (true, true),
            b"II\x2b\0" => (false, true),
            _ => return None,
        };
        let mut first = [0; 8];
        match big {
            true => reader.read_exact(&mut first).ok()?,
            false => first[..4].copy_from_slice(&head[4..]),
        }
        let first = number(&first[..if big { 8 } else { 4 }], big_endian);
        Some(Self { big_endian, big, first })
    }
}

impl Ifd {
    /// Reads the first directory of the structure that begins where `reader` stands at 0; `None` where it does not
    /// begin as one. Fields whose data would be longer than the structure are left out, as are all but `wanted`.
    pub(super) fn read(reader: &mut (impl Read + Seek), wanted: &[u16]) -> Option<Self> {
        let head = Head::read(reader)?;
        let end = reader.seek(SeekFrom::End(0)).ok()?;
        let mut ifd = Self { big_endian: head.big_endian, is_whole: false, fields: Vec::new() };
        reader.seek(SeekFrom::Start(head.first)).ok()?;
        // A directory that breaks off keeps the fields before the break.
        ifd.is_whole = ifd.read_entries(reader, head, end, wanted).unwrap_or(false);
        Some(ifd)
    }

    fn read_entries(
        &mut self,
        reader: &mut (impl Read + Seek),
        head: Head,
        end: u64,
        wanted: &[u16],
    ) -> std::io::Result<bool> {
        let (entry_size, inline, count_size) = if head.big { (20, 8, 8) } else { (12, 4, 2) };
        let mut bytes = [0; 20];
        reader.read_exact(&mut bytes[..count_size])?;
        let n_entries = number(&bytes[..count_size], head.big_endian);
        let mut cursor = head.first.saturating_add(count_size as u64);
        let mut total = 0_u64;

        for _ in 0..n_entries {
            reader.seek(SeekFrom::Start(cursor))?;
            reader.read_exact(&mut bytes[..entry_size])?;
            cursor = cursor.saturating_add(entry_size as u64);
            let value = |range: std::ops::Range<usize>| number(&bytes[range], head.big_endian);
            let (tag, kind, count) = (value(0..2) as u16, value(2..4) as u16, value(4..entry_size - inline));
            let Some(unit) = unit_size(kind) else { continue };
            if self.field(tag).is_some() {
                continue;
            }

            // Data that cannot be there end the directory, whoever asks for them; data that would be more than the
            // whole structure only lose their field.
            let size = count.saturating_mul(unit);
            let mut data = bytes[entry_size - inline..entry_size].to_vec();
            if size > inline as u64 {
                total = total.saturating_add(size);
                let offset = number(&data, head.big_endian);
                if total > end || offset > i64::MAX as u64 {
                    continue;
                }
                if offset.saturating_add(size) > end {
                    return Ok(false);
                }
                if wanted.contains(&tag) {
                    reader.seek(SeekFrom::Start(offset))?;
                    data.clear();
                    reader.take(size).read_to_end(&mut data)?;
                }
            }
            if !wanted.contains(&tag) {
                continue;
            }
            data.truncate(size as usize);
            if data.len() as u64 == size && size > 0 {
                self.fields.push(Field { tag, kind, data });
            }
        }
        Ok(true)
    }

    fn field(&self, tag: u16) -> Option<&Field> {
        self.fields.iter().find(|field| field.tag == tag)
    }

    pub(super) fn has(&self, tag: u16) -> bool {
        self.field(tag).is_some()
    }

    /// A field's bytes, whatever its type.
    pub(super) fn bytes(&self, tag: u16) -> Option<&[u8]> {
        self.field(tag).map(|field| field.data.as_slice())
    }

    /// The numbers of a field; `None` where it is absent or of a type that Pillow does not take as numbers (bytes,
    /// text, undefined).
    pub(super) fn numbers(&self, tag: u16) -> Option<Vec<f64>> {
        let field = self.field(tag)?;
        let unit = unit_size(field.kind)? as usize;
        let raw = |bytes: &[u8]| number(bytes, self.big_endian);
        let one = |bytes: &[u8]| {
            Some(match field.kind {
                3 | 4 | 13 | 16 => raw(bytes) as f64,
                5 => raw(&bytes[..4]) as f64 / raw(&bytes[4..]) as f64,
                6 => f64::from(raw(bytes) as i8),
                8 => f64::from(raw(bytes) as i16),
                9 => f64::from(raw(bytes) as i32),
                10 => f64::from(raw(&bytes[..4]) as i32) / f64::from(raw(&bytes[4..]) as i32),
                11 => f64::from(f32::from_bits(raw(bytes) as u32)),
                12 => f64::from_bits(raw(bytes)),
                _ => return None,
            })
        };
        field.data.chunks_exact(unit).map(one).collect()
    }

    /// The whole numbers of a field; `None` also where one of them is none, or negative.
    pub(super) fn unsigned(&self, tag: u16) -> Option<Vec<u64>> {
        let whole = |value: f64| (value >= 0.0 && value.fract() == 0.0).then_some(value as u64);
        self.numbers(tag)?.into_iter().map(whole).collect()
    }
}

/// Bytes of one value of a field type; `None` for types that are skipped.
fn unit_size(kind: u16) -> Option<u64> {
    match kind {
        1 | 2 | 6 | 7 => Some(1),
        3 | 8 => Some(2),
        4 | 9 | 11 | 13 => Some(4),
        5 | 10 | 12 | 16 => Some(8),
        _ => None,
    }
}

fn number(bytes: &[u8], big_endian: bool) -> u64 {
    let fold = |sum: u64, &byte: &u8| sum << 8 | u64::from(byte);
    if big_endian { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) }
}
