use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Outer {
    rate: f64,
    every: Option<usize>,
    inner: Inner,
    list: Vec<Inner>,
    pair: [f64; 2],
    kind: Kind,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Inner {
    learning_rate: Option<f64>,
    frozen: bool,
    prefix: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    HalfCosine,
    Line,
}

impl Default for Outer {
    fn default() -> Self {
        let inner = Inner::default;
        Self { rate: 0.5, every: Some(500), inner: inner(), list: vec![], pair: [0.9, 0.999], kind: Kind::Line }
    }
}

fn with(text: &str, assignments: &[&str]) -> Result<Outer, SettingsError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("settings.toml");
    std::fs::write(&file, text).expect("written");
    read(Some(&file), &assignments.iter().map(|&a| a.to_owned()).collect::<Vec<_>>())
}

fn fault(text: &str, assignments: &[&str]) -> String {
    with(text, assignments).expect_err("at fault").to_string()
}

#[test]
fn a_file_its_defaults_and_values_from_the_command_line() {
    let text = "rate = 1\nevery = \"none\"\n[[list]]\nprefix = \"a\"\n[[list]]\nprefix = \"b\"\n";
    let assigned = ["inner.learning_rate=2e-6", "list.1.frozen=true", "kind=half_cosine", "list.0.prefix=c d"];
    let read = with(text, &assigned).expect("good settings");
    let inner = |prefix: &str, frozen| Inner { prefix: prefix.into(), frozen, ..Inner::default() };
    let expected = Outer {
        rate: 1.0,
        every: None,
        inner: Inner { learning_rate: Some(2e-6), ..Inner::default() },
        list: vec![inner("c d", false), inner("b", true)],
        kind: Kind::HalfCosine,
        ..Outer::default()
    };
    assert_eq!(read, expected);
    assert_eq!(with(&write(&read).expect("TOML"), &[]).expect("its own output"), read);
    assert_eq!(with(&write(&Outer::default()).expect("TOML"), &[]).expect("its own output"), Outer::default());
}

#[test]
fn an_unknown_key_is_refused_with_the_likely_one() {
    let meant = |text, assigned: &[&str], key: &str, likely: &str| {
        assert_eq!(fault(text, assigned), format!("unknown setting `{key}`: did you mean `{likely}`?"));
    };
    meant("rat = 1", &[], "rat", "rate");
    meant("[inner]\nlerning_rate = 1", &[], "inner.lerning_rate", "inner.learning_rate");
    meant("[[list]]\n[[list]]\nforzen = true", &[], "list.1.forzen", "list.1.frozen");
    meant("", &["inner.learningrate=1"], "inner.learningrate", "inner.learning_rate");
    assert!(fault("volume = 3", &[]).ends_with("expected one of rate, every, inner, list, pair, kind"));
}

#[test]
fn a_wrong_value_names_its_key() {
    for (text, key, found) in [
        ("rate = \"fast\"", "rate", "\"fast\""),
        ("every = -3", "every", "-3"),
        ("[inner]\nfrozen = 1", "inner.frozen", "1"),
        ("pair = [0.9, true]", "pair.1", "true"),
        ("kind = \"square\"", "kind", "square"),
        ("inner = 3", "inner", "3"),
    ] {
        let fault = fault(text, &[]);
        assert!(fault.starts_with(&format!("setting `{key}`: ")) && fault.contains(found), "{fault}");
    }
    assert!(fault("rate = 1\n\n= 3", &[]).contains("line 3: "));
    assert!(fault("", &["rate"]).contains("expected key=value"));
    assert!(fault("", &["list.0.prefix=1"]).starts_with("setting `list`: expected a sequence"));
    assert!(fault("[[list]]", &["list.1.prefix=1"]).contains("below 1"));
}

#[test]
fn differences_name_both_values() {
    let other = Outer { every: None, inner: Inner { frozen: true, ..Inner::default() }, ..Outer::default() };
    let found = differences(&Outer::default(), &other).expect("plain values");
    let texts: Vec<_> = found.iter().map(|(key, a, b)| format!("{key} {a} {b}")).collect();
    assert_eq!(texts, ["every 500 none", "inner.frozen false true"]);
}
