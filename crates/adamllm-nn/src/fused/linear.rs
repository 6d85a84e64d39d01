//! Products of dense matrices, for linear layers without bias:
//!
//! ```text
//! y           = x W^T               [n, d_input] x [d_output, d_input]
//! grad_x      = gradient W
//! grad_weight = gradient^T x        in the weight's own layout
//! ```
//!
//! - Kept for the backward pass: `x` where the weight has a gradient, the weight where `x` has one. Nothing is recomputed.
//! - A transpose is a change of strides: no matrix is copied for it.
//! - Tiles and threads are the `gemm` crate's, which packs blocks for the caches: all of rayon's threads from [`PARALLEL`]
//!   multiplications on, else the calling one.

/// A dense matrix, or its transpose.
#[derive(Clone, Copy)]
pub(super) struct Dense<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl<'a> Dense<'a> {
    pub(super) fn new(values: &'a [f32], [rows, columns]: [usize; 2]) -> Self {
        assert_eq!(values.len(), rows * columns, "a dense matrix");
        Self { values, rows, columns, transposed: false }
    }

    pub(super) fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, transposed: !self.transposed, ..self }
    }

    /// Distances between rows and between columns.
    fn strides(&self) -> [isize; 2] {
        if self.transposed { [1, self.rows as isize] } else { [self.columns as isize, 1] }
    }
}

/// Below this many multiplications, threads cost more than they bring.
const PARALLEL: usize = 192 * 192 * 192;

/// `a b`, dense, on all cores where it is worth it.
pub(super) fn product(a: Dense, b: Dense) -> Vec<f32> {
    assert_eq!(a.columns, b.rows, "inner sizes");
    let (m, n, k) = (a.rows, b.columns, a.columns);
    if m * n * k == 0 {
        return vec![0.0; m * n];
    }
    // Not zeroed first: the product writes every element.
    let mut output = Vec::with_capacity(m * n);
    let ([a_rows, a_columns], [b_rows, b_columns]) = (a.strides(), b.strides());
    let parallel = m.saturating_mul(n).saturating_mul(k) >= PARALLEL;
    let parallelism = if parallel { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    let (out, a, b) = (output.as_mut_ptr(), a.values.as_ptr(), b.values.as_ptr());
    // SAFETY: `Dense::new` checked the sizes against the slices, and a transpose keeps them. The output has room for `m * n` values
    // and is nobody else's; gemm does not read it (`read_dst` is false), and with `k > 0` writes all of it before it gets a length.
    // gemm returns after the last of its tasks.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            1,
            n as isize,
            false,
            a,
            a_columns,
            a_rows,
            b,
            b_columns,
            b_rows,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
        output.set_len(m * n);
    }
    output
}
