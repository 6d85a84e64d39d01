use std::path::{Path, PathBuf};

use adamllm_core::jsonl::Appender;
use adamllm_core::{CoreError, ImageCaption, ImageStore, Ledger, Reason, RecordId, Stage};
use adamllm_synth::hygiene::LeakIndex;
use adamllm_synth::{DATASET_NAME, Variant, kept_pairs, write_llama_factory};
use adamllm_train::{Mixture, SingleStage};

use super::SynthesisSettings;
use crate::RecipeError;
use crate::captions::caption_records;

/// Writes the finished conversations, for this project's trainer and for LLaMA-Factory.
pub(super) struct Writer<'a> {
    pub(super) settings: &'a SynthesisSettings,
    pub(super) out: &'a Path,
    pub(super) images: &'a dyn ImageStore,
    pub(super) leaks: Option<&'a LeakIndex>,
}

impl Writer<'_> {
    /// Gives the files that were written.
    pub(super) fn write(&self) -> Result<Vec<PathBuf>, RecipeError> {
        let mut files = Vec::new();
        for (mixture, name) in stages(self.settings.variant) {
            let path = self.out.join(format!("{name}.jsonl"));
            let mut ledger = Ledger::create(self.out.join(format!("{name}-ledger.jsonl")))?;
            self.compose(mixture, &path, &mut ledger)?;
            files.push(path.clone());

            let data_set = name.replace("conversations", DATASET_NAME);
            let (conversations, mut refused) = (adamllm_data::conversations(&path)?, Vec::new());
            let conversations = conversations.filter_map(|read| read.map_err(|error| refused.push(error)).ok());
            files.extend(write_llama_factory(&self.out.join("llama_factory"), &data_set, conversations)?);
            for error in refused {
                ledger.drop_record(&RecordId::given(name), Stage::Compose, Reason::from(&error), error)?;
            }
        }
        Ok(files)
    }

    /// Streams: memory holds one pair.
    fn compose(&self, mixture: Mixture, path: &Path, ledger: &mut Ledger) -> Result<(), RecipeError> {
        let stage = SingleStage { seed: self.settings.seed, mixture, ..SingleStage::default() };
        let beside = path.with_added_extension("partial");
        adamllm_core::write_atomically(&beside, "")?;
        let mut file = Appender::open(&beside)?;
        for kept in kept_pairs(self.out, caption_records(&self.settings.captions)?.flatten())? {
            let (pair, task) = kept?;
            // The tasks were compared already; their captions, and those without a task, were not.
            if let Some((example, distance)) = self.leaked(&pair)? {
                let detail = format!("the image of benchmark example {example} ({distance} bits differ)");
                ledger.drop_record(&pair.id, Stage::Compose, Reason::Leak, detail)?;
                continue;
            }
            file.append(&stage.compose(&[pair], task.as_slice())?)?;
        }
        file.sync()?;
        Ok(std::fs::rename(&beside, path).map_err(CoreError::io("rename", beside))?)
    }

    /// The benchmark's example whose image the pair shows, and how much the two differ.
    fn leaked(&self, pair: &ImageCaption) -> Result<Option<(RecordId, u32)>, CoreError> {
        let Some(leaks) = self.leaks else { return Ok(None) };
        Ok(leaks.find("", Some(&self.images.open(&pair.image)?)).and_then(|leak| leak.image))
    }
}

/// The mixtures that a variant trains on, one after the other, and their files' names.
fn stages(variant: Variant) -> Vec<(Mixture, &'static str)> {
    match variant {
        Variant::TwoStage => {
            vec![(Mixture::CaptionsOnly, "conversations-stage1"), (Mixture::TasksOnly, "conversations-stage2")]
        }
        Variant::CaptionOnly => vec![(Mixture::CaptionsOnly, "conversations")],
        _ if !variant.trains_captions() => vec![(Mixture::TasksOnly, "conversations")],
        _ => vec![(Mixture::CaptionsAndTasks, "conversations")],
    }
}
