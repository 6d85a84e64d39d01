use super::{broken, unsupported};
use crate::JpegError;

/// The frame header: the image's size and its colour components.
pub(super) struct Frame {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) progressive: bool,
    pub(super) components: Vec<Component>,
    /// The largest sampling factors: a minimum coded unit is this many blocks wide and high.
    pub(super) h_max: usize,
    pub(super) v_max: usize,
}

/// One colour component.
pub(super) struct Component {
    pub(super) id: u8,
    /// Horizontal sampling factor.
    pub(super) h: usize,
    /// Vertical sampling factor.
    pub(super) v: usize,
    /// Which quantisation table.
    pub(super) table: usize,
    /// Samples of the component that belong to the image.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Blocks in storage: whole coded units.
    pub(super) n_block_columns: usize,
    pub(super) n_block_rows: usize,
}

impl Component {
    /// Bytes in a row of the component's plane.
    pub(super) fn stride(&self) -> usize {
        self.n_block_columns * 8
    }
}

impl Frame {
    /// Reads a frame segment; `marker` tells the coding process.
    pub(super) fn parse(marker: u8, segment: &[u8]) -> Result<Self, JpegError> {
        let progressive = match marker {
            0xC0 | 0xC1 => false,
            0xC2 => true,
            0xC3 | 0xC7 | 0xCB | 0xCF => return Err(unsupported("lossless coding")),
            0xC9..=0xCE => return Err(unsupported("arithmetic coding")),
            _ => return Err(unsupported("hierarchical coding")),
        };

        // The header (T.81, B.2.2): precision, lines, samples a line, components; then three bytes for each component.
        let [precision, y1, y0, x1, x0, n, rest @ ..] = segment else { return Err(broken("short frame header")) };
        if *precision != 8 {
            return Err(unsupported(format!("{precision} bits a sample")));
        }

        // A height of 0 announces a DNL segment with the real one (B.2.5).
        let [height, width] = [[*y1, *y0], [*x1, *x0]].map(|pair| usize::from(u16::from_be_bytes(pair)));
        if width == 0 || height == 0 {
            return Err(unsupported(format!("{width}x{height} pixels in its header")));
        }

        if ![1, 3, 4].contains(n) || rest.len() < usize::from(*n) * 3 {
            return Err(unsupported(format!("{n} colour components")));
        }

        // Sampling factors, 1 to 4 in each direction.
        let specs: Vec<_> = rest.chunks_exact(3).take((*n).into()).collect();
        let factors = || specs.iter().map(|spec| (usize::from(spec[1] >> 4), usize::from(spec[1] & 15)));
        if factors().any(|(h, v)| !(1..=4).contains(&h) || !(1..=4).contains(&v)) {
            return Err(broken("sampling factors out of range"));
        }

        // Upsampling knows whole factors only.
        let h_max = factors().map(|(h, _)| h).max().unwrap_or(1);
        let v_max = factors().map(|(_, v)| v).max().unwrap_or(1);
        if factors().any(|(h, v)| h_max % h != 0 || v_max % v != 0) {
            return Err(unsupported("fractional sampling"));
        }

        // Sizes by A.1.1, and whole coded units (A.2.3): the blocks past the edge are in the file as well.
        let n_units = (width.div_ceil(8 * h_max), height.div_ceil(8 * v_max));
        let component = |(spec, (h, v)): (&&[u8], (usize, usize))| Component {
            id: spec[0],
            h,
            v,
            table: usize::from(spec[2] & 3),
            width: (width * h).div_ceil(h_max),
            height: (height * v).div_ceil(v_max),
            n_block_columns: n_units.0 * h,
            n_block_rows: n_units.1 * v,
        };
        let components = specs.iter().zip(factors()).map(component).collect();
        Ok(Self { width, height, progressive, components, h_max, v_max })
    }
}
