use adamllm_nn::KeyValueCache;
use burn::tensor::Tensor;

/// Keys and values of the tokens read so far, for one batch.
///
/// Buffers are allocated once at full capacity and written in place; nothing is copied when a token is added.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<Option<LayerCache>>,
    /// Keys and values of the images, of the layers that read them.
    images: Vec<Option<LayerCache>>,
    capacity: usize,
    length: usize,
}

#[derive(Clone, Debug)]
struct LayerCache {
    keys: Tensor<4>,
    values: Tensor<4>,
}

impl KvCache {
    /// An empty cache for `n_layers` layers, `n_cross_layers` that read images, and at most `capacity` tokens of each batch element.
    pub fn new(n_layers: usize, n_cross_layers: usize, capacity: usize) -> Self {
        Self { layers: vec![None; n_layers], images: vec![None; n_cross_layers], capacity, length: 0 }
    }

    /// Keeps the images' keys and values of one cross-attention layer: they never change.
    pub(crate) fn keep_images(&mut self, layer: usize, keys: Tensor<4>, values: Tensor<4>) {
        self.images[layer] = Some(LayerCache { keys, values });
    }

    /// What [`KvCache::keep_images`] kept.
    pub(crate) fn images(&self, layer: usize) -> (Tensor<4>, Tensor<4>) {
        let kept = self.images[layer].as_ref().expect("the prompt's pass keeps the images");
        (kept.keys.clone(), kept.values.clone())
    }

    /// Notes that `n` more tokens went through all layers.
    pub(crate) fn advance(&mut self, n: usize) {
        self.length += n;
    }

    /// Adds the new keys and values of one layer and returns all of them so far.
    ///
    /// # Shapes
    /// - `keys`, `values`: `[batch, n_kv_heads, n_new, d_head]`
    /// - output: `[batch, n_kv_heads, len + n_new, d_head]`
    pub(crate) fn extend(&mut self, layer: usize, keys: Tensor<4>, values: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let [batch, n_kv_heads, n_new, d_head] = keys.dims();
        let end = self.length + n_new;
        assert!(end <= self.capacity, "the cache holds {} tokens of each batch element, got {end}", self.capacity);
        let stored = self.layers[layer].take().unwrap_or_else(|| {
            let shape = [batch, n_kv_heads, self.capacity, d_head];
            let options = (&keys.device(), keys.dtype());
            LayerCache { keys: Tensor::zeros(shape, options), values: Tensor::zeros(shape, options) }
        });
        let region = [0..batch, 0..n_kv_heads, self.length..end, 0..d_head];
        let keys = stored.keys.slice_assign(region.clone(), keys);
        let values = stored.values.slice_assign(region, values);
        let so_far = (keys.clone().narrow(2, 0, end), values.clone().narrow(2, 0, end));
        self.layers[layer] = Some(LayerCache { keys, values });
        so_far
    }
}

impl KeyValueCache for KvCache {
    fn len(&self) -> usize {
        self.length
    }
}
