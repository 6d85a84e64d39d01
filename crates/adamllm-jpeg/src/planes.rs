//! From the file's bytes to the planes of its components.

use super::bits::Bits;
use super::frame::{Component, Frame};
use super::idct::{Transform, transform_row};
use super::progressive::{self, Coefficients};
use super::scan::Scan;
use super::segments::{ColourHints, Tables, split_segment};
use super::{broken, sequential, truncated, unsupported};
use crate::JpegError;

/// More scans than this are refused: each may cost a pass over the whole image for a few bytes.
const MAX_SCANS: usize = 256;

/// The decoded planes of a file, before its colours are put together.
pub(super) struct Planes {
    pub(super) frame: Frame,
    pub(super) planes: Vec<Plane>,
    pub(super) hints: ColourHints,
}

/// The samples of one component, whole blocks.
pub(super) struct Plane {
    pub(super) samples: Vec<u8>,
    pub(super) stride: usize,
}

impl Plane {
    fn new(component: &Component) -> Self {
        let stride = component.stride();
        Self { samples: vec![0; stride * component.n_block_rows * 8], stride }
    }

    /// Transforms one row of blocks.
    pub(super) fn transform(&mut self, row: usize, blocks: &[[i16; 64]], quantisation: &[i32; 64], with: Transform) {
        let samples = &mut self.samples[row * 8 * self.stride..][..8 * self.stride];
        with(blocks, quantisation, samples, self.stride);
    }
}

struct Reader {
    frame: Option<Frame>,
    tables: Tables,
    hints: ColourHints,
    planes: Vec<Plane>,
    coefficients: Vec<Coefficients>,
    /// Per component: whether a scan of it was read, and the quantisation table at that time.
    quantisation: Vec<Option<[i32; 64]>>,
    n_scans: usize,
    max_pixels: u64,
}

impl Planes {
    /// Nothing is reserved for an image of more than `max_pixels`.
    pub(super) fn decode(bytes: &[u8], max_pixels: u64) -> Result<Self, JpegError> {
        if !bytes.starts_with(b"\xFF\xD8") {
            return Err(broken("it begins with no start marker"));
        }
        let mut reader = Reader {
            frame: None,
            tables: Tables::default(),
            hints: ColourHints::default(),
            planes: Vec::new(),
            coefficients: Vec::new(),
            quantisation: Vec::new(),
            n_scans: 0,
            max_pixels,
        };

        let ended = reader.read(bytes)?;
        let Some(frame) = reader.frame else { return Err(broken("no frame header")) };

        // No table is noted for a component that had no scan. A progressive file must have its end marker: otherwise
        // nobody can tell whether scans that refine the image are missing.
        if reader.quantisation.iter().any(Option::is_none) || (frame.progressive && !ended) {
            return Err(truncated("before the last scan"));
        }

        // Sequential scans were transformed as they were read; only progressive ones left coefficients.
        let mut planes = reader.planes;
        for ((plane, coefficients), table) in planes.iter_mut().zip(&reader.coefficients).zip(&reader.quantisation) {
            let table = table.as_ref().ok_or_else(|| broken("no quantisation table"))?;
            for (row, blocks) in coefficients.blocks.chunks_exact(coefficients.n_columns).enumerate() {
                if sequential::beyond_range(blocks, table) {
                    return Err(broken("damaged pixels: values that no encoder writes"));
                }
                plane.transform(row, blocks, table, transform_row);
            }
        }

        Ok(Self { frame, planes, hints: reader.hints })
    }
}

impl Reader {
    /// Reads segments and scans; `false` where the end marker is missing.
    fn read(&mut self, bytes: &[u8]) -> Result<bool, JpegError> {
        let mut rest = &bytes[2..];
        loop {
            let Some(marker) = rest.iter().position(|&byte| byte == 0xFF) else { return Ok(false) };
            rest = &rest[marker + 1..];
            let Some(&code) = rest.first() else { return Ok(false) };

            // Fill bytes before a marker (T.81, B.1.1.2), and what has no length after it: stuffed zeros, TEM, restart
            // markers, a second start of image (table B.1).
            match code {
                0xFF => continue,
                0x00 | 0x01 | 0xD0..=0xD8 => {
                    rest = &rest[1..];
                    continue;
                }
                0xD9 => return Ok(true),
                _ => {}
            }

            // A sequential file may break off after its pixels: nothing of the image is missing then.
            let (segment, tail) = match split_segment(&rest[1..]) {
                Err(JpegError::Truncated { .. }) if self.is_complete() => return Ok(false),
                other => other?,
            };
            rest = tail;

            match code {
                0xC4 => self.tables.read_huffman(segment)?,
                0xCC => return Err(unsupported("arithmetic coding")),
                0xC0..=0xCF => self.begin(Frame::parse(code, segment)?)?,
                0xDA => rest = &rest[self.scan(segment, rest)?..],
                0xDB => self.tables.read_quantisation(segment)?,
                0xDD => self.tables.read_restart_interval(segment)?,
                marker => self.hints.read(marker, segment),
            }
        }
    }

    /// Whether nothing is missing that the image needs.
    fn is_complete(&self) -> bool {
        let sequential = self.frame.as_ref().is_some_and(|frame| !frame.progressive);
        sequential && self.quantisation.iter().all(Option::is_some)
    }

    fn begin(&mut self, frame: Frame) -> Result<(), JpegError> {
        if self.frame.is_some() {
            return Err(unsupported("a second frame"));
        }
        let Frame { width, height, .. } = frame;
        if width as u64 * height as u64 > self.max_pixels {
            return Err(JpegError::TooLarge { width, height, limit: self.max_pixels });
        }
        self.planes = frame.components.iter().map(Plane::new).collect();
        self.quantisation = vec![None; frame.components.len()];
        if frame.progressive {
            let whole = |c: &Component| Coefficients {
                blocks: vec![[0; 64]; c.n_block_columns * c.n_block_rows],
                n_columns: c.n_block_columns,
            };
            self.coefficients = frame.components.iter().map(whole).collect();
        }
        self.frame = Some(frame);
        Ok(())
    }

    /// Decodes one scan; returns its length.
    fn scan(&mut self, segment: &[u8], data: &[u8]) -> Result<usize, JpegError> {
        let Some(frame) = &self.frame else { return Err(broken("a scan before the frame header")) };
        self.n_scans += 1;
        if self.n_scans > MAX_SCANS {
            return Err(unsupported(format!("more than {MAX_SCANS} scans")));
        }
        let scan = Scan::parse(segment, frame)?;
        for part in &scan.parts {
            let table = self.tables.quantisation[frame.components[part.component].table];
            let used = &mut self.quantisation[part.component];
            *used = used.or(table);
        }
        let mut bits = Bits::new(data);
        if frame.progressive {
            progressive::decode(&scan, frame, &self.tables, &mut bits, &mut self.coefficients)?;
        } else {
            sequential::decode(&scan, frame, &self.tables, &mut bits, &mut self.planes)?;
        }
        Ok(bits.end_of_scan())
    }
}
