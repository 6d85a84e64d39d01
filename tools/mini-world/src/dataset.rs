//! The mini world as files: `datasets/mini`.

use std::collections::HashSet;
use std::fs::create_dir_all;
use std::path::Path;

use adamllm_core::random::{ChaCha8Rng, named_stream};
use adamllm_core::{CoreError, IMAGE_MARKER, jsonl, write_atomically};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::judging::{Labelled, Verdict};
use super::task::shuffled_options;
use super::training::{CAPTION_REQUEST, Seed};
use super::{Aspect, CaptionPlan, Domain, Form, JUDGE_PROMPT, MiniError, Scene, Task};

/// How much of everything a data set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatasetSize {
    /// Seed triplets of the general domain.
    pub n_seeds: usize,
    /// Image-caption pairs of each target domain.
    pub n_pairs: usize,
    /// Held-out images of each domain's benchmark; three questions each.
    pub n_benchmark_images: usize,
    /// Labelled examples for the judge.
    pub n_labelled: usize,
}

impl Default for DatasetSize {
    fn default() -> Self {
        Self { n_seeds: 120, n_pairs: 360, n_benchmark_images: 60, n_labelled: 150 }
    }
}

/// A question of a benchmark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchmarkExample {
    /// Domain, image and form of the question.
    pub id: String,
    /// The image, relative to the domain's folder.
    pub image: String,
    /// The question, without its options.
    pub question: String,
    /// What a multiple choice asks, options included; other examples ask their question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// A word, `yes` or `no`, or a letter.
    pub label: String,
    /// `OPEN`, `CLOSED` or `CHOICE`.
    pub answer_type: String,
    /// The options of a multiple choice.
    pub options: Vec<String>,
}

/// Writes the data set's files into a folder: `general/`, `slides/`, `plates/`, the judge's prompt and its examples.
///
/// # Errors
/// [`MiniError::Core`] where a file cannot be written.
pub fn write_dataset(folder: impl AsRef<Path>, seed: u64, size: &DatasetSize) -> Result<(), MiniError> {
    let folder = folder.as_ref();
    for domain in Domain::ALL {
        let images = folder.join(domain.name()).join("images");
        create_dir_all(&images).map_err(CoreError::io("create", images))?;
        let benchmark = benchmark_scenes(seed, domain, size.n_benchmark_images)?;
        let place = folder.join(domain.name());
        jsonl::write(place.join("benchmark.jsonl"), &benchmark_examples(seed, &benchmark))?;
        write_atomically(place.join("benchmark.toml"), description(domain, 3 * benchmark.len()))?;
        write_images(folder, &benchmark)?;
        let held_out: HashSet<_> = benchmark.iter().map(Scene::facts).collect();
        let others = (FIRST_TRAINING_SCENE..).map(|index| Scene::new(seed, domain, index));
        let mut others = others.filter(|scene| !held_out.contains(&scene.facts()));
        if domain == Domain::General {
            let scenes: Vec<_> = others.by_ref().take(size.n_seeds).collect();
            write_images(folder, &scenes)?;
            jsonl::write(place.join("seeds.jsonl"), &seed_records(&scenes))?;
            write_seed_files(&place.join("seed_files"), &scenes)?;
        } else {
            let scenes: Vec<_> = others.by_ref().take(size.n_pairs).collect();
            write_images(folder, &scenes)?;
            write_atomically(place.join("captions.json"), caption_pairs(&scenes))?;
        }
    }
    write_atomically(folder.join("judge_prompt.txt"), JUDGE_PROMPT)?;
    jsonl::write(folder.join("labelled.jsonl"), &labelled(seed, size.n_labelled))?;
    Ok(())
}

/// What the benchmark's examples mean, for `adamllm_eval::DescribedBenchmark`.
fn description(domain: Domain, n_examples: usize) -> String {
    format!(
        "# Questions about {domain} of the mini world; the images are in no training data.
name = \"mini-{domain}\"
domain = \"{domain}\"
examples = \"benchmark.jsonl\"
images = \".\"
answer = \"by_example\"
n_examples = {n_examples}
max_new_tokens = 48

[columns]
prompt = \"prompt\"
"
    )
}

/// The scenes of the benchmarks have lower numbers.
const FIRST_TRAINING_SCENE: u64 = 5000;

fn write_images(folder: &Path, scenes: &[Scene]) -> Result<(), MiniError> {
    for scene in scenes {
        write_atomically(folder.join(scene.image_ref().as_str()), scene.canvas().to_png())?;
    }
    Ok(())
}

