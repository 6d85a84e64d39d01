use std::borrow::Cow;

use adamllm_core::RgbImage;
use adamllm_vision::preprocess::{PassOrder, PreprocessError, Resampling, resize, resize_nearest};
use serde::{Deserialize, Serialize};

/// How images are scaled before the model's own image processor gets them: LLaMA-Factory's default,
/// by version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageLimit {
    /// Not at all.
    #[default]
    None,
    /// Until 23 November 2024 (v0.9.0): no side beyond 512 pixels; nearest neighbour.
    #[serde(rename = "llama_factory_0_9_0")]
    LlamaFactory090,
    /// Until 17 February 2025 (v0.9.1): at most 512 x 512 pixels; nearest neighbour.
    #[serde(rename = "llama_factory_0_9_1")]
    LlamaFactory091,
    /// From 18 February to 4 March 2025: 32 x 32 to 768 x 768 pixels; nearest neighbour.
    #[serde(rename = "llama_factory_2025_02")]
    LlamaFactoryFebruary2025,
    /// Since 4 March 2025 (v0.9.2): 32 x 32 to 768 x 768 pixels; bicubic.
    #[serde(rename = "llama_factory_0_9_2")]
    LlamaFactory092,
}

/// Whether the image is for a model that merges patches of the image's own shape: such images get sides of at least 28
/// pixels, and nearly square ones of those longer than 200 times their breadth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Any,
    Merged,
}

const SHORTEST_SIDE: u32 = 28;
const LONGEST_RATIO: f64 = 200.0;
const CUT_RATIO: u32 = 180;

impl ImageLimit {
    /// The sizes, `(width, height)`, through which an image goes, its own left out.
    pub(crate) fn steps(self, size: (u32, u32), shape: Shape) -> Vec<(u32, u32)> {
        if self == Self::None {
            return Vec::new();
        }

        let mut steps = Vec::new();
        let mut reached = size;

        let mut go = |to: Option<(u32, u32)>| {
            if let Some(to) = to {
                steps.push(to);
                reached = to;
            }
            reached
        };

        let reached = go(self.area(size));
        // LLaMA-Factory's further rules for Qwen2-VL, in its order; each looks at what the one before has left.
        if shape == Shape::Merged {
            let thin = reached.0.min(reached.1) < SHORTEST_SIDE;
            let reached = go(thin.then_some((reached.0.max(SHORTEST_SIDE), reached.1.max(SHORTEST_SIDE))));
            let ratio = |(a, b): (u32, u32)| f64::from(a) / f64::from(b);
            let reached = go((ratio(reached) > LONGEST_RATIO).then_some((reached.1 * CUT_RATIO, reached.1)));
            go((ratio((reached.1, reached.0)) > LONGEST_RATIO).then_some((reached.0, reached.0 * CUT_RATIO)));
        }

        steps
    }

    /// The size within the limits, where the image's own is not.
    fn area(self, (width, height): (u32, u32)) -> Option<(u32, u32)> {
        let pixels = f64::from(width) * f64::from(height);
        let within = |smallest: u32, largest: u32| {
            let [smallest, largest] = [smallest, largest].map(|side| f64::from(side) * f64::from(side));
            let bound = if pixels > largest { Some(largest) } else { (pixels < smallest).then_some(smallest) };
            bound.map(|bound| (bound / pixels).sqrt())
        };
        let longest = width.max(height);
        let factor = match self {
            Self::None => None,
            Self::LlamaFactory090 => (longest > 512).then(|| 512.0 / f64::from(longest)),
            Self::LlamaFactory091 => within(0, 512),
            Self::LlamaFactoryFebruary2025 | Self::LlamaFactory092 => within(32, 768),
        }?;
        let scaled = |side: u32| (f64::from(side) * factor) as u32;
        Some((scaled(width), scaled(height)))
    }

    /// The image as the image processor gets it.
    pub(crate) fn apply(self, image: &RgbImage, shape: Shape) -> Result<Cow<'_, RgbImage>, PreprocessError> {
        let mut scaled = Cow::Borrowed(image);
        for step in self.steps(image.dimensions(), shape) {
            scaled = Cow::Owned(match self {
                Self::LlamaFactory092 => resize(&scaled, step, Resampling::Bicubic, PassOrder::Pillow)?,
                _ => resize_nearest(&scaled, step)?,
            });
        }
        Ok(scaled)
    }
}

#[cfg(test)]
mod tests {
    use adamllm_vision::preprocess::Qwen2VlImageConfig;

    use super::*;

    const ALL: [ImageLimit; 4] =
        [ImageLimit::LlamaFactory090, ImageLimit::LlamaFactory091, ImageLimit::LlamaFactory092, ImageLimit::None];

    /// Tokens of an image under each version's limit, and under none, with the published `max_pixels`.
    #[test]
    fn tokens_by_version() {
        let processor = Qwen2VlImageConfig { max_pixels: 12_845_056, ..Default::default() };
        let tokens = |size, limit: ImageLimit| {
            let (width, height) = limit.steps(size, Shape::Merged).last().copied().unwrap_or(size);
            processor.n_features(width, height).ok()
        };
        for (size, expected) in [
            ((410, 273), [150, 150, 150, 150]),
            ((512, 512), [324, 324, 324, 324]),
            ((1024, 768), [252, 336, 768, 999]),
            ((70, 70), [4, 4, 4, 4]),
            ((4000, 3000), [252, 336, 768, 15301]),
        ] {
            assert_eq!(ALL.map(|limit| tokens(size, limit)), expected.map(Some), "{size:?}");
        }
        // Without a limit this one is 222 times as long as high, which the image processor refuses.
        assert_eq!(ALL.map(|limit| tokens((2000, 9), limit)), [Some(18), Some(71), Some(71), None]);
    }

    #[test]
    fn thin_images_are_stretched_and_long_ones_cut_down() {
        let steps = |size, shape| ImageLimit::LlamaFactory092.steps(size, shape);
        assert_eq!(steps((10, 10), Shape::Any), [(32, 32)]);
        assert_eq!(steps((40, 30), Shape::Any), []);
        assert_eq!(steps((40, 26), Shape::Merged), [(40, 28)]);
        assert_eq!(steps((28, 9000), Shape::Merged), [(28, 28 * 180)]);
        assert_eq!(steps((9000, 28), Shape::Merged), [(28 * 180, 28)]);
    }

    #[test]
    fn filters_by_version() {
        let bytes = (0..1024 * 768 * 3_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let image = RgbImage::from_raw(1024, 768, bytes).expect("three bytes a pixel");
        let apply = |limit: ImageLimit| limit.apply(&image, Shape::Merged).expect("possible").into_owned();
        assert_eq!(apply(ImageLimit::LlamaFactory091), resize_nearest(&image, (591, 443)).expect("possible"));
        assert_eq!(apply(ImageLimit::LlamaFactoryFebruary2025), resize_nearest(&image, (886, 665)).expect("possible"));
        let bicubic = resize(&image, (886, 665), Resampling::Bicubic, PassOrder::Pillow).expect("possible");
        assert_eq!(apply(ImageLimit::LlamaFactory092), bicubic);
        assert_eq!(apply(ImageLimit::None), image);
    }
}
