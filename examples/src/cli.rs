//! What the runnable jobs share: exit codes, a progress bar, logs, and how models, devices and files are named on the
//! command line. Nothing here that an embedder would miss.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adamllm::core::{CoreError, ImageCaption, LedgerEntry, LostRecords, Progress, Reason, RecordId, RgbImage, Stage};
use adamllm::data::Records;
use adamllm::eval::Grid;
use adamllm::prelude::*;
use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What a job answers: any error is one clear line on stderr, and exit code 1.
pub type JobResult = Result<(), Box<dyn std::error::Error>>;

/// Parses the arguments (wrong ones end with exit code 2), sets logging up, and runs the job.
pub fn main<A: Parser>(job: impl FnOnce(A) -> JobResult) -> ExitCode {
    keep_pages();
    let arguments = A::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("ADAMLLM_LOG").unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match job(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<TooManyLost>() => {
            failed(error.as_ref());
            ExitCode::from(4)
        }
        Err(error) => failed(error.as_ref()),
    }
}

/// How many records a job may lose to faults before its exit code says so.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct MaxLost {
    /// Exit code 4 (after everything was written) where more than this share of the records was lost to faults: `10%` or `0.1`
    #[arg(long, default_value = "10%", value_parser = share)]
    pub max_lost: f64,
}

/// A share of a whole, `10%` or `0.1`.
///
/// # Errors
/// Says what was expected.
pub fn share(text: &str) -> Result<f64, String> {
    let (number, divisor) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let share = number.trim().parse::<f64>().map(|number| number / divisor).ok();
    share.filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| format!("expected 10% or 0.1, got {text}"))
}

/// A job wrote everything, and lost more records than it was allowed to: exit code 4.
#[derive(Debug)]
pub struct TooManyLost(String);

impl std::fmt::Display for TooManyLost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TooManyLost {}

/// What a job that has written everything ends with: an error (exit code 1) where nothing is left of its records, another
/// (exit code 4) where more than the share `most` was lost.
///
/// # Errors
/// Both say the causes by count, and name the ledger.
pub fn check_losses(losses: &LostRecords, left: u64, most: f64, ledger: &str) -> JobResult {
    if left == 0 && losses.n_lost() > 0 {
        return Err(format!("no record is left; {losses}{}", named(ledger)).into());
    }
    if left == 0 {
        return Err(format!(
            "no record is left; none was lost to a fault: there was none that could be used{}",
            named(ledger)
        )
        .into());
    }
    if losses.exceed(most) {
        let limit = format!("more than --max-lost {}%", most * 100.0);
        return Err(Box::new(TooManyLost(format!("{losses}; {limit}{}", named(ledger)))));
    }
    Ok(())
}

fn named(ledger: &str) -> String {
    if ledger.is_empty() { String::new() } else { format!(" (all of them: {ledger})") }
}

/// Tells the allocator to keep freed pages: a training step takes and frees the same large blocks again and again, and a fifth of its
/// time went into the system's clearing them.
fn keep_pages() {
    /// `mi_option_purge_delay` of mimalloc 3: milliseconds after which free pages go back, -1 for never.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: an option of the allocator, set before any thread is started.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}

/// [`main()`] for a job that also answers by its exit code.
pub fn main_with_code<A: Parser>(job: impl FnOnce(A) -> Result<ExitCode, Box<dyn std::error::Error>>) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    let answered = main(|arguments| {
        code = job(arguments)?;
        Ok(())
    });
    if answered == ExitCode::SUCCESS { code } else { answered }
}

/// One line, whatever the error says.
pub(crate) fn failed(error: &dyn std::error::Error) -> ExitCode {
    let text = error.to_string();
    eprintln!("error: {}", text.split_whitespace().collect::<Vec<_>>().join(" "));
    ExitCode::FAILURE
}

/// A progress bar on stderr; where stderr is no terminal, a line for each stage.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    terminal: bool,
    stage: String,
    begun: std::time::Instant,
}

impl Default for Bar {
    fn default() -> Self {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        Self { bar, terminal, stage: String::new(), begun: std::time::Instant::now() }
    }
}

