use std::sync::Arc;

use adamllm_nn::{ImageLayout, PixelValues};
use image::RgbImage;

use super::image_processor::{PatchGrid, Qwen2VlImageConfig};
use crate::preprocess::{ImageProcessor, PixelRange, PreprocessError};

impl Qwen2VlImageConfig {
    fn layout_of(&self, grid: PatchGrid) -> ImageLayout {
        let merge = self.merge_size as usize;
        let [frames, height, width] = [grid.t, grid.h, grid.w].map(|n| n as usize);
        let n_patches = grid.n_patches();
        ImageLayout {
            n_patches,
            n_attention_pairs: (n_patches as u64).pow(2),
            feature_grid: Some([frames, height / merge, width / merge]),
            metadata: vec![frames, height, width],
            ..ImageLayout::embedded(grid.n_features(self.merge_size), vec![n_patches, self.patch_length()])
        }
    }
}

impl ImageProcessor for Qwen2VlImageConfig {
    fn layout(&self, width: u32, height: u32) -> Result<ImageLayout, PreprocessError> {
        Ok(self.layout_of(self.grid_from_size(width, height)?))
    }

    fn process(&self, image: &RgbImage) -> Result<PixelValues, PreprocessError> {
        let patches = self.patches(image)?;
        Ok(PixelValues::new(patches.pixels, self.layout_of(patches.grid)))
    }

    /// A larger budget never takes fewer tokens by more than a line of the grid, so halving the interval finds a budget that fits
    /// and is all but the largest.
    fn shrunk(&self, sizes: &[(u32, u32)], room: usize) -> Option<Arc<dyn ImageProcessor>> {
        let pixels_per_token = u64::from(self.factor()).pow(2);
        let with_budget = |tokens: u64| {
            let max_pixels = (tokens * pixels_per_token).clamp(self.min_pixels, self.max_pixels);
            Self { max_pixels, ..self.clone() }
        };
        let fits = |config: &Self| {
            let tokens = sizes.iter().map(|&(width, height)| config.n_features(width, height));
            tokens.sum::<Result<usize, _>>().is_ok_and(|tokens| tokens <= room)
        };

        let (mut low, mut high) = (self.min_pixels.div_ceil(pixels_per_token), self.max_pixels / pixels_per_token + 1);
        if !fits(&with_budget(low)) {
            return None;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if fits(&with_budget(middle)) { low = middle } else { high = middle }
        }
        Some(Arc::new(with_budget(low)))
    }

    fn with_pixel_range(&self, range: PixelRange) -> Option<Result<Arc<dyn ImageProcessor>, PreprocessError>> {
        let min_pixels = range.min_pixels.unwrap_or(self.min_pixels);
        let max_pixels = range.max_pixels.unwrap_or(self.max_pixels);
        let config = Self { min_pixels, max_pixels, ..self.clone() };
        Some(config.validate().map(|()| Arc::new(config) as Arc<dyn ImageProcessor>))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_share_a_budget() {
        let config = Qwen2VlImageConfig { max_pixels: 12_845_056, ..Default::default() };
        let sizes = [(1024, 768), (410, 273)];
        let tokens =
            |config: &dyn ImageProcessor| sizes.map(|(w, h)| config.layout(w, h).expect("ordinary").n_placeholders);
        assert_eq!(tokens(&config), [999, 150]);
        let within = config.shrunk(&sizes, 700).expect("fits");
        let [large, small] = tokens(&*within);
        assert!(small == 150 && (500..=550).contains(&large), "the small one is left alone, got {large}, {small}");
        assert!(config.shrunk(&sizes, 1).is_none());
        assert!(config.shrunk(&sizes, 8).is_some());
    }
}
