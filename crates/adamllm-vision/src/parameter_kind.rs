use adamllm_nn::ParameterKind;

/// What a parameter is to an encoder: an embedding where it belongs to one of the named modules, else between hidden states.
pub(crate) fn embedding_or_hidden(parameter: &str, embeddings: &[&str]) -> ParameterKind {
    let belongs =
        |module: &&str| parameter.strip_prefix(*module).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    if embeddings.iter().any(belongs) { ParameterKind::Embedding } else { ParameterKind::Hidden }
}
