use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use adamllm_core::{BoxError, read_text};
use serde::{Deserialize, Serialize};

use super::columns::RecordReader;
use super::template;
use crate::{AnswerType, EvalError, LabelMetric};

/// What a benchmark's records mean: a TOML or JSON file.
///
/// ```
/// let description = adamllm_eval::BenchmarkDescription::from_toml(
///     r#"
///     name = "slides"
///     examples = "questions.jsonl"
///     images = "images"
///     answer = "by_example"            # or open, closed, choice, category, labels, short, text
///     max_new_tokens = 64
///     [columns]
///     question = "q"
///     [prompts]
///     all = "{q}"
///     choice = "{q}\nThe choices are:\n{options}"
///     "#,
/// )?;
/// assert_eq!(description.columns.label, "label");
/// # Ok::<(), adamllm_eval::EvalError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchmarkDescription {
    /// The name in reports.
    pub name: String,
    /// The domain it belongs to, such as `food`.
    #[serde(default)]
    pub domain: Option<String>,
    /// The file of examples, relative to the description's folder.
    #[serde(default = "default_examples", alias = "rows")]
    pub examples: PathBuf,
    /// The folder of images, relative to the description's folder.
    #[serde(default = "default_images")]
    pub images: PathBuf,
    /// How answers are read and scored.
    pub answer: AnswerKind,
    /// Whether questions show images.
    #[serde(default)]
    pub image_use: ImageUse,
    /// Which columns hold what.
    #[serde(default)]
    pub columns: ColumnNames,
    /// Prompt templates by answer type, `all` for the rest. `{column}` stands for a column's text, `{options}` for the
    /// lettered options or the shared names, `{{` and `}}` for braces. Without one: the question, and the options of a
    /// choice below it.
    #[serde(default)]
    pub prompts: BTreeMap<String, String>,
    /// The names that all questions share, for `category` and `labels`.
    #[serde(default)]
    pub names: Option<Vec<String>>,
    /// A file with one such name a line, relative to the description's folder.
    #[serde(default)]
    pub names_file: Option<PathBuf>,
    /// How `labels` are scored.
    #[serde(default = "default_label_metric")]
    pub label_metric: LabelMetric,
    /// Answer types that reports always show, where examples have their own.
    #[serde(default)]
    pub answer_types: Vec<AnswerType>,
    /// How many examples the published test set has.
    #[serde(default, alias = "n_rows")]
    pub n_examples: Option<usize>,
    /// Where the data set is published.
    #[serde(default)]
    pub hub: Option<HubDataset>,
    /// The longest answer.
    #[serde(default = "default_max_new_tokens")]
    pub max_new_tokens: usize,
    /// The description's folder.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// One answer type for all examples, or each example's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum AnswerKind {
    /// The answer type is in a column.
    ByExample,
    /// All examples have this one.
    Always(AnswerType),
}

impl TryFrom<String> for AnswerKind {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if ["by_example", "by_row"].iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return Ok(Self::ByExample);
        }
        AnswerType::parse(&name).map(Self::Always).map_err(|_| {
            let names = ["by_example"].into_iter().chain(AnswerType::ALL.map(AnswerType::as_str));
            unknown("kind of answer", &name, names)
        })
    }
}

impl From<AnswerKind> for String {
    fn from(kind: AnswerKind) -> Self {
        match kind {
            AnswerKind::ByExample => "by_example".into(),
            AnswerKind::Always(answer_type) => answer_type.as_str().into(),
        }
    }
}

/// An unknown name, those that are allowed, and the one that was probably meant.
fn unknown<'a>(what: &str, got: &str, allowed: impl IntoIterator<Item = &'a str>) -> String {
    let allowed: Vec<&str> = allowed.into_iter().collect();
    let distance = |name: &str| strsim::damerau_levenshtein(&got.to_lowercase(), name);
    let meant = allowed.iter().map(|name| (distance(name), name)).min().filter(|(distance, _)| *distance <= 2);
    let hint = meant.map_or(String::new(), |(_, name)| format!("; did you mean `{name}`?"));
    format!("unknown {what} `{got}`: expected one of {}{hint}", allowed.join(", "))
}

/// Whether a benchmark's questions show images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ImageUse {
    /// Each shows at least one: a record without an image is an error of its own, and a benchmark without any is refused.
    #[default]
    Every,
    /// Some do.
    Some,
    /// None does; a column of images is not read.
    None,
}

