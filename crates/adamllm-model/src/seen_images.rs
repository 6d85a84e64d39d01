use std::collections::HashMap;

use adamllm_core::{ImageRef, ImageStore};
use burn::tensor::Tensor;

use crate::{EncodedImage, ModelError, Processor, VisionLanguageModel};

/// The images of one call: each is decoded, cut and read by the encoder once, however many prompts ask about it. Its rows
/// are dropped with the last prompt that needs them.
#[derive(Default)]
pub(crate) struct SeenImages {
    pixels: HashMap<ImageRef, EncodedImage>,
    rows: HashMap<ImageRef, Tensor<2>>,
    /// Batches that still need an image.
    waiting: HashMap<ImageRef, usize>,
}

impl SeenImages {
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

    /// The rows of a batch's images, one image after the other; new ones go through the encoder together.
    pub(crate) fn rows(&mut self, images: &[EncodedImage], model: &VisionLanguageModel) -> Option<Tensor<2>> {
        if images.is_empty() {
            return None;
        }
        let new: Vec<EncodedImage> = images.iter().filter(|i| !self.rows.contains_key(&i.image)).cloned().collect();
        if !new.is_empty() {
            let encoded = model.encode_images(&new);
            let mut start = 0;
            for image in &new {
                let n = image.layout.n_rows();
                self.rows.insert(image.image.clone(), encoded.clone().narrow(0, start, n));
                start += n;
            }
        }
        let rows = images.iter().map(|image| self.rows[&image.image].clone()).collect();
        for image in images {
            let left = self.waiting.entry(image.image.clone()).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.rows.remove(&image.image);
            }
        }
        Some(Tensor::cat(rows, 0))
    }
}
