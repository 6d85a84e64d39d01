use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};

use super::caption::{Opening, fact};
use super::{Aspect, CaptionPlan, Domain, Scene};

/// The form of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// "What is the stain?"
    Open,
    /// "Is the stain eosin?"
    Closed,
    /// "What is the stain?" and lettered options.
    Choice,
}

impl Form {
    /// All forms.
    pub const ALL: [Self; 3] = [Self::Open, Self::Closed, Self::Choice];
}

/// A question about a scene, with what its right answers are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// What is asked for.
    pub aspect: Aspect,
    /// The question without its options.
    pub question: String,
    /// The options of a multiple choice, in the order of their letters; empty otherwise.
    pub options: Vec<&'static str>,
    /// The right answer: a word, `yes` or `no`, or a letter.
    pub label: String,
    form: Form,
}

/// What stands between a question and its options, and how options are written: the letter right after its option, since that is what a
/// tiny model learns to look up within minutes (with the letter in front it did not within an hour).
pub(super) fn with_options(question: &str, options: &[&str]) -> String {
    if options.is_empty() {
        return question.to_owned();
    }
    let lettered = options.iter().zip('A'..).map(|(option, letter)| format!("{option}({letter})"));
    format!("{question}\nThe choices are: {}", lettered.collect::<Vec<_>>().join(", "))
}

impl Task {
    /// An open question.
    pub fn open(scene: &Scene, aspect: Aspect, random: &mut impl rand::Rng) -> Self {
        let question = ask(scene, aspect, random);
        Self { aspect, question, options: Vec::new(), label: scene.value(aspect).into(), form: Form::Open }
    }

    /// A closed question: whether the aspect has the domain's value of number `choice`.
    pub fn closed(scene: &Scene, aspect: Aspect, choice: usize) -> Self {
        let value = scene.domain.values(aspect)[choice];
        let question = format!("{} the {} {value}?", capital(aspect.verb()), named(scene, aspect));
        let label = if choice == scene.choice(aspect) { "yes" } else { "no" };
        Self { aspect, question, options: Vec::new(), label: label.into(), form: Form::Closed }
    }

    /// A multiple choice among the given values of the aspect (their numbers), the right one among them.
    pub fn choice(scene: &Scene, aspect: Aspect, choices: &[usize], random: &mut impl rand::Rng) -> Self {
        let options: Vec<_> = choices.iter().map(|choice| scene.domain.values(aspect)[*choice]).collect();
        let right = options.iter().zip('A'..).find(|(option, _)| **option == scene.value(aspect));
        let label = right.map(|(_, letter)| letter.to_string()).unwrap_or_default();
        Self { aspect, question: ask(scene, aspect, random), options, label, form: Form::Choice }
    }

    /// A multiple choice among all values of the aspect, in the domain's order.
    pub fn all_values(scene: &Scene, aspect: Aspect, random: &mut impl rand::Rng) -> Self {
        Self::choice(scene, aspect, &Vec::from_iter(0..scene.domain.values(aspect).len()), random)
    }

    /// Any question of a form, with everything that the form leaves open drawn at random.
    pub fn draw(scene: &Scene, form: Form, random: &mut impl rand::Rng) -> Self {
        let aspect = Aspect::ALL[random.random_range(0..5)];
        let n_values = scene.domain.values(aspect).len();
        let right = scene.choice(aspect);
        match form {
            Form::Open => Self::open(scene, aspect, random),
            Form::Closed if random.random() => Self::closed(scene, aspect, right),
            Form::Closed => Self::closed(scene, aspect, (right + random.random_range(1..n_values)) % n_values),
            Form::Choice => Self::choice(scene, aspect, &shuffled_options(scene, aspect, random), random),
        }
    }

    /// The question that follows from a caption: see [`CaptionPlan`].
    pub fn following(scene: &Scene, plan: &CaptionPlan, random: &mut impl rand::Rng) -> Self {
        let (aspect, values) = (plan.last(), scene.domain.values(plan.last()));
        match plan.opening() {
            Opening::Plain => Self::open(scene, aspect, random),
            Opening::Here => Self::closed(scene, aspect, scene.choice(aspect)),
            Opening::On => Self::closed(scene, aspect, (scene.choice(aspect) + 1) % values.len()),
            Opening::Facts => Self::all_values(scene, aspect, random),
        }
    }

    /// A multiple choice whose list of options begins elsewhere, by what the scene shows: no option has one letter in all scenes, which
    /// a model would learn in place of the list. Other questions stay as they are.
    pub fn turned(mut self, scene: &Scene) -> Self {
        if self.form == Form::Choice {
            let right = scene.value(self.aspect);
            let by = if self.aspect == Aspect::Number { Aspect::Kind } else { Aspect::Number };
            let first = scene.choice(by) % self.options.len();
            self.options.rotate_left(first);
            let letter = self.options.iter().zip('A'..).find(|(option, _)| **option == right);
            self.label = letter.map(|(_, letter)| letter.to_string()).unwrap_or_default();
        }
        self
    }

