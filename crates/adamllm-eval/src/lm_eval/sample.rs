use adamllm_core::JsonObject;
use serde_json::Value;

/// One record of a log: an answer, and what shows which question it belongs to.
pub(super) struct Sample {
    /// The index of the question in the data that the tool asked from.
    pub(super) doc_id: u64,
    /// The question's record; lmms-eval leaves it out.
    pub(super) doc: Option<JsonObject>,
    /// The prompt, where the log has it.
    pub(super) prompt: Option<String>,
    /// The right answer in the tool's words; an option's text where it is the option's number.
    pub(super) target: String,
    /// The filter whose result the record holds.
    pub(super) filter: String,
    /// What the model said.
    pub(super) answer: String,
}

/// Whether a record is one of a log.
pub(super) fn is_sample(record: &JsonObject) -> bool {
    record.contains_key("doc_id") && (record.contains_key("resps") || record.contains_key("filtered_resps"))
}

impl Sample {
    /// Reads a record, or says what it lacks.
    pub(super) fn read(mut record: JsonObject) -> Result<Self, String> {
        let doc_id = record.get("doc_id").and_then(Value::as_u64).ok_or("field `doc_id`: expected a whole number")?;
        let requests = requests(&record);
        let options: Vec<&str> = requests.iter().filter_map(|request| request.continuation).collect();
        let answer = answer(&record, &requests, &options)?;

        // Where options were compared, the right one is a number.
        let target = match record.get("target") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(target)) => target.clone(),
            Some(other) => other.to_string(),
        };
        let number: Option<usize> = target.parse().ok();
        let target = number.and_then(|number| options.get(number)).map_or(target.clone(), |text| (*text).to_owned());

        let first = requests.first().map(|request| request.prompt);
        let prompt = first.or_else(|| record.get("input").and_then(input)).map(str::to_owned);
        let filter = record.get("filter").and_then(Value::as_str).unwrap_or("none").to_owned();
        let doc = match record.remove("doc") {
            Some(Value::Object(doc)) => Some(doc),
            _ => None,
        };
        Ok(Self { doc_id, doc, prompt, target, filter, answer })
    }

    /// Every text that may hold the question.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let of_doc = self.doc.iter().flat_map(|doc| doc.values().filter_map(Value::as_str));
        of_doc.chain(self.prompt.as_deref())
    }
}

/// What the tool sent to the model.
struct Request<'a> {
    prompt: &'a str,
    /// The text whose log-likelihood was asked for.
    continuation: Option<&'a str>,
    /// The log-likelihood of the prompt itself was asked for.
    is_rolling: bool,
}

/// lm-eval's `arguments`: `{"gen_args_0": {"arg_0": prompt, "arg_1": settings or continuation}}`; lists in its older logs.
fn requests(record: &JsonObject) -> Vec<Request<'_>> {
    match record.get("arguments") {
        Some(Value::Object(arguments)) => {
            let numbered = (0..).map_while(|i| arguments.get(&format!("gen_args_{i}")));
            numbered.filter_map(|request| Request::of(request.get("arg_0"), request.get("arg_1"))).collect()
        }
        Some(Value::Array(arguments)) => {
            arguments.iter().filter_map(|request| Request::of(request.get(0), request.get(1))).collect()
        }
        _ => Vec::new(),
    }
}

impl<'a> Request<'a> {
    fn of(prompt: Option<&'a Value>, second: Option<&'a Value>) -> Option<Self> {
        let prompt = prompt?.as_str()?;
        Some(Self { prompt, continuation: second.and_then(Value::as_str), is_rolling: second.is_none() })
    }
}

/// lmms-eval's `input`: the prompt, with the settings after it in its older logs.
fn input(input: &Value) -> Option<&str> {
    input.as_str().or_else(|| input.get(0)?.as_str())
}

