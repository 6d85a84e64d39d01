//! Pages in a real browser, where a Chromium is installed: `measure.js` looks at each page at several widths.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// A page at one width, as the browser lays it out.
#[derive(Debug, Deserialize)]
pub(crate) struct Measured {
    /// The file.
    pub(crate) page: PathBuf,
    /// In pixels.
    pub(crate) width: u32,
    /// Whether the page was asked for in dark.
    pub(crate) dark: bool,
    /// Pixels by which the page is wider than its window.
    pub(crate) overflow: i64,
    /// The first element that reaches beyond the window.
    pub(crate) widest: String,
    /// The text that is hardest to read.
    pub(crate) contrast: Contrast,
    /// What each choice of each filter leaves visible.
    pub(crate) filters: Vec<Filter>,
    /// Where the page links to.
    pub(crate) links: Vec<String>,
}

/// The least contrast of any text with its ground, as WCAG computes it.
#[derive(Debug, Deserialize)]
pub(crate) struct Contrast {
    /// Texts that were looked at.
    pub(crate) n: usize,
    /// From 1 to 21.
    pub(crate) ratio: f64,
    /// Which text.
    pub(crate) text: String,
}

/// One choice of a filter.
#[derive(Debug, Deserialize)]
pub(crate) struct Filter {
    /// The filter.
    pub(crate) id: String,
    /// The choice.
    pub(crate) value: String,
    /// As it is written.
    pub(crate) text: String,
    /// Cards that are visible with it.
    pub(crate) n: usize,
}

/// Looks at pages, in light or dark; `None` where no browser is installed.
pub(crate) fn measure(pages: &[PathBuf], widths: &[u32], dark: bool) -> Option<Vec<Measured>> {
    let browser = ["chromium", "chromium-browser", "google-chrome"];
    let browser = browser.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok())?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let names: Vec<&Path> = pages.iter().map(PathBuf::as_path).collect();
    let wanted = serde_json::json!([names, widths]);
    let harness = format!(
        "<!doctype html><meta charset=\"utf-8\"><pre id=\"found\"></pre>\
         <script type=\"application/json\" id=\"wanted\">{wanted}</script><script>{}</script>",
        include_str!("measure.js")
    );
    let file = folder.path().join("harness.html");
    std::fs::write(&file, harness).expect("written");
    let scheme = format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 });
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files"])
        .args(["--virtual-time-budget=120000", "--window-size=1400,1200", "--dump-dom", &scheme])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("file://{}", file.display()))
        .stderr(Stdio::null())
        .output()
        .expect("the browser runs");
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = dom.split("id=\"found\">").nth(1).and_then(|rest| rest.split('<').next()).expect("a result");
    let json = STANDARD.decode(found).expect("base64");
    Some(serde_json::from_slice(&json).unwrap_or_else(|error| panic!("{error}: {found}")))
}
