//! Images to features: Qwen2-VL's image preparation and encoder, here with small random weights.

use adamllm_nn::{Eager, VisionEncoder};
use adamllm_vision::Qwen2VlEncoderConfig;
use adamllm_vision::preprocess::{ImageProcessor, Qwen2VlImageConfig};
use burn::tensor::Device;
use image::{Rgb, RgbImage};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex();
    device.seed(0);
    let encoder = Qwen2VlEncoderConfig::tiny().init(&device);

    // Two images of different sizes: each gives as many features as its own layout says.
    let images = [RgbImage::from_pixel(70, 56, Rgb([200, 30, 30])), RgbImage::from_fn(112, 56, stripes)];
    let processor = Qwen2VlImageConfig::default();
    let pixels = images.iter().map(|image| processor.process(image)).collect::<Result<Vec<_>, _>>()?;
    let features = encoder.encode(&pixels.iter().collect::<Vec<_>>(), &mut Eager);

    // One vector for each image: the mean of its features.
    let mut first = 0;
    for (image, pixels) in images.iter().zip(&pixels) {
        let n = pixels.layout.n_features;
        let mean = features.clone().narrow(0, first, n).mean_dim(0);
        let values: Vec<f32> = mean.into_data().iter::<f32>().collect();
        println!("{:?} pixels: {n} features of {} numbers", image.dimensions(), values.len());
        assert!(values.iter().all(|value| value.is_finite()));
        first += n;
    }
    assert_eq!(features.dims()[0], first);
    Ok(())
}

fn stripes(x: u32, _y: u32) -> Rgb<u8> {
    if x / 8 % 2 == 0 { Rgb([255; 3]) } else { Rgb([0; 3]) }
}
