use adamllm_core::RecordId;
use adamllm_core::jsonl::Journal;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::SynthError;

/// Answers from the journal where it has them, from `ask` where not. New answers are synced to the journal; failures are
/// not, so that they are tried again when the run is resumed. One slot per item, in order.
pub(super) fn remembered<I: Clone, T: Serialize + DeserializeOwned>(
    journal: &mut Journal<T>,
    keys: &[RecordId],
    items: &[I],
    ask: impl FnOnce(&[I]) -> Vec<Result<T, SynthError>>,
) -> Result<Vec<Result<T, SynthError>>, SynthError> {
    let known: Vec<_> = keys.iter().map(|key| journal.get(key)).collect::<Result<_, _>>()?;
    let is_missing = |(item, known): (&I, &Option<T>)| known.is_none().then(|| item.clone());
    let missing: Vec<_> = items.iter().zip(&known).filter_map(is_missing).collect();
    if !missing.is_empty() {
        let asked = ask(&missing);
        let missing_keys = keys.iter().zip(&known).filter_map(|(key, known)| known.is_none().then_some(key));
        let answered = missing_keys.zip(&asked).filter_map(|(key, slot)| Some((key, slot.as_ref().ok()?)));
        journal.append(answered)?;
        let mut asked = asked.into_iter();
        let fill = |known: Option<T>| known.map_or_else(|| asked.next().expect("one slot per missing item"), Ok);
        return Ok(known.into_iter().map(fill).collect());
    }
    Ok(known.into_iter().flatten().map(Ok).collect())
}
