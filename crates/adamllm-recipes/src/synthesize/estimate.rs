use std::io::BufRead;
use std::path::Path;

use adamllm_core::{CHARS_PER_TOKEN, CoreError, ImageStore};
use adamllm_data::image_names_at;
use adamllm_synth::SynthesizerConfig;
use serde::Serialize;

use super::{SynthesisOptions, SynthesisSettings, input_pairs};
use crate::RecipeError;

/// One token of an image stands for so many pixels in each direction, and an image has at most so many of them. Models differ: the family of
/// Qwen2-VL cuts an image like this, others make more or fewer tokens of it.
const PIXELS_PER_TOKEN: u64 = 28;
const MOST_IMAGE_TOKENS: u64 = 1536;

/// What one model will be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CallEstimate {
    /// Requests, at most.
    pub requests: u64,
    /// Tokens of the prompts, about: a fourth of the characters, and for an image one for each 28 by 28 pixels, at most 1,536.
    pub prompt_tokens: u64,
    /// Tokens of the answers, at most.
    pub answer_tokens: u64,
}

/// What a synthesis will ask its models, before it asks them. What an earlier run in the folder was answered is taken off where the run
/// resumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SynthesisEstimate {
    /// Records to work on.
    pub records: u64,
    /// The captioner, where there are images alone.
    pub captioner: CallEstimate,
    /// The synthesizer.
    pub synthesizer: CallEstimate,
    /// The judge; it is asked about triplets only, which are fewer than records.
    pub judge: CallEstimate,
    /// All of them.
    pub total: CallEstimate,
}

impl CallEstimate {
    fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
            answer_tokens: self.answer_tokens + other.answer_tokens,
        }
    }

    /// `n` calls, of which `done` were made before.
    fn of(n: u64, done: u64, prompt_tokens: u64, answer_tokens: usize) -> Self {
        let left = n.saturating_sub(done);
        let share = if n == 0 { 0.0 } else { left as f64 / n as f64 };
        Self {
            requests: left,
            prompt_tokens: (prompt_tokens as f64 * share).round() as u64,
            answer_tokens: left * answer_tokens as u64,
        }
    }
}

impl std::fmt::Display for SynthesisEstimate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = |f: &mut std::fmt::Formatter<'_>, name: &str, calls: &CallEstimate| {
            let CallEstimate { requests, prompt_tokens, answer_tokens } = calls;
            writeln!(
                f,
                "   {name:12}{requests:>10} requests, about {prompt_tokens} tokens in, at most {answer_tokens} out"
            )
        };
        writeln!(f, "{} records; what is left to ask, at most:", self.records)?;
        for (name, calls) in
            [("captioner", &self.captioner), ("synthesizer", &self.synthesizer), ("judge", &self.judge)]
        {
            if calls.requests > 0 {
                line(f, name, calls)?;
            }
        }
        line(f, "all", &self.total)
    }
}

/// Counts what a synthesis will ask, without a model. Images are looked at for their size alone.
///
/// # Errors
/// Files; settings.
pub fn estimate(settings: &SynthesisSettings, options: &SynthesisOptions) -> Result<SynthesisEstimate, RecipeError> {
    let images = settings.open_images()?;
    let tokens = |text: &str| (text.chars().count() as u64).div_ceil(CHARS_PER_TOKEN as u64);
    let done = |name: &str| if options.resume { lines(&options.out.join("work").join(name)) } else { Ok(0) };
    let mut found = SynthesisEstimate::default();

    // For each record the tokens of its image and of its caption.
    let (mut n, mut image_tokens, mut caption_tokens) = (0, 0, 0);
    let captioned = options.out.join(adamllm_synth::CAPTIONS_FILE).exists() && options.resume;
    if settings.images_only && !captioned {
        let config = settings.captioner()?;
        for name in image_names_at(&settings.images)? {
            n += 1;
            image_tokens += tokens_of_image(&*images, &name);
        }
        let prompts = image_tokens + n * tokens(&config.prompt);
        found.captioner = CallEstimate::of(n, done("caption.jsonl")?, prompts, config.decoding.max_new_tokens);
        caption_tokens = n * config.decoding.max_new_tokens as u64;
    } else {
        let settings = &SynthesisSettings { captions: settings.pairs_file(&options.out), ..settings.clone() };
        for pair in input_pairs(settings, &options.out)?.flatten() {
            if options.shard.is_none_or(|shard| shard.holds(&pair.id)) {
                n += 1;
                image_tokens += tokens_of_image(&*images, &pair.image);
                caption_tokens += tokens(&pair.caption);
            }
        }
    }

    found.records = n;
    let (asks_synthesizer, asks_judge) = settings.asks();
    if asks_synthesizer {
        let answer = SynthesizerConfig::default().decoding.max_new_tokens;
        found.synthesizer = CallEstimate::of(n, done("propose.jsonl")?, image_tokens + caption_tokens, answer);
    }
    if asks_judge {
        let config = settings.filter()?;
        // A triplet's texts are taken for twice as long as its caption.
        let prompts = n * tokens(&config.prompt) + 2 * caption_tokens;
        found.judge = CallEstimate::of(n, done("judge.jsonl")?, prompts, config.max_answer_tokens());
    }
    found.total = found.captioner.plus(found.synthesizer).plus(found.judge);
    Ok(found)
}

fn tokens_of_image(images: &dyn ImageStore, image: &adamllm_core::ImageRef) -> u64 {
    let (width, height) = images.size(image).unwrap_or_default();
    let cells = |pixels: u32| u64::from(pixels).div_ceil(PIXELS_PER_TOKEN);
    (cells(width) * cells(height)).min(MOST_IMAGE_TOKENS)
}

/// Lines of a journal: answers that are there.
fn lines(path: &Path) -> Result<u64, CoreError> {
    if !path.exists() {
        return Ok(0);
    }
    let file = std::fs::File::open(path).map_err(CoreError::io("open", path))?;
    let mut n = 0;
    for line in std::io::BufReader::new(file).split(b'\n') {
        line.map_err(CoreError::io("read", path))?;
        n += 1;
    }
    Ok(n)
}
