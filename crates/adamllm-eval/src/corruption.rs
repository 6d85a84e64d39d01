//! Images and words corrupted on purpose, to see how much a model leans on them (the paper's robustness runs, table 12 and
//! appendix F).

use adamllm_core::random::{named_stream, stream};
use adamllm_core::{CoreError, ImageRef, ImageStore, RgbImage};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::benchmark::forward_benchmark;
use crate::{Benchmark, EvalError, Example};

/// One way to corrupt an example.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Corruption {
    /// A white image of the same size.
    Blank,
    /// A Gaussian blur.
    Blur {
        /// Standard deviation in pixels.
        sigma: f32,
    },
    /// Gaussian noise on every channel value.
    Noise {
        /// Standard deviation, in steps of 0 to 255.
        deviation: f32,
    },
    /// The image of another example.
    WrongImage,
    /// The question's words in random order.
    ShuffledWords,
}

impl Corruption {
    /// A short name for reports and folders.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Blank => "blank",
            Self::Blur { .. } => "blur",
            Self::Noise { .. } => "noise",
            Self::WrongImage => "wrong-image",
            Self::ShuffledWords => "shuffled-words",
        }
    }

    /// Reads the name; blur has a sigma of 8 pixels and noise a deviation of 64 steps then.
    ///
    /// # Errors
    /// [`EvalError::Unknown`].
    pub fn parse(name: &str) -> Result<Self, EvalError> {
        match name {
            "blank" => Ok(Self::Blank),
            "blur" => Ok(Self::Blur { sigma: 8.0 }),
            "noise" => Ok(Self::Noise { deviation: 64.0 }),
            "wrong-image" => Ok(Self::WrongImage),
            "shuffled-words" => Ok(Self::ShuffledWords),
            _ => Err(EvalError::Unknown {
                what: "corruption",
                got: name.into(),
                expected: "blank, blur, noise, wrong-image, shuffled-words".into(),
            }),
        }
    }

    /// Corrupts one image. [`Corruption::WrongImage`] and [`Corruption::ShuffledWords`] leave it as it is.
    pub fn apply(&self, pixels: RgbImage, seed: u64, image: &ImageRef) -> RgbImage {
        match *self {
            Self::Blank => RgbImage::from_pixel(pixels.width(), pixels.height(), image::Rgb([255; 3])),
            Self::Blur { sigma } if sigma > 0.0 => image::imageops::blur(&pixels, sigma),
            Self::Noise { deviation } => noise(pixels, deviation, seed, image),
            Self::Blur { .. } | Self::WrongImage | Self::ShuffledWords => pixels,
        }
    }
}

fn noise(mut pixels: RgbImage, deviation: f32, seed: u64, image: &ImageRef) -> RgbImage {
    let mut random = named_stream(seed, "noise", image.as_str());
    for value in pixels.iter_mut() {
        // The sum of twelve uniform numbers has a variance of one (and nearly a bell's shape).
        let uniform: f32 = (0..3).map(|_| random.next_u32()).map(four_bytes).sum();
        *value = (f32::from(*value) + (uniform - 6.0) * deviation).round().clamp(0.0, 255.0) as u8;
    }
    pixels
}

/// The sum of a word's four bytes as numbers from 0 to 1.
fn four_bytes(word: u32) -> f32 {
    word.to_le_bytes().iter().map(|&byte| (f32::from(byte) + 0.5) / 256.0).sum()
}

/// The words of a text in random order, drawn from `(seed, name)`.
pub fn shuffle_words(text: &str, seed: u64, name: &str) -> String {
    let mut random = named_stream(seed, "shuffled words", name);
    let mut words: Vec<&str> = text.split_whitespace().collect();
    for last in (1..words.len()).rev() {
        words.swap(last, (random.next_u64() % (last as u64 + 1)) as usize);
    }
    words.join(" ")
}

/// A store whose images are corrupted: what a model looks at in a robustness run.
#[derive(Clone, Debug)]
pub struct CorruptedImages<S> {
    store: S,
    corruption: Corruption,
    seed: u64,
}

impl<S: ImageStore> CorruptedImages<S> {
    /// Corrupts every image of `store`, the same way each time.
    pub fn new(store: S, corruption: Corruption, seed: u64) -> Self {
        Self { store, corruption, seed }
    }
}