impl Progress for Bar {
    fn begin(&mut self, stage: &str, total: u64) {
        self.stage = stage.to_owned();
        self.begun = std::time::Instant::now();
        let style = ProgressStyle::with_template("{prefix:>20} {wide_bar} {pos}/{len} {eta} {msg}");
        self.bar = ProgressBar::new(total).with_style(style.expect("a valid template")).with_prefix(stage.to_owned());
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    fn advance(&mut self, n: u64) {
        self.bar.inc(n);
    }

    fn note(&mut self, text: &str) {
        self.bar.set_message(text.to_owned());
    }

    fn end(&mut self) {
        let n = self.bar.position();
        self.bar.finish_and_clear();
        if !self.terminal {
            let (n, seconds) = (n, self.begun.elapsed().as_secs_f64());
            eprintln!("{}: {n} done in {seconds:.1} s {}", self.stage, self.bar.message());
        }
    }
}

/// A model folder on disk, or with the feature `hub` a model of the Hugging Face Hub by `org/name[@revision]`, which is
/// downloaded into Python's cache. A PEFT adapter's folder is opened with the base model that it names; `MODEL+ADAPTER` names
/// both.
///
/// # Errors
/// Says what was looked for where there is no such folder.
#[cfg(feature = "models")]
pub fn model_folder(name: &str) -> Result<ModelFolder, Box<dyn std::error::Error>> {
    let path = Path::new(name);
    if let Some((base, adapter)) = name.split_once('+').filter(|_| !path.exists()) {
        return Ok(model_folder(base)?.with_adapter(adapter)?);
    }
    if path.is_dir() {
        #[cfg(feature = "hub")]
        if !path.join("config.json").exists() && path.join("adapter_config.json").exists() {
            let base = ModelFolder::base_of_adapter(path)?.unwrap_or_default();
            if !Path::new(&base).exists()
                && !path.join(&base).exists()
                && base.parse::<adamllm::data::hub::HubRepo>().is_ok()
            {
                return Ok(model_folder(&base)?.with_adapter(path)?);
            }
        }
        return Ok(ModelFolder::open(path)?);
    }
    let wanted = "give a folder with config.json, tokenizer.json and *.safetensors";
    #[cfg(feature = "hub")]
    if let Ok(repo) = name.parse::<adamllm::data::hub::HubRepo>() {
        return Ok(ModelFolder::open(download(&repo, &adamllm::data::hub::Selection::Model)?)?);
    }
    let hint =
        if cfg!(feature = "hub") { "or a Hub id (org/name)" } else { "or build with `--features hub` for a Hub id" };
    Err(format!("no model folder {name}: {wanted}, {hint}").into())
}

/// The cached folder of a repository, with what is selected in it. Where the Hub is and how it is asked stands in the
/// variables that Python's `huggingface_hub` reads: `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`,
/// and `HTTPS_PROXY`.
///
/// # Errors
/// What the Hub said.
#[cfg(feature = "hub")]
pub fn download(
    repo: &adamllm::data::hub::HubRepo,
    selection: &adamllm::data::hub::Selection,
) -> Result<PathBuf, Box<dyn std::error::Error>> {
    use adamllm::data::hub::{Hub, HubConfig};
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let home = variable("HF_HOME").map(PathBuf::from);
    let home =
        home.or_else(|| Some(std::env::home_dir()?.join(".cache/huggingface"))).ok_or("no home folder; set HF_HOME")?;
    let token = variable("HF_TOKEN").or_else(|| std::fs::read_to_string(home.join("token")).ok());
    let offline = variable("HF_HUB_OFFLINE").is_some_and(|value| value != "0");
    let cache = variable("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from);
    let standard = HubConfig::new(cache);
    let config = HubConfig {
        endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| standard.endpoint.clone()),
        token: token.map(|token| token.trim().to_owned().into()),
        proxy: variable("HTTPS_PROXY").or_else(|| variable("https_proxy")),
        offline,
        ..standard
    };
    Ok(Hub::new(config)?.download(repo, selection, &mut Bar::default())?)
}

/// The versions that a run's report names beside the evaluator's own: of the examples, and of burn in `Cargo.lock`.
pub fn software() -> std::collections::BTreeMap<String, String> {
    let lock = include_str!("../../Cargo.lock");
    let version = |name: &str| {
        let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("\nname = \"{name}\"\n")))?;
        Some(entry.split("version = \"").nth(1)?.split('"').next()?.to_owned())
    };
    ["adamllm", "burn"].into_iter().filter_map(|name| Some((name.to_owned(), version(name)?))).collect()
}

