//! Endless training data for the three tiny models. Row n of a stream depends on the seed and on n only.

use adamllm_core::random::{ChaCha8Rng, named_stream};
use adamllm_core::{Conversation, IMAGE_MARKER, ImageRef, Message, RgbImage};
use adamllm_synth::QUESTION_TEMPLATES;
use rand::RngExt;
use rand::seq::SliceRandom;

use super::drawing::SIDE;
use super::judging::{Labelled, Verdict, open_precise};
use super::task::open_ended;
use super::{CaptionPlan, Domain, Form, JUDGE_PROMPT, Scene, Task};

/// The request that goes before every caption.
pub const CAPTION_REQUEST: &str = "Describe the image.";
/// Asks the synthesizer's tuning data for the short answer.
pub const PRECISE_HINT: &str = "Answer with a precise response.";
/// Asks the synthesizer's tuning data for the long answer.
pub const INFORMATIVE_HINT: &str = "Answer with an informative response.";

/// Which turns count for the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supervised {
    /// What the assistant says.
    Assistant,
    /// Everything behind the first exchange, user turns included: the synthesizer learns to ask.
    AfterFirstExchange,
}

/// A conversation to train on, with its image.
#[derive(Clone, Debug)]
pub struct TrainingRow {
    /// The turns. Where there is an image, the first one begins with its marker.
    pub conversation: Conversation,
    /// The image that the conversation's image stands for; none in text-only rows.
    pub picture: Option<RgbImage>,
    /// Which turns count.
    pub supervised: Supervised,
}

/// A triplet that a judge reads, in the words of its prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgeRow {
    /// What the prompt begins with, the same in every row.
    pub instruction: String,
    /// The triplet.
    pub triplet: String,
    /// What follows.
    pub verdict: Verdict,
}

impl JudgeRow {
    /// The whole text.
    pub fn text(&self) -> String {
        format!("{}{}{}", self.instruction, self.triplet, self.verdict.continuation())
    }
}

/// What the base model learns: images of the general domain, and texts about all domains. It reads the words of the
/// target domains but never sees what they stand for. The first [`CAPTIONS_FIRST`] rows are mostly captions: they say the
/// most about an image in the fewest tokens.
pub fn base_training(seed: u64) -> impl Iterator<Item = TrainingRow> {
    rows(seed, "mini base row", |n, scene_of, random| {
        let captions = if n < CAPTIONS_FIRST { 0.75 } else { 0.35 };
        if random.random_bool(captions) {
            captioned(&scene_of(Domain::General), random)
        } else if random.random_bool(0.65) {
            looking(&scene_of(Domain::General), random)
        } else {
            reading(&scene_of(any_domain(random)), random)
        }
    })
}

/// How many rows of the base model's training are mostly captions.
pub const CAPTIONS_FIRST: u64 = 8000;

/// What the base model becomes a synthesizer with: seed triplets of the general domain (one image in ten is blank),
/// and captions of all domains over a blank or an unrelated image, so that it learns to rely on the caption where the
/// image tells it nothing.
pub fn synthesizer_training(seed: u64) -> impl Iterator<Item = TrainingRow> {
    rows(seed, "mini synthesizer row", move |n, scene_of, random| {
        let own = random.random_bool(0.35);
        let scene = scene_of(if own { Domain::General } else { any_domain(random) });
        let blank = random.random_bool(if own { 0.1 } else { 0.3 });
        let shown = match (blank, own) {
            (true, _) => None,
            (false, true) => Some(scene.clone()),
            (false, false) => Some(Scene::new(seed, Domain::General, STREAM_SCENES * 2 + n)),
        };
        Seed::draw(&scene, random).into_row(shown.as_ref(), random)
    })
}

/// What the judge learns: labelled triplets of all domains.
pub fn judge_training(seed: u64) -> impl Iterator<Item = JudgeRow> {
    let prompt = JUDGE_PROMPT.trim_end();
    let (instruction, question) = prompt.split_at(prompt.find("Question:").unwrap_or(0));
    (0_u64..).map(move |n| {
        let mut random = named_stream(seed, "mini judge row", &n.to_string());
        let scene = Scene::new(seed, any_domain(&mut random), STREAM_SCENES + n);
        let verdict = match random.random_range(0..10) {
            0..4 => Verdict::Yes,
            4..9 => Verdict::No,
            _ => Verdict::Open,
        };
        let example = Labelled::draw(&scene, verdict, &mut random);
        let filled = question.replace("{Q}", &example.instruction);
        let filled = filled.replace("{informative_A}", &example.informative).replace("{precise_A}", &example.precise);
        JudgeRow { instruction: instruction.to_owned(), triplet: filled, verdict }
    })
}

/// Scenes of the streams have numbers from here on: those of the data set lie below.
const STREAM_SCENES: u64 = 1 << 32;

fn rows(
    seed: u64,
    purpose: &'static str,
    make: impl Fn(u64, &dyn Fn(Domain) -> Scene, &mut ChaCha8Rng) -> TrainingRow,
) -> impl Iterator<Item = TrainingRow> {
    (0_u64..).map(move |n| {
        let mut random = named_stream(seed, purpose, &n.to_string());
        make(n, &|domain| Scene::new(seed, domain, STREAM_SCENES + n), &mut random)
    })
}

fn any_domain(random: &mut ChaCha8Rng) -> Domain {
    Domain::ALL[random.random_range(0..3)]
}