impl<S: ImageStore> ImageStore for CorruptedImages<S> {
    fn open(&self, image: &ImageRef) -> Result<RgbImage, CoreError> {
        Ok(self.corruption.apply(self.store.open(image)?, self.seed, image))
    }

    fn size(&self, image: &ImageRef) -> Result<(u32, u32), CoreError> {
        self.store.size(image)
    }

    /// The file as it is where images stay as they are; else there is no file.
    fn bytes(&self, image: &ImageRef) -> Result<Option<Vec<u8>>, CoreError> {
        match self.corruption {
            Corruption::WrongImage | Corruption::ShuffledWords => self.store.bytes(image),
            _ => Ok(None),
        }
    }
}

/// A benchmark whose examples are corrupted. Right answers and ids stay, so it compares with the intact one.
///
/// The model must look at the same images: give it [`CorruptedImages`] over its own store.
pub struct CorruptedBenchmark<'a> {
    benchmark: &'a dyn Benchmark,
    images: Option<CorruptedImages<&'a dyn ImageStore>>,
    corruption: Corruption,
    seed: u64,
    name: String,
}

impl std::fmt::Debug for CorruptedBenchmark<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CorruptedBenchmark").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a> CorruptedBenchmark<'a> {
    /// Corrupts a benchmark.
    pub fn new(benchmark: &'a dyn Benchmark, corruption: Corruption, seed: u64) -> Self {
        let images = benchmark.images().map(|store| CorruptedImages::new(store, corruption, seed));
        let name = format!("{} ({})", benchmark.name(), corruption.name());
        Self { benchmark, images, corruption, seed, name }
    }

    fn corrupted(&self, mut example: Example) -> Result<Example, EvalError> {
        // Images that change must not change what belongs together.
        example.group = Some(example.cluster());
        match self.corruption {
            Corruption::WrongImage => example.images = self.other_images(&example)?,
            Corruption::ShuffledWords => {
                let shuffled = shuffle_words(&example.question, self.seed, example.id.as_str());
                example.prompt = example.prompt.replace(&example.question, &shuffled);
                example.question = shuffled;
            }
            _ => {}
        }
        Ok(example)
    }

    /// The images of another example: the first of sixteen random ones that has others.
    fn other_images(&self, example: &Example) -> Result<Vec<ImageRef>, EvalError> {
        let mut random = stream(self.seed, "wrong image", &example.id);
        let n = self.benchmark.len() as u64;
        for _ in 0..16 {
            match self.benchmark.example((random.next_u64() % n) as usize) {
                Ok(other) if other.images != example.images && !other.images.is_empty() => return Ok(other.images),
                Err(error) if !error.is_example_error() => return Err(error),
                _ => {}
            }
        }
        Ok(example.images.clone())
    }
}

impl Benchmark for CorruptedBenchmark<'_> {
    forward_benchmark!();

    fn len(&self) -> usize {
        self.benchmark.len()
    }

    fn example(&self, index: usize) -> Result<Example, EvalError> {
        self.corrupted(self.benchmark.example(index)?)
    }

    fn question(&self, index: usize) -> Result<Example, EvalError> {
        self.corrupted(self.benchmark.question(index)?)
    }

    fn images(&self) -> Option<&dyn ImageStore> {
        self.images.as_ref().map(|images| images as &dyn ImageStore)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_the_deviation_it_says() {
        let grey = RgbImage::from_pixel(100, 100, image::Rgb([128; 3]));
        let image = ImageRef::from("a");
        let noisy = Corruption::Noise { deviation: 20.0 }.apply(grey.clone(), 7, &image);
        assert_eq!(noisy, Corruption::Noise { deviation: 20.0 }.apply(grey, 7, &image));
        let n = noisy.as_raw().len() as f64;
        let mean = noisy.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let deviation = (noisy.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt();
        assert!((mean - 128.0).abs() < 0.5 && (deviation - 20.0).abs() < 0.5, "{mean} {deviation}");
    }

    #[test]
    fn shuffled_words_are_the_same_words() {
        let text = "Which lung has a nodule near the heart";
        let shuffled = shuffle_words(text, 1, "id");
        assert_ne!(shuffled, text);
        let sorted = |text: &str| {
            let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            words.sort();
            words
        };
        assert_eq!(sorted(&shuffled), sorted(text));
        assert_eq!(shuffle_words("", 1, "id"), "");
    }
}