fn answer(record: &JsonObject, requests: &[Request<'_>], options: &[&str]) -> Result<String, String> {
    if let Some(likelihoods) = ["resps", "filtered_resps"].iter().find_map(|field| likelihoods(record.get(*field)?)) {
        let most_likely =
            (1..likelihoods.len()).fold(0, |best, i| if likelihoods[i] > likelihoods[best] { i } else { best });
        return match options.get(most_likely) {
            Some(text) if options.len() == likelihoods.len() && options.len() > 1 => Ok(text.trim().to_owned()),
            _ => Err("field `resps`: log-likelihoods, without the texts of several options in `arguments`".into()),
        };
    }
    if !options.is_empty() || requests.iter().any(|request| request.is_rolling) {
        return Err("field `resps`: log-likelihoods that cannot be read, or of whole texts".into());
    }

    let (said, filtered) = (texts(record.get("resps")), texts(record.get("filtered_resps")));
    match (&said[..], &filtered[..]) {
        ([said], _) => Ok((*said).to_owned()),
        (_, [filtered]) => Ok((*filtered).to_owned()),
        (several, _) => {
            Err(format!("field `resps`: {} responses, and `filtered_resps` holds no single one of them", several.len()))
        }
    }
}

/// The log-likelihoods of options: lists of `[log-likelihood, whether it is the greedy answer]`, each in a list of its own or not.
fn likelihoods(responses: &Value) -> Option<Vec<f64>> {
    let number = |value: &Value| value.as_f64().or_else(|| value.as_str()?.parse().ok());
    let is_greedy = |value: &Value| value.is_boolean() || matches!(value.as_str(), Some("True" | "False"));
    let pair = |value: &Value| match &value.as_array()?[..] {
        [likelihood, greedy] if is_greedy(greedy) => number(likelihood),
        _ => None,
    };
    let one = |value: &Value| pair(value).or_else(|| pair(value.get(0)?));
    let responses = responses.as_array().filter(|responses| !responses.is_empty())?;
    responses.iter().map(one).collect()
}

/// All texts in lists of lists.
fn texts(responses: Option<&Value>) -> Vec<&str> {
    match responses {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => items.iter().flat_map(|item| texts(Some(item))).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(record: Value) -> Result<Sample, String> {
        Sample::read(record.as_object().cloned().expect("an object"))
    }

    fn answer_of(record: Value) -> Result<String, String> {
        read(record).map(|sample| sample.answer)
    }

    #[test]
    fn what_the_model_said_comes_before_what_a_filter_made_of_it() {
        let said = json!({"doc_id": 1, "resps": [["so it is (B)"]], "filtered_resps": ["B"]});
        assert_eq!(answer_of(said), Ok("so it is (B)".into()));
        assert_eq!(answer_of(json!({"doc_id": 1, "filtered_resps": "B"})), Ok("B".into()));
        let several = json!({"doc_id": 1, "resps": [["A", "B", "B"]], "filtered_resps": ["B"]});
        assert_eq!(answer_of(several), Ok("B".into()));
        let open = json!({"doc_id": 1, "resps": [["A", "B"]], "filtered_resps": [["A", "B"]]});
        assert!(answer_of(open).is_err_and(|error| error.contains("2 responses")));
        // Numbers that a model said are no log-likelihoods.
        assert_eq!(answer_of(json!({"doc_id": 1, "resps": [["-3.5"]], "filtered_resps": ["-3.5"]})), Ok("-3.5".into()));
    }

    #[test]
    fn the_likeliest_option_is_the_answer() {
        let request = |text: &str| json!({"arg_0": "Which?", "arg_1": text});
        let mut record = json!({
            "doc_id": 0, "target": "1", "resps": [[["-4.0", "False"]], [["-1e-1", "True"]]],
            "arguments": {"gen_args_0": request(" red"), "gen_args_1": request(" green")},
        });
        let sample = read(record.clone()).expect("reads");
        assert_eq!((sample.answer.as_str(), sample.target.trim()), ("green", "green"));
        assert_eq!(sample.prompt.as_deref(), Some("Which?"));

        record["resps"] = json!([[["-4.0", "False"]]]);
        assert!(answer_of(record.clone()).is_err_and(|error| error.contains("without the texts")));
        record["resps"] = json!([["-4.0"]]);
        record["filtered_resps"] = json!(["-4.0"]);
        assert!(answer_of(record.clone()).is_err_and(|error| error.contains("cannot be read")));
        record["arguments"] = json!({"gen_args_0": {"arg_0": "a text of its own"}});
        assert!(answer_of(record).is_err_and(|error| error.contains("whole texts")));
    }

    #[test]
    fn older_logs_hold_lists() {
        let record =
            json!({"doc_id": 3, "target": "yes", "arguments": [["Is it?", {"until": []}]], "resps": [["yes"]]});
        let sample = read(record).expect("reads");
        assert_eq!((sample.prompt.as_deref(), sample.answer.as_str()), (Some("Is it?"), "yes"));
        let record = json!({"doc_id": 3, "input": ["Is it?", {}], "filtered_resps": ["no"]});
        assert_eq!(read(record).expect("reads").prompt.as_deref(), Some("Is it?"));
        assert!(answer_of(json!({"doc_id": "x", "resps": [["yes"]]})).is_err_and(|error| error.contains("doc_id")));
    }
}
