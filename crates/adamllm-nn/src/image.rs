use std::sync::Arc;

use serde::Serialize;

/// How one image is cut for a vision encoder, decided from its size alone. The placeholders in the text and the features that
/// the encoder gives both follow from it, before a pixel is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImageLayout {
    /// Placeholder tokens in the decoder's sequence.
    pub n_placeholders: usize,
    /// Image features that the encoder gives, padding included.
    pub n_features: usize,
    /// How many of the features, from the first on, hold image. The rest is padding that no token attends to.
    pub n_unpadded_features: usize,
    /// Patches that the encoder reads.
    pub n_patches: usize,
    /// Pairs of the encoder's positions that attend to each other in a layer of full attention: counts operations.
    pub n_attention_pairs: u64,
    /// Frames, rows and columns of features, for decoders whose positions have three axes.
    pub feature_grid: Option<[usize; 3]>,
    /// The axes of the image's pixel values.
    pub pixel_shape: Vec<usize>,
    /// Whole numbers that the image processor hands to its encoder beside the pixel values, as transformers' `image_grid_thw`
    /// or `aspect_ratio_ids`.
    pub metadata: Vec<usize>,
}

impl ImageLayout {
    /// An image whose features replace one placeholder token each, cut into as many patches.
    pub fn embedded(n_features: usize, pixel_shape: Vec<usize>) -> Self {
        Self {
            n_placeholders: n_features,
            n_features,
            n_unpadded_features: n_features,
            n_patches: n_features,
            n_attention_pairs: (n_features * n_features) as u64,
            feature_grid: None,
            pixel_shape,
            metadata: Vec::new(),
        }
    }
}

/// One image as an image processor prepared it, on the host. A clone shares the values.
#[derive(Clone, Debug, PartialEq)]
pub struct PixelValues {
    /// `layout.pixel_shape`, row-major.
    pub values: Arc<Vec<f32>>,
    /// How the image is cut.
    pub layout: ImageLayout,
}

impl PixelValues {
    /// # Panics
    /// If the values do not fill the layout's shape.
    pub fn new(values: Vec<f32>, layout: ImageLayout) -> Self {
        let expected: usize = layout.pixel_shape.iter().product();
        assert_eq!(values.len(), expected, "values for pixels of the shape {:?}", layout.pixel_shape);
        Self { values: Arc::new(values), layout }
    }
}

/// How large a training example is, known without reading a pixel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ExampleSize {
    /// Tokens that the decoder reads, placeholders of images included.
    pub tokens: usize,
    /// Tokens that count for the loss.
    pub targets: usize,
    /// Tokens that are placeholders of images, among `tokens`.
    #[serde(default)]
    pub image_tokens: usize,
    /// Images.
    pub images: usize,
    /// Patches that the vision encoder reads.
    pub patches: usize,
    /// Features that the vision encoder gives to the decoder.
    pub image_features: usize,
    /// The sum of the images' [`ImageLayout::n_attention_pairs`].
    pub attention_pairs: u64,
}

impl std::ops::AddAssign for ExampleSize {
    fn add_assign(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.targets += other.targets;
        self.image_tokens += other.image_tokens;
        self.images += other.images;
        self.patches += other.patches;
        self.image_features += other.image_features;
        self.attention_pairs += other.attention_pairs;
    }
}

impl ExampleSize {
    /// Counts an image.
    pub fn add_image(&mut self, layout: &ImageLayout) {
        self.images += 1;
        self.image_tokens += layout.n_placeholders;
        self.patches += layout.n_patches;
        self.image_features += layout.n_features;
        self.attention_pairs += layout.n_attention_pairs;
    }
}
