//! The parser against recorded cases: a small set of our own, and the large set where it is at hand.

use std::path::Path;

use adamllm_core::{TurnMarkers, jsonl};
use adamllm_synth::{FoundTriplet, Turn, find_triplet, parse_turns};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    pred: String,
    turns: Vec<Turn>,
    triplet: Option<FoundTriplet>,
}

fn check(path: &Path) -> (usize, usize) {
    let records = jsonl::read_all::<Golden>(path).expect("golden records");
    for (i, golden) in records.iter().enumerate() {
        let turns = parse_turns(&golden.pred, &TurnMarkers::llama3());
        assert_eq!(turns, golden.turns, "turns of record {i}");
        assert_eq!(find_triplet(&turns), golden.triplet, "triplet of record {i}");
    }
    (records.len(), records.iter().filter(|record| record.triplet.is_some()).count())
}

#[test]
fn equals_our_own_cases() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/triplet_parsing.jsonl");
    assert_eq!(check(&path), (10, 4));
}

#[test]
fn equals_the_reference_parser() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/goldens/triplet_parsing.jsonl");
    if !path.exists() {
        return;
    }
    assert_eq!(check(&path), (200, 37));
}
