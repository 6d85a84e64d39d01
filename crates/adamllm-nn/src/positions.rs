/// The position of each token of a batch: plain host values, `batch * seq` of them, one batch element after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Positions {
    /// One number (Llama, Qwen2).
    Plain {
        /// Batch elements.
        batch: usize,
        /// The position of each token.
        position_ids: Vec<i32>,
    },
    /// Time, height and width (Qwen2-VL's M-RoPE; the three are equal for text).
    MRope {
        /// Batch elements.
        batch: usize,
        /// The three positions of each token.
        position_ids: Vec<[i32; 3]>,
    },
}

impl Positions {
    /// The same plain positions in each batch element.
    pub fn plain(batch: usize, range: std::ops::Range<i32>) -> Self {
        Self::Plain { batch, position_ids: (0..batch).flat_map(|_| range.clone()).collect() }
    }

    /// One new token in each batch element, at the given plain positions, in the form that `like` has.
    pub fn single(like: &Self, next: &[i32]) -> Self {
        let batch = next.len();
        match like {
            Self::Plain { .. } => Self::Plain { batch, position_ids: next.to_vec() },
            Self::MRope { .. } => Self::MRope { batch, position_ids: next.iter().map(|&p| [p; 3]).collect() },
        }
    }

    /// `[batch, seq]`.
    pub fn dims(&self) -> [usize; 2] {
        let (batch, n) = match self {
            Self::Plain { batch, position_ids } => (*batch, position_ids.len()),
            Self::MRope { batch, position_ids } => (*batch, position_ids.len()),
        };
        [batch, n.checked_div(batch).unwrap_or(0)]
    }
}
