//! Seed files in their published layouts, rendered by the templates of both families that synthesizers are made of: what is
//! supervised, and what is not.
#![cfg(all(feature = "model", feature = "synth"))]

use std::path::Path;

use adamllm::core::TurnMarkers;
use adamllm::model::{ChatTemplate, TemplateTokens};
use adamllm::prelude::*;
use adamllm::synth::seed::{SEED_SUPERVISION, SeedConfig, SeedIndex, SeedSources};

/// The shape of Llama 3's template, as LLaVA-NeXT-Llama3 has it.
const LLAMA3: &str = "{{ '<|begin_of_text|><|start_header_id|>system<|end_header_id|>\\n\\nYou see.<|eot_id|>' }}\
    {% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>{{ '\\n\\n' }}{% if m.content is string %}{{ m.content }}\
    {% else %}{% for p in m.content %}{% if p.type == 'image' %}<image>{% else %}{{ p.text }}{% endif %}{% endfor %}{% endif %}\
    <|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>{{ '\\n\\n' }}{% endif %}";

/// The shape of ChatML, as the Qwen families have it.
const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}\
    {% else %}{% for p in m.content %}{% if p.type == 'image' %}<|image_pad|>{% else %}{{ p.text }}{% endif %}{% endfor %}{% endif %}\
    <|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

fn conversations() -> Vec<Conversation> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mini/general/seed_files");
    let index = SeedIndex::build(SeedSources {
        precise: folder.join("metadata.json"),
        captions: folder.join("ALLaVA-Caption-VFLAN-4V.json"),
        informative: folder.join("ALLaVA-Instruct-VFLAN-4V.json"),
    })
    .expect("the mini seed files");
    let config = SeedConfig::default();
    let seeds = index.conversations(&config).expect("opens");
    seeds.map(|seed| seed.expect("sound").conversation).collect()
}

#[test]
fn everything_after_the_caption_is_supervised_and_nothing_before() {
    let seeds = conversations();
    assert_eq!(seeds.len(), 60);
    for (source, markers) in [(LLAMA3, TurnMarkers::llama3()), (CHATML, TurnMarkers::chatml())] {
        let template = ChatTemplate::new(source.into(), TemplateTokens::default()).expect("compiles");
        let TurnMarkers { end_of_turn: end, separator, user_header: user, assistant_header: assistant } = &markers;
        for seed in &seeds {
            let segments = template.segments(seed, SEED_SUPERVISION, std::slice::from_ref(end)).expect("renders");
            assert!(segments.is_sorted_by_key(|segment| segment.target), "one border: {segments:?}");
            let text = |target| segments.iter().filter(|s| s.target == target).map(|s| s.text.as_str()).collect();
            let [masked, supervised]: [String; 2] = [text(false), text(true)];
            let caption = &seed.messages[1].content;
            assert!(
                masked.ends_with(&format!("Describe the image.{end}{separator}{assistant}{caption}{end}")),
                "{masked}"
            );
            let turns = seed.messages[2..].chunks(2).map(|turns| {
                let [question, answer] = [&turns[0].content, &turns[1].content];
                format!("{separator}{user}{question}{end}{separator}{assistant}{answer}{end}")
            });
            assert_eq!(supervised, turns.collect::<String>(), "user turns and headers are in the loss too");
        }
    }
}

#[test]
fn what_is_supervised_is_what_the_synthesis_parses() {
    for markers in [TurnMarkers::llama3(), TurnMarkers::chatml()] {
        let TurnMarkers { end_of_turn: end, separator, user_header: user, assistant_header: assistant } = &markers;
        for seed in conversations() {
            let turns = seed.messages[2..]
                .chunks(2)
                .map(|turns| format!("{}{end}{separator}{assistant}{}{end}", turns[0].content, turns[1].content));
            let written = turns.collect::<Vec<_>>().join(&format!("{separator}{user}"));
            let found = adamllm::synth::find_triplet(&adamllm::synth::parse_turns(&written, &markers));
            let found = found.expect("a perfect synthesizer's text holds its triplet");
            let asked = |hint: &str, answer: &str| {
                let question = format!("{hint}{}", found.question);
                seed.messages[2..].chunks(2).any(|turns| turns[0].content == question && turns[1].content == answer)
            };
            assert!(asked("Answer with a precise response.\n", &found.precise));
            assert!(asked("Answer with an informative response.\n", &found.informative));
        }
    }
}
