use serde::{Deserialize, Serialize};

/// How an 8-bit value becomes a float: `(value * rescale - mean) / std`, per channel (red, green, blue).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    /// Subtracted after rescaling.
    pub mean: [f32; 3],
    /// Divided by at the end.
    pub std: [f32; 3],
    /// Multiplied first; 1/255 in all known processors.
    pub rescale: f64,
}

impl Normalisation {
    /// CLIP's constants (Radford et al. 2021, `openai/CLIP`), also used by the Qwen2-VL families, LLaVA and Mllama's
    /// published checkpoints.
    pub const CLIP: Self = Self {
        mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
        std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
        rescale: 1.0 / 255.0,
    };

    /// ImageNet's customary constants.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], rescale: 1.0 / 255.0 };

    /// Mean and deviation of one half: values from -1 to 1 (ViT, SigLIP, Mllama's default).
    pub const HALF: Self = Self { mean: [0.5; 3], std: [0.5; 3], rescale: 1.0 / 255.0 };

    /// The float of every byte, per channel.
    ///
    /// In 32 bits and with the rescaling moved into mean and deviation, as transformers 5 computes it, so that the
    /// values are equal to the last bit.
    pub fn table(&self) -> [[f32; 256]; 3] {
        let scale = (1.0 / self.rescale) as f32;
        let column = |channel: usize| {
            let (mean, std) = (self.mean[channel] * scale, self.std[channel] * scale);
            std::array::from_fn(|value| (value as f32 - mean) / std)
        };
        [column(0), column(1), column(2)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_formula() {
        for constants in [Normalisation::CLIP, Normalisation::IMAGENET, Normalisation::HALF] {
            let table = constants.table();
            for (channel, column) in table.iter().enumerate() {
                let (mean, std) = (f64::from(constants.mean[channel]), f64::from(constants.std[channel]));
                for (value, &got) in column.iter().enumerate() {
                    let expected = (value as f64 * constants.rescale - mean) / std;
                    assert!((f64::from(got) - expected).abs() < 1e-6);
                }
            }
        }
    }
}
