//! Attention in blocks of queries (Dao et al., 2022, arXiv 2205.14135): no matrix of scores outlives its block, and the
//! backward pass recomputes each block from the log-sum-exp of its rows. Blocks read only the keys that one of their queries may
//! attend to, so causal sequences cost half, and packed ones only their own.
//!
//! ```text
//! scores = scale * q k^T, -inf where masked      scale = 1 / sqrt(d_head)
//! lse    = log(sum(exp(scores)))                 for each query
//! output = exp(scores - lse) v
//! ```
//!
//! - Kept for the backward pass: query, key, value, `output` and `lse`. Recomputed: scores and weights, block by block.
//! - Tiles: [`BLOCK`] queries by all keys that the block reads. Keys are not tiled, so a softmax sees its whole row and needs no
//!   rescaling; what a task holds is one block of scores in f32, two in the backward pass.
//! - Threads: forward, a task for each batch element and query head; backward, a task for each batch element and key head, which
//!   goes through all query heads that share it: nobody else adds to its gradients, and the order of the sum is fixed. The
//!   products inside of a task run on its own thread.

use rayon::prelude::*;

use super::AllowedKeys;
use super::exp::exp;
use super::lanes::row_max;
use super::view::{View4, buffer};

/// Queries in a block.
const BLOCK: usize = 64;

/// The sizes of one attention.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    n_heads: usize,
    n_kv_heads: usize,
    n_queries: usize,
    n_keys: usize,
    d_head: usize,
    d_value: usize,
}

impl Sizes {
    fn of(query: View4, key: View4, value: View4) -> Self {
        let [batch, n_heads, n_queries, d_head] = query.dims;
        let [_, n_kv_heads, n_keys, _] = key.dims;
        Self { batch, n_heads, n_kv_heads, n_queries, n_keys, d_head, d_value: value.dims[3] }
    }

    fn scale(&self) -> f32 {
        (self.d_head as f32).powf(-0.5)
    }

    fn blocks(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let n = self.n_queries;
        (0..n).step_by(BLOCK).map(move |first| first..(first + BLOCK).min(n))
    }
}

impl AllowedKeys {
    /// The keys that query `query` of batch element `b` may attend to lie in this range.
    fn range(&self, sizes: &Sizes, b: usize, query: usize) -> std::ops::Range<usize> {
        match self {
            Self::Ranges(ranges) => {
                let [first, end] = ranges[b * sizes.n_queries + query];
                first as usize..end as usize
            }
            Self::All | Self::Dense(_) => 0..sizes.n_keys,
        }
    }

    /// A range that holds all keys that a block of queries may attend to.
    fn union(&self, sizes: &Sizes, b: usize, queries: std::ops::Range<usize>) -> std::ops::Range<usize> {
        let ranges = queries.map(|query| self.range(sizes, b, query)).filter(|range| !range.is_empty());
        ranges.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
    }

    /// Writes `value` over the scores or weights of masked keys, in the row of one query over the keys `keys`. A query whose keys
    /// are all masked keeps them all: its row stays finite, as with a large negative bias on every score, and nobody uses it.
    fn mask_out(
        &self,
        sizes: &Sizes,
        b: usize,
        query: usize,
        keys: &std::ops::Range<usize>,
        line: &mut [f32],
        value: f32,
    ) {
        match self {
            Self::All => {}
            Self::Ranges(_) => {
                let allowed_keys = self.range(sizes, b, query);
                line[..allowed_keys.start.clamp(keys.start, keys.end) - keys.start].fill(value);
                line[allowed_keys.end.clamp(keys.start, keys.end) - keys.start..].fill(value);
            }
            Self::Dense(allowed) => {
                let allowed = &allowed[(b * sizes.n_queries + query) * sizes.n_keys..][..sizes.n_keys];
                // A query without any key is padding: all its scores stay, see above.
                if allowed.iter().any(|allowed| *allowed) {
                    let masked = line.iter_mut().zip(allowed).filter(|(_, allowed)| !**allowed);
                    masked.for_each(|(score, _)| *score = value);
                }
            }
        }
    }
}

/// A matrix in memory: where it begins, and how far its rows and columns are apart.
#[derive(Clone, Copy)]
struct Matrix {
    start: *const f32,
    rows: isize,
    columns: isize,
}

impl Matrix {
    fn new((start, rows): (*const f32, isize)) -> Self {
        Self { start, rows, columns: 1 }
    }

    fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, ..self }
    }
}

