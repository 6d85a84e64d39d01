use std::sync::{Arc, OnceLock};

use burn::tensor::{DType, Device, Tensor, TensorData, activation};

use crate::tensors::cast_to;

/// Which keys each query may attend to: decided on the host.
#[derive(Clone, Debug)]
pub struct AttentionMask {
    allowed: Allowed,
    /// Batch elements, queries, keys.
    dims: [usize; 3],
    device: Device,
    /// `[batch, 1, n_queries, n_keys]`: 0 where allowed, a large negative number where masked; made when first needed.
    bias: OnceLock<Tensor<4>>,
}

/// The keys that each query may attend to.
#[derive(Clone, Debug)]
enum Allowed {
    /// For each batch element and query, the keys from the first index to before the second.
    Ranges(Arc<Vec<[u32; 2]>>),
    /// For each batch element, query and key, whether it is allowed.
    Dense(Arc<Vec<bool>>),
}

/// The bias of a masked key: its weight is 0, and a query whose keys are all masked (padding) does not become NaN.
const MASKED: f32 = -1e30;

impl AttentionMask {
    /// A mask from a rule over `(batch element, query, key)`.
    pub fn from_rule(dims: [usize; 3], device: &Device, allowed: impl Fn(usize, usize, usize) -> bool) -> Self {
        let [batch, n_queries, n_keys] = dims;
        let mut dense = Vec::with_capacity(batch * n_queries * n_keys);
        for b in 0..batch {
            for query in 0..n_queries {
                dense.extend((0..n_keys).map(|key| allowed(b, query, key)));
            }
        }
        Self::new(Allowed::Dense(Arc::new(dense)), dims, device)
    }

    /// The causal mask over left-padded sequences: query `i` has position `past + i`, and attends to the keys from its sequence's
    /// `padding` to its own position. `None` where nothing is masked (a single new token, no padding).
    pub fn causal(padding: &[usize], past: usize, n_queries: usize, device: &Device) -> Option<Self> {
        if n_queries == 1 && padding.iter().all(|&p| p == 0) {
            return None;
        }
        // A padded query attends to itself, so that its (unused) output stays finite.
        let range = |padding: usize, query: usize| [padding.min(query) as u32, query as u32 + 1];
        let queries = past..past + n_queries;
        let of_element = |&padding: &usize| queries.clone().map(move |query| range(padding, query));
        let ranges = padding.iter().flat_map(of_element).collect();
        Some(Self::new(Allowed::Ranges(Arc::new(ranges)), [padding.len(), n_queries, past + n_queries], device))
    }

    /// The causal mask over packed sequences: in each batch element, sequences of the given lengths follow each other, and
    /// no token attends to another sequence's. What is left of the `n_queries` positions is padding, and attends to itself.
    ///
    /// # Panics
    /// If the lengths of a batch element add up to more than `n_queries`.
    pub fn packed(lengths: &[Vec<usize>], n_queries: usize, device: &Device) -> Self {
        let mut ranges = Vec::with_capacity(lengths.len() * n_queries);
        for element in lengths {
            let mut start = 0;
            for &length in element {
                ranges.extend((start..start + length).map(|query| [start as u32, query as u32 + 1]));
                start += length;
            }
            assert!(start <= n_queries, "sequences of {start} tokens do not fit into {n_queries} positions");
            ranges.extend((start..n_queries).map(|query| [query as u32, query as u32 + 1]));
        }
        Self::new(Allowed::Ranges(Arc::new(ranges)), [lengths.len(), n_queries, n_queries], device)
    }