/// A data set on the Hugging Face Hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubDataset {
    /// The data set's id.
    pub dataset: String,
    /// The folder inside it.
    pub folder: String,
    /// The split.
    pub split: String,
}

/// The names of the columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColumnNames {
    /// The record's id; the content's id where there is no such column.
    pub id: String,
    /// The image's name, or a list of them: texts, or objects with a `path`. `None` takes the first column with a known name:
    /// `image`, `images`, `img`, `image_path`, `img_name`, `file_name` and others like them.
    pub image: Option<String>,
    /// The question.
    pub question: String,
    /// A column that holds the whole prompt. Where a record has it, no template is used.
    pub prompt: Option<String>,
    /// The right answer: text, a list of names for `labels`, an option or its letter for `choice`.
    pub label: String,
    /// The answer type, where examples have their own.
    pub answer_type: String,
    /// The list of options of a `choice`.
    pub options: String,
    /// Columns that hold one option each, instead of a list.
    pub option_columns: Vec<String>,
    /// What examples that are not independent have in common; their images where `None`.
    pub group: Option<String>,
}

impl Default for ColumnNames {
    fn default() -> Self {
        Self {
            id: "id".into(),
            image: None,
            question: "question".into(),
            prompt: None,
            label: "label".into(),
            answer_type: "answer_type".into(),
            options: "options".into(),
            option_columns: Vec::new(),
            group: None,
        }
    }
}

fn default_examples() -> PathBuf {
    "examples.jsonl".into()
}

fn default_images() -> PathBuf {
    "images".into()
}

fn default_label_metric() -> LabelMetric {
    LabelMetric::Recall
}

fn default_max_new_tokens() -> usize {
    1024
}

