//! What has to be sent to one peer: spans in order.
//!
//! Publications are not in it: they stay in their logs until the connection can send, and are
//! pulled then. The outbox holds replies, control frames and response bodies, which are spans too.

use crate::limits::{OUTBOX_BYTES_HIGH, OUTBOX_SPANS_HIGH, SPANS_PER_SEND_MAX};
use crate::memory::{Span, Spans};

/// Spans to be sent, oldest first.
#[derive(Debug, Default)]
pub struct Outbox {
    spans: Spans,
}

impl Outbox {
    /// Adds a span; one that continues the last becomes part of it.
    pub fn push(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        if self.spans.last_mut().is_some_and(|last| last.try_join(&span)) {
            return;
        }
        self.spans.push(span);
    }

    /// Takes as many spans as one send may have.
    pub fn take(&mut self) -> Spans {
        if self.spans.len() <= SPANS_PER_SEND_MAX {
            return std::mem::take(&mut self.spans);
        }
        self.spans.drain(..SPANS_PER_SEND_MAX).collect()
    }

    /// Puts spans back in front, without their first `sent` bytes.
    pub fn put_back(&mut self, mut spans: Spans, mut sent: usize) {
        let whole = spans
            .iter()
            .take_while(|span| {
                let gone = sent >= span.len();
                if gone {
                    sent -= span.len();
                }
                gone
            })
            .count();
        spans.drain(..whole);
        if let Some(first) = spans.first_mut() {
            first.advance(sent);
        }
        if !spans.is_empty() {
            spans.append(&mut self.spans);
            self.spans = spans;
        }
    }

    /// What is left of `spans` without their first `sent` bytes.
    #[must_use]
    pub fn rest_of(spans: Spans, sent: usize) -> Spans {
        let mut rest = Self::default();
        rest.put_back(spans, sent);
        rest.spans
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.spans.iter().map(|span| span.len()).sum()
    }

    /// Whether so much waits that nothing more should be asked for.
    #[must_use]
    pub fn is_above_high_watermark(&self) -> bool {
        self.spans.len() > OUTBOX_SPANS_HIGH
            || (!self.spans.is_empty() && self.bytes() > OUTBOX_BYTES_HIGH)
    }

    /// Throws everything away.
    pub fn clear(&mut self) {
        self.spans = Spans::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Arena, Payload};
    use proptest::prelude::*;

    fn text(outbox: &mut Outbox) -> Vec<u8> {
        outbox.take().iter().flat_map(|span| span.to_vec()).collect()
    }

    #[test]
    fn replies_in_a_row_become_one_span() {
        let mut arena = Arena::new(1024, 4);
        let mut outbox = Outbox::default();
        for reply in [&b"one"[..], b"two", b"three"] {
            outbox.push(arena.append(&[reply]));
        }
        assert_eq!(outbox.take().len(), 1);
    }

    proptest! {
        #[test]
        fn any_short_send_loses_nothing(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..80),
            cuts in proptest::collection::vec(0..50_usize, 1..200),
        ) {
            let mut outbox = Outbox::default();
            for part in &parts {
                outbox.push(Span::from_payload(Payload::copied_from(part)));
            }
            let mut sent = Vec::new();
            for cut in cuts {
                let spans = outbox.take();
                let bytes: Vec<u8> = spans.iter().flat_map(|span| span.to_vec()).collect();
                let count = cut.min(bytes.len());
                sent.extend_from_slice(&bytes[..count]);
                outbox.put_back(spans, count);
            }
            loop {
                let rest = text(&mut outbox);
                if rest.is_empty() {
                    break;
                }
                sent.extend(rest);
            }
            prop_assert_eq!(sent, parts.concat());
        }
    }
}
