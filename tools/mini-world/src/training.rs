//! Endless training data for the three tiny models. Example n of a stream depends on the seed and on n only.

use adamllm_core::random::{ChaCha8Rng, named_stream};
use adamllm_core::{Conversation, IMAGE_MARKER, ImageRef, Message, RgbImage};
use adamllm_synth::QUESTION_TEMPLATES;
use rand::RngExt;
use rand::seq::SliceRandom;

use super::drawing::SIDE;
use super::judging::{Labelled, Verdict, open_precise};
use super::task::{open_ended, reason};
use super::{Aspect, CaptionPlan, Domain, Form, JUDGE_PROMPT, Scene, Task};

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
    /// Of an explained answer, what follows from its reason: the letter and the conclusion.
    Conclusion,
    /// Everything after the first exchange, user turns included: the synthesizer learns to ask.
    AfterFirstExchange,
}

/// A conversation to train on, with its image.
#[derive(Clone, Debug)]
pub struct TrainingExample {
    /// The turns. Where there is an image, the first one begins with its marker.
    pub conversation: Conversation,
    /// The image that the conversation's image stands for; none in text-only examples.
    pub pixels: Option<RgbImage>,
    /// Which turns count.
    pub supervised: Supervised,
}

/// A triplet that a judge reads, in the words of its prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgeExample {
    /// What the prompt begins with, the same in every example.
    pub instruction: String,
    /// The triplet.
    pub triplet: String,
    /// What follows.
    pub verdict: Verdict,
}

impl JudgeExample {
    /// The whole text.
    pub fn text(&self) -> String {
        format!("{}{}{}", self.instruction, self.triplet, self.verdict.continuation())
    }
}

/// What the base model learns: images of the general domain, and texts about all domains. It reads the words of the
/// target domains but never sees what they stand for.
///
/// The first [`TEXTS_FIRST`] examples are texts alone: lists of words in which a letter is looked up or a word found again, and questions
/// with an answer whose reason nobody can foretell, of which only what follows from the reason counts. To compare two words and to look
/// an option up is learned there. The next [`CAPTIONS_FIRST`] examples are mostly captions, which say the most about an image; the rest
/// asks and answers.
pub fn base_training(seed: u64) -> impl Iterator<Item = TrainingExample> {
    examples(seed, "mini base row", |n, scene_of, random| {
        let (texts, captions, looking) = match n {
            ..TEXTS_FIRST => (0.9, 0.0, 0.0),
            n if n < TEXTS_FIRST + CAPTIONS_FIRST => (0.1, 0.6, 0.15),
            _ => (0.1, 0.15, 0.6),
        };
        let kind: f64 = random.random();
        if kind < texts {
            match random.random_range(0..10) {
                0..3 => looked_up(random),
                3..6 => found_again(random),
                _ => written(&scene_of(any_domain(random)), random),
            }
        } else if kind < texts + captions {
            captioned(&scene_of(Domain::General), random)
        } else if kind < texts + captions + looking {
            looked_at(&scene_of(Domain::General), random)
        } else {
            read(&scene_of(any_domain(random)), random)
        }
    })
}

/// How many examples of the base model's training are texts alone.
pub const TEXTS_FIRST: u64 = 96 * 1600;
/// How many examples after them are mostly captions.
pub const CAPTIONS_FIRST: u64 = 48 * 800;

/// What the base model becomes a synthesizer with: seed triplets of the general domain (one image in ten is blank),
/// and captions of all domains over a blank or an unrelated image, so that it learns to rely on the caption where the
/// image tells it nothing.
pub fn synthesizer_training(seed: u64) -> impl Iterator<Item = TrainingExample> {
    synthesizer_stream(seed, Task::turned)
}

/// [`synthesizer_training`] with every list of options in the domain's own order: what the tokenizer counts words in.
pub(super) fn synthesizer_words(seed: u64) -> impl Iterator<Item = TrainingExample> {
    synthesizer_stream(seed, |task, _| task)
}

