use adamllm_nn::{Positions, RotaryTable};
use burn::tensor::Device;

use crate::RopeConfig;

impl RopeConfig {
    /// The rotary table of these positions, for heads of `d_head` channels.
    ///
    /// # Panics
    /// If three-axis positions meet a configuration without sections, or sections that do not fill half a head.
    pub fn table(&self, positions: &Positions, d_head: usize, device: &Device) -> RotaryTable {
        let frequencies = self.frequencies(d_head);
        let angles: Vec<f32> = match positions {
            Positions::Plain { position_ids, .. } => {
                position_ids.iter().flat_map(|&p| frequencies.iter().map(move |f| p as f32 * f)).collect()
            }
            Positions::MRope { position_ids, .. } => {
                let axes = axes(self, d_head);
                let turned = |p| frequencies.iter().zip(&axes).map(move |(f, &axis): (&f32, &usize)| turn(p, axis, f));
                position_ids.iter().flat_map(turned).collect()
            }
        };
        RotaryTable::new(&angles, positions.dims(), d_head, device)
    }
}

/// The angle of one pair of channels.
fn turn(position: &[i32; 3], axis: usize, frequency: &f32) -> f32 {
    position[axis] as f32 * frequency
}

/// Which of time, height and width turns each pair of channels.
fn axes(rope: &RopeConfig, d_head: usize) -> Vec<usize> {
    let section = rope.mrope_section.expect("three-axis positions need `mrope_section`");
    if rope.mrope_interleaved {
        // Time, height, width in turn, as long as height and width have channels left; time has the others.
        let axis = |pair: usize| if pair / 3 < section[pair % 3] { pair % 3 } else { 0 };
        return (0..d_head / 2).map(axis).collect();
    }
    let axes: Vec<usize> = section.iter().enumerate().flat_map(|(axis, &n)| std::iter::repeat_n(axis, n)).collect();
    assert_eq!(axes.len(), d_head / 2, "`mrope_section` must sum to half the head's width");
    axes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_alternate_until_height_and_width_are_used_up() {
        let rope = RopeConfig { mrope_section: Some([4, 2, 2]), ..RopeConfig::plain(10_000.0) };
        assert_eq!(axes(&rope, 16), [0, 0, 0, 0, 1, 1, 2, 2]);
        let rope = RopeConfig { mrope_interleaved: true, ..rope };
        assert_eq!(axes(&rope, 16), [0, 1, 2, 0, 1, 2, 0, 0]);
        let published = RopeConfig { mrope_section: Some([24, 20, 20]), ..rope };
        let axes = axes(&published, 128);
        assert_eq!([0, 1, 2].map(|axis| axes.iter().filter(|&&a| a == axis).count()), [24, 20, 20]);
        assert_eq!(axes[57..], [0, 1, 2, 0, 0, 0, 0]);
    }
}
