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

use std::ops::Range;

/// A matrix whose rows or columns are dense: a whole one, some of its columns, or the transpose of either.
#[derive(Clone, Copy)]
pub(super) struct Dense<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    /// Distances between rows and between columns.
    strides: [usize; 2],
}

impl<'a> Dense<'a> {
    pub(super) fn new(values: &'a [f32], [rows, columns]: [usize; 2]) -> Self {
        assert_eq!(values.len(), rows * columns, "a dense matrix");
        Self { values, rows, columns, strides: [columns, 1] }
    }

    pub(super) fn transposed(self) -> Self {
        let [row, column] = self.strides;
        Self { rows: self.columns, columns: self.rows, strides: [column, row], ..self }
    }

    /// Some of the columns.
    pub(super) fn columns(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.columns, "columns that are there");
        let first = (range.start * self.strides[1]).min(self.values.len());
        Self { values: &self.values[first..], columns: range.len(), ..self }
    }
}

/// Where a product goes: the first element of each row is `row_stride` after that of the row before.
pub(super) struct Destination<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) row_stride: usize,
    /// Whether the product is added to what is there.
    pub(super) adds: bool,
}

/// Below this many multiplications, threads cost more than they bring.
const PARALLEL: usize = 192 * 192 * 192;

/// `a b`, dense, on all cores where it is worth it.
pub(super) fn product(a: Dense, b: Dense) -> Vec<f32> {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    if m * n * k == 0 {
        return vec![0.0; m * n];
    }
    // Not zeroed first: the product writes every element.
    let mut output = Vec::with_capacity(m * n);
    // SAFETY: the output has room for `m` rows of `n` values and is nobody else's. It is not read (`adds` is false), and with `k > 0`
    // all of it is written before it gets a length.
    unsafe {
        multiply(a, b, output.as_mut_ptr(), n, false);
        output.set_len(m * n);
    }
    output
}

/// `a b`, into memory that is there already.
///
/// # Panics
/// If the sizes do not fit.
pub(super) fn product_into(a: Dense, b: Dense, to: Destination) {
    let (m, n) = (a.rows, b.columns);
    if m * n == 0 {
        return;
    }
    assert!(
        a.columns > 0 && n <= to.row_stride && (m - 1) * to.row_stride + n <= to.values.len(),
        "room for the product"
    );
    // SAFETY: the last element of the last row is inside of the slice, asserted above, whose values are initialised.
    unsafe { multiply(a, b, to.values.as_mut_ptr(), to.row_stride, to.adds) }
}

/// # Safety
/// From `out` on there are `a.rows` rows, `row_stride` apart, of `b.columns` values each, which nobody else uses, and which hold
/// values where they are added to. There are values to add up: `a.columns > 0`.
unsafe fn multiply(a: Dense, b: Dense, out: *mut f32, row_stride: usize, adds: bool) {
    assert_eq!(a.columns, b.rows, "inner sizes");
    let (m, n, k) = (a.rows, b.columns, a.columns);
    for matrix in [a, b] {
        let last = (matrix.rows.max(1) - 1) * matrix.strides[0] + (matrix.columns.max(1) - 1) * matrix.strides[1];
        assert!(last < matrix.values.len(), "a matrix inside of its values");
    }
    let ([a_rows, a_columns], [b_rows, b_columns]) = (a.strides.map(|s| s as isize), b.strides.map(|s| s as isize));
    let parallel = m.saturating_mul(n).saturating_mul(k) >= PARALLEL;
    let parallelism = if parallel { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    let (a, b) = (a.values.as_ptr(), b.values.as_ptr());
    // SAFETY: the last element of each matrix is inside of its slice, asserted above, and so are the others; the output is as the
    // caller says. gemm returns after the last of its tasks.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            1,
            row_stride as isize,
            adds,
            a,
            a_columns,
            a_rows,
            b,
            b_columns,
            b_rows,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
