//! A whole synthesis run with scripted models: how long it takes and how much memory it holds, over more and more records.
//!
//!     cargo bench --bench synthesis_memory -- 20000 1000000
//!
//! Linux only (it reads its peak memory from /proc). Each number of records runs in a process of its own.
#![allow(missing_docs, clippy::print_stdout)]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use adamllm::core::testing::{ScriptedError, ScriptedModel};
use adamllm::core::{Completion, Decoding, Generate, ImageCaption, MemoryImages, Prompt, ScoreRequest, TurnMarkers};
use adamllm::synth::{
    ConsistencyFilter, INFORMATIVE_HINT, PRECISE_HINT, RunConfig, SynthesisRun, Synthesizer, kept_pairs,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn records(n: usize) -> impl Iterator<Item = ImageCaption> {
    (0..n).map(|i| ImageCaption::new("a.png", format!("{i} cells of kind {} lie on a grey slide", i * 7919 % 1013)))
}

fn synthesizer() -> ScriptedModel {
    let TurnMarkers { end_of_turn: end, user_header: user, assistant_header: assistant, .. } = TurnMarkers::llama3();
    ScriptedModel::new(move |prompt| {
        let Prompt::Chat { conversation, .. } = prompt else { return Err(ScriptedError("a chat is expected".into())) };
        let caption = &conversation.messages[1].content;
        let question = format!("What is said about {caption}?");
        Ok(format!(
            "{PRECISE_HINT}{question}{end}{assistant}{caption}{end}{user}\
             {INFORMATIVE_HINT}{question}{end}{assistant}The slide shows that {caption}.{end}"
        ))
    })
}

/// The judge's answer depends on the length of its prompt, which holds the caption several times.
struct Judge;

impl Generate for Judge {
    type Error = ScriptedError;
    fn generate(&self, prompts: &[Prompt], _: &Decoding) -> Vec<Result<Completion, ScriptedError>> {
        let answer = |prompt: &Prompt| match prompt {
            Prompt::Text(text) if text.len() / 7 % 3 == 0 => " Yes",
            Prompt::Text(text) if text.len() / 7 % 3 == 1 => " No",
            _ => " Open",
        };
        let model = ScriptedModel::new(move |prompt| Ok(answer(prompt).into()));
        model.generate(prompts, &Decoding::greedy(2))
    }
    fn score(&self, _: &[ScoreRequest]) -> Vec<Result<Vec<f64>, ScriptedError>> {
        Vec::new()
    }
    fn identity(&self) -> String {
        "length".into()
    }
}

fn run(n: usize, folder: &Path) {
    let mut images = MemoryImages::new();
    images.insert("a.png", image::RgbImage::new(8, 8));
    let writer = synthesizer();
    let config = RunConfig { batch_size: 1024, ..RunConfig::default() };
    let run = SynthesisRun::new(folder, &images).with_config(config).expect("valid");
    let started = Instant::now();
    let summary =
        run.run(records(n), &Synthesizer::new(&writer), &ConsistencyFilter::new(&Judge), &mut ()).expect("runs");
    let (run_s, run_kb) = (started.elapsed().as_secs_f64(), peak_kb());
    let started = Instant::now();
    let n_kept = kept_pairs(folder, records(n)).expect("opens").count();
    let kept_s = started.elapsed().as_secs_f64();
    println!(
        "{n} records: {run_s:.0} s, {:.0} records/s, peak {:.1} MB; {} tasks, {n_kept} pairs read back in {kept_s:.0} s, peak {:.1} MB",
        n as f64 / run_s,
        run_kb / 1024.0,
        summary.records_out,
        peak_kb() / 1024.0,
    );
}

/// The most memory that this process has held so far (`VmHWM`).
fn peak_kb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(f64::NAN)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [mark, n] = &arguments[..]
        && mark == "one"
    {
        let folder = tempfile::tempdir().expect("a temporary folder");
        return run(n.parse().expect("a number of records"), folder.path());
    }
    let this = std::env::current_exe().expect("a program");
    let standard = ["20000".to_owned(), "100000".to_owned()];
    for n in if arguments.is_empty() { &standard[..] } else { &arguments[..] } {
        let done = Command::new(&this).args(["one", n]).status().expect("starts");
        assert!(done.success(), "{n} records");
    }
}
