use std::collections::HashMap;

use adamllm_core::random::{PythonRandom, stream};
use adamllm_core::{Conversation, IMAGE_MARKER, ImageCaption, InstructionTask, Message, RecordId};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// Mixes captions and tasks into one conversation per image (paper, section 3.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SingleStage {
    /// Seeds the random choices, together with each pair's id.
    pub seed: u64,
    /// Where the captioning exchange stands.
    pub caption: CaptionPosition,
    /// What is in the mixture.
    pub mixture: Mixture,
    /// Asks for the caption where the source brings no request of its own.
    pub request: String,
}

/// Where the captioning exchange stands in a conversation that also has a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptionPosition {
    /// Before or after the task, by chance, seeded by the pair's id (the paper's way).
    Random,
    /// Always before the task.
    First,
    /// Always after the task.
    Last,
    /// By `random.Random(index of the pair).choice`, as the reference's data builder did: depends on the order of the pairs.
    Reference,
}

/// What is in the mixture (paper, table 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mixture {
    /// Every caption, with its task where it has one.
    CaptionsAndTasks,
    /// Every caption, no task.
    CaptionsOnly,
    /// Every task, no caption.
    TasksOnly,
}

impl Default for SingleStage {
    fn default() -> Self {
        Self {
            seed: 0,
            caption: CaptionPosition::Random,
            mixture: Mixture::CaptionsAndTasks,
            request: "Describe the image.".into(),
        }
    }
}

impl SingleStage {
    /// One conversation for each pair that has something to say in this mixture, in the pairs' order.
    ///
    /// # Errors
    /// [`TrainError::UnknownPair`] for a task whose pair is missing; [`TrainError::Core`] for an empty caption.
    pub fn compose(&self, pairs: &[ImageCaption], tasks: &[InstructionTask]) -> Result<Vec<Conversation>, TrainError> {
        let mut by_pair: HashMap<&RecordId, Vec<&InstructionTask>> = HashMap::new();
        tasks.iter().for_each(|task| by_pair.entry(&task.pair).or_default().push(task));
        let known: std::collections::HashSet<&RecordId> = pairs.iter().map(|pair| &pair.id).collect();
        if let Some(task) = tasks.iter().find(|task| !known.contains(&task.pair)) {
            return Err(TrainError::UnknownPair { task: task.id.to_string(), pair: task.pair.to_string() });
        }
        let mut conversations = Vec::with_capacity(pairs.len());
        for (index, pair) in pairs.iter().enumerate() {
            pair.validate()?;
            let tasks = by_pair.get(&pair.id).map_or(&[][..], Vec::as_slice);
            conversations.extend(self.compose_one(index, pair, tasks));
        }
        Ok(conversations)
    }

    fn compose_one(&self, index: usize, pair: &ImageCaption, tasks: &[&InstructionTask]) -> Option<Conversation> {
        let caption = self.caption_exchange(pair);
        let task: Vec<Message> = tasks.iter().flat_map(|t| exchange(SYNTHETIC, &t.instruction, &t.response)).collect();
        let mut messages = match self.mixture {
            Mixture::CaptionsOnly => caption,
            Mixture::TasksOnly => task,
            Mixture::CaptionsAndTasks if task.is_empty() => caption,
            Mixture::CaptionsAndTasks if self.caption_first(index, pair) => [caption, task].concat(),
            Mixture::CaptionsAndTasks => [task, caption].concat(),
        };
        let first = messages.first_mut()?;
        first.content = format!("{IMAGE_MARKER}\n{}", first.content);
        Some(Conversation::new(messages, vec![pair.image.clone()]))
    }

    fn caption_exchange(&self, pair: &ImageCaption) -> Vec<Message> {
        let request = pair.request.as_deref().unwrap_or(&self.request);
        let request = request.replace(IMAGE_MARKER, "").trim().to_owned();
        let request = if request.is_empty() { self.request.clone() } else { request };
        exchange(CAPTION, &request, &pair.caption).to_vec()
    }

    fn caption_first(&self, index: usize, pair: &ImageCaption) -> bool {
        match self.caption {
            CaptionPosition::First => true,
            CaptionPosition::Last => false,
            CaptionPosition::Random => stream(self.seed, "caption place", &pair.id).random(),
            CaptionPosition::Reference => *PythonRandom::new(index as u64).choice(&[true, false]),
        }
    }
}

/// The names under which the losses of the two kinds of exchanges are kept apart.
const CAPTION: &str = "caption";
const SYNTHETIC: &str = "synthetic";

fn exchange(task: &str, request: &str, reply: &str) -> [Message; 2] {
    [Message::user(request).of_task(task), Message::assistant(reply).of_task(task)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(n: usize) -> (Vec<ImageCaption>, Vec<InstructionTask>) {
        let pairs: Vec<_> = (0..n).map(|i| ImageCaption::new(format!("{i}.png"), format!("Image {i}."))).collect();
        let task = |p: &ImageCaption| InstructionTask::new(p.id.clone(), p.image.clone(), "What?", "That.");
        let tasks = pairs.iter().step_by(2).map(task).collect();
        (pairs, tasks)
    }

    #[test]
    fn every_pair_stays_and_takes_its_task_along() {
        let (pairs, tasks) = world(10);
        let conversations = SingleStage::default().compose(&pairs, &tasks).expect("composes");
        assert_eq!(conversations.len(), 10);
        for (i, conversation) in conversations.iter().enumerate() {
            conversation.validate().expect("a whole conversation");
            assert_eq!(conversation.messages.len(), if i % 2 == 0 { 4 } else { 2 });
            for turns in conversation.messages.chunks(2) {
                let kind = if turns[1].content.starts_with("Image") { "caption" } else { "synthetic" };
                assert!(turns.iter().all(|turn| turn.task.as_deref() == Some(kind)), "{turns:?}");
            }
        }
    }

    #[test]
    fn dropping_a_pair_leaves_the_others_as_they_were() {
        let (pairs, tasks) = world(40);
        let all = SingleStage::default().compose(&pairs, &tasks).expect("composes");
        let rest = SingleStage::default().compose(&pairs[2..], &tasks[1..]).expect("composes");
        assert_eq!(all[2..], rest[..]);
        let first = all.iter().step_by(2).filter(|c| c.messages[0].content.contains("Describe")).count();
        assert!((4..=16).contains(&first), "{first} of 20 captions first");
    }

    /// The reference's first 32 positions (`s` = start, `e` = end), from CPython.
    #[test]
    fn the_reference_order_is_kept() {
        let (pairs, _) = world(32);
        let stage = SingleStage { caption: CaptionPosition::Reference, ..SingleStage::default() };
        let positions: String =
            (0..32).map(|index| if stage.caption_first(index, &pairs[index]) { 's' } else { 'e' }).collect();
        assert_eq!(positions, "esssseseseseeesseessssseeesesses");
    }

    #[test]
    fn a_task_without_its_pair_is_refused() {
        let (pairs, tasks) = world(4);
        let error = SingleStage::default().compose(&pairs[1..], &tasks).expect_err("a stray task");
        assert!(matches!(error, TrainError::UnknownPair { .. }));
    }
}
