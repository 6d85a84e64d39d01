//! A run that is killed (SIGKILL) at a random moment and resumed ends with the files of an undisturbed one; twenty times.
//!
//! This program is both: without arguments it is the test, with a folder as its argument it is the run to be killed.

mod scripted;

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use adamllm_core::random::named_stream;
use adamllm_core::{Completion, Decoding, Generate, ImageCaption, Prompt, ScoreRequest, TurnMarkers};
use adamllm_synth::{ConsistencyFilter, RunConfig, SynthesisRun, Synthesizer};
use rand::RngExt;

/// Takes its time, so that there is something to kill.
struct Slow<G>(G);

impl<G: Generate> Generate for Slow<G> {
    type Error = G::Error;
    fn generate(&self, prompts: &[Prompt], options: &Decoding) -> Vec<Result<Completion, G::Error>> {
        std::thread::sleep(Duration::from_millis(8));
        self.0.generate(prompts, options)
    }
    fn score(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<f64>, G::Error>> {
        self.0.score(requests)
    }
    fn identity(&self) -> String {
        self.0.identity()
    }
    fn turn_markers(&self) -> Option<TurnMarkers> {
        self.0.turn_markers()
    }
}

fn pairs() -> Vec<ImageCaption> {
    let more =
        |pair: &ImageCaption| ImageCaption::new(pair.image.as_str(), format!("{} seen from above", pair.caption));
    let pairs = scripted::captions();
    let others: Vec<_> = pairs.iter().map(more).collect();
    [pairs, others].concat()
}

fn synthesize(folder: &Path) {
    let (writer, reader, images) = (Slow(scripted::synthesizer()), Slow(scripted::judge()), scripted::images());
    let config = RunConfig { batch_size: 8, ..RunConfig::default() };
    let run = SynthesisRun::new(folder, &images).with_config(config).expect("valid").resuming(true);
    run.run(pairs(), &Synthesizer::new(&writer), &ConsistencyFilter::new(&reader), &mut ()).expect("runs");
}

fn start(folder: &Path) -> Child {
    let this = std::env::current_exe().expect("a program");
    Command::new(this).arg(folder).spawn().expect("starts")
}

fn contents(folder: &Path) -> Vec<Vec<u8>> {
    let names = ["triplets", "judged", "tasks", "ledger", "quarantine"];
    let read = |name| std::fs::read(folder.join(format!("{name}.jsonl"))).expect("a file of the run");
    names.map(read).into()
}

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    if let Some(folder) = arguments.next().filter(|argument| Path::new(argument).is_dir()) {
        return synthesize(Path::new(&folder));
    }
    let undisturbed = tempfile::tempdir().expect("a temporary folder");
    let begin = Instant::now();
    assert!(start(undisturbed.path()).wait().expect("ends").success());
    let mut whole_run = begin.elapsed();
    let expected = contents(undisturbed.path());
    let (mut killed, mut with_work_done) = (0, 0);
    let mut trial = 0;
    // On a busy machine a run may end before its moment: then the next moments are drawn from its own time.
    while trial < 20 || ((killed < 10 || with_work_done < 10) && trial < 200) {
        trial += 1;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let begin = Instant::now();
        let mut child = start(folder.path());
        let moment = named_stream(0, "kill", &trial.to_string()).random_range(0.0..1.0);
        std::thread::sleep(whole_run.mul_f64(moment));
        child.kill().expect("is killed, or has ended");
        match child.wait().expect("ends").success() {
            true => whole_run = whole_run.min(begin.elapsed()).mul_f64(0.8),
            false => killed += 1,
        }
        let journal = std::fs::metadata(folder.path().join("work/propose.jsonl"));
        with_work_done += u32::from(journal.is_ok_and(|file| file.len() > 0));
        synthesize(folder.path());
        assert!(contents(folder.path()) == expected, "trial {trial}, killed {moment:.2} through the run");
    }
    assert!(killed >= 10 && with_work_done >= 10, "killed {killed} times, {with_work_done} times with work done");
    #[expect(clippy::print_stdout, reason = "the closing line of a test without the standard harness")]
    {
        println!("test result: ok. {trial} passed; 0 failed; killed {killed} times at random moments");
    }
}