fn image_in_domain(scene: &Scene) -> String {
    let image = scene.image_ref();
    image.as_str().split_once('/').map(|(_, path)| path.to_owned()).unwrap_or_default()
}

/// LLaMA-Factory's ShareGPT form, one pair a line.
fn caption_pairs(scenes: &[Scene]) -> String {
    let pairs = scenes.iter().map(|scene| {
        let caption = CaptionPlan::draw(&mut scene.random("mini caption")).write(scene);
        json!({
            "images": [image_in_domain(scene)],
            "messages": [
                {"role": "user", "content": format!("{IMAGE_MARKER}{CAPTION_REQUEST}")},
                {"role": "assistant", "content": caption},
            ],
        })
        .to_string()
    });
    format!("[\n{}\n]\n", pairs.collect::<Vec<_>>().join(",\n"))
}

fn seed_records(scenes: &[Scene]) -> Vec<Value> {
    let seeds = scenes.iter().map(|scene| Seed::draw(scene, &mut scene.random("mini seed")));
    let examples = seeds.map(|seed| {
        json!({
            "image": image_in_domain(&seed.scene),
            "caption": seed.caption,
            "instruction": seed.instruction,
            "informative": seed.informative,
            "precise": seed.precise,
        })
    });
    examples.collect()
}

/// The first seeds again, in the layouts of the public seed data: VisionFLAN's one file and ALLaVA's two.
fn write_seed_files(folder: &Path, scenes: &[Scene]) -> Result<(), MiniError> {
    create_dir_all(folder).map_err(CoreError::io("create", folder))?;
    let (mut precise, mut captions, mut informative) = (Vec::new(), Vec::new(), Vec::new());
    for (n, scene) in scenes.iter().take(N_SEED_FILE_ROWS).enumerate() {
        let seed = Seed::draw(scene, &mut scene.random("mini seed"));
        let image = image_in_domain(scene).replace("images/", "");
        let nested = format!("allava_vflan/images/images_191task_1k/{image}");
        let turns = |question: &str, answer: &str| json!([{"from": "human", "value": question}, {"from": "gpt", "value": answer}]);
        let task = if seed.instruction.contains("choices") { "mini multiple choice" } else { "mini question" };
        let question = format!("{}\n{IMAGE_MARKER}", seed.instruction);
        precise.push(json!({"id": format!("mini_{n}"), "image": image, "conversations": turns(&question, &seed.precise), "task_name": task}));
        let request = format!("{IMAGE_MARKER}\nWhat is there to see? Tell me all of it.");
        captions.push(json!({"id": format!("allava_vflan_cap_{n}"), "image": nested, "conversations": turns(&request, &seed.caption)}));
        let question = format!("{IMAGE_MARKER}\n{}", seed.instruction);
        informative.push(json!({"id": format!("allava_vflan_inst_{n}"), "image": nested, "conversations": turns(&question, &seed.informative)}));
    }
    for (name, examples) in [
        ("metadata.json", precise),
        ("ALLaVA-Caption-VFLAN-4V.json", captions),
        ("ALLaVA-Instruct-VFLAN-4V.json", informative),
    ] {
        let examples: Vec<_> = examples.iter().map(Value::to_string).collect();
        write_atomically(folder.join(name), format!("[\n{}\n]\n", examples.join(",\n")))?;
    }
    Ok(())
}

/// Enough to run the tuning job on.
const N_SEED_FILE_ROWS: usize = 60;

fn labelled(seed: u64, count: usize) -> Vec<Labelled> {
    let verdicts = [Verdict::Yes, Verdict::No, Verdict::Open];
    let examples = (0..count).map(|n| {
        let scene = Scene::new(seed, Domain::ALL[n / 3 % 3], n as u64);
        Labelled::draw(&scene, verdicts[n % 3], &mut scene.random("mini labelled"))
    });
    examples.collect()
}

/// The aspect that a form asks for of the benchmark's image of number `n`: over five images, each form asks for each.
fn asked(form: Form, n: usize) -> Aspect {
    Aspect::ALL[(n + form as usize) % Aspect::ALL.len()]
}