fn synthesizer_stream(seed: u64, order: fn(Task, &Scene) -> Task) -> impl Iterator<Item = TrainingExample> {
    examples(seed, "mini synthesizer row", move |n, scene_of, random| {
        let own = random.random_bool(0.35);
        let scene = scene_of(if own { Domain::General } else { any_domain(random) });
        let blank = random.random_bool(if own { 0.1 } else { 0.3 });
        let shown = match (blank, own) {
            (true, _) => None,
            (false, true) => Some(scene.clone()),
            (false, false) => Some(Scene::new(seed, Domain::General, STREAM_SCENES * 2 + n)),
        };
        Seed::ordered(&scene, order, random).into_example(shown.as_ref(), random)
    })
}

/// What the judge learns: labelled triplets of all domains. The first [`CONSISTENT_FIRST`] examples are consistent: to foretell the
/// conclusion from the reason and the short answer from the conclusion is to compare them.
pub fn judge_training(seed: u64) -> impl Iterator<Item = JudgeExample> {
    let prompt = JUDGE_PROMPT.trim_end();
    let (instruction, question) = prompt.split_at(prompt.find("Question:").unwrap_or(0));
    (0_u64..).map(move |n| {
        let mut random = named_stream(seed, "mini judge row", &n.to_string());
        let scene = Scene::new(seed, any_domain(&mut random), STREAM_SCENES + n);
        let verdict = match random.random_range(0..10) {
            0..4 => Verdict::Yes,
            9 => Verdict::Open,
            _ if n < CONSISTENT_FIRST => Verdict::Yes,
            _ => Verdict::No,
        };
        let example = Labelled::draw(&scene, verdict, &mut random);
        let filled = question.replace("{Q}", &example.instruction);
        let filled = filled.replace("{informative_A}", &example.informative).replace("{precise_A}", &example.precise);
        JudgeExample { instruction: instruction.to_owned(), triplet: filled, verdict }
    })
}

/// How many examples of the judge's training are all consistent, or open.
pub const CONSISTENT_FIRST: u64 = 64 * 900;

/// A question that is in no training stream, for an examination.
#[derive(Clone, Debug)]
pub struct Question {
    /// The conversation up to the answer.
    pub example: TrainingExample,
    /// The question.
    pub task: Task,
    /// What its explained answer begins with: all before what follows from it.
    pub reason: String,
}

/// Questions of one form, none of which is in a training stream: about images of the general domain, or of all domains without any.
pub fn questions(seed: u64, form: Form, with_image: bool, count: usize) -> Vec<Question> {
    let asked = (0..count as u64).map(|n| {
        let domain = if with_image { Domain::General } else { Domain::ALL[n as usize % 3] };
        let scene = Scene::new(seed, domain, STREAM_SCENES * 256 + n);
        let mut random = scene.random("mini questions");
        let task = Task::draw(&scene, form, &mut random);
        let shown = with_image.then(|| (scene.image_ref(), scene.image()));
        let marker = if with_image { format!("{IMAGE_MARKER}\n") } else { String::new() };
        let mut example = example(vec![(format!("{marker}{}", task.instruction()), String::new())], shown);
        example.conversation.messages.pop();
        Question { example, reason: reason(&scene, task.aspect), task }
    });
    asked.collect()
}

/// Scenes of the streams have numbers from here on: those of the data set lie below.
const STREAM_SCENES: u64 = 1 << 32;

fn examples(
    seed: u64,
    purpose: &'static str,
    make: impl Fn(u64, &dyn Fn(Domain) -> Scene, &mut ChaCha8Rng) -> TrainingExample,
) -> impl Iterator<Item = TrainingExample> {
    (0_u64..).map(move |n| {
        let mut random = named_stream(seed, purpose, &n.to_string());
        make(n, &|domain| Scene::new(seed, domain, STREAM_SCENES + n), &mut random)
    })
}

fn any_domain(random: &mut ChaCha8Rng) -> Domain {
    Domain::ALL[random.random_range(0..3)]
}

