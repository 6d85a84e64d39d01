//! An example whose images have not been read yet: token runs in which every image is still one placeholder.

use crate::{Span, SpanKind};

/// An example's tokens, run by run. Every image is one token yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) runs: Vec<Run>,
}

/// Tokens of one message that count for the loss, or do not. They were tokenised by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) tokens: Vec<u32>,
    pub(crate) message: Option<usize>,
    pub(crate) target: bool,
}

/// What [`Draft::expand`] asks about a token.
pub(crate) trait TokenKinds {
    /// Whether this is an image's placeholder.
    fn is_image(&self, token: u32) -> bool;
    /// Whether this is a special token.
    fn is_special(&self, token: u32) -> bool;
}

/// An example's tokens with every placeholder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub(crate) tokens: Vec<u32>,
    pub(crate) targets: Vec<bool>,
    pub(crate) spans: Vec<Span>,
    pub(crate) image_starts: Vec<usize>,
}

impl Draft {
    pub(crate) fn push(&mut self, tokens: Vec<u32>, message: Option<usize>, target: bool) {
        if !tokens.is_empty() {
            self.runs.push(Run { tokens, message, target });
        }
    }

    /// Images in the example.
    pub(crate) fn n_images(&self, kinds: &impl TokenKinds) -> usize {
        self.runs.iter().flat_map(|run| &run.tokens).filter(|&&token| kinds.is_image(token)).count()
    }

    /// Puts the tokens of each image, its placeholders among them, where the image's one token stands. They never count for
    /// the loss.
    ///
    /// # Panics
    /// If `images` are fewer than the images of the example.
    pub(crate) fn expand(&self, images: &[Vec<u32>], kinds: &impl TokenKinds) -> Sequence {
        let n =
            self.runs.iter().map(|run| run.tokens.len()).sum::<usize>() + images.iter().map(Vec::len).sum::<usize>();
        let mut sequence = Sequence::default();
        sequence.tokens.reserve(n);
        sequence.targets.reserve(n);
        for run in &self.runs {
            for &token in &run.tokens {
                sequence.push(token, run, images, kinds);
            }
        }
        sequence
    }
}

impl Sequence {
    /// Tokens that count for the loss; the first never does.
    pub(crate) fn n_targets(&self) -> usize {
        self.targets.iter().skip(1).filter(|target| **target).count()
    }

    fn push(&mut self, token: u32, run: &Run, images: &[Vec<u32>], kinds: &impl TokenKinds) {
        let start = self.tokens.len();
        let word = [token];
        let (kind, tokens) = if kinds.is_image(token) {
            let image = self.image_starts.len();
            self.image_starts.push(start);
            (SpanKind::Image(image), images[image].as_slice())
        } else {
            let special = kinds.is_special(token);
            (if special { SpanKind::Special } else { SpanKind::Text }, word.as_slice())
        };
        let target = run.target && !matches!(kind, SpanKind::Image(_));
        self.tokens.extend_from_slice(tokens);
        self.targets.extend(std::iter::repeat_n(target, tokens.len()));
        self.extend_spans(Span { kind, tokens: start..start + tokens.len(), message: run.message, target });
    }

    /// Words go on in the last span where they are of the same message and count alike.
    fn extend_spans(&mut self, span: Span) {
        match self.spans.last_mut() {
            Some(last)
                if (last.kind, span.kind) == (SpanKind::Text, SpanKind::Text)
                    && (last.message, last.target) == (span.message, span.target) =>
            {
                last.tokens.end = span.tokens.end;
            }
            _ => self.spans.push(span),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Kinds;

    impl TokenKinds for Kinds {
        fn is_image(&self, token: u32) -> bool {
            token == 9
        }
        fn is_special(&self, token: u32) -> bool {
            token >= 8
        }
    }

    #[test]
    fn spans_follow_each_other_and_hold_images_whole() {
        let mut draft = Draft::default();
        draft.push(vec![8, 1, 9, 9, 2], Some(0), true);
        draft.push(vec![3], Some(0), true);
        draft.push(vec![4, 8], Some(1), true);
        let sequence = draft.expand(&[vec![9, 9], vec![7, 9, 5]], &Kinds);
        assert_eq!(sequence.tokens, [8, 1, 9, 9, 7, 9, 5, 2, 3, 4, 8]);
        assert_eq!(sequence.image_starts, [2, 4]);
        let kinds: Vec<_> = sequence.spans.iter().map(|span| (span.kind, span.tokens.clone(), span.target)).collect();
        use SpanKind::{Image, Special, Text};
        assert_eq!(
            kinds,
            [
                (Special, 0..1, true),
                (Text, 1..2, true),
                (Image(0), 2..4, false),
                (Image(1), 4..7, false),
                (Text, 7..9, true),
                (Text, 9..10, true),
                (Special, 10..11, true),
            ]
        );
        let counted: Vec<bool> = kinds.iter().flat_map(|(_, tokens, t)| tokens.clone().map(|_| *t)).collect();
        assert_eq!(counted, sequence.targets);
    }
}
