//! Logits against those that transformers recorded.

use std::sync::Arc;

use adamllm::core::ImageStore;
use adamllm::model::{Encoded, LocalModel, Padding, Processor, VlmBatch};

use adamllm::nn::LanguageBackbone;

use super::Checked;
use crate::Answer;
use crate::cases::Found;
use crate::compare::relative;
use crate::fixtures::{self, Fixture, bytes, name, prompt};

/// `[n, vocab]` logits of every position.
pub(super) fn logits(local: &LocalModel, encoded: &Encoded) -> Vec<Vec<f32>> {
    let batch = VlmBatch::collate(&[encoded], Padding::Left, local.processor());
    let hidden = batch.with_input(|input| local.model().hidden(input, batch.padding()));
    let logits = local.model().language.logits(hidden.flatten(0, 1));
    let [_, vocab] = logits.dims();
    let values: Vec<f32> = logits.into_data().iter::<f32>().collect();
    values.chunks(vocab).map(<[f32]>::to_vec).collect()
}

/// A fixture's model on the device, for answers.
pub(super) fn local(checked: &Checked, fixture: &Fixture) -> Answer<LocalModel> {
    let images: Arc<dyn ImageStore> = Arc::new(fixture.images());
    Ok(LocalModel::load(&fixture.folder, checked.dtype, &checked.device, images)?)
}

/// The logits of all positions of every recorded prompt.
pub(super) fn all_positions(checked: &Checked, family: &str) -> Answer<Found> {
    let fixture = checked.fixture(family)?;
    let local = local(checked, &fixture)?;
    let (mut error, mut worst) = (0.0f64, String::from("no prompt was recorded"));
    for case in fixture.prompts() {
        let name = name(case);
        let encoded = local.processor().encode_prompt(&prompt(case)?, local.images())?;
        let logits = logits(&local, &encoded);
        let recorded = |part: &str| fixture.tensor(&format!("prompt.{name}.{part}"));
        let (_, last) = recorded("logits_last")?.ok_or("no last logits were recorded")?;
        let (shape, probe) = recorded("logits_probe")?.ok_or("no probe of the logits was recorded")?;
        // Every so many columns of all rows; of some prompts everything was recorded.
        let every = logits[0].len().div_ceil(shape[1]);
        let sampled: Vec<f32> = logits.iter().flat_map(|row| row.iter().step_by(every).copied()).collect();
        let mut errors = vec![relative(&logits[logits.len() - 1], &last), relative(&sampled, &probe)];
        if let Some((_, whole)) = recorded("logits")? {
            errors.push(relative(&logits.concat(), &whole));
        }
        for of_part in errors {
            if of_part.is_nan() || of_part >= error {
                (error, worst) = (of_part, name.to_owned());
            }
        }
    }
    Ok(Found::new(error, checked.limits.logits, format!("{} prompts, worst {worst}", fixture.prompts().len())))
}

/// A PEFT adapter beside the weights, and merged into them.
pub(super) fn adapter(checked: &Checked) -> Answer<Found> {
    let fixture = checked.fixture("qwen2_vl")?;
    let path = fixture.root.join("adapter");
    let expected: serde_json::Value = serde_json::from_slice(&bytes(&path.join("expected.json"))?)?;
    let expected: Vec<f32> = serde_json::from_value(expected["logits_last"].clone())?;
    let case = fixture.prompts().iter().find(|case| fixtures::name(case) == "text_only");
    let prompt = prompt(case.ok_or("the prompt was not recorded")?)?;
    let images: Arc<dyn ImageStore> = Arc::new(fixture.images());
    let last = |model| -> Answer<Vec<f32>> {
        let local = LocalModel::new(model, Processor::read(&fixture.folder)?, images.clone(), "adapted".into());
        let encoded = local.processor().encode_prompt(&prompt, local.images())?;
        Ok(local.last_logits(&encoded))
    };
    let base = fixture.folder.load(checked.dtype, &checked.device)?;
    let without = relative(&last(base.clone())?, &expected);
    if without < 1e-2 {
        return Err(format!("the adapter changes nothing: {without:.1e} apart without it").into());
    }
    let adapted = fixture.folder.load_adapter(base, &path)?;
    let beside = relative(&last(adapted.clone())?, &expected);
    let merged = relative(&last(adapted.merge_lora())?, &expected);
    let error = crate::compare::worst([beside, merged]);
    Ok(Found::new(error, checked.limits.logits, format!("beside {beside:.1e}, merged {merged:.1e}")))
}