/// `output = factor * a b`, or added to what it holds: `[m, k] x [k, n]`.
///
/// # Safety
/// The matrices must lie in memory that is valid for these sizes, and nobody else may use the output's meanwhile.
unsafe fn product([m, n, k]: [usize; 3], output: (*mut f32, isize), add: bool, a: Matrix, b: Matrix, factor: f32) {
    let (start, rows) = output;
    // SAFETY: the caller vouches for the memory of all three matrices. At these strides gemm touches only their `m * n`, `m * k`
    // and `k * n` elements, and reads the output's only where `add` is set.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            start,
            1,
            rows,
            add,
            a.start,
            a.columns,
            a.rows,
            b.start,
            b.columns,
            b.rows,
            1.0,
            factor,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// A buffer whose parts are written by different tasks.
#[derive(Clone, Copy)]
struct SharedBuffer(*mut f32);
// SAFETY: a pointer into a `Vec<f32>` that outlives the tasks: `for_each` returns after the last of them, and only then is the
// vector used again. Every task writes rows of its own heads only, so no two write the same element, and none reads another's.
unsafe impl Send for SharedBuffer {}
// SAFETY: as for `Send`; a shared reference gives no more than a copy of the pointer.
unsafe impl Sync for SharedBuffer {}

impl SharedBuffer {
    /// A pointer `n` elements in.
    fn offset(self, n: usize) -> *mut f32 {
        self.0.wrapping_add(n)
    }
}

/// `output = softmax(scale * q k^T, masked) v`, dense `[batch, n_queries, n_heads, d_value]`, and `lse`, the log-sum-exp of each
/// query's scores, `[batch, n_heads, n_queries]`.
pub(super) fn forward(query: View4, key: View4, value: View4, allowed: &AllowedKeys) -> (Vec<f32>, Vec<f32>) {
    let sizes = Sizes::of(query, key, value);
    let Sizes { batch, n_heads, n_queries, d_value, .. } = sizes;
    let mut output = buffer(batch * n_queries * n_heads * d_value);
    let mut lse = buffer(batch * n_heads * n_queries);
    let shared = SharedBuffer(output.as_mut_ptr());

    let arch = pulp::Arch::new();
    lse.par_chunks_mut(n_queries).enumerate().for_each(|(task, lse)| {
        let (b, head) = (task / n_heads, task % n_heads);
        // Query heads `g * i .. g * (i + 1)` share key head `i`.
        let kv_head = head / (n_heads / sizes.n_kv_heads);
        let mut scores = Vec::new();
        for block in sizes.blocks() {
            let keys = allowed.union(&sizes, b, block.clone());
            let (m, n) = (block.len(), keys.len());
            if n == 0 {
                continue;
            }
            scores.clear();
            scores.resize(m * n, 0.0);

            let q = Matrix::new(query.matrix(b, head, block.start));
            let k = Matrix::new(key.matrix(b, kv_head, keys.start));
            let v = Matrix::new(value.matrix(b, kv_head, keys.start));
            let to = shared.offset(((b * n_queries + block.start) * n_heads + head) * d_value);
            // SAFETY: `scores` has `m * n` elements and is this task's own. The views hold every row of their dims, the block ends
            // at `n_queries` and its keys at `n_keys`, so `q` has `m` rows and `k` `n` rows of `d_head` values. `crate::attend`,
            // the only caller, asserts that key, value and mask have these sizes.
            unsafe {
                let scores = (scores.as_mut_ptr(), n as isize);
                product([m, n, sizes.d_head], scores, false, q, k.transposed(), sizes.scale());
            }

            for (query, line) in block.clone().zip(scores.chunks_exact_mut(n)) {
                allowed.mask_out(&sizes, b, query, &keys, line, f32::NEG_INFINITY);
                lse[query] = arch.dispatch(|| softmax(line));
            }

            // SAFETY: as above for `scores` and for the `n` rows of `v`. The output is dense and has `m` rows of this head from
            // `block.start` on, a position's heads apart, which only this task writes.
            unsafe {
                let weights = Matrix::new((scores.as_ptr(), n as isize));
                product([m, d_value, n], (to, (n_heads * d_value) as isize), false, weights, v, 1.0);
            }
        }
    });
    (output, lse)
}

/// The softmax of a row, in place; gives the log-sum-exp of its scores.
#[inline(always)]
fn softmax(line: &mut [f32]) -> f32 {
    let row_max = row_max(line);
    let mut sums = [0.0f32; 16];
    let mut chunks = line.chunks_exact_mut(16);
    for chunk in &mut chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *x = weight(*x, row_max);
            *sum += *x;
        }
    }
    let mut sum = 0.0;
    for x in chunks.into_remainder() {
        *x = weight(*x, row_max);
        sum += *x;
    }
    let sum = sum + sums.iter().sum::<f32>();
    let inverse = 1.0 / sum;
    line.iter_mut().for_each(|x| *x *= inverse);
    row_max + sum.ln()
}

/// `e^(x - row_max)`, exactly 0 for masked keys.
#[inline(always)]
fn weight(x: f32, row_max: f32) -> f32 {
    let y = exp(x - row_max);
    if x == f32::NEG_INFINITY { 0.0 } else { y }
}

