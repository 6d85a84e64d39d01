//! What is compared, and how close it must be.

mod generation;
mod gradients;
mod logits;
mod operations;
mod training;

use std::path::{Path, PathBuf};
use std::time::Duration;

use adamllm::model::VisionLanguageModel;
use adamllm::prelude::*;
use serde_json::json;

use crate::Answer;
use crate::cases::{Case, Selection, run_all};
use crate::device::{Dtype, device};
use crate::fixtures::{self, Fixture};
use crate::report::Report;

/// The families that have a fixture; those that read images first.
const FAMILIES: [&str; 10] =
    ["qwen2_vl", "mllama", "qwen3_vl", "smolvlm", "qwen2_5_vl", "llava_next", "idefics3", "llama", "qwen2", "qwen3"];

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// flex (the CPU), or another backend that is compiled in
    #[arg(long, default_value = "flex")]
    device: String,
    /// The dtype of weights and activations on the device
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    /// The fixtures; those of the repository that the current folder is in, where not given
    #[arg(long)]
    fixtures: Option<PathBuf>,
    /// Only the cases whose names hold this; may be given several times
    #[arg(long)]
    only: Vec<String>,
    /// Seconds after which no case begins
    #[arg(long)]
    time_limit: Option<u64>,
    /// Writes what was found there
    #[arg(long)]
    json: Option<PathBuf>,
    /// Names the cases, and ends
    #[arg(long)]
    list: bool,
}

/// The device that is checked, and how close its results must be.
#[derive(Debug)]
struct Checked {
    root: PathBuf,
    device: Device,
    dtype: DType,
    limits: Limits,
}

/// The largest errors that pass.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Of logits, relative to the largest.
    logits: f64,
    /// Of a loss, relative.
    loss: f64,
    /// Of gradients and of trained weights.
    gradients: f64,
    /// Of losses on the way of a training run, relative.
    training: f64,
}

impl Limits {
    /// On the CPU in f32 the rounding of sums is all that differs; devices may multiply f32 in fewer bits. The bands of bf16 are
    /// less than twice the CPU's own distances in bf16 (logits 0.057, all gradients 0.052), those of f16 an eighth of them.
    fn of(dtype: Dtype, reference: bool) -> Self {
        match (dtype, reference) {
            (Dtype::F32, true) => Self { logits: 1e-4, loss: 1e-5, gradients: 1e-3, training: 1e-4 },
            (Dtype::F32, false) => Self { logits: 1e-3, loss: 1e-4, gradients: 1e-3, training: 1e-3 },
            (Dtype::Bf16, _) => Self { logits: 0.1, loss: 0.01, gradients: 0.1, training: 0.03 },
            (Dtype::F16, _) => Self { logits: 0.0125, loss: 0.00125, gradients: 0.0125, training: 0.03 },
        }
    }
}

impl Checked {
    fn fixture(&self, family: &str) -> Answer<Fixture> {
        Fixture::open(&self.root, family)
    }

    /// Whether values are compared one by one; in a narrow dtype whole sets are.
    fn in_f32(&self) -> bool {
        self.dtype == DType::F32
    }

    /// The model on the device that is checked, with autodiff.
    fn trained(&self, fixture: &Fixture) -> Answer<VisionLanguageModel> {
        Ok(fixture.folder.load(self.dtype, &self.device.clone().autodiff())?)
    }

    /// The model on the CPU in f32, with autodiff: what the device is compared with.
    fn reference(&self, fixture: &Fixture) -> Answer<VisionLanguageModel> {
        Ok(fixture.folder.load(DType::F32, &Device::flex().autodiff())?)
    }
}

/// Runs the check; whether everything passed and nothing was left out.
///
/// # Errors
/// A device that is not compiled in, no fixtures, the report's file.
pub(crate) fn run(arguments: &Arguments) -> Answer<bool> {
    let reference = ["flex", "cpu"].contains(&arguments.device.as_str());
    let checked = Checked {
        root: fixtures::folder(arguments.fixtures.as_deref())?,
        device: device(&arguments.device)?,
        dtype: arguments.dtype.into(),
        limits: Limits::of(arguments.dtype, reference),
    };
    let cases = cases(&checked);
    if arguments.list {
        cases.iter().for_each(|case| println!("{}", case.name));
        return Ok(true);
    }
    let mut report = Report::new(arguments.json.as_deref().map(Path::new));
    report.set("device", json!(arguments.device))?;
    report.set("dtype", json!(format!("{:?}", checked.dtype)))?;
    println!("{} in {:?}, {} cases", arguments.device, checked.dtype, cases.len());
    let time_limit = arguments.time_limit.map(Duration::from_secs);
    let tally = run_all(&cases, &Selection { only: arguments.only.clone(), time_limit }, &mut report)?;
    if tally.passed + tally.failed + tally.skipped == 0 {
        return Err(format!("no case has {:?} in its name; --list names them", arguments.only).into());
    }
    Ok(tally.failed == 0 && tally.skipped == 0)
}

/// All cases, the most telling ones first: where time ends, each family was seen forward and backward.
fn cases(checked: &Checked) -> Vec<Case<'_>> {
    let mut cases = operations::cases(checked);
    let each = |kind: fn(&Checked, &str) -> Answer<crate::cases::Found>, named: &'static str| {
        FAMILIES.map(|family| Case::new(format!("{family}/{named}"), move || kind(checked, family)))
    };
    cases.extend(each(logits::all_positions, "logits"));
    cases.extend(each(gradients::one_step, "gradients"));
    cases.extend(each(generation::alone, "generation, batch 1"));
    cases.extend(each(generation::together, "generation, batch 8"));
    cases.extend(each(training::five_steps, "five AdamW steps"));
    cases.push(Case::new("mllama/cross-attention", || gradients::cross_attention(checked)));
    cases.push(Case::new("qwen2_vl/adapter of PEFT", || logits::adapter(checked)));
    cases.push(Case::new("qwen2_vl/new adapter", || gradients::new_adapter(checked)));
    cases.extend(each(gradients::adapter, "LoRA"));
    cases.extend(each(gradients::packed, "packed = padded"));
    cases.extend(each(gradients::checkpointing, "checkpointing = none"));
    cases.extend(each(gradients::pieces, "loss in pieces"));
    cases.extend(each(training::resumed, "stopped and resumed"));
    cases
}
