//! Examples for the consistency judge: triplets with the verdict that they deserve.

use rand::RngExt;
use rand::seq::IndexedRandom;

use super::task::open_ended;
use super::{Aspect, CaptionPlan, Domain, Form, Scene, Task};

/// What the judge should say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Verdict {
    /// Both answers say the same.
    Yes,
    /// They do not.
    No,
    /// The question asks for a description, a caption or the background.
    Open,
}

impl Verdict {
    /// How the judge's prompt goes on: `" Yes"`, `" No"` or `" Open"`.
    pub fn continuation(self) -> &'static str {
        match self {
            Self::Yes => " Yes",
            Self::No => " No",
            Self::Open => " Open",
        }
    }
}

impl Verdict {
    /// The same in the words of the consistency filter.
    pub fn as_judged(self) -> adamllm_synth::Verdict {
        match self {
            Self::Yes => adamllm_synth::Verdict::Consistent,
            Self::No => adamllm_synth::Verdict::Inconsistent,
            Self::Open => adamllm_synth::Verdict::Open,
        }
    }
}

/// A question with two answers and the verdict on them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Labelled {
    /// The question.
    pub instruction: String,
    /// The answer with its reason.
    pub informative: String,
    /// The answer in a word.
    pub precise: String,
    /// What the judge should say.
    pub verdict: Verdict,
}

impl Labelled {
    /// A judge's example about a scene.
    pub fn draw(scene: &Scene, verdict: Verdict, random: &mut impl rand::Rng) -> Self {
        match verdict {
            Verdict::Yes => consistent(scene, &any_task(scene, random)),
            Verdict::No => inconsistent(scene, &any_task(scene, random), random),
            Verdict::Open => open(scene, random),
        }
    }
}

/// `count` triplets about questions of one form, half of them consistent, none of which is in a judge's training.
pub fn examination(seed: u64, form: Form, count: usize) -> Vec<Labelled> {
    let examples = (0..count as u64).map(|n| {
        let scene = Scene::new(seed, Domain::ALL[n as usize % 3], EXAMINATION_SCENES + n);
        let mut random = scene.random(match form {
            Form::Open => "mini examination, open",
            Form::Closed => "mini examination, closed",
            Form::Choice => "mini examination, choice",
        });
        let task = judged_task(&scene, form, &mut random);
        match random.random_bool(0.5) {
            true => consistent(&scene, &task),
            false => inconsistent(&scene, &task, &mut random),
        }
    });
    examples.collect()
}

/// Scenes of the examination have numbers from here on; those of the training streams lie below.
const EXAMINATION_SCENES: u64 = 1 << 40;

fn any_task(scene: &Scene, random: &mut impl rand::Rng) -> Task {
    if random.random_bool(0.35) {
        return Task::following(scene, &CaptionPlan::draw(random), random).turned(scene);
    }
    // Multiple choices are the hardest to judge: a letter stands for an option, and the option for what the reason names.
    let form = match random.random_range(0..10) {
        0..2 => Form::Open,
        2..4 => Form::Closed,
        _ => Form::Choice,
    };
    judged_task(scene, form, random)
}

/// Any question of a form. Half of the multiple choices list every value from some place on, as the synthesizer does; the others name
/// four.
fn judged_task(scene: &Scene, form: Form, random: &mut impl rand::Rng) -> Task {
    let task = Task::draw(scene, form, random);
    match form == Form::Choice && random.random() {
        true => Task::all_values(scene, task.aspect, random).turned(scene),
        false => task,
    }
}

fn consistent(scene: &Scene, task: &Task) -> Labelled {
    let informative = task.informative(scene);
    Labelled { instruction: task.instruction(), informative, precise: task.precise(), verdict: Verdict::Yes }
}

/// A consistent example with a fault: the precise answer is another one, the conclusion is, or the reason speaks of
/// another value than the conclusion.
fn inconsistent(scene: &Scene, task: &Task, random: &mut impl rand::Rng) -> Labelled {
    let right = Labelled { verdict: Verdict::No, ..consistent(scene, task) };
    let wrong = wrong_answer(scene, task, random);
    match random.random_range(0..3) {
        0 => Labelled { precise: wrong, ..right },
        1 => {
            let end = right.informative.len() - right.precise.len() - 1;
            Labelled { informative: format!("{}{wrong}.", &right.informative[..end]), ..right }
        }
        _ => match misread(scene, task, random) {
            Some(reason_given) => {
                let conclusion = right.informative[task.reason(scene).len()..].to_owned();
                Labelled { informative: format!("{reason_given}{conclusion}"), ..right }
            }
            None => Labelled { precise: wrong, ..right },
        },
    }
}

/// A precise answer of the task's kind that is not the right one.
fn wrong_answer(scene: &Scene, task: &Task, random: &mut impl rand::Rng) -> String {
    let other = |options: &[&'static str], right: &str, random: &mut _| {
        let others: Vec<_> = options.iter().filter(|option| **option != right).collect();
        others.choose(random).map(|option| (**option).to_owned()).unwrap_or_default()
    };
    match task.form() {
        Form::Open => other(scene.domain.values(task.aspect), &task.label, random),
        Form::Closed => other(&["yes", "no"], &task.label, random),
        Form::Choice => {
            let letters = &["A", "B", "C", "D", "E"][..task.options.len()];
            format!("({})", other(letters, &task.label, random))
        }
    }
}

/// The reason that somebody would give who saw another value, where the conclusion does not follow from it. From every stain but the one
/// asked for follows "no": there, the reason names that one.
fn misread(scene: &Scene, task: &Task, random: &mut impl rand::Rng) -> Option<String> {
    let others = scene.domain.values(task.aspect).iter().filter(|value| **value != scene.value(task.aspect));
    let denied = task.form() == Form::Closed && task.label == "no";
    let wrong: Vec<_> = others.filter(|value| !denied || task.asks_for(value)).collect();
    let right = task.reason(scene);
    Some(right.replacen(scene.value(task.aspect), wrong.choose(random)?, 1))
}

fn open(scene: &Scene, random: &mut impl rand::Rng) -> Labelled {
    let instruction = open_ended(scene.domain, random);
    let informative = CaptionPlan::draw(random).write(scene);
    let precise = open_precise(scene, random);
    Labelled { instruction, informative, precise, verdict: Verdict::Open }
}

/// What a short answer to a request for a description looks like.
pub(super) fn open_precise(scene: &Scene, random: &mut impl rand::Rng) -> String {
    let aspect = Aspect::ALL[random.random_range(1..5)];
    let phrase = scene.domain.phrase(aspect, scene.value(aspect));
    format!("{} {phrase}", scene.value(Aspect::Kind))
}
