//! Properties that hold for any text and any records.

use adamllm_core::testing::{ScriptedError, ScriptedModel};
use adamllm_core::{ImageCaption, InstructionTask, LedgerEntry, Role, TurnMarkers, jsonl};
use adamllm_synth::{
    ConsistencyFilter, INFORMATIVE_HINT, PRECISE_HINT, RunConfig, SynthesisRun, Synthesizer, find_special_token,
    find_triplet, parse_turns,
};
use proptest::prelude::*;

mod scripted;

/// Pieces that a synthesizer's text is made of, whole and broken.
fn pieces(markers: &TurnMarkers) -> impl Strategy<Value = String> + use<> {
    let TurnMarkers { end_of_turn, separator, user_header, assistant_header } = markers.clone();
    let answer = format!("{end_of_turn}{separator}{assistant_header}");
    let question = format!("{end_of_turn}{separator}{user_header}");
    prop_oneof![
        2 => Just(answer),
        2 => Just(question),
        1 => Just(end_of_turn),
        1 => Just(user_header.clone()),
        1 => Just(assistant_header),
        1 => Just(user_header[..5].to_owned()),
        2 => Just(PRECISE_HINT.to_owned()),
        2 => Just(INFORMATIVE_HINT.to_owned()),
        2 => Just("How many?".to_owned()),
        2 => "[ a-z\n.<|>é]{0,12}",
    ]
}

fn texts(markers: TurnMarkers) -> impl Strategy<Value = (TurnMarkers, String)> {
    let text = prop::collection::vec(pieces(&markers), 0..24).prop_map(|pieces| pieces.concat());
    text.prop_map(move |text| (markers.clone(), text))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn turns_alternate_and_hold_no_markers(
        (markers, text) in prop_oneof![texts(TurnMarkers::llama3()), texts(TurnMarkers::chatml())]
    ) {
        let turns = parse_turns(&text, &markers);
        for (i, turn) in turns.iter().enumerate() {
            prop_assert_eq!(turn.role, if i % 2 == 0 { Role::User } else { Role::Assistant });
            prop_assert!(!turn.text.is_empty() && turn.text.trim() == turn.text);
            for marker in [&markers.end_of_turn, &markers.user_header, &markers.assistant_header] {
                prop_assert!(!turn.text.contains(marker.as_str()), "{:?} in {:?}", marker, turn.text);
            }
        }
        prop_assert!(turns.len().is_multiple_of(2));
        if let Some(found) = find_triplet(&turns) {
            let asked = |hint: &str, answer: &str| turns.chunks(2).any(|exchange| {
                exchange[0].text.strip_prefix(hint) == Some(&found.question) && exchange[1].text == answer
            });
            prop_assert!(asked(PRECISE_HINT, &found.precise) && asked(INFORMATIVE_HINT, &found.informative));
        }
    }

    #[test]
    fn what_was_rendered_is_parsed_again(
        sides in prop::collection::vec("[a-zA-Zé][ a-z?.\n]{0,20}[a-z]", 2..9),
        is_chatml in any::<bool>(),
    ) {
        let markers = if is_chatml { TurnMarkers::chatml() } else { TurnMarkers::llama3() };
        let end = format!("{}{}", markers.end_of_turn, markers.separator);
        let exchanges: Vec<_> = sides.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect();
        let rendered: Vec<_> = exchanges
            .iter()
            .map(|(question, answer)| format!("{question}{end}{}{answer}{end}", markers.assistant_header))
            .collect();
        let turns = parse_turns(&rendered.join(&markers.user_header), &markers);
        let parsed: Vec<_> = turns.chunks(2).map(|pair| (&pair[0].text, &pair[1].text)).collect();
        prop_assert_eq!(parsed, exchanges);
    }

    #[test]
    fn a_text_without_special_tokens_survives_the_round_trip_through_a_template(text in "[ -~\n]{0,40}") {
        let markers = TurnMarkers::chatml();
        if find_special_token(&text, &markers).is_none() && !text.trim().is_empty() {
            let rendered = format!("Q<|im_end|>\n<|im_start|>assistant\n{text}<|im_end|>\n");
            let turns = parse_turns(&rendered, &markers);
            prop_assert_eq!(turns.len(), 2);
            prop_assert_eq!(turns[1].text.as_str(), text.trim());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the models write and the records are: records in = records out + ledger entries, and every record is in one of the two.
    #[test]
    fn every_record_comes_out_or_is_in_the_ledger(
        captions in prop::collection::vec("(|cells|fails|<\\|eot_id\\|>|<image>|[a-z ]{0,6})", 1..30),
        written in prop::collection::vec(pieces(&TurnMarkers::llama3()), 0..24),
        verdicts in prop::collection::vec("(Yes|No|Open|maybe|)", 1..5),
        batch_size in 1usize..9,
    ) {
        let writer = ScriptedModel::new(move |prompt| match prompt.images()[0].as_str() {
            "3.png" => Err(ScriptedError("scripted".into())),
            "4.png" => Ok(written.concat()),
            _ => {
                let TurnMarkers { end_of_turn, user_header, assistant_header, .. } = TurnMarkers::llama3();
                Ok(format!(
                    "{PRECISE_HINT}Q{end_of_turn}{assistant_header}A{end_of_turn}{user_header}\
                     {INFORMATIVE_HINT}Q{end_of_turn}{assistant_header}B{end_of_turn}"
                ))
            }
        });
        let reader = ScriptedModel::new(move |prompt| {
            let length = format!("{prompt:?}").len();
            Ok(verdicts[length % verdicts.len()].clone())
        });
        let pairs: Vec<_> = captions
            .iter()
            .enumerate()
            .map(|(i, caption)| ImageCaption::new(format!("{}.png", i % 12), caption.clone()))
            .collect();
        let (folder, images) = (tempfile::tempdir().expect("a temporary folder"), scripted::images());
        let config = RunConfig { batch_size, ..RunConfig::default() };
        let run = SynthesisRun::new(folder.path(), &images).with_config(config).expect("valid");
        let (synthesizer, judge) = (Synthesizer::new(&writer), ConsistencyFilter::new(&reader));
        let summary = run.run(&pairs, &synthesizer, &judge, &mut ()).expect("runs");
        prop_assert_eq!(summary.records_in, pairs.len() as u64);
        prop_assert_eq!(summary.records_in, summary.records_out + summary.ledger_entries);
        let tasks = jsonl::read_all::<InstructionTask>(folder.path().join("tasks.jsonl")).expect("reads");
        let ledger = jsonl::read_all::<LedgerEntry>(folder.path().join("ledger.jsonl")).expect("reads");
        let mut ids: Vec<_> = tasks.iter().map(|task| &task.pair).chain(ledger.iter().map(|entry| &entry.id)).collect();
        let mut expected: Vec<_> = pairs.iter().map(|pair| &pair.id).collect();
        ids.sort();
        expected.sort();
        prop_assert_eq!(ids, expected);
    }
}
