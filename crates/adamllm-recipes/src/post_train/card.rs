use std::path::{Path, PathBuf};

use adamllm_core::CoreError;

use super::{ExportKind, PostTrainReport, PostTraining, StageReport};
use crate::cards::{ModelCard, last_element, training_settings, write_model_card};

impl PostTraining<'_> {
    /// Writes the model card into the exported folder.
    pub(super) fn write_card(&self, report: &PostTrainReport) -> Result<(), CoreError> {
        let Some(folder) = &report.model else { return Ok(()) };

        let settings = self.settings;
        let mut trained_with = training_settings(&settings.train);
        trained_with
            .push(("longest example".into(), shown(settings.encoding.max_tokens.map(|n| format!("{n} tokens")))));
        trained_with.extend(
            settings
                .adapter
                .as_ref()
                .map(|adapter| ("adapter".to_owned(), format!("rank {}, alpha {}", adapter.rank, adapter.alpha))),
        );

        let card = ModelCard {
            name: format!("{}, post-trained", last_element(self.base.path())),
            base: self.base.path().to_owned(),
            is_adapter: settings.export.kind == ExportKind::Adapter && settings.adapter.is_some(),
            data: self.sources(report),
            settings: trained_with,
            outcome: report.training.iter().map(outcome).collect(),
            scores: Vec::new(),
        };

        write_model_card(folder, &card).map(|_| ())
    }

    /// The files that were trained on, and how many of their records.
    fn sources(&self, report: &PostTrainReport) -> Vec<(String, String)> {
        let of_stage = |stage: usize| {
            let sources = self.settings.data.sources.iter().filter(move |source| source.stage == stage);
            let files = sources.map(|source| {
                let files: [&Option<PathBuf>; 3] = [&source.conversations, &source.captions, &source.tasks];
                let names: Vec<_> = files.into_iter().flatten().map(|file| name_of(file)).collect();
                match source.weight == 1.0 {
                    true => names.join(" + "),
                    false => format!("{} (weight {})", names.join(" + "), source.weight),
                }
            });
            files.collect::<Vec<_>>().join("; ")
        };

        let stages = report.plan.stages.iter();
        let mut entries: Vec<_> =
            stages.map(|stage| (of_stage(stage.stage), format!("{} examples", stage.run.examples))).collect();

        let counts = report.plan.counts;
        entries.push(("records read".into(), counts.records_in.to_string()));
        entries.push(("left out, with a reason in the ledger".into(), counts.ledger_entries.to_string()));
        entries
    }
}

fn outcome(stage: &StageReport) -> (String, String) {
    let (name, text) = (format!("stage {}", stage.stage), stage.to_string());
    let ended = text.strip_prefix(&name).map_or(text.as_str(), |rest| rest.trim_start_matches([':', ' ']));
    (name, ended.to_owned())
}

fn shown(value: Option<String>) -> String {
    value.unwrap_or_else(|| "no limit".into())
}

/// The last two path elements: files of one name lie in many folders.
fn name_of(file: &Path) -> String {
    match file.parent().and_then(Path::file_name) {
        Some(folder) => format!("{}/{}", folder.to_string_lossy(), last_element(file)),
        None => last_element(file),
    }
}
