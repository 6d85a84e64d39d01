use adamllm_language::{DecoderConfig, RopeConfig};
use adamllm_vision::{Qwen2_5VlEncoderConfig, Qwen2VlEncoderConfig};

use super::config::ModelConfig;
use crate::llava_next::LlavaNextVisionConfig;
use crate::mllama::MllamaVisionConfig;
use crate::{Family, VisionConfig};

/// The true sizes of published checkpoints (their model cards' `config.json`).
impl ModelConfig {
    /// Qwen/Qwen2-VL-2B-Instruct.
    pub fn qwen2_vl_2b() -> Self {
        let vision = VisionConfig::Qwen2Vl(Qwen2VlEncoderConfig::qwen2_vl_2b());
        Self::published(Family::Qwen2Vl, DecoderConfig::qwen2_vl_2b(), Some(vision), Some(151_655), 32_768)
    }

    /// Qwen/Qwen2.5-VL-3B-Instruct.
    pub fn qwen2_5_vl_3b() -> Self {
        let vision = VisionConfig::Qwen2_5Vl(Qwen2_5VlEncoderConfig::qwen2_5_vl_3b());
        Self::published(Family::Qwen2_5Vl, DecoderConfig::qwen2_5_vl_3b(), Some(vision), Some(151_655), 128_000)
    }

    /// Lin-Chen/open-llava-next-llama3-8b.
    pub fn llava_next_llama3_8b() -> Self {
        let vision = VisionConfig::LlavaNext(LlavaNextVisionConfig::vit_large_336());
        Self::published(Family::LlavaNext, DecoderConfig::llama3_8b(), Some(vision), None, 8192)
    }

    /// meta-llama/Llama-3.2-11B-Vision-Instruct.
    pub fn llama3_2_11b_vision() -> Self {
        let vision = VisionConfig::Mllama(MllamaVisionConfig::llama3_2_11b());
        Self::published(Family::Mllama, DecoderConfig::llama3_2_11b_vision(), Some(vision), Some(128_256), 131_072)
    }

    /// meta-llama/Meta-Llama-3-8B.
    pub fn llama3_8b() -> Self {
        Self::published(Family::Llama, DecoderConfig::llama3_8b(), None, None, 8192)
    }

    /// Qwen/Qwen2-1.5B-Instruct.
    pub fn qwen2_1_5b() -> Self {
        let decoder = DecoderConfig { rope: RopeConfig::plain(1_000_000.0), ..DecoderConfig::qwen2_vl_2b() };
        Self::published(Family::Qwen2, decoder, None, None, 32_768)
    }

    fn published(
        family: Family,
        decoder: DecoderConfig,
        vision: Option<VisionConfig>,
        image_token: Option<u32>,
        max_context: usize,
    ) -> Self {
        Self { family, decoder, vision, image_token, first_layout: false, max_context }
    }
}

#[cfg(test)]
mod tests {
    use adamllm_nn::Parameters;
    use burn::tensor::Device;

    use super::*;
    use crate::VisionLanguageModel;

    /// Names and shapes only: no weight is made. The totals are those that the Hub shows for the checkpoints' safetensors.
    #[test]
    fn parameters_of_the_published_checkpoints() {
        let published = [
            (ModelConfig::qwen2_vl_2b(), 2_208_985_600),
            (ModelConfig::qwen2_5_vl_3b(), 3_754_622_976),
            (ModelConfig::llava_next_llama3_8b(), 8_354_752_512),
            (ModelConfig::llama3_2_11b_vision(), 10_670_220_835),
            (ModelConfig::llama3_8b(), 8_030_261_248),
            (ModelConfig::qwen2_1_5b(), 1_543_714_304),
        ];
        for (config, n) in published {
            let model = VisionLanguageModel::init(&config, &Device::flex());
            assert_eq!(Parameters::of(&model).n_elements(), n, "{:?}", config.family);
        }
    }
}
