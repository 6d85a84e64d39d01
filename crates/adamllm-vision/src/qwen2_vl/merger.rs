use adamllm_nn::{Activation, LayerNorm, LayerNormConfig, Mlp, MlpConfig};
use burn::module::Module;
use burn::tensor::{Device, Tensor};

/// Joins `merge_size^2` patches into one feature of the decoder's width.
#[derive(Module, Debug)]
pub struct PatchMerger {
    /// Over single patches, or over joined ones where `norm_is_joined`.
    pub norm: LayerNorm,
    /// `d_vision * merge_size^2` to itself to `d_model`.
    pub mlp: Mlp,
    /// Whether patches are joined before the norm: so in the mergers of Qwen3-VL's DeepStack.
    pub norm_is_joined: bool,
}

impl PatchMerger {
    /// A merger for `d_vision` channels of each of `per_square` patches.
    pub(crate) fn init(
        [d_vision, per_square, d_model]: [usize; 3],
        norm_is_joined: bool,
        device: &Device,
    ) -> PatchMerger {
        let d_joined = d_vision * per_square;
        let d_norm = if norm_is_joined { d_joined } else { d_vision };
        PatchMerger {
            norm: LayerNormConfig::new(d_norm).init(device),
            mlp: MlpConfig::new(d_joined, d_joined, d_model, Activation::Gelu).init(device),
            norm_is_joined,
        }
    }

    /// `[batch, n_patches, d_vision]` to `[batch * n_patches / per_square, d_model]`.
    pub(crate) fn forward(&self, x: Tensor<3>, per_square: usize) -> Tensor<2> {
        let [batch, n_patches, d_vision] = x.dims();
        let joined = [batch * n_patches / per_square, d_vision * per_square];
        let normalised = match self.norm_is_joined {
            true => self.norm.forward(x.reshape(joined)),
            false => self.norm.forward(x).reshape(joined),
        };
        self.mlp.forward(normalised)
    }
}