/// Gradients of query, key and value, each dense with the axis of positions before that of heads (Dao et al., 2022, algorithm 4):
///
/// ```text
/// weights     = exp(scale * q k^T - lse)
/// grad_scores = weights * (gradient v^T - dot(output, gradient))
/// grad_value  = weights^T gradient
/// grad_key    = scale * grad_scores^T q
/// grad_query  = scale * grad_scores k
/// ```
pub(super) fn backward(
    [query, key, value]: [View4; 3],
    output: &[f32],
    lse: &[f32],
    gradient: &[f32],
    allowed: &AllowedKeys,
) -> [Vec<f32>; 3] {
    let sizes = Sizes::of(query, key, value);
    let Sizes { batch, n_heads, n_kv_heads, n_queries, n_keys, d_head, d_value } = sizes;
    let mut grad_query = buffer(batch * n_queries * n_heads * d_head);
    let mut grad_key = buffer(batch * n_keys * n_kv_heads * d_head);
    let mut grad_value = buffer(batch * n_keys * n_kv_heads * d_value);
    let shared = [&mut grad_query, &mut grad_key, &mut grad_value].map(|buffer| SharedBuffer(buffer.as_mut_ptr()));
    let [shared_query, shared_key, shared_value] = shared;

    let arch = pulp::Arch::new();
    (0..batch * n_kv_heads).into_par_iter().for_each(|task| {
        let (b, kv_head) = (task / n_kv_heads, task % n_kv_heads);
        let group = n_heads / n_kv_heads;
        let (mut weights, mut grad_scores) = (Vec::new(), Vec::new());
        for (head, block) in (kv_head * group..(kv_head + 1) * group).flat_map(|h| sizes.blocks().map(move |b| (h, b)))
        {
            let keys = allowed.union(&sizes, b, block.clone());
            let (m, n) = (block.len(), keys.len());
            if n == 0 {
                continue;
            }
            weights.clear();
            weights.resize(m * n, 0.0f32);
            grad_scores.clear();
            grad_scores.resize(m * n, 0.0f32);

            let q = Matrix::new(query.matrix(b, head, block.start));
            let k = Matrix::new(key.matrix(b, kv_head, keys.start));
            let v = Matrix::new(value.matrix(b, kv_head, keys.start));
            let output_start = ((b * n_queries + block.start) * n_heads + head) * d_value;
            let width = n_heads * d_value;
            let g = Matrix::new((gradient[output_start..].as_ptr(), width as isize));
            // SAFETY: `weights` and `grad_scores` have `m * n` elements and are this task's own; `q`, `k` and `v` as in `forward`.
            // The gradient is dense and of the output's shape, so `m` rows of this head follow its start.
            unsafe {
                let weights = (weights.as_mut_ptr(), n as isize);
                product([m, n, d_head], weights, false, q, k.transposed(), sizes.scale());
                product([m, n, d_value], (grad_scores.as_mut_ptr(), n as isize), false, g, v.transposed(), 1.0);
            }

            // The weights again, and from `gradient v^T` the gradient of the scores. The row's `dot(output, gradient)` equals
            // `dot(weights, gradient v^T)`, and is shorter.
            let lines = weights.chunks_exact_mut(n).zip(grad_scores.chunks_exact_mut(n));
            for ((i, query), (line, grad_scores)) in block.clone().enumerate().zip(lines) {
                let row_lse = lse[(b * n_heads + head) * n_queries + query];
                let offset = output_start + i * width;
                let (output, gradient) = (&output[offset..offset + d_value], &gradient[offset..offset + d_value]);
                let dot: f32 = output.iter().zip(gradient).map(|(o, g)| o * g).sum();
                arch.dispatch(|| line.iter_mut().for_each(|x| *x = exp(*x - row_lse)));
                allowed.mask_out(&sizes, b, query, &keys, line, 0.0);
                arch.dispatch(|| grad_scores.iter_mut().zip(line.iter()).for_each(|(s, w)| *s = w * (*s - dot)));
            }

            let w = Matrix::new((weights.as_ptr(), n as isize));
            let s = Matrix::new((grad_scores.as_ptr(), n as isize));
            let key_index = (b * n_keys + keys.start) * n_kv_heads + kv_head;
            let query_index = (b * n_queries + block.start) * n_heads + head;
            let scale = sizes.scale();
            // SAFETY: this task alone writes the gradients of its key head and of the query heads that share it. The buffers are
            // dense with `n_keys` or `n_queries` positions for each batch element, of which the `n` keys and `m` queries are a part;
            // those of key and value start at zero, so that they can be added to.
            unsafe {
                let to = (shared_value.offset(key_index * d_value), (n_kv_heads * d_value) as isize);
                product([n, d_value, m], to, true, w.transposed(), g, 1.0);
                let to = (shared_key.offset(key_index * d_head), (n_kv_heads * d_head) as isize);
                product([n, d_head, m], to, true, s.transposed(), q, scale);
                let to = (shared_query.offset(query_index * d_head), (n_heads * d_head) as isize);
                product([m, d_head, n], to, false, s, k, scale);
            }
        }
    });
    [grad_query, grad_key, grad_value]
}