/// Scenes with all different facts, such that the open questions have each of their answers equally often.
fn benchmark_scenes(seed: u64, domain: Domain, count: usize) -> Result<Vec<Scene>, MiniError> {
    let mut scenes: Vec<Scene> = Vec::with_capacity(count);
    for n in 0..count {
        let aspect = asked(Form::Open, n);
        let wanted = n / Aspect::ALL.len() % domain.values(aspect).len();
        let candidates = (0..FIRST_TRAINING_SCENE).map(|index| Scene::new(seed, domain, index));
        let fresh = |scene: &Scene| scenes.iter().all(|other| other.facts() != scene.facts());
        let found = { candidates }.find(|scene| scene.choice(aspect) == wanted && fresh(scene));
        let missing = MiniError::NoScene { domain: domain.name(), question: n, tried: FIRST_TRAINING_SCENE };
        scenes.push(found.ok_or(missing)?);
    }
    Ok(scenes)
}

/// Three questions for each scene, one of each form; yes and no, and the letters, are right equally often.
fn benchmark_examples(seed: u64, scenes: &[Scene]) -> Vec<BenchmarkExample> {
    let mut examples = Vec::with_capacity(3 * scenes.len());
    for (n, scene) in scenes.iter().enumerate() {
        let mut random = named_stream(seed, "mini benchmark", &scene.image_ref().to_string());
        for form in Form::ALL {
            examples.push(benchmark_example(scene, &balanced_task(scene, form, n, &mut random)));
        }
    }
    examples
}

fn balanced_task(scene: &Scene, form: Form, n: usize, random: &mut ChaCha8Rng) -> Task {
    let (aspect, round) = (asked(form, n), n / Aspect::ALL.len());
    let (right, n_values) = (scene.choice(aspect), scene.domain.values(aspect).len());
    match form {
        Form::Open => Task::open(scene, aspect, random),
        // Every other round says no, and goes through the wrong values in turn.
        Form::Closed => {
            let off = if round % 2 == 0 { 0 } else { 1 + round / 2 % (n_values - 1) };
            Task::closed(scene, aspect, (right + off) % n_values)
        }
        Form::Choice => {
            let mut options = shuffled_options(scene, aspect, random);
            options.shuffle(random);
            let at = options.iter().position(|choice| *choice == right).unwrap_or_default();
            options.swap(at, round % 4);
            Task::choice(scene, aspect, &options, random)
        }
    }
}

fn benchmark_example(scene: &Scene, task: &Task) -> BenchmarkExample {
    let answer_type = match task.form() {
        Form::Open => "OPEN",
        Form::Closed => "CLOSED",
        Form::Choice => "CHOICE",
    };
    let image = image_in_domain(scene);
    let id = format!("{}-{}-{}", scene.domain, scene.index(), answer_type.to_lowercase());
    let options = task.options.iter().map(|option| (*option).to_owned()).collect();
    let prompt = (!task.options.is_empty()).then(|| task.instruction());
    let (question, label) = (task.question.clone(), task.label.clone());
    BenchmarkExample { id, image, question, prompt, label, answer_type: answer_type.into(), options }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn constant_answers_score_at_chance() {
        for domain in Domain::ALL {
            let scenes = benchmark_scenes(1, domain, 60).expect("enough scenes");
            let mut counts: HashMap<(String, String), usize> = HashMap::new();
            for example in benchmark_examples(1, &scenes) {
                *counts.entry((example.answer_type, example.label)).or_default() += 1;
            }
            let most = |kind: &str| counts.iter().filter(|((k, _), _)| k == kind).map(|(_, n)| *n).max();
            assert_eq!((most("CLOSED"), most("CHOICE"), most("OPEN")), (Some(30), Some(15), Some(3)), "{domain}");
        }
    }

    #[test]
    fn the_benchmark_is_held_out() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let size = DatasetSize { n_seeds: 6, n_pairs: 20, n_benchmark_images: 10, n_labelled: 9 };
        write_dataset(folder.path(), 1, &size).expect("written");
        for domain in Domain::TARGETS {
            let text = std::fs::read_to_string(folder.path().join(domain.name()).join("captions.json")).expect("there");
            let pairs: Vec<Value> = serde_json::from_str(&text).expect("valid");
            let shown: HashSet<_> = pairs.iter().filter_map(|pair| pair["images"][0].as_str()).collect();
            let examples = folder.path().join(domain.name()).join("benchmark.jsonl");
            let examples: Vec<BenchmarkExample> = jsonl::read_all(examples).expect("valid");
            assert_eq!((shown.len(), examples.len()), (20, 30));
            for image in examples.iter().map(|example| example.image.as_str()) {
                assert!(!shown.contains(image));
                assert!(folder.path().join(domain.name()).join(image).exists());
            }
        }
    }
}
