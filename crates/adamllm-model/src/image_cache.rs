use std::collections::HashMap;

use adamllm_core::{ImageRef, ImageStore};
use adamllm_nn::{ImageFeatures, LanguageBackbone, VisionEncoder};

use crate::{EncodedImage, ModelError, Processor, VisionLanguageModel};

/// The images of one call: each is decoded, cut and read by the encoder once, however many prompts ask about it. Its
/// features are dropped with the last prompt that needs them.
#[derive(Default)]
pub(crate) struct ImageCache {
    pixels: HashMap<ImageRef, EncodedImage>,
    features: HashMap<ImageRef, ImageFeatures>,
    /// Batches that still need an image.
    waiting: HashMap<ImageRef, usize>,
}

impl ImageCache {
    /// The image as the encoder takes it.
    pub(crate) fn encode(
        &mut self,
        image: &ImageRef,
        processor: &Processor,
        store: &dyn ImageStore,
    ) -> Result<EncodedImage, ModelError> {
        if let Some(known) = self.pixels.get(image) {
            return Ok(known.clone());
        }
        let encoded = processor.encode_image(image, store)?;
        self.pixels.insert(image.clone(), encoded.clone());
        Ok(encoded)
    }

    /// All prompts are prepared: the pixels stay with them, and a batch of these images will come.
    pub(crate) fn expect<'a>(&mut self, batches: impl Iterator<Item = Vec<&'a ImageRef>>) {
        self.pixels.clear();
        for images in batches {
            for image in images {
                *self.waiting.entry(image.clone()).or_default() += 1;
            }
        }
    }

    /// The features of a batch's images, one image after the other; new ones go through the encoder together.
    pub(crate) fn features<V: VisionEncoder, L: LanguageBackbone>(
        &mut self,
        images: &[EncodedImage],
        model: &VisionLanguageModel<V, L>,
    ) -> Option<ImageFeatures> {
        if images.is_empty() {
            return None;
        }
        let is_new = |image: &&EncodedImage| !self.features.contains_key(&image.image);
        let new: Vec<EncodedImage> = images.iter().filter(is_new).cloned().collect();
        if !new.is_empty() {
            let encoded = model.encode_images(&new);
            let mut start = 0;
            for image in &new {
                let n = image.layout().n_features;
                let own = encoded.clone().map(|features| features.narrow(0, start, n));
                self.features.insert(image.image.clone(), own);
                start += n;
            }
        }

        let features = images.iter().map(|image| self.features[&image.image].clone()).collect();
        for image in images {
            let left = self.waiting.entry(image.image.clone()).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.features.remove(&image.image);
            }
        }
        Some(ImageFeatures::cat(features))
    }
}
