use adamllm_core::CoreError;

use super::{AdaptReport, Adaptation};
use crate::cards::{
    CardScore, DatasetCard, ModelCard, last_element, training_settings, write_croissant, write_dataset_card,
    write_model_card,
};

impl Adaptation<'_> {
    /// The cards of the tasks and of the model.
    pub(super) fn write_cards(&self, report: &AdaptReport) -> Result<(), CoreError> {
        let settings = self.settings;
        let made_with = [
            ("judge threshold".to_owned(), settings.judge_threshold.to_string()),
            ("seed".to_owned(), settings.seed.to_string()),
        ];
        let data = DatasetCard { captions: &settings.captions, settings: &made_with, summary: &report.synthesis };
        write_dataset_card(&self.file("synthesis"), &data)?;
        write_croissant(&self.file("synthesis"), &data)?;

        let entries = [
            (last_element(&settings.captions), report.synthesis.records_in),
            ("synthesized tasks for them".to_owned(), report.synthesis.records_out),
            ("conversations trained on".to_owned(), report.encoded as u64),
        ];
        let loss = report.loss_first.zip(report.loss_last).map(|(first, last)| format!("{first:.4} -> {last:.4}"));
        let domain = report.post_trained.iter().map(|model| CardScore { base: report.base.as_ref(), model });
        let general = report.kept.iter().map(|kept| CardScore { base: Some(&kept.base), model: &kept.post_trained });
        let card = ModelCard {
            name: format!("{}, adapted", last_element(self.base.path())),
            base: self.base.path().to_owned(),
            is_adapter: false,
            data: entries.map(|(name, count)| (name, count.to_string())).into_iter().collect(),
            settings: training_settings(&settings.training()),
            outcome: [("steps".to_owned(), Some(report.steps.to_string())), ("loss".to_owned(), loss)]
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect(),
            scores: domain.chain(general).collect(),
        };
        write_model_card(&report.model, &card).map(|_| ())
    }
}
