//! Runs that would train nothing, or not what their settings say, are refused and name the cause.

use std::ops::Range;

use adamllm_nn::{Batch, BlockExecutor, Linear, LinearConfig, Objective, snapshots};
use adamllm_train::{
    ExampleBatches, FitOptions, FitReport, ParameterGroup, TrainConfig, TrainError, Trainer, Transport, on_each_device,
};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

/// An encoder that only batches with images pass, a layer after it, and one that no forward pass reads.
#[derive(Module, Debug)]
struct Model {
    vision: Linear,
    language: Linear,
    idle: Option<Linear>,
    /// Cuts the encoder off from the loss.
    detached: bool,
    /// Says that the idle layer is idle.
    honest: bool,
}

#[derive(Clone, Debug)]
struct Points {
    x: Vec<f32>,
    n_images: usize,
}

impl Batch for Points {
    fn n_targets(&self) -> usize {
        self.x.len()
    }
    fn n_tokens(&self) -> usize {
        self.x.len()
    }
    fn n_images(&self) -> usize {
        self.n_images
    }
}

impl Objective for Model {
    type Batch = Points;

    fn target_hidden_states<'a>(&'a self, batch: &Points, _: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
        let device = self.language.weight.val().device();
        let x = Tensor::from_data(TensorData::new(batch.x.clone(), [batch.x.len(), 1]), &device);
        let input = match batch.n_images {
            0 => x,
            _ => self.vision.forward(x),
        };
        self.language.forward(if self.detached { input.detach() } else { input })
    }

    fn token_losses(&self, hidden: Tensor<2>, _: &Points, range: Range<usize>) -> Tensor<1> {
        hidden.narrow(0, range.start, range.len()).square().flatten(0, 1)
    }

    fn uses(&self, parameter: &str, batch: &Points) -> bool {
        match parameter.split_once('.') {
            Some(("vision", _)) => batch.n_images > 0,
            Some(("idle", _)) => !self.honest,
            _ => true,
        }
    }
}

fn model(device: &Device) -> Model {
    let linear = || LinearConfig::new(1, 1).with_bias(true).init(device);
    Model { vision: linear(), language: linear(), idle: None, detached: false, honest: true }
}

fn group(prefix: &str, frozen: bool) -> ParameterGroup {
    ParameterGroup { prefix: prefix.into(), learning_rate: None, weight_decay: None, frozen }
}

fn config(groups: Vec<ParameterGroup>) -> TrainConfig {
    TrainConfig { batch_size: 2, micro_batch_size: 1, groups, ..TrainConfig::default() }
}

/// Eight examples; those from `first_image` on have an image.
fn fit(model: Model, groups: Vec<ParameterGroup>, first_image: usize) -> Result<(Model, FitReport), TrainError> {
    let source = ExampleBatches::new(8, |examples: &[usize]| Ok::<_, String>(batch(examples, first_image)));
    let config = TrainConfig { order: adamllm_train::ExampleOrder::Sequential, ..config(groups) };
    Ok(Trainer::new(config)?.fit(model, &source, FitOptions::default(), &mut ())?)
}

fn batch(examples: &[usize], first_image: usize) -> Points {
    let x = examples.iter().map(|&example| 1.0 + example as f32).collect();
    Points { x, n_images: examples.iter().filter(|example| **example >= first_image).count() }
}

fn refused(model: Model, groups: Vec<ParameterGroup>) -> String {
    fit(model, groups, 0).expect_err("trains nothing").to_string()
}

fn weights(model: &Model) -> Vec<(String, f32)> {
    snapshots(model).iter().map(|s| (s.info.name.clone(), s.read().iter::<f32>().sum())).collect()
}

#[test]
fn a_device_without_autodiff_is_refused() {
    let error = fit(model(&Device::flex()), vec![], 0).expect_err("no gradients there");
    assert!(matches!(error, TrainError::NoAutodiff), "{error}");
    assert!(error.to_string().contains("device.autodiff()"), "{error}");
    let trainer = Trainer::new(config(vec![])).expect("valid");
    let dry_run = trainer.dry_run(&model(&Device::flex()), &batch(&[0], 0)).expect_err("as the run itself");
    assert!(matches!(dry_run, TrainError::NoAutodiff), "{dry_run}");
}

#[test]
fn a_model_of_which_everything_is_frozen_is_refused() {
    let device = Device::flex().autodiff();
    let by_settings = refused(model(&device), vec![group("", true)]);
    assert!(by_settings.contains("of 4 parameters the settings' groups freeze 4, the model itself 0"), "{by_settings}");
    let by_both = refused(model(&device).no_grad(), vec![group("vision.", true)]);
    assert!(by_both.contains("groups freeze 2, the model itself 2"), "{by_both}");
}