/// The device of the given name, among the backends that are compiled in.
///
/// # Errors
/// Names the backends that are.
#[cfg(feature = "models")]
pub fn device(name: &str) -> Result<Device, Box<dyn std::error::Error>> {
    match name {
        #[cfg(feature = "flex")]
        "flex" | "cpu" => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(0)),
        #[cfg(feature = "rocm")]
        "rocm" => Ok(Device::rocm(0)),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(Device::wgpu(adamllm::burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(Device::vulkan(adamllm::burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "metal")]
        "metal" => Ok(Device::metal(adamllm::burn::tensor::DeviceKind::DefaultDevice)),
        other => Err(format!("device {other:?} is not compiled in; build with the feature of its name").into()),
    }
}

/// Images anywhere on disk: what a person names on the command line, unlike what a data file names.
#[derive(Clone, Copy, Debug)]
pub struct Files;

impl Files {
    fn beside(image: &ImageRef) -> (FolderImages, ImageRef) {
        let path = Path::new(image.as_str());
        let folder = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (FolderImages::new(folder), name.into())
    }
}

impl ImageStore for Files {
    fn open(&self, image: &ImageRef) -> Result<RgbImage, CoreError> {
        let (folder, name) = Self::beside(image);
        folder.open(&name)
    }

    fn size(&self, image: &ImageRef) -> Result<(u32, u32), CoreError> {
        let (folder, name) = Self::beside(image);
        folder.size(&name)
    }

    fn bytes(&self, image: &ImageRef) -> Result<Option<Vec<u8>>, CoreError> {
        let (folder, name) = Self::beside(image);
        folder.bytes(&name)
    }
}

/// The dtype of the given name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// 32 bits.
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE half precision.
    F16,
}

#[cfg(feature = "models")]
impl From<Dtype> for DType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::BF16,
            Dtype::F16 => Self::F16,
        }
    }
}

/// Tables as `tables.md`, `tables.csv` and `tables.html` in a folder; nothing where there are none. Gives the files' names.
///
/// # Errors
/// The files.
pub fn write_tables(folder: &Path, tables: &[Grid]) -> Result<Vec<String>, CoreError> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let joined = |text: fn(&Grid) -> String| tables.iter().map(text).collect::<Vec<_>>().join("\n");
    let page = "<!doctype html>\n<meta charset=\"utf-8\">\n<title>Tables</title>\n<style>body { font: 15px/1.5 system-ui, sans-serif; \
                margin: 2rem; } table { border-collapse: collapse; margin: 0 0 2rem; font-variant-numeric: tabular-nums; } \
                caption { text-align: left; font-weight: 600; padding: .5rem 0; } th, td { padding: .2rem .6rem; text-align: right; \
                border-bottom: 1px solid #ddd; } th:first-child { text-align: left; font-weight: 400; }</style>\n";
    let texts = [
        ("tables.md", joined(|grid| format!("**{}**\n\n{}", grid.title, grid.to_markdown()))),
        ("tables.csv", joined(Grid::to_csv)),
        ("tables.html", format!("{page}{}", joined(Grid::to_html))),
    ];
    for (name, text) in &texts {
        adamllm::core::write_atomically(folder.join(name), text)?;
    }
    Ok(texts.map(|(name, _)| name.to_owned()).to_vec())
}

/// `datasets/mini`: beside the sources, or below the current folder.
pub fn mini_folder() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../datasets/mini");
    if beside.is_dir() { beside } else { PathBuf::from("datasets/mini") }
}

/// Image-caption pairs of a file, as they are asked for: ShareGPT JSON or JSON Lines. A row that is wrong costs itself
/// only, and stands in the ledger later.
#[derive(Debug)]
pub struct Pairs {
    records: Records<ImageCaption>,
    file: PathBuf,
}

/// Opens a file of [`Pairs`].
///
/// # Errors
/// Where the file does not open.
pub fn pairs(file: &Path) -> Result<Pairs, CoreError> {
    Ok(Pairs { records: adamllm::data::image_captions(file)?, file: file.to_owned() })
}

impl Iterator for Pairs {
    type Item = Result<ImageCaption, LedgerEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        let pair = self.records.next()?;
        let lost = |error: CoreError| LedgerEntry {
            id: RecordId::given(format!("{}:{}", self.file.display(), self.records.number())),
            stage: Stage::Read,
            reason: Reason::from(&error),
            detail: error.to_string(),
        };
        Some(pair.map_err(lost))
    }
}

/// Makes a job's output folder: new or empty, or one of this job (it holds `marker`) that was asked to go on or to be
/// replaced.
///
/// # Errors
/// A folder that holds anything else.
pub fn prepare(out: &Path, marker: &str, resume: bool, overwrite: bool) -> JobResult {
    let marker = out.join(marker);
    if out.exists() && out.read_dir()?.next().is_some() && !resume {
        if !overwrite || !marker.exists() {
            let hint = if marker.exists() { "--resume, --overwrite or another --out" } else { "another --out" };
            return Err(format!("{} is not empty: choose {hint}", out.display()).into());
        }
        std::fs::remove_dir_all(out)?;
    }
    std::fs::create_dir_all(out)?;
    if !marker.exists() {
        std::fs::write(marker, "{}\n")?;
    }
    Ok(())
}

/// Set by Ctrl-C and by a terminating signal: training writes a checkpoint and ends.
///
/// # Errors
/// Where the signals are handled by somebody else.
pub fn interrupted() -> Result<&'static AtomicBool, ctrlc::Error> {
    static STOP: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed))?;
    Ok(&STOP)
}