    /// The mask of attention within a window: a query attends to the last `width` keys that it would attend to otherwise,
    /// itself included. `dims` are batch elements, queries and keys; the queries are the last ones of the keys. Without a mask
    /// nothing else is masked.
    ///
    /// # Panics
    /// If `width` is zero, or the mask is not of these `dims`.
    pub fn within(mask: Option<&Self>, width: usize, dims: [usize; 3], device: &Device) -> Self {
        assert!(width > 0, "a window of no keys");
        assert!(mask.is_none_or(|mask| mask.dims == dims), "a mask of other queries or keys than {dims:?}");
        let [batch, n_queries, n_keys] = dims;
        let past = n_keys - n_queries;
        match mask.map(|mask| &mask.allowed) {
            // A query's own key is the last one that it may attend to.
            Some(Allowed::Ranges(ranges)) => {
                let width = u32::try_from(width).unwrap_or(u32::MAX);
                let narrowed = ranges.iter().map(|&[first, end]| [first.max(end.saturating_sub(width)), end]).collect();
                Self::new(Allowed::Ranges(Arc::new(narrowed)), dims, device)
            }
            Some(Allowed::Dense(dense)) => {
                let allowed = |b: usize, query: usize, key: usize| dense[(b * n_queries + query) * n_keys + key];
                Self::from_rule(dims, device, |b, query, key| allowed(b, query, key) && key + width > past + query)
            }
            None => {
                let range = |query: usize| {
                    let own = past + query + 1;
                    [own.saturating_sub(width) as u32, n_keys as u32]
                };
                let ranges = (0..batch).flat_map(|_| (0..n_queries).map(range)).collect();
                Self::new(Allowed::Ranges(Arc::new(ranges)), dims, device)
            }
        }
    }

    fn new(allowed: Allowed, dims: [usize; 3], device: &Device) -> Self {
        Self { allowed, dims, device: device.clone(), bias: OnceLock::new() }
    }

    /// The mask as a tensor that is added to the scores.
    fn bias(&self) -> &Tensor<4> {
        self.bias.get_or_init(|| {
            let [batch, n_queries, n_keys] = self.dims;
            let bias = |allowed: bool| if allowed { 0.0 } else { MASKED };
            let values: Vec<f32> = match &self.allowed {
                Allowed::Dense(dense) => dense.iter().map(|&allowed| bias(allowed)).collect(),
                Allowed::Ranges(ranges) => {
                    let keys = |&[first, end]: &[u32; 2]| (0..n_keys as u32).map(move |key| first <= key && key < end);
                    ranges.iter().flat_map(keys).map(bias).collect()
                }
            };
            let data = TensorData::new(values, [batch, 1, n_queries, n_keys]);
            Tensor::from_data(data, (&self.device, DType::F32))
        })
    }
}

#[cfg(feature = "flex")]
impl From<&AttentionMask> for crate::fused::AllowedKeys {
    fn from(mask: &AttentionMask) -> Self {
        match &mask.allowed {
            Allowed::Ranges(ranges) => Self::Ranges(ranges.clone()),
            Allowed::Dense(dense) => Self::Dense(dense.clone()),
        }
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
/// If the shapes are not these, `n_heads` is no multiple of `n_kv_heads`, or the mask is of other queries or keys.
pub fn attend(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, mask: Option<&AttentionMask>) -> Tensor<3> {
    let [batch, n_heads, n_queries, d_head] = query.dims();
    let [_, n_kv_heads, n_keys, _] = key.dims();
    assert!(n_heads.is_multiple_of(n_kv_heads), "{n_heads} query heads cannot share {n_kv_heads} key heads");
    // The fused kernels read keys, values and mask by these sizes, without looking again.
    assert_eq!(key.dims(), [batch, n_kv_heads, n_keys, d_head], "keys for queries of {:?}", query.dims());
    assert_eq!(value.dims()[..3], [batch, n_kv_heads, n_keys], "values for keys of {:?}", key.dims());
    if let Some(mask) = mask {
        assert_eq!(mask.dims, [batch, n_queries, n_keys], "a mask of other queries or keys");
    }
    let group = n_heads / n_kv_heads;
    #[cfg(feature = "flex")]
    if n_queries > 1 && crate::fused::applies(&query.device(), query.dtype()) {
        let allowed = mask.map_or(crate::fused::AllowedKeys::All, Into::into);
        return crate::fused::attention(query, key, value, allowed).reshape([batch, n_queries, n_heads * d_head]);
    }
    attend_plainly(query, key, value, mask, group)
}

/// The plain form of [`attend`].
fn attend_plainly(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Option<&AttentionMask>,
    group: usize,
) -> Tensor<3> {
    let [batch, n_heads, n_queries, d_head] = query.dims();
    let [_, n_kv_heads, n_keys, _] = key.dims();
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
            (scores + mask.bias().clone()).reshape([batch, n_kv_heads, group * n_queries, n_keys])
        }
    };
    let weights = cast_to(activation::softmax(scores, 3), dtype);
    let output = weights.matmul(value); // [batch, n_kv_heads, group * n_queries, d_head]
    output.reshape([batch, n_heads, n_queries, d_head]).swap_dims(1, 2).reshape([batch, n_queries, n_heads * d_head])
}