/// An image and its caption.
fn captioned(scene: &Scene, random: &mut ChaCha8Rng) -> TrainingExample {
    let caption = CaptionPlan::draw(random).write(scene);
    example(vec![(format!("{IMAGE_MARKER}\n{CAPTION_REQUEST}"), caption)], Some((scene.image_ref(), scene.image())))
}

/// A question about an image, now and then two.
fn looked_at(scene: &Scene, random: &mut ChaCha8Rng) -> TrainingExample {
    let n_questions = if random.random_bool(0.2) { 2 } else { 1 };
    let mut exchanges: Vec<_> = (0..n_questions).map(|_| exchange(scene, random)).collect();
    exchanges[0].0 = format!("{IMAGE_MARKER}\n{}", exchanges[0].0);
    example(exchanges, Some((scene.image_ref(), scene.image())))
}

/// An open question about a caption, without an image. (In the other forms, the caption's words would stand in the way: the model is to
/// find out whether what it says itself stands in the question.)
fn read(scene: &Scene, random: &mut ChaCha8Rng) -> TrainingExample {
    let (question, answer) = explained(&Task::draw(scene, Form::Open, random), scene, random);
    example(vec![(format!("{}\n{question}", CaptionPlan::draw(random).write(scene)), answer)], None)
}

/// A question about a scene that nobody shows or describes: what the reason names cannot be foretold, all that follows from it can.
fn written(scene: &Scene, random: &mut ChaCha8Rng) -> TrainingExample {
    let form = if random.random_bool(0.6) { Form::Choice } else { Form::Closed };
    let task = Task::draw(scene, form, random);
    let example = example(vec![(task.instruction(), task.informative(scene))], None);
    TrainingExample { supervised: Supervised::Conclusion, ..example }
}

/// Words with letters after them, and some of the words again in another order: the letters follow.
fn looked_up(random: &mut ChaCha8Rng) -> TrainingExample {
    let words = different_words(random.random_range(3..9), random);
    let mut lettered: Vec<_> = words.into_iter().map(|word| (word, LETTERS[random.random_range(0..4)])).collect();
    let list = marked(&lettered);
    lettered.shuffle(random);
    let again = marked(&lettered);
    let example = example(vec![(format!("The choices are: {list}"), format!("The choices are: {again}"))], None);
    TrainingExample { supervised: Supervised::Conclusion, ..example }
}

/// Words, and some words again: whether they stood among the first follows.
fn found_again(random: &mut ChaCha8Rng) -> TrainingExample {
    let words = different_words(random.random_range(4..14), random);
    let (listed, others) = words.split_at(words.len() / 2);
    let mut said: Vec<_> =
        listed.iter().map(|&word| (word, "yes")).chain(others.iter().map(|&word| (word, "no"))).collect();
    said.shuffle(random);
    let example = example(vec![(format!("Is it {}?", listed.join(", ")), format!("It is {}", marked(&said)))], None);
    TrainingExample { supervised: Supervised::Conclusion, ..example }
}

/// Words with what follows from each right after it.
fn marked(words: &[(&str, impl std::fmt::Display)]) -> String {
    words.iter().map(|(word, mark)| format!("{word}({mark})")).collect::<Vec<_>>().join(", ")
}

const LETTERS: [char; 4] = ['A', 'B', 'C', 'D'];