    /// Whether a closed question asks for this value.
    pub(super) fn asks_for(&self, value: &str) -> bool {
        self.question.strip_suffix('?').is_some_and(|question| question.ends_with(&format!(" {value}")))
    }

    /// Open, closed or multiple choice.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The question as the user puts it, with the options of a multiple choice.
    pub fn instruction(&self) -> String {
        with_options(&self.question, &self.options)
    }

    /// The answer in a word.
    pub fn precise(&self) -> String {
        match self.form {
            Form::Open | Form::Closed => self.label.clone(),
            Form::Choice => format!("({})", self.label),
        }
    }

    /// The answer with its reason: a sentence about the image, and a conclusion that agrees with the precise answer.
    pub fn informative(&self, scene: &Scene) -> String {
        format!("{} So the {}.", self.reason(scene), self.conclusion(scene))
    }

    /// The sentence about the image, with what follows right after the value: yes, no or a letter.
    pub(super) fn reason(&self, scene: &Scene) -> String {
        let reason = reason(scene, self.aspect);
        match self.form {
            Form::Open => reason,
            Form::Closed | Form::Choice => format!("{}({}).", reason.trim_end_matches('.'), self.label),
        }
    }

    fn conclusion(&self, scene: &Scene) -> String {
        match self.form {
            Form::Open if self.aspect == Aspect::Number => format!("number is {}", self.label),
            Form::Open => fact(scene, self.aspect),
            Form::Closed => format!("answer is {}", self.label),
            Form::Choice => format!("answer is ({})", self.label),
        }
    }
}

/// Four options with the right one among them, in random order.
pub(super) fn shuffled_options(scene: &Scene, aspect: Aspect, random: &mut impl rand::Rng) -> Vec<usize> {
    let right = scene.choice(aspect);
    let mut others: Vec<_> = (0..scene.domain.values(aspect).len()).filter(|choice| *choice != right).collect();
    others.shuffle(random);
    others.truncate(3);
    others.push(right);
    others.shuffle(random);
    others
}

/// What the image shows of an aspect, in a sentence.
pub(super) fn reason(scene: &Scene, aspect: Aspect) -> String {
    let (domain, kind, value) = (scene.domain, scene.value(Aspect::Kind), scene.value(aspect));
    match aspect {
        Aspect::Kind => format!("This is a {} {}.", domain.noun(), domain.phrase(aspect, value)),
        Aspect::Number => format!("Counting the {kind} gives {value}."),
        _ => format!("The {kind} are {}.", domain.phrase(aspect, value)),
    }
}

fn ask(scene: &Scene, aspect: Aspect, random: &mut impl rand::Rng) -> String {
    let forms = match aspect {
        Aspect::Number => {
            let kind = scene.value(Aspect::Kind);
            [
                format!("What is the number of {kind}?"),
                format!("How many {kind} are shown?"),
                format!("Count the {kind}."),
            ]
        }
        _ => {
            let (noun, verb) = (scene.domain.aspect_noun(aspect), aspect.verb());
            [format!("What {verb} the {noun}?"), format!("Which {noun} {verb} shown?"), format!("Name the {noun}.")]
        }
    };
    forms.choose(random).cloned().unwrap_or_default()
}

fn named(scene: &Scene, aspect: Aspect) -> String {
    match aspect {
        Aspect::Number => format!("number of {}", scene.value(Aspect::Kind)),
        _ => scene.domain.aspect_noun(aspect).to_owned(),
    }
}

pub(super) fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// A request that has no precise answer: for a description, a caption, the background. The judge calls these open.
pub(super) fn open_ended(domain: Domain, random: &mut impl rand::Rng) -> String {
    let (noun, kind) = (domain.noun(), domain.aspect_noun(Aspect::Kind));
    let requests = [
        format!("Describe the {noun}."),
        format!("Write a caption for this {noun}."),
        format!("What can be seen on this {noun}?"),
        format!("Tell me about the {kind}."),
        format!("What is the background of this {noun}?"),
    ];
    requests.choose(random).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use adamllm_core::random::named_stream;

    use super::*;

    #[test]
    fn answers_agree_with_the_scene_and_with_each_other() {
        let mut random = named_stream(1, "test", "tasks");
        for (index, form) in (0..300).zip(Form::ALL.into_iter().cycle()) {
            let scene = Scene::new(3, Domain::ALL[index as usize % 3], index);
            let task = Task::draw(&scene, form, &mut random);
            let (precise, informative) = (task.precise(), task.informative(&scene));
            let conclusion = informative.rsplit(' ').next().unwrap_or_default();
            assert_eq!(conclusion.trim_end_matches('.').to_lowercase(), precise.to_lowercase());
            match form {
                Form::Open => assert_eq!(precise, scene.value(task.aspect)),
                Form::Closed => {
                    let asked = task.question.rsplit(' ').next().map(|word| word.trim_end_matches('?'));
                    assert_eq!(precise == "yes", asked == Some(scene.value(task.aspect)));
                }
                Form::Choice => {
                    let right = format!("{}{precise}", scene.value(task.aspect));
                    assert!(task.instruction().contains(&right), "{} / {right}", task.instruction());
                }
            }
        }
    }
}