/// The backend's own attention, which keeps no scores: on the CPU one head is one task, and long sequences go in tiles. It has no
/// backward pass of its own (autodiff would decompose it), and wants as many key heads as query heads.
fn attend_without_gradient(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Option<&AttentionMask>,
    group: usize,
) -> Tensor<3> {
    let [batch, n_heads, n_queries, d_head] = query.dims();
    let [_, n_kv_heads, n_keys, _] = key.dims();

    // Each key head, `group` times side by side: the query heads that share it follow each other.
    let repeated = |x: Tensor<4>| match group {
        1 => x,
        _ => {
            let x = x.reshape([batch, n_kv_heads, 1, n_keys * d_head]);
            x.repeat_dim(2, group).reshape([batch, n_heads, n_keys, d_head])
        }
    };

    // The default scale is `d_head^-1/2`, as in the plain form.
    let bias = mask.map(|mask| cast_to(mask.bias().clone(), query.dtype()));
    let options = burn::tensor::ops::AttentionModuleOptions::default();
    let output = burn::tensor::module::attention(query, repeated(key), repeated(value), None, bias, options);
    output.swap_dims(1, 2).reshape([batch, n_queries, n_heads * d_head])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// Queries, keys and values, different ones at each call of a test.
    fn random(shape: [usize; 4], seed: u64) -> Tensor<4> {
        testing::random(shape, 1.0, seed)
    }

    fn apart<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> f32 {
        (a.clone() - b.clone()).abs().max().into_scalar::<f32>()
    }

    /// burn's own attention, with keys and values repeated for each query head, is the reference.
    #[test]
    fn equals_burn_with_repeated_heads() {
        let (q, k, v) = (random([2, 6, 5, 8], 1), random([2, 2, 5, 8], 2), random([2, 2, 5, 8], 3));
        let repeat = |x: Tensor<4>| x.reshape([2, 2, 1, 40]).repeat_dim(2, 3).reshape([2, 6, 5, 8]);
        let options = burn::tensor::ops::AttentionModuleOptions { is_causal: true, ..Default::default() };
        let expected =
            burn::tensor::module::attention(q.clone(), repeat(k.clone()), repeat(v.clone()), None, None, options);
        let expected = expected.swap_dims(1, 2).reshape([2, 5, 48]);
        let mask = AttentionMask::causal(&[0, 0], 0, 5, &Device::flex());
        assert!(apart(&attend(q.clone(), k.clone(), v.clone(), mask.as_ref()), &expected) < 1e-5);
        assert!(apart(&attend_plainly(q, k, v, mask.as_ref(), 3), &expected) < 1e-5);
    }

    /// The output and the three gradients of `sum(attention * weights)`.
    fn with_gradients(inputs: &[Tensor<4>; 3], mask: Option<&AttentionMask>, plainly: bool) -> Vec<Tensor<4>> {
        let device = Device::flex().autodiff();
        let inputs = inputs.clone().map(|x| Tensor::<4>::from_data(x.into_data(), &device).require_grad());
        // As the projections give them: positions before heads in memory.
        let [q, k, v] = inputs.clone().map(|x| x.swap_dims(1, 2).mul_scalar(1.0).swap_dims(1, 2));
        let group = q.dims()[1] / k.dims()[1];
        let y = if plainly { attend_plainly(q, k, v, mask, group) } else { attend(q, k, v, mask) };
        let n = y.shape().num_elements();
        let weights: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin()).collect();
        let weights = Tensor::<3>::from_data(TensorData::new(weights, y.dims()), &device);
        let gradients = (y.clone() * weights).sum().backward();
        let mut found = vec![y.without_autodiff().unsqueeze_dim(0)];
        found.extend(inputs.map(|x| x.grad(&gradients).expect("tracked")));
        found
    }

    #[test]
    fn the_fused_form_equals_the_plain_one_with_its_gradients() {
        let device = Device::flex().autodiff();
        // More queries than a block holds, and widths that no vector register divides.
        let own = [random([2, 6, 150, 10], 4), random([2, 2, 150, 10], 5), random([2, 2, 150, 10], 6)];
        let other = [random([2, 4, 70, 8], 7), random([2, 2, 33, 8], 8), random([2, 2, 33, 8], 9)];
        let cases: [(&[Tensor<4>; 3], Option<AttentionMask>); 5] = [
            (&own, None),
            (&own, AttentionMask::causal(&[0, 7], 0, 150, &device)),
            (&own, Some(AttentionMask::packed(&[vec![60, 1, 80], vec![150]], 150, &device))),
            (&other, None),
            (&other, Some(AttentionMask::from_rule([2, 70, 33], &device, |b, q, k| (b * 7 + q * 5 + k * 3) % 4 != 0))),
        ];
        for (i, (inputs, mask)) in cases.iter().enumerate() {
            let fused = with_gradients(inputs, mask.as_ref(), false);
            let plain = with_gradients(inputs, mask.as_ref(), true);
            for (j, (a, b)) in fused.iter().zip(&plain).enumerate() {
                assert!(apart(a, b) < 2e-5, "case {i}, tensor {j}: {}", apart(a, b));
            }
        }
    }

    #[test]
    fn packed_sequences_are_as_if_alone() {
        let device = Device::flex();
        let whole = [random([1, 4, 30, 8], 10), random([1, 2, 30, 8], 11), random([1, 2, 30, 8], 12)];
        let mask = AttentionMask::packed(&[vec![11, 19]], 30, &device);
        let [q, k, v] = whole.clone();
        let packed = attend(q, k, v, Some(&mask));
        for (start, length) in [(0, 11), (11, 19)] {
            let [q, k, v] = whole.clone().map(|x| x.narrow(2, start, length));
            let alone = attend(q, k, v, AttentionMask::causal(&[0], 0, length, &device).as_ref());
            assert!(apart(&packed.clone().narrow(1, start, length), &alone) < 1e-6);
        }
    }

    /// Against the rule as transformers has it (`kv_idx > q_idx - sliding_window`), over padded, packed and cached queries.
    #[test]
    fn a_sliding_window_masks_older_keys() {
        let device = Device::flex();
        let allowed = |mask: &AttentionMask| -> Vec<bool> {
            mask.bias().clone().into_data().iter::<f32>().map(|bias| bias == 0.0).collect()
        };
        let causal = AttentionMask::causal(&[0, 2], 3, 4, &device).expect("several queries");
        let windowed = AttentionMask::within(Some(&causal), 3, [2, 4, 7], &device);
        let padding = [0, 2];
        let rule = |b: usize, q: usize, k: usize| k <= q + 3 && k >= padding[b] && k + 3 > q + 3;
        let expected = AttentionMask::from_rule([2, 4, 7], &device, rule);
        assert_eq!(allowed(&windowed), allowed(&expected));

        let packed = AttentionMask::packed(&[vec![4, 3]], 8, &device);
        let windowed = AttentionMask::within(Some(&packed), 2, [1, 8, 8], &device);
        let sequence = |index: usize| [0, 0, 0, 0, 1, 1, 1, 2][index];
        let rule = |_: usize, q: usize, k: usize| k <= q && k + 2 > q && sequence(k) == sequence(q);
        assert_eq!(allowed(&windowed), allowed(&AttentionMask::from_rule([1, 8, 8], &device, rule)));

        let single = AttentionMask::within(None, 3, [2, 1, 6], &device);
        assert_eq!(allowed(&single), [false, false, false, true, true, true].repeat(2));
    }

    #[test]
    fn padding_changes_nothing_after_it() {
        let (q, k, v) = (random([1, 2, 4, 8], 13), random([1, 1, 4, 8], 14), random([1, 1, 4, 8], 15));
        let last3 = |x: &Tensor<4>| x.clone().narrow(2, 1, 3);
        let short =
            attend(last3(&q), last3(&k), last3(&v), AttentionMask::causal(&[0], 0, 3, &Device::flex()).as_ref());
        let padded = attend(q, k, v, AttentionMask::causal(&[1], 0, 4, &Device::flex()).as_ref());
        assert!((padded.narrow(1, 1, 3) - short).abs().max().into_scalar::<f32>() < 1e-6);
    }
}
