use adamllm_core::{Generate, RecordId};

use crate::SynthError;

/// Asks the model for the inputs that are whole, and puts its answers back between the errors of the others: one result per
/// input, in order.
pub(crate) fn model_outputs<G: Generate, I, O>(
    model: &G,
    ids: &[&RecordId],
    inputs: Vec<Result<I, SynthError>>,
    ask: impl FnOnce(&G, Vec<I>) -> Vec<Result<O, G::Error>>,
) -> Vec<Result<O, SynthError>> {
    let mut whole = Vec::with_capacity(inputs.len());
    let refused: Vec<_> = inputs.into_iter().map(|input| input.map(|input| whole.push(input)).err()).collect();

    let expected = whole.len();
    let answers = if whole.is_empty() { Vec::new() } else { ask(model, whole) };
    let got = answers.len();

    let mut answers = answers.into_iter();
    let fill = |(refused, id): (Option<SynthError>, &&RecordId)| {
        let record = (*id).clone();

        if let Some(error) = refused {
            return Err(error);
        }

        // A model that answers too little costs the inputs at the end, not all of them.
        match answers.next() {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(source)) => Err(SynthError::Model { record, model: model.identity(), source: Box::new(source) }),
            None => Err(SynthError::MissingOutput { record, model: model.identity(), expected, got }),
        }
    };

    refused.into_iter().zip(ids).map(fill).collect()
}
