use adamllm_core::jsonl::{self, Journal};
use adamllm_core::{FailureStreak, Generate, Progress, Stage};

use super::SynthesisRun;
use super::keys::opinion_key;
use super::lost::Lost;
use super::ordered_file::OrderedFile;
use super::written::models_failure;
use crate::{ConsistencyFilter, Judged, Opinion, SynthError, TaskTriplet};

impl SynthesisRun<'_> {
    /// Second stage: `triplets.jsonl` to `judged.jsonl`.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub fn judge<J: Generate>(
        &self,
        judge: &ConsistencyFilter<J>,
        progress: &mut dyn Progress,
    ) -> Result<(), SynthError> {
        let mut journal = self.journal::<Opinion>("judge.jsonl")?;
        let mut failures = FailureStreak::of(judge.model());
        self.second_stage(progress, |batch| judge_batch(batch, judge, &mut journal, &mut failures))
    }

    /// Second stage of the ablations without a filter: every triplet goes on, as [`Verdict::Unjudged`].
    ///
    /// [`Verdict::Unjudged`]: crate::Verdict::Unjudged
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub fn skip_judge(&self, progress: &mut dyn Progress) -> Result<(), SynthError> {
        self.second_stage(progress, |batch| Ok(batch.iter().cloned().map(|t| Ok(Judged::unjudged(t))).collect()))
    }

    fn second_stage(
        &self,
        progress: &mut dyn Progress,
        mut work: impl FnMut(&[TaskTriplet]) -> Result<Vec<Result<Judged, Lost>>, SynthError>,
    ) -> Result<(), SynthError> {
        let mut all = OrderedFile::create(self.file("judged.jsonl"))?;
        let mut ledger = OrderedFile::create(self.work("ledger-judge.jsonl"))?;
        let mut triplets = jsonl::read::<TaskTriplet>(self.file("triplets.jsonl"))?;

        progress.begin("judge", 0);
        loop {
            progress.check_cancelled()?;

            let batch = triplets.by_ref().take(self.config.batch_size).collect::<Result<Vec<_>, _>>()?;
            if batch.is_empty() {
                break;
            }

            for outcome in work(&batch)? {
                let lost = match outcome {
                    Ok(judged) => {
                        all.append(&judged)?;
                        Lost::by_verdict(&judged)
                    }
                    Err(lost) => Some(lost),
                };
                lost.map_or(Ok(()), |lost| ledger.append(&lost.entry))?;
            }

            progress.advance(batch.len() as u64);
        }

        all.finish()?;
        ledger.finish()?;
        progress.end();
        Ok(())
    }
}

fn judge_batch<J: Generate>(
    batch: &[TaskTriplet],
    judge: &ConsistencyFilter<J>,
    journal: &mut Journal<Opinion>,
    failures: &mut FailureStreak,
) -> Result<Vec<Result<Judged, Lost>>, SynthError> {
    let keys: Vec<_> = batch.iter().map(|triplet| opinion_key(triplet, judge)).collect();
    let opinions = journal.complete(&keys, batch, |missing| judge.ask(missing))?;
    super::check_stopped(judge.model(), &opinions)?;
    failures.observe(opinions.iter().filter_map(models_failure))?;
    let decide = |(triplet, opinion): (&TaskTriplet, Result<Opinion, SynthError>)| {
        let opinion = opinion.map_err(|error| Lost::of(&triplet.pair, Stage::Judge, error))?;
        Ok(judge.decide(triplet.clone(), &opinion))
    };
    Ok(batch.iter().zip(opinions).map(decide).collect())
}