impl BenchmarkDescription {
    /// Reads a `.json` or `.toml` file.
    ///
    /// # Errors
    /// [`CoreError::Io`](adamllm_core::CoreError::Io), [`EvalError::Description`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self, EvalError> {
        let path = path.as_ref();
        let text = read_text(path)?;
        let invalid = |source: BoxError| EvalError::Description { path: path.to_path_buf(), source };
        let mut description: Self = if path.extension().is_some_and(|extension| extension == "json") {
            serde_json::from_str(&text).map_err(|error| invalid(error.into()))?
        } else {
            toml::from_str(&text).map_err(|error| invalid(error.into()))?
        };
        description.folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        description.check().map_err(|error| match error {
            EvalError::Description { source, .. } => invalid(source),
            other => other,
        })?;
        Ok(description)
    }

    /// Reads TOML; paths are relative to the working folder.
    ///
    /// # Errors
    /// [`EvalError::Description`].
    pub fn from_toml(text: &str) -> Result<Self, EvalError> {
        toml::from_str(text).map_err(|error| EvalError::Description { path: "(text)".into(), source: error.into() })
    }

    /// The file of examples: `examples.jsonl` where the description names none, or `rows.jsonl` where only that is there.
    pub fn examples_path(&self) -> PathBuf {
        let (path, old) = (self.folder.join(&self.examples), self.folder.join("rows.jsonl"));
        let is_old = self.examples == default_examples() && !path.exists() && old.exists();
        if is_old { old } else { path }
    }

    /// The folder of images.
    pub fn images_path(&self) -> PathBuf {
        self.folder.join(&self.images)
    }

    pub(crate) fn load_names(&self) -> Result<Option<Vec<String>>, EvalError> {
        let Some(file) = &self.names_file else { return Ok(self.names.clone()) };
        let path = self.folder.join(file);
        let text = read_text(&path)?;
        let lines = text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty());
        let names: Vec<String> = lines.map(str::to_owned).collect();
        if names.is_empty() {
            return Err(EvalError::Description { path, source: "the names file holds no name".into() });
        }
        Ok(Some(names))
    }

    pub(crate) fn needs_names(&self) -> EvalError {
        self.invalid("answer types `category` and `labels` need `names` or `names_file`".into())
    }

    fn invalid(&self, detail: String) -> EvalError {
        EvalError::Description { path: self.folder.join(&self.name), source: detail.into() }
    }

    /// Refuses settings that contradict each other, and such as nothing would ever use.
    ///
    /// # Errors
    /// [`EvalError::Description`].
    pub fn check(&self) -> Result<(), EvalError> {
        if self.name.trim().is_empty() {
            return Err(self.invalid("`name` is empty".into()));
        }
        if self.max_new_tokens == 0 {
            return Err(self.invalid("`max_new_tokens` is 0: there would be no answer".into()));
        }
        self.check_names()?;
        self.check_prompts()
    }

    fn check_names(&self) -> Result<(), EvalError> {
        let given = self.names.is_some() || self.names_file.is_some();
        if self.names.is_some() && self.names_file.is_some() {
            return Err(self.invalid("`names` and `names_file` are both given: leave one out".into()));
        }
        if self.names.as_ref().is_some_and(Vec::is_empty) {
            return Err(self.invalid("`names` is empty".into()));
        }
        match self.answer {
            AnswerKind::Always(AnswerType::Category | AnswerType::Labels) if !given => Err(self.needs_names()),
            AnswerKind::Always(other) if given && !matches!(other, AnswerType::Category | AnswerType::Labels) => {
                let detail = format!(
                    "`names` are for the answer types `category` and `labels`; all answers are `{}`",
                    other.as_str()
                );
                Err(self.invalid(detail))
            }
            _ => Ok(()),
        }
    }

    fn check_prompts(&self) -> Result<(), EvalError> {
        for (kind, template) in &self.prompts {
            let types: Vec<AnswerType> = match self.answer {
                AnswerKind::ByExample => AnswerType::ALL.to_vec(),
                AnswerKind::Always(answer_type) => vec![answer_type],
            };
            let allowed = ["all"].into_iter().chain(types.into_iter().map(AnswerType::as_str));
            if !allowed.clone().any(|name| name == kind) {
                return Err(self.invalid(unknown("key of `prompts`", kind, allowed)));
            }
            if let Some(part) = template::unbalanced(template) {
                let part: String = part.chars().take(40).collect();
                return Err(self.invalid(format!(
                    "`prompts.{kind}`: a brace without its other half at `{part}` (write {{{{ and }}}} for braces)"
                )));
            }
        }
        Ok(())
    }

    pub(crate) fn answer_type_of(&self, record: &RecordReader<'_>) -> Result<AnswerType, EvalError> {
        match self.answer {
            AnswerKind::Always(answer_type) => Ok(answer_type),
            AnswerKind::ByExample => {
                let name = record.text(&self.columns.answer_type)?;
                AnswerType::parse(&name).map_err(|_| record.error(&self.columns.answer_type, "an answer type", &name))
            }
        }
    }

    pub(crate) fn declared_types(&self) -> Vec<AnswerType> {
        match self.answer {
            AnswerKind::Always(answer_type) => vec![answer_type],
            AnswerKind::ByExample => self.answer_types.clone(),
        }
    }

    pub(crate) fn needed_columns(&self) -> Vec<String> {
        let columns = &self.columns;
        let mut needed = vec![columns.label.clone()];
        if self.answer == AnswerKind::ByExample {
            needed.push(columns.answer_type.clone());
        }
        if self.answer == AnswerKind::Always(AnswerType::Choice) {
            match &columns.option_columns[..] {
                [] => needed.push(columns.options.clone()),
                several => needed.extend(several.iter().cloned()),
            }
        }
        needed
    }

    /// Everything that a record's score depends on, except the answer.
    pub(crate) fn scoring_columns(&self) -> Vec<String> {
        let ColumnNames { label, answer_type, options, option_columns, .. } = &self.columns;
        let columns = [label, answer_type, options].into_iter().chain(option_columns).cloned();
        columns.chain(["syn_id".to_owned()]).collect()
    }

    pub(crate) fn options_of(&self, record: &RecordReader<'_>) -> Result<Vec<String>, EvalError> {
        let columns = &self.columns;
        let options = match &columns.option_columns[..] {
            [] => record.texts(&columns.options)?,
            several => several.iter().map(|column| record.text(column)).collect::<Result<_, _>>()?,
        };
        if options.is_empty() {
            Err(record.error(&columns.options, "at least one option", "none"))
        } else {
            Ok(options)
        }
    }

    /// The template for an answer type; `None` for the built-in one.
    pub(crate) fn template(&self, answer_type: AnswerType) -> Template<'_> {
        match self.prompts.get(answer_type.as_str()).or_else(|| self.prompts.get("all")) {
            Some(text) => Template::Given(text),
            None => Template::Plain { question: &self.columns.question, options: answer_type == AnswerType::Choice },
        }
    }
}

/// How a record becomes a prompt.
pub(crate) enum Template<'a> {
    /// A text with `{column}`s.
    Given(&'a str),
    /// The question, and the options of a choice below it.
    Plain {
        /// The question's column.
        question: &'a str,
        /// Whether to show options.
        options: bool,
    },
}
