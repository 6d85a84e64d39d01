//! Losses and gradients of one step: against the CPU's, against transformers' recorded ones, and of one way to make a step
//! against another way on the same device.

use adamllm::model::{Encoded, KeyLayout, VisionLanguageModel, VlmBatch};
use adamllm::nn::{Batch, LoraConfig};
use adamllm::prelude::*;
use adamllm::train::GradientCheckpointing;

use super::Checked;
use crate::Answer;
use crate::cases::Found;
use crate::compare::{Named, distance, in_f32, relative_number, sets, worst};
use crate::fixtures::{Fixture, name};

/// Gradients of this norm and less are rounding noise of sums that cancel.
const NOISE: f64 = 5e-6;

/// A loss per target token, and the gradient of each trained parameter.
type Step = (f64, Named);

fn step(model: &VisionLanguageModel, batch: VlmBatch, config: TrainConfig) -> Answer<Step> {
    let (loss, gradients) = Trainer::new(config)?.gradients(model, &[batch]);
    Ok((loss, in_f32(gradients)))
}

/// How far two steps lie apart in the units of the limit on gradients, and where.
fn between(checked: &Checked, got: &Step, expected: &Step) -> Found {
    let loss = relative_number(got.0, expected.0);
    let limit = checked.limits.gradients;
    let in_units = loss / checked.limits.loss * limit;
    if !checked.in_f32() {
        let whole = distance(&got.1, &expected.1);
        return Found::new(worst([whole, in_units]), limit, format!("loss {loss:.1e}, all gradients {whole:.1e}"));
    }
    let found = sets(&got.1, &expected.1);
    let note = format!("loss {loss:.1e}, {} gradients {:.1e} {}", got.1.len(), found.error, found.name);
    Found::new(worst([found.error, in_units]), limit, note)
}

/// The gradients of every recorded conversation together against the CPU's, and those of each one against transformers'.
pub(super) fn one_step(checked: &Checked, family: &str) -> Answer<Found> {
    let fixture = checked.fixture(family)?;
    let (model, reference) = (checked.trained(&fixture)?, checked.reference(&fixture)?);
    let examples = fixture.examples()?;
    let batch = fixture.padded(&examples.iter().collect::<Vec<_>>());
    let got = step(&model, batch.clone(), TrainConfig::default())?;
    let expected = step(&reference, batch, TrainConfig::default())?;
    let mut found = between(checked, &got, &expected);
    if checked.in_f32() {
        let recorded = recorded(checked, &fixture, &model)?;
        found.note = format!("{}; transformers' {recorded:.1e}", found.note);
        found.error = worst([found.error, recorded]);
    }
    Ok(found)
}

/// The worst error of losses and of gradients' norms against transformers', in the units of the limit on gradients.
fn recorded(checked: &Checked, fixture: &Fixture, model: &VisionLanguageModel) -> Answer<f64> {
    let mut errors = Vec::new();
    for case in fixture.conversations() {
        let example = fixture.encode(case)?;
        let n_targets = example.n_targets() as f64;
        let (loss, gradients) = step(model, fixture.padded(&[&example]), TrainConfig::default())?;
        let expected = case["loss_sum"].as_f64().ok_or("no loss was recorded")?;
        let unit = checked.limits.gradients / checked.limits.loss;
        errors.push(relative_number(loss * n_targets, expected) * unit);
        for (ours, values) in &gradients {
            let key = KeyLayout::Transformers5.key(fixture.folder.config(), ours);
            let norm = case["gradients"][&key]["norm"].as_f64();
            let norm = norm.ok_or_else(|| format!("{}: no gradient of {key} was recorded", name(case)))?;
            // Ours are of the mean over the targets, the recorded ones of the sum.
            let got = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt() * n_targets;
            if norm > NOISE {
                // As where sets are compared: what is zero by mathematics has no relative error.
                errors.push((got - norm).abs() / (norm + 1e-4));
            }
        }
    }
    Ok(worst(errors))
}

/// A step on every recorded conversation, on the device, made in another way than the plain one.
fn same_step(
    checked: &Checked,
    family: &str,
    other: impl FnOnce(&Fixture, &[&Encoded]) -> VlmBatch,
    config: TrainConfig,
) -> Answer<Found> {
    let fixture = checked.fixture(family)?;
    let model = checked.trained(&fixture)?;
    // Each twice, so that there is something to pack in a family with one conversation.
    let examples = fixture.examples()?;
    let examples: Vec<&Encoded> = examples.iter().chain(&examples).collect();
    let plain = TrainConfig { loss_chunk: 100_000, ..TrainConfig::default() };
    let expected = step(&model, fixture.padded(&examples), plain)?;
    let got = step(&model, other(&fixture, &examples), config)?;
    Ok(between(checked, &got, &expected))
}

