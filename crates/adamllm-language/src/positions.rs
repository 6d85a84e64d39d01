use adamllm_nn::RotaryTable;
use burn::tensor::Device;

use crate::RopeConfig;

/// Where each row of the input stands: plain host values, `batch * seq` of them, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Positions {
    /// One number (Llama, Qwen2).
    Plain {
        /// Rows of the batch.
        batch: usize,
        /// The position of each token.
        at: Vec<i32>,
    },
    /// Time, height and width (Qwen2-VL's M-RoPE; the three are equal for text).
    MRope {
        /// Rows of the batch.
        batch: usize,
        /// The three positions of each token.
        at: Vec<[i32; 3]>,
    },
}

impl Positions {
    /// The same plain positions in each row of the batch.
    pub fn plain(batch: usize, range: std::ops::Range<i32>) -> Self {
        Self::Plain { batch, at: (0..batch).flat_map(|_| range.clone()).collect() }
    }

    /// One new token in each row, at the given plain positions, in the form that `like` has.
    pub fn single(like: &Self, at: &[i32]) -> Self {
        let batch = at.len();
        match like {
            Self::Plain { .. } => Self::Plain { batch, at: at.to_vec() },
            Self::MRope { .. } => Self::MRope { batch, at: at.iter().map(|&p| [p; 3]).collect() },
        }
    }

    /// `[batch, seq]`.
    pub fn dims(&self) -> [usize; 2] {
        let (batch, n) = match self {
            Self::Plain { batch, at } => (*batch, at.len()),
            Self::MRope { batch, at } => (*batch, at.len()),
        };
        [batch, n.checked_div(batch).unwrap_or(0)]
    }

    /// The rotary table of these positions.
    ///
    /// # Panics
    /// If three-axis positions meet a configuration without sections, or sections that do not fill half a head.
    pub fn rotary(&self, rope: &RopeConfig, d_head: usize, device: &Device) -> RotaryTable {
        let frequencies = rope.frequencies(d_head);
        let angles: Vec<f32> = match self {
            Self::Plain { at, .. } => at.iter().flat_map(|&p| frequencies.iter().map(move |f| p as f32 * f)).collect(),
            Self::MRope { at, .. } => {
                let axes = axes(rope, d_head);
                at.iter()
                    .flat_map(|p| frequencies.iter().zip(&axes).map(move |(f, &axis)| p[axis] as f32 * f))
                    .collect()
            }
        };
        RotaryTable::new(&angles, self.dims(), d_head, device)
    }
}

/// Which of time, height and width turns each pair of channels.
fn axes(rope: &RopeConfig, d_head: usize) -> Vec<usize> {
    let section = rope.mrope_section.expect("three-axis positions need `mrope_section`");
    let axes: Vec<usize> = section.iter().enumerate().flat_map(|(axis, &n)| std::iter::repeat_n(axis, n)).collect();
    assert_eq!(axes.len(), d_head / 2, "`mrope_section` must sum to half the head's width");
    axes
}
