//! Synthesis with a model of one's own: whatever implements `Generate` proposes and judges. Here a few rules stand for both models.

use std::convert::Infallible;

use adamllm_core::{Completion, Decoding, Generate, ImageCaption, Prompt, ScoreRequest, TurnMarkers};
use adamllm_synth::{ConsistencyFilter, Synthesizer, Verdict, combine};

struct Rules;

impl Generate for Rules {
    type Error = Infallible;

    fn generate(&self, prompts: &[Prompt], _options: &Decoding) -> Vec<Result<Completion, Infallible>> {
        let answer = |prompt: &Prompt| match prompt {
            // The synthesizer's prompt holds the caption as the assistant's turn, and wants the turns after it.
            Prompt::Chat { conversation, .. } => {
                let caption = &conversation.messages[1].content;
                let color = ["red", "blue"].into_iter().find(|color| caption.contains(color)).unwrap_or("no color");
                format!(
                    "Answer with a precise response.\nWhich color is it?<|im_end|>\n<|im_start|>assistant\n{color}<|im_end|>\n\
                     <|im_start|>user\nAnswer with an informative response.\nWhich color is it?<|im_end|>\n\
                     <|im_start|>assistant\n{caption}<|im_end|>\n"
                )
            }
            // The judge's prompt is plain text, and ends with the triplet in question.
            Prompt::Text(text) => if text.contains("no color") { " No" } else { " Yes" }.to_owned(),
        };
        prompts.iter().map(|prompt| Ok(Completion::new(answer(prompt)))).collect()
    }
    fn score(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<f64>, Infallible>> {
        requests.iter().map(|request| Ok(vec![0.0; request.continuations.len()])).collect()
    }
    fn identity(&self) -> String {
        "rules, version 1".into()
    }
    fn turn_markers(&self) -> Option<TurnMarkers> {
        Some(TurnMarkers::chatml())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let captions = ["A red cell with a round nucleus.", "A pale cell.", "Two blue cells."];
    let pairs: Vec<_> = captions.iter().map(|caption| ImageCaption::new("slide.png", *caption)).collect();
    let triplets = Synthesizer::new(Rules).propose(&pairs).into_iter().collect::<Result<Vec<_>, _>>()?;
    let judged = ConsistencyFilter::new(Rules).judge(&triplets).into_iter().collect::<Result<Vec<_>, _>>()?;
    let kept = judged.iter().filter(|judged| judged.verdict == Verdict::Consistent);
    let tasks: Vec<_> = kept.map(|judged| combine(judged, 0)).collect();
    println!(
        "{} pairs, {} tasks; the first: {} -> {}",
        pairs.len(),
        tasks.len(),
        tasks[0].instruction,
        tasks[0].response
    );
    assert_eq!(tasks.len(), 2);
    Ok(())
}
