//! Examples that are too long: what each policy keeps.

use std::ops::Range;

use crate::draft::Sequence;
use crate::{Span, SpanKind};

/// One exchange of a conversation: where its request (with the system line and all headers) and its reply stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) request: Range<usize>,
    pub(crate) reply: Range<usize>,
}

/// LLaMA-Factory's `infer_seqlen`: how much of a request and of its reply is kept of `room` tokens.
pub(crate) fn kept_of(request: usize, reply: usize, room: usize) -> (usize, usize) {
    let allowed = if reply * 2 < room {
        room
    } else if request * 2 < room {
        room - request
    } else {
        (room as f64 * (reply as f64 / (request + reply) as f64)) as usize
    };
    let reply = allowed.min(reply);
    (room.saturating_sub(reply).min(request), reply)
}

/// What LLaMA-Factory keeps of a conversation's exchanges under `limit`; from the last one where only that one counts.
pub(crate) fn kept(exchanges: &[Exchange], limit: usize, from_last: bool) -> Vec<Range<usize>> {
    let mut order: Vec<&Exchange> = exchanges.iter().collect();
    if from_last {
        order.reverse();
    }
    let mut total = 0;
    let mut ranges = Vec::new();
    for Exchange { request, reply } in order {
        if total >= limit {
            break;
        }
        let (of_request, of_reply) = kept_of(request.len(), reply.len(), limit - total);
        total += of_request + of_reply;
        ranges.push(request.start..request.start + of_request);
        ranges.push(reply.start..reply.start + of_reply);
    }
    ranges.sort_by_key(|range| range.start);
    ranges
}

impl Sequence {
    /// The conversation's exchanges: up to each message of which `is_reply` holds, and that message.
    pub(crate) fn exchanges(&self, is_reply: impl Fn(usize) -> bool) -> Vec<Exchange> {
        let mut exchanges: Vec<Exchange> = Vec::new();
        let mut of_reply = true;
        for Span { tokens, message, .. } in &self.spans {
            let reply = message.is_some_and(&is_reply);
            match exchanges.last_mut() {
                Some(exchange) if reply => exchange.reply.end = tokens.end,
                Some(exchange) if !of_reply => {
                    exchange.request.end = tokens.end;
                    exchange.reply = tokens.end..tokens.end;
                }
                _ => {
                    let request = if reply { tokens.start..tokens.start } else { tokens.clone() };
                    exchanges.push(Exchange { reply: request.end..tokens.end, request });
                }
            }
            of_reply = reply;
        }
        exchanges
    }

    /// The tokens of these ranges alone. An image that is not wholly inside one is the error.
    pub(crate) fn keep(&self, ranges: &[Range<usize>]) -> Result<Self, usize> {
        let mut kept = Self::default();

        for span in &self.spans {
            let inside = |range: &Range<usize>| {
                let tokens = span.tokens.start.max(range.start)..span.tokens.end.min(range.end);
                (!tokens.is_empty()).then_some(tokens)
            };
            let parts: Vec<Range<usize>> = ranges.iter().filter_map(inside).collect();
            // An image needs a placeholder for each of its features: some of them alone would not do.
            if let SpanKind::Image(image) = span.kind
                && parts != [span.tokens.clone()]
            {
                return Err(image);
            }

            for part in parts {
                let start = kept.tokens.len();
                if matches!(span.kind, SpanKind::Image(_)) {
                    kept.image_starts.push(start);
                }
                kept.tokens.extend_from_slice(&self.tokens[part.clone()]);
                kept.targets.extend_from_slice(&self.targets[part.clone()]);
                kept.spans.push(Span { tokens: start..start + part.len(), ..span.clone() });
            }
        }

        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The triples of LLaMA-Factory's own tests, and further ones from its formula.
    #[test]
    fn requests_and_replies_share_the_room() {
        for ((request, reply, room), expected) in [
            ((3000, 2000, 1000), (600, 400)),
            ((2000, 3000, 1000), (400, 600)),
            ((1000, 100, 1000), (900, 100)),
            ((100, 1000, 1000), (100, 900)),
            ((100, 500, 1000), (100, 500)),
            ((10, 10, 1000), (10, 10)),
            ((3000, 32, 1000), (968, 32)),
            ((2000, 600, 1000), (770, 230)),
            ((6200, 60, 6144), (6084, 60)),
            ((3100, 3100, 6144), (3072, 3072)),
            ((2000, 5000, 6144), (2000, 4144)),
            ((1, 1, 1), (1, 0)),
            ((5, 5, 1), (1, 0)),
        ] {
            assert_eq!(kept_of(request, reply, room), expected, "{request}, {reply}, {room}");
        }
    }

    #[test]
    fn exchange_by_exchange_until_the_room_is_used_up() {
        let exchanges = [
            Exchange { request: 0..10, reply: 10..14 },
            Exchange { request: 14..24, reply: 24..40 },
            Exchange { request: 40..50, reply: 50..60 },
        ];
        assert_eq!(kept(&exchanges, 100, false), [0..10, 10..14, 14..24, 24..40, 40..50, 50..60]);
        // 6 tokens are left for the second exchange: int(6 * 16 / 26) = 3 of its reply, 3 of its request.
        assert_eq!(kept(&exchanges, 20, false), [0..10, 10..14, 14..17, 24..27]);
        assert_eq!(kept(&exchanges, 20, true), [40..50, 50..60]);
    }

    #[test]
    fn an_image_is_kept_whole_or_is_the_error() {
        let span = |kind, tokens| Span { kind, tokens, message: Some(0), target: false };
        let sequence = Sequence {
            tokens: vec![1, 9, 9, 2, 3],
            targets: vec![false; 5],
            spans: vec![span(SpanKind::Text, 0..1), span(SpanKind::Image(0), 1..3), span(SpanKind::Text, 3..5)],
            image_starts: vec![1],
        };
        let kept = sequence.keep(std::slice::from_ref(&(0..4))).expect("the image is whole");
        assert_eq!((kept.tokens.len(), &kept.spans[2].tokens, &kept.image_starts), (4, &(3..4), &vec![1]));
        for cut in [0..2, 0..1, 2..5] {
            assert_eq!(sequence.keep(std::slice::from_ref(&cut)), Err(0));
        }
    }
}
