//! What has to be sent to one peer: spans in order.
//!
//! Publications are not in it: they stay in their logs until the connection can send, and are
//! pulled then. The outbox holds replies, control frames and response bodies, which are spans too.

use crate::limits::{
    OUTBOX_BYTES_HIGH, OUTBOX_COPY_BYTES_MAX, OUTBOX_SPANS_HIGH, OUTBOX_SPANS_LOOSE_MAX,
    SPANS_PER_SEND_MAX,
};
use crate::memory::{Payload, Span, Spans};

/// Spans to be sent, oldest first.
#[derive(Debug, Default)]
pub struct Outbox {
    spans: Spans,
}

impl Outbox {
    /// Adds a span; one that continues the last becomes part of it.
    #[inline(always)]
    pub fn push(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        if self.spans.last_mut().is_some_and(|last| last.try_join(&span)) {
            return;
        }
        if self.spans.is_empty() && !self.spans.spilled() {
            // It owns nothing; the compiler would look what it might own.
            std::mem::forget(std::mem::replace(&mut self.spans, Spans::from_buf([span])));
        } else {
            self.spans.push(span);
            if self.spans.len() >= OUTBOX_SPANS_LOOSE_MAX {
                self.gather();
            }
        }
    }

    /// Copies the short spans at the end into one of their own, if there are several. A peer that
    /// asks for little now and then and does not read would otherwise hold a block of the arena for
    /// each answer, together with all that was written into it for others.
    #[cold]
    fn gather(&mut self) {
        let is_short = |span: &&Span| span.len() <= OUTBOX_COPY_BYTES_MAX;
        let count = self.spans.iter().rev().take_while(is_short).count();
        if count < OUTBOX_SPANS_LOOSE_MAX {
            return;
        }
        let start = self.spans.len() - count;
        let mut bytes = Vec::with_capacity(self.spans[start..].iter().map(|span| span.len()).sum());
        self.spans.drain(start..).for_each(|span| bytes.extend_from_slice(&span));
        self.spans.push(Span::from_payload(Payload::copied_from(&bytes)));
    }

    /// Takes as many spans as one send may have.
    #[inline(always)]
    pub fn take(&mut self) -> Spans {
        if self.spans.len() <= SPANS_PER_SEND_MAX {
            return std::mem::take(&mut self.spans);
        }
        self.take_first()
    }

    #[cold]
    fn take_first(&mut self) -> Spans {
        self.spans.drain(..SPANS_PER_SEND_MAX).collect()
    }

    /// What waits.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.spans
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
    #[inline(always)]
    pub fn is_above_high_watermark(&self) -> bool {
        match self.spans.as_slice() {
            [] => false,
            [span] => span.len() > OUTBOX_BYTES_HIGH,
            spans => spans.len() > OUTBOX_SPANS_HIGH || self.bytes() > OUTBOX_BYTES_HIGH,
        }
    }

    /// Throws everything away.
    pub fn clear(&mut self) {
        self.spans = Spans::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Arena, without_first};
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

    /// Answers that wait for one peer, each in a block with much for others.
    #[test]
    fn short_replies_do_not_hold_a_block_each() {
        let mut arena = Arena::new(1024, 1024);
        let mut outbox = Outbox::default();
        for _ in 0..200 {
            outbox.push(arena.append(&[b"short"]));
            drop(arena.append(&[&[0; 1020]]));
        }
        assert!(arena.blocks_in_use() <= OUTBOX_SPANS_LOOSE_MAX, "{}", arena.blocks_in_use());
        assert_eq!(text(&mut outbox), b"short".repeat(200));
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
            let mut unsent = Spans::new();
            for cut in cuts {
                let spans =
                    if unsent.is_empty() { outbox.take() } else { std::mem::take(&mut unsent) };
                let bytes: Vec<u8> = spans.iter().flat_map(|span| span.to_vec()).collect();
                let count = cut.min(bytes.len());
                sent.extend_from_slice(&bytes[..count]);
                unsent = without_first(spans, count);
            }
            sent.extend(unsent.iter().flat_map(|span| span.to_vec()));
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
