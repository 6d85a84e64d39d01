//! Coarse colour planes to full size: libjpeg's "fancy upsampling", a triangle filter with alternating rounding.

use super::frame::{Component, Frame};
use super::planes::Plane;

/// How a component's rows are enlarged.
#[derive(Clone, Copy)]
enum Enlargement {
    /// Already of full size.
    None,
    /// Twice as wide.
    Wider,
    /// Twice as high.
    Higher,
    /// Twice as wide and high.
    Both,
    /// Every sample repeated: all other factors, and planes of less than three columns.
    Repeat(usize, usize),
}

/// Gives the rows of one component at full size, one after the other.
pub(super) struct Rows<'a> {
    component: &'a Component,
    plane: &'a Plane,
    how: Enlargement,
    /// Sums of two rows, for [`Enlargement::Both`].
    sums: Vec<u16>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(frame: &Frame, component: &'a Component, plane: &'a Plane) -> Self {
        let how = match (frame.h_max / component.h, frame.v_max / component.v) {
            (1, 1) => Enlargement::None,
            (1, 2) => Enlargement::Higher,
            (2, 1) if component.width > 2 => Enlargement::Wider,
            (2, 2) if component.width > 2 => Enlargement::Both,
            (h, v) => Enlargement::Repeat(h, v),
        };
        Self { component, plane, how, sums: vec![0; component.width] }
    }

    /// Writes row `y` of the image; `row` may be longer than the image is wide, by less than a coded unit.
    pub(super) fn write(&mut self, y: usize, row: &mut [u8]) {
        match self.how {
            Enlargement::None => row[..self.component.width].copy_from_slice(self.samples(y)),
            Enlargement::Wider => wider(self.samples(y), row),
            Enlargement::Higher => {
                let (near, far) = (self.samples(y / 2), self.samples(self.neighbour(y)));

                // Rounding alternates, so that it does not brighten or darken the image as a whole.
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                for ((value, &near), &far) in row.iter_mut().zip(near).zip(far) {
                    *value = ((u16::from(near) * 3 + u16::from(far) + bias) >> 2) as u8;
                }
            }
            Enlargement::Both => {
                // Taken out for the moment, so that `self` can be borrowed for the samples.
                let mut sums = std::mem::take(&mut self.sums);
                let (near, far) = (self.samples(y / 2), self.samples(self.neighbour(y)));
                for ((sum, &near), &far) in sums.iter_mut().zip(near).zip(far) {
                    *sum = u16::from(near) * 3 + u16::from(far);
                }

                both(&sums, row);
                self.sums = sums;
            }
            Enlargement::Repeat(h, v) => {
                for (values, &sample) in row.chunks_mut(h).zip(self.samples(y / v)) {
                    values.fill(sample);
                }
            }
        }
    }

    /// The samples that belong to the image, of one of the component's rows.
    fn samples(&self, row: usize) -> &'a [u8] {
        &self.plane.samples[row * self.plane.stride..][..self.component.width]
    }

    /// The second nearest row of the component: above for even rows, below for odd ones; the image's edge repeats.
    fn neighbour(&self, y: usize) -> usize {
        let near = y / 2;
        if y.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(self.component.height - 1) }
    }
}

/// Quarters: three of the nearer sample, one of the other. At least three samples.
#[inline(always)]
fn wider(samples: &[u8], row: &mut [u8]) {
    let last = samples.len() - 1;
    let mix = |near: u8, far: u8, bias: u16| ((u16::from(near) * 3 + u16::from(far) + bias) >> 2) as u8;
    let pairs = row.as_chunks_mut::<2>().0;
    pairs[0] = [samples[0], mix(samples[0], samples[1], 2)];
    for (pair, window) in pairs[1..last].iter_mut().zip(samples.windows(3)) {
        *pair = [mix(window[1], window[0], 1), mix(window[1], window[2], 2)];
    }
    pairs[last] = [mix(samples[last], samples[last - 1], 1), samples[last]];
}

/// Sixteenths, from sums of four. At least three sums.
#[inline(always)]
fn both(sums: &[u16], row: &mut [u8]) {
    let last = sums.len() - 1;
    let pairs = row.as_chunks_mut::<2>().0;
    pairs[0] = [((sums[0] * 4 + 8) >> 4) as u8, ((sums[0] * 3 + sums[1] + 7) >> 4) as u8];
    for (pair, window) in pairs[1..last].iter_mut().zip(sums.windows(3)) {
        let near = window[1] * 3;
        *pair = [((near + window[0] + 8) >> 4) as u8, ((near + window[2] + 7) >> 4) as u8];
    }
    pairs[last] = [((sums[last] * 3 + sums[last - 1] + 8) >> 4) as u8, ((sums[last] * 4 + 7) >> 4) as u8];
}