/// About `n` words for what images show, each once.
fn different_words(n: usize, random: &mut ChaCha8Rng) -> Vec<&'static str> {
    let mut words: Vec<&str> = Vec::new();
    for _ in 0..n {
        let values = any_domain(random).values(Aspect::ALL[random.random_range(0..5)]);
        let word = values[random.random_range(0..values.len())];
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

/// A task, more often of the forms that are harder to learn.
fn asked(scene: &Scene, random: &mut ChaCha8Rng) -> Task {
    let form = match random.random_range(0..10) {
        0..2 => Form::Open,
        2..5 => Form::Closed,
        _ => Form::Choice,
    };
    Task::draw(scene, form, random)
}

fn exchange(scene: &Scene, random: &mut ChaCha8Rng) -> (String, String) {
    explained(&asked(scene, random), scene, random)
}

/// A question, half of the time in one of the wordings that invite reasoning, and its explained answer.
fn explained(task: &Task, scene: &Scene, random: &mut ChaCha8Rng) -> (String, String) {
    let wording = match random.random_bool(0.5) {
        true => QUESTION_TEMPLATES[random.random_range(0..QUESTION_TEMPLATES.len())],
        false => "{Q}",
    };
    (wording.replace("{Q}", &task.instruction()), task.informative(scene))
}

fn example(exchanges: Vec<(String, String)>, pixels: Option<(ImageRef, RgbImage)>) -> TrainingExample {
    let (images, pixels) = pixels.unzip();
    let turns =
        exchanges.into_iter().flat_map(|(user, assistant)| [Message::user(user), Message::assistant(assistant)]);
    let conversation = Conversation::new(turns.collect(), Vec::from_iter(images));
    TrainingExample { conversation, pixels, supervised: Supervised::Assistant }
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
        Self::ordered(scene, Task::turned, random)
    }

    /// A seed whose options stand in a given order.
    fn ordered(scene: &Scene, order: fn(Task, &Scene) -> Task, random: &mut ChaCha8Rng) -> Self {
        let plan = CaptionPlan::draw(random);
        let (instruction, informative, precise) = if random.random_bool(1.0 / 12.0) {
            (open_ended(scene.domain, random), CaptionPlan::draw(random).write(scene), open_precise(scene, random))
        } else {
            let task = order(Task::following(scene, &plan, random), scene);
            (task.instruction(), task.informative(scene), task.precise())
        };
        Self { scene: scene.clone(), caption: plan.write(scene), instruction, informative, precise }
    }

    /// The seed in the protocol of the published synthesizer: the caption, then both answers in random order. Shows a
    /// scene, or a blank image.
    fn into_example(self, shown: Option<&Scene>, random: &mut ChaCha8Rng) -> TrainingExample {
        let ask = |hint: &str| format!("{hint}\n{}", self.instruction);
        let mut answers =
            [(ask(PRECISE_HINT), self.precise.clone()), (ask(INFORMATIVE_HINT), self.informative.clone())];
        answers.shuffle(random);
        let first = (format!("{IMAGE_MARKER}\n{CAPTION_REQUEST}"), self.caption.clone());
        let exchanges = std::iter::once(first).chain(answers).collect();
        let pixels = match shown {
            Some(scene) => (scene.image_ref(), scene.image()),
            None => ("blank.png".into(), blank_image()),
        };
        TrainingExample { supervised: Supervised::AfterFirstExchange, ..example(exchanges, Some(pixels)) }
    }
}

/// A white image.
pub fn blank_image() -> RgbImage {
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
            assert_eq!((&a.conversation, &a.pixels), (&b.conversation, &b.pixels));
            assert_eq!(a.conversation.images.len(), usize::from(a.pixels.is_some()));
        }
        assert_ne!(base_training(5).next().map(|r| r.conversation), base_training(6).next().map(|r| r.conversation));
    }

    #[test]
    fn the_base_model_sees_no_target_image() {
        let targets = |example: &TrainingExample| {
            example.conversation.images.iter().any(|image| !image.as_str().starts_with("general/"))
        };
        assert!(!base_training(5).take(200).any(|example| targets(&example)));
        let blank = |example: &TrainingExample| example.conversation.images[0].as_str() == "blank.png";
        assert!(synthesizer_training(5).take(200).all(|example| blank(&example) || !targets(&example)));
    }

    #[test]
    fn judge_prompts_are_filled_in() {
        for example in judge_training(5).take(100) {
            assert!(example.instruction.ends_with("\n\n"), "{}", example.instruction);
            assert!(!example.triplet.contains('{') && example.triplet.ends_with("Verdict:"), "{}", example.triplet);
        }
    }
}