#[test]
fn a_group_that_matches_nothing_is_named_with_the_likely_one() {
    let refusal = |prefix: &str| refused(model(&Device::flex().autodiff()), vec![group(prefix, true)]);
    assert_eq!(refusal("visoin."), "parameter group `visoin.` matches no parameter: did you mean `vision.`?");
    assert_eq!(refusal("langage"), "parameter group `langage` matches no parameter: did you mean `language`?");
    assert!(refusal("vision.weigth").ends_with("did you mean `vision.weight`?"), "{}", refusal("vision.weigth"));
    assert!(refusal("model.visual.").ends_with("begin with `language.`, `vision.`"), "{}", refusal("model.visual."));
}

#[test]
fn a_group_that_never_acts_is_named() {
    let device = Device::flex().autodiff();
    let whole = refused(model(&device), vec![group("vision.bias", true), group("vision.", false)]);
    assert_eq!(whole, "parameter group `vision.bias` never acts: all of its parameters belong to the later `vision.`");
    let twice = refused(model(&device), vec![group("vision.", true), group("vision.", false)]);
    assert!(twice.contains("`vision.` never acts"), "{twice}");
    let parts = vec![group("vision.", true), group("vision.weight", false), group("vision.bias", false)];
    assert!(refused(model(&device), parts).ends_with("belong to the later `vision.bias`, `vision.weight`"));
    // The other way round both act.
    fit(model(&device), vec![group("vision.", true), group("vision.bias", false)], 0).expect("trains the bias");
}

#[test]
fn a_parameter_that_no_gradient_reaches_is_named_in_the_first_step() {
    let device = Device::flex().autodiff();
    let detached = refused(Model { detached: true, ..model(&device) }, vec![]);
    assert!(detached.starts_with("step 1: no gradient reaches vision.bias, vision.weight, which"), "{detached}");
    // Frozen, it is not missed.
    fit(Model { detached: true, ..model(&device) }, vec![group("vision.", true)], 0).expect("trains the rest");

    let idle = || Some(LinearConfig::new(2, 2).init(&device));
    let unread = refused(Model { idle: idle(), honest: false, ..model(&device) }, vec![]);
    assert!(unread.contains("no gradient reaches idle.weight, which"), "{unread}");
    fit(Model { idle: idle(), ..model(&device) }, vec![], 0).expect("the model says that it reads it nowhere");
}

/// Four steps of two examples, images from the third step on.
#[test]
fn an_encoder_is_missed_only_where_there_are_images() {
    let device = Device::flex().autodiff();
    let started = model(&device);
    let before = weights(&started);
    let (trained, _) = fit(started, vec![], 4).expect("the encoder's turn comes");
    assert!(weights(&trained).iter().zip(&before).all(|(a, b)| a != b), "{before:?}");

    let detached = fit(Model { detached: true, ..model(&device) }, vec![], 4).expect_err("cut off");
    assert!(matches!(detached, TrainError::NoGradient { step: 3, .. }), "{detached}");

    let started = model(&device);
    let before = weights(&started);
    let (trained, _) = fit(started, vec![], 8).expect("a run without images");
    for ((name, after), (_, before)) in weights(&trained).iter().zip(&before) {
        assert_eq!(after == before, name.starts_with("vision."), "{name}");
    }
}

/// Only the second process has an image.
#[test]
fn all_processes_refuse_what_one_of_them_misses() {
    let devices = vec![Device::flex().autodiff(); 2];
    let outcomes = on_each_device(&devices, Transport::HostMemory, |device, collective| {
        let source = ExampleBatches::new(2, |examples: &[usize]| Ok::<_, String>(batch(examples, 1)));
        let run = FitOptions { collective: Some(collective), ..FitOptions::default() };
        let config = TrainConfig { order: adamllm_train::ExampleOrder::Sequential, ..config(vec![]) };
        let cut = Model { detached: true, ..model(device) };
        let error = Trainer::new(config)?.fit(cut, &source, run, &mut ()).expect_err("cut off");
        Ok::<_, TrainError>(error.to_string())
    });
    let outcomes = outcomes.expect("both end");
    assert!(outcomes[0].starts_with("step 1: no gradient reaches vision.bias"), "{outcomes:?}");
    assert_eq!(outcomes[0], outcomes[1]);
}
