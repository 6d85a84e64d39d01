//! What all scans share: their header, and the order of their blocks.

use super::bits::Bits;
use super::broken;
use super::frame::Frame;
use super::segments::Tables;
use crate::JpegError;

/// A scan header: which components, and (progressive) which coefficients and bits of them.
pub(super) struct Scan {
    pub(super) parts: Vec<Part>,
    /// First coefficient.
    pub(super) start: usize,
    /// Last coefficient, itself included.
    pub(super) end: usize,
    /// Bit position of an earlier scan that this one refines; 0 in a first scan.
    pub(super) high: u8,
    /// Bit position down to which this scan gives the values.
    pub(super) low: u8,
}

/// A component in a scan.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// The component's index in the frame.
    pub(super) component: usize,
    pub(super) dc: usize,
    pub(super) ac: usize,
}

/// A block's position: the scan's part, the component, block row and block column.
#[derive(Clone, Copy)]
pub(super) struct BlockPosition {
    pub(super) part: usize,
    pub(super) row: usize,
    pub(super) column: usize,
}

impl Scan {
    pub(super) fn parse(segment: &[u8], frame: &Frame) -> Result<Self, JpegError> {
        let [n, rest @ ..] = segment else { return Err(broken("short scan header")) };
        let n = usize::from(*n);
        let (Some(specs), Some(&[start, end, bits])) =
            (rest.get(..n * 2), rest.get(n * 2..).and_then(|r| r.first_chunk()))
        else {
            return Err(broken("short scan header"));
        };

        // A component, and the number of its DC and its AC table in half a byte each (T.81, B.2.3).
        let part = |spec: &[u8]| {
            let component = frame.components.iter().position(|component| component.id == spec[0]);
            let component = component.ok_or_else(|| broken("scan of an unknown component"))?;
            Ok(Part { component, dc: usize::from(spec[1] >> 4 & 3), ac: usize::from(spec[1] & 3) })
        };
        let parts = specs.chunks_exact(2).map(part).collect::<Result<Vec<_>, _>>()?;
        let twice = (1..parts.len()).any(|i| parts[..i].iter().any(|part| part.component == parts[i].component));
        if parts.is_empty() || twice {
            return Err(broken("scan without components, or with one twice"));
        }

        // In sequential scans these fields have one sound value, and files exist with zeros there: libjpeg only warns.
        let (start, end) = if frame.progressive { (start.into(), end.into()) } else { (0, 63) };

        let scan = Self { parts, start, end, high: bits >> 4, low: bits & 15 };

        // DC and AC values never share a scan, and AC values are of one component (G.1.1.1.1). The low bit's limit is
        // libjpeg's.
        let spectral = scan.start <= scan.end && scan.end < 64 && (scan.start > 0) == (scan.end > 0);
        let single = scan.start == 0 || scan.parts.len() == 1;
        if frame.progressive && !(spectral && single && scan.low <= 13 && scan.high <= 14) {
            return Err(broken("scan with impossible coefficients"));
        }
        Ok(scan)
    }

    /// Calls `block` for every block in the order of the file, with restarts on the way, and `row` after every row of
    /// coded units. A coded unit after a lost end is left out.
    #[expect(clippy::too_many_arguments, reason = "three call-backs over one state, called in two places")]
    pub(super) fn walk<S>(
        &self,
        frame: &Frame,
        tables: &Tables,
        bits: &mut Bits<'_>,
        state: &mut S,
        mut block: impl FnMut(&mut S, &mut Bits<'_>, BlockPosition),
        restart: impl Fn(&mut S),
        mut row: impl FnMut(&mut S, usize),
    ) -> Result<(), JpegError> {
        let (n_columns, n_rows) = self.n_units(frame);

        let mut until_restart = tables.restart_interval;
        let mut n_restarts = 0;
        for unit_row in 0..n_rows {
            for unit_column in 0..n_columns {
                if tables.restart_interval > 0 {
                    if until_restart == 0 {
                        bits.restart(n_restarts)?;
                        n_restarts += 1;
                        restart(state);
                        until_restart = tables.restart_interval;
                    }
                    until_restart -= 1;
                }

                if !bits.overrun() {
                    self.unit(frame, (unit_row, unit_column), |position| block(state, bits, position));
                }
            }

            bits.check_end()?;
            row(state, unit_row);
        }
        Ok(())
    }

    /// Coded units in a row, and rows of them. With one component, a unit is one block that holds image.
    fn n_units(&self, frame: &Frame) -> (usize, usize) {
        if let [part] = self.parts[..] {
            let component = &frame.components[part.component];
            return (component.width.div_ceil(8), component.height.div_ceil(8));
        }
        (frame.width.div_ceil(8 * frame.h_max), frame.height.div_ceil(8 * frame.v_max))
    }

    #[inline(always)]
    fn unit(&self, frame: &Frame, (unit_row, unit_column): (usize, usize), mut block: impl FnMut(BlockPosition)) {
        if self.parts.len() == 1 {
            return block(BlockPosition { part: 0, row: unit_row, column: unit_column });
        }
        for (part, spec) in self.parts.iter().enumerate() {
            let component = &frame.components[spec.component];
            for y in 0..component.v {
                for x in 0..component.h {
                    block(BlockPosition {
                        part,
                        row: unit_row * component.v + y,
                        column: unit_column * component.h + x,
                    });
                }
            }
        }
    }
}
