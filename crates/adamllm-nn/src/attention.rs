use burn::tensor::{DType, Device, Tensor, TensorData, activation};

use crate::norm::cast_to;

/// Which keys each query may see: a value made on the host, added to the scores.
#[derive(Clone, Debug)]
pub struct AttentionMask {
    /// `[batch, 1, n_queries, n_keys]`: 0 where seen, a large negative number where hidden.
    bias: Tensor<4>,
}

/// Hides a key without making a fully hidden row (padding) NaN.
const HIDDEN: f32 = -1e30;

impl AttentionMask {
    /// A mask from a rule over `(row of the batch, query, key)`.
    pub fn from_rule(
        [batch, n_queries, n_keys]: [usize; 3],
        device: &Device,
        sees: impl Fn(usize, usize, usize) -> bool,
    ) -> Self {
        let mut bias = vec![0.0f32; batch * n_queries * n_keys];
        let mut cells = bias.iter_mut();
        for row in 0..batch {
            for query in 0..n_queries {
                for key in 0..n_keys {
                    let cell = cells.next().expect("one cell for each query and key");
                    if !sees(row, query, key) {
                        *cell = HIDDEN;
                    }
                }
            }
        }
        let data = TensorData::new(bias, [batch, 1, n_queries, n_keys]);
        Self { bias: Tensor::from_data(data, (device, DType::F32)) }
    }

    /// The causal mask over left-padded rows: query `i` stands at position `past + i`, and sees keys from its row's
    /// `padding` to its own position. `None` where nothing is hidden (a single new token, no padding).
    pub fn causal(padding: &[usize], past: usize, n_queries: usize, device: &Device) -> Option<Self> {
        if n_queries == 1 && padding.iter().all(|&p| p == 0) {
            return None;
        }
        let sizes = [padding.len(), n_queries, past + n_queries];
        // A padded query sees itself, so that its (unused) row stays finite.
        let sees =
            |row: usize, query: usize, key: usize| key <= past + query && (key >= padding[row] || key == past + query);
        Some(Self::from_rule(sizes, device, sees))
    }
}

/// Grouped-query attention: `softmax(q k^T / sqrt(d_head) + mask) v`. Query heads `g * i .. g * (i + 1)` share key head
/// `i`, without copies of keys or values. Softmax runs in f32.
///
/// # Shapes
/// - `query`: `[batch, n_heads, n_queries, d_head]`
/// - `key`, `value`: `[batch, n_kv_heads, n_keys, d_head]`
/// - output: `[batch, n_queries, n_heads * d_head]`
///
/// # Panics
/// If `n_heads` is not a multiple of `n_kv_heads`.
pub fn attend(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, mask: Option<&AttentionMask>) -> Tensor<3> {
    let [batch, n_heads, n_queries, d_head] = query.dims();
    let [_, n_kv_heads, n_keys, _] = key.dims();
    assert!(n_heads.is_multiple_of(n_kv_heads), "{n_heads} query heads cannot share {n_kv_heads} key heads");
    let group = n_heads / n_kv_heads;
    if n_queries > 1 && !query.device().is_autodiff() {
        return attend_without_gradient(query, key, value, mask, group);
    }
    let dtype = query.dtype();

    let query = query * (d_head as f64).powf(-0.5);
    let query = query.reshape([batch, n_kv_heads, group * n_queries, d_head]);
    let scores = query.matmul(key.transpose()); // [batch, n_kv_heads, group * n_queries, n_keys]
    let scores = cast_to(scores, DType::F32);
    let scores = match mask {
        None => scores,
        Some(mask) => {
            let scores = scores.reshape([batch, n_heads, n_queries, n_keys]);
            (scores + mask.bias.clone()).reshape([batch, n_kv_heads, group * n_queries, n_keys])
        }
    };
    let weights = cast_to(activation::softmax(scores, 3), dtype);
    let mixed = weights.matmul(value); // [batch, n_kv_heads, group * n_queries, d_head]
    mixed.reshape([batch, n_heads, n_queries, d_head]).swap_dims(1, 2).reshape([batch, n_queries, n_heads * d_head])
}

/// The backend's own attention, which keeps no scores: on the CPU one head is one task, and long rows go in tiles. It has no
/// backward pass of its own (autodiff would take it apart again), and wants as many key heads as query heads.
fn attend_without_gradient(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Option<&AttentionMask>,
    group: usize,
) -> Tensor<3> {
    let [batch, n_heads, n_queries, d_head] = query.dims();
    let [_, n_kv_heads, n_keys, _] = key.dims();
    let repeated = |x: Tensor<4>| match group {
        1 => x,
        _ => {
            let x = x.reshape([batch, n_kv_heads, 1, n_keys * d_head]);
            x.repeat_dim(2, group).reshape([batch, n_heads, n_keys, d_head])
        }
    };
    let bias = mask.map(|mask| cast_to(mask.bias.clone(), query.dtype()));
    let options = burn::tensor::ops::AttentionModuleOptions::default();
    let mixed = burn::tensor::module::attention(query, repeated(key), repeated(value), None, bias, options);
    mixed.swap_dims(1, 2).reshape([batch, n_queries, n_heads * d_head])
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

    fn random(shape: [usize; 4]) -> Tensor<4> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
    }

    /// burn's own attention, with keys and values repeated for each query head, is the reference; with and without
    /// gradients.
    #[test]
    fn equals_burn_with_repeated_heads() {
        let (q, k, v) = (random([2, 6, 5, 8]), random([2, 2, 5, 8]), random([2, 2, 5, 8]));
        let repeat = |x: Tensor<4>| x.reshape([2, 2, 1, 40]).repeat_dim(2, 3).reshape([2, 6, 5, 8]);
        let options = burn::tensor::ops::AttentionModuleOptions { is_causal: true, ..Default::default() };
        let expected =
            burn::tensor::module::attention(q.clone(), repeat(k.clone()), repeat(v.clone()), None, None, options);
        let expected = expected.swap_dims(1, 2).reshape([2, 5, 48]);
        let mask = AttentionMask::causal(&[0, 0], 0, 5, &Device::flex());
        let got = attend(q.clone(), k.clone(), v.clone(), mask.as_ref());
        assert!((got - expected.clone()).abs().max().into_scalar::<f32>() < 1e-5);

        let device = Device::flex().autodiff();
        let tracked = |x: Tensor<4>| Tensor::<4>::from_data(x.into_data(), &device).require_grad();
        let mask = AttentionMask::causal(&[0, 0], 0, 5, &device);
        let got = attend(tracked(q), tracked(k), tracked(v), mask.as_ref()).into_data();
        let got = Tensor::<3>::from_data(got, &Device::flex());
        assert!((got - expected).abs().max().into_scalar::<f32>() < 1e-5);
    }

    #[test]
    fn padding_changes_nothing_behind_it() {
        let (q, k, v) = (random([1, 2, 4, 8]), random([1, 1, 4, 8]), random([1, 1, 4, 8]));
        let last3 = |x: &Tensor<4>| x.clone().narrow(2, 1, 3);
        let short =
            attend(last3(&q), last3(&k), last3(&v), AttentionMask::causal(&[0], 0, 3, &Device::flex()).as_ref());
        let padded = attend(q, k, v, AttentionMask::causal(&[1], 0, 4, &Device::flex()).as_ref());
        assert!((padded.narrow(1, 1, 3) - short).abs().max().into_scalar::<f32>() < 1e-6);
    }
}