/// Examples one after the other in one row, against padded ones.
pub(super) fn packed(checked: &Checked, family: &str) -> Answer<Found> {
    let packed = |fixture: &Fixture, examples: &[&Encoded]| VlmBatch::pack(examples, &fixture.processor);
    same_step(checked, family, packed, TrainConfig::default())
}

/// Blocks computed again in the backward pass, against kept activations.
pub(super) fn checkpointing(checked: &Checked, family: &str) -> Answer<Found> {
    let config = TrainConfig { gradient_checkpointing: GradientCheckpointing::Blocks, ..TrainConfig::default() };
    same_step(checked, family, Fixture::padded, config)
}

/// Seven targets through the head at a time, against all of them.
pub(super) fn pieces(checked: &Checked, family: &str) -> Answer<Found> {
    same_step(checked, family, Fixture::padded, TrainConfig { loss_chunk: 7, ..TrainConfig::default() })
}

/// The gradients of the layers that read images.
pub(super) fn cross_attention(checked: &Checked) -> Answer<Found> {
    let fixture = checked.fixture("mllama")?;
    let examples: Vec<Encoded> = fixture.examples()?.into_iter().filter(|e| !e.images.is_empty()).collect();
    let batch = fixture.padded(&examples.iter().collect::<Vec<_>>());
    if batch.n_images() == 0 {
        return Err("no recorded conversation has an image".into());
    }
    let of_layers = |(loss, mut gradients): Step| {
        gradients.retain(|name, _| name.starts_with("language.cross_layers."));
        (loss, gradients)
    };
    let got = of_layers(step(&checked.trained(&fixture)?, batch.clone(), TrainConfig::default())?);
    let expected = of_layers(step(&checked.reference(&fixture)?, batch, TrainConfig::default())?);
    if expected.1.is_empty() {
        return Err("no gradient of a layer that reads images".into());
    }
    Ok(between(checked, &got, &expected))
}

/// An adapter that was trained for two steps on the CPU: its loss and its factors' gradients on both.
pub(super) fn adapter(checked: &Checked, family: &str) -> Answer<Found> {
    let fixture = checked.fixture(family)?;
    let config = LoraConfig::new(4, 8.0).with_targets(["query", "value", "down"]);
    let examples = fixture.examples()?;
    let batch = fixture.padded(&examples.iter().collect::<Vec<_>>());
    Device::flex().seed(7);
    let fresh = checked.reference(&fixture)?.with_lora(&config)?;
    // A fresh adapter's second factor is zero, and so would be half of the gradients.
    let (trained, _) = super::training::steps(fresh, std::slice::from_ref(&batch), 2, Default::default())?;
    let folder = tempfile::tempdir()?;
    fixture.folder.save_adapter(&trained, &config, folder.path())?;
    let with_adapter = |model: VisionLanguageModel| -> Answer<VisionLanguageModel> {
        Ok(fixture.folder.load_adapter(model.with_lora(&config)?, folder.path())?)
    };
    let got = step(&with_adapter(checked.trained(&fixture)?)?, batch.clone(), TrainConfig::default())?;
    let expected = step(&with_adapter(checked.reference(&fixture)?)?, batch, TrainConfig::default())?;
    if !expected.1.keys().all(|name| name.contains(".lora.")) {
        return Err("a weight beside an adapter was trained".into());
    }
    Ok(between(checked, &got, &expected))
}

/// A new adapter changes no loss, and its second factors get gradients.
pub(super) fn new_adapter(checked: &Checked) -> Answer<Found> {
    let fixture = checked.fixture("qwen2_vl")?;
    let config = LoraConfig::new(4, 8.0).with_targets(["query", "down"]);
    let examples = fixture.examples()?;
    let batch = fixture.padded(&examples.iter().collect::<Vec<_>>());
    let (without, _) = step(&checked.trained(&fixture)?, batch.clone(), TrainConfig::default())?;
    let (loss, gradients) = step(&checked.trained(&fixture)?.with_lora(&config)?, batch, TrainConfig::default())?;
    let second = gradients.iter().filter(|(name, _)| name.ends_with(".lora.b"));
    let (n, moved) =
        second.fold((0, 0), |(n, moved), (_, g)| (n + 1, moved + usize::from(g.iter().any(|&v| v != 0.0))));
    if n == 0 || moved < n {
        return Err(format!("{moved} of {n} second factors have a gradient").into());
    }
    Ok(Found::new(relative_number(loss, without), checked.limits.loss, format!("{} gradients", gradients.len())))
}