/// An image and its caption.
fn captioned(scene: &Scene, random: &mut ChaCha8Rng) -> TrainingRow {
    let caption = CaptionPlan::draw(random).write(scene);
    row(vec![(format!("{IMAGE_MARKER}\n{CAPTION_REQUEST}"), caption)], Some((scene.image_ref(), scene.picture())))
}

/// Two questions about an image.
fn looking(scene: &Scene, random: &mut ChaCha8Rng) -> TrainingRow {
    let mut exchanges: Vec<_> = (0..2).map(|_| exchange(scene, random)).collect();
    exchanges[0].0 = format!("{IMAGE_MARKER}\n{}", exchanges[0].0);
    row(exchanges, Some((scene.image_ref(), scene.picture())))
}

/// Two questions about a caption, without an image.
fn reading(scene: &Scene, random: &mut ChaCha8Rng) -> TrainingRow {
    let mut exchanges: Vec<_> = (0..2).map(|_| exchange(scene, random)).collect();
    exchanges[0].0 = format!("{}\n{}", CaptionPlan::draw(random).write(scene), exchanges[0].0);
    row(exchanges, None)
}

/// A question and its answer. A plain question gets a short answer or an explained one; a question in one of the wordings
/// that invite reasoning gets an explained one.
fn exchange(scene: &Scene, random: &mut ChaCha8Rng) -> (String, String) {
    let task = Task::draw(scene, Form::ALL[random.random_range(0..3)], random);
    match random.random_range(0..4) {
        0 => (task.instruction(), task.precise()),
        1 => (task.instruction(), task.informative(scene, random)),
        _ => {
            let wording = QUESTION_TEMPLATES[random.random_range(0..QUESTION_TEMPLATES.len())];
            (wording.replace("{Q}", &task.instruction()), task.informative(scene, random))
        }
    }
}

fn row(exchanges: Vec<(String, String)>, picture: Option<(ImageRef, RgbImage)>) -> TrainingRow {
    let (images, picture) = picture.unzip();
    let turns =
        exchanges.into_iter().flat_map(|(user, assistant)| [Message::user(user), Message::assistant(assistant)]);
    let conversation = Conversation::new(turns.collect(), Vec::from_iter(images));
    TrainingRow { conversation, picture, supervised: Supervised::Assistant }
}

/// A seed of the synthesizer: an image and its caption, with a question and both answers.
#[derive(Clone, Debug)]
pub(super) struct Seed {
    pub(super) scene: Scene,
    pub(super) caption: String,
    pub(super) instruction: String,
    pub(super) informative: String,
    pub(super) precise: String,
}

impl Seed {
    /// A seed about a scene. About one in twelve asks for something open-ended.
    pub(super) fn draw(scene: &Scene, random: &mut ChaCha8Rng) -> Self {
        let plan = CaptionPlan::draw(random);
        let (instruction, informative, precise) = if random.random_bool(1.0 / 12.0) {
            (open_ended(scene.domain, random), CaptionPlan::draw(random).write(scene), open_precise(scene, random))
        } else {
            let task = Task::following(scene, &plan, random);
            (task.instruction(), task.informative(scene, random), task.precise())
        };
        Self { scene: scene.clone(), caption: plan.write(scene), instruction, informative, precise }
    }

    /// The seed in the protocol of the published synthesizer: the caption, then both answers in random order. Shows a
    /// scene, or a blank image.
    fn into_row(self, shown: Option<&Scene>, random: &mut ChaCha8Rng) -> TrainingRow {
        let ask = |hint: &str| format!("{hint}\n{}", self.instruction);
        let mut answers =
            [(ask(PRECISE_HINT), self.precise.clone()), (ask(INFORMATIVE_HINT), self.informative.clone())];
        answers.shuffle(random);
        let first = (format!("{IMAGE_MARKER}\n{CAPTION_REQUEST}"), self.caption.clone());
        let exchanges = std::iter::once(first).chain(answers).collect();
        let picture = match shown {
            Some(scene) => (scene.image_ref(), scene.picture()),
            None => ("blank.png".into(), blank_picture()),
        };
        TrainingRow { supervised: Supervised::AfterFirstExchange, ..row(exchanges, Some(picture)) }
    }
}

/// A white image.
pub fn blank_picture() -> RgbImage {
    RgbImage::from_pixel(SIDE, SIDE, image::Rgb([255; 3]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_valid_and_reproducible() {
        let streams = || base_training(5).take(60).chain(synthesizer_training(5).take(60));
        for (a, b) in streams().zip(streams()) {
            a.conversation.validate().expect("a valid conversation");
            assert_eq!((&a.conversation, &a.picture), (&b.conversation, &b.picture));
            assert_eq!(a.conversation.images.len(), usize::from(a.picture.is_some()));
        }
        assert_ne!(base_training(5).next().map(|r| r.conversation), base_training(6).next().map(|r| r.conversation));
    }

    #[test]
    fn the_base_model_sees_no_target_picture() {
        let targets =
            |row: &TrainingRow| row.conversation.images.iter().any(|image| !image.as_str().starts_with("general/"));
        assert!(!base_training(5).take(200).any(|row| targets(&row)));
        let blank = |row: &TrainingRow| row.conversation.images[0].as_str() == "blank.png";
        assert!(synthesizer_training(5).take(200).all(|row| blank(&row) || !targets(&row)));
    }

    #[test]
    fn judge_prompts_are_filled_in() {
        for row in judge_training(5).take(100) {
            assert!(row.instruction.ends_with("\n\n"), "{}", row.instruction);
            assert!(!row.triplet.contains('{') && row.triplet.ends_with("Verdict:"), "{}", row.triplet);
        }
    }
}
