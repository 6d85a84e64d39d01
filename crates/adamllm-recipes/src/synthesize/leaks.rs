use std::path::{Path, PathBuf};

use adamllm_core::{LostRecords, Reason, Stage};
use adamllm_eval::{Benchmark, DescribedBenchmark};
use adamllm_synth::hygiene::{HygieneConfig, LeakIndex};

use crate::RecipeError;

/// A benchmark of which not every example was compared with the training data: what cannot be read cannot leak, but whoever
/// trains should know.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UncomparedBenchmark {
    /// Its description.
    pub file: PathBuf,
    /// How many examples, and why.
    pub losses: LostRecords,
}

/// The images and questions of benchmarks, which must not be trained on.
pub(super) fn index(descriptions: &[PathBuf]) -> Result<(Option<LeakIndex>, Vec<UncomparedBenchmark>), RecipeError> {
    let (mut leaks, mut uncompared) = (LeakIndex::new(HygieneConfig::default().max_image_distance), Vec::new());
    for file in descriptions {
        let (n, losses) = add(file, &mut leaks)?;
        if losses.n_lost() == n {
            return Err(RecipeError::LeakCheck { file: file.clone(), cause: losses.to_string() });
        }
        if losses.n_lost() > 0 {
            uncompared.push(UncomparedBenchmark { file: file.clone(), losses });
        }
    }
    Ok(((!descriptions.is_empty()).then_some(leaks), uncompared))
}

/// Adds a benchmark's examples; tells how many it has, and which cannot be read.
fn add(file: &Path, leaks: &mut LeakIndex) -> Result<(u64, LostRecords), RecipeError> {
    let benchmark = DescribedBenchmark::open(file)?;
    let images = adamllm_data::images_at(benchmark.description().images_path())?;
    let n = benchmark.len() as u64;
    let mut losses = LostRecords::of(n);
    for index in 0..benchmark.len() {
        let example = match benchmark.example(index) {
            Ok(example) => example,
            Err(error) => {
                losses.add_all(Stage::Read, Reason::InvalidField, 1, error.to_string());
                continue;
            }
        };
        match example.images.first().map(|image| images.open(image)).transpose() {
            Ok(image) => leaks.insert(&example.id, &example.question, image.as_ref()),
            Err(error) => losses.add_all(Stage::Read, Reason::from(&error), 1, error.to_string()),
        }
    }
    Ok((n, losses))
}
