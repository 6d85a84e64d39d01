//! A vision encoder of one's own before a decoder from a folder: the mean color of each quarter of an image, as four features.

use adamllm::burn::{self, module::Module, tensor::Tensor, tensor::TensorData}; // `derive(Module)` names `burn`
use adamllm::core::{MemoryImages, RgbImage};
use adamllm::model::{ModelError, VisionConfig, VisionLanguageModel};
use adamllm::nn::{BlockExecutor, ExampleSize, ImageLayout, Linear, LinearConfig, PixelValues, VisionEncoder};
use adamllm::prelude::*;
use adamllm::vision::preprocess::{ImageProcessor, PreprocessError, resize_bicubic};
use std::{path::Path, sync::Arc};

#[derive(Module, Debug)]
struct Quarters {
    projector: Linear,
}
impl VisionEncoder for Quarters {
    fn encode<'a>(&'a self, images: &[&PixelValues], _: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
        let colors: Vec<f32> = images.iter().flat_map(|image| image.values.iter().copied()).collect();
        let device = self.projector.weight.val().device();
        self.projector.forward(Tensor::from_data(TensorData::new(colors, [4 * images.len(), 3]), &device))
    }
}

#[derive(Debug)]
struct QuarterColors;
impl ImageProcessor for QuarterColors {
    fn layout(&self, _width: u32, _height: u32) -> Result<ImageLayout, PreprocessError> {
        Ok(ImageLayout::embedded(4, vec![4, 3]))
    }
    fn process(&self, image: &RgbImage) -> Result<PixelValues, PreprocessError> {
        let colors = resize_bicubic(image, 2, 2)?.into_raw().into_iter().map(|byte| f32::from(byte) / 127.5 - 1.0);
        Ok(PixelValues::new(colors.collect(), self.layout(image.width(), image.height())?))
    }
}

impl VisionConfig for QuarterColors {
    fn image_processor(&self, _folder: &Path) -> Result<Arc<dyn ImageProcessor>, ModelError> {
        Ok(Arc::new(Self))
    }
    fn n_blocks(&self) -> usize {
        0
    }
    fn forward_flops(&self, size: &ExampleSize) -> f64 {
        6.0 * size.patches as f64
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let base = ModelFolder::open(std::env::args().nth(1).unwrap_or_else(|| "datasets/mini/models/base".into()))?;
    let image_token = base.config().image_token.ok_or("no placeholder for images")?;
    let folder = base.with_vision(Arc::new(QuarterColors), image_token);
    let encoder = Quarters { projector: LinearConfig::new(3, folder.config().decoder.d_model).init(&Device::flex()) };
    let model = VisionLanguageModel::new(Some(encoder), folder.load_language(DType::F32, &Device::flex())?);
    let mut images = MemoryImages::new();
    images.insert("red.png", RgbImage::from_pixel(64, 64, [200, 30, 30].into()));
    let model = LocalModel::new(model, Processor::read(&folder)?, Arc::new(images), "quarters".into());
    let answer = model.generate(&[Prompt::ask(&"red.png".into(), "Which color?")], &Decoding::greedy(8)).remove(0)?;
    println!("{} prompt tokens, {} new ones: {:?}", answer.n_prompt_tokens, answer.n_new_tokens, answer.text);
    Ok(())
}
