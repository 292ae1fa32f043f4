//! The sends of a cell from their push until the kernel is done with their bytes.
//!
//! A send never waits in the kernel, so it is over when the enter that submitted it returns. Only one
//! that was not whole is told; the others are found over by counting. Sends are numbered in the order
//! of their pushes, and the number travels in `user_data`.

use super::Token;
use crate::limits::SENDS_PER_CELL_MAX;
use crate::memory::{Spans, without_first};

/// What a send owns.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) token: Token,
    /// What the spans have together.
    pub(super) bytes: u32,
    pub(super) spans: Spans,
    pub(super) vectors: Option<Box<Vectors>>,
}

/// The sends of a cell, in the order of their pushes.
#[derive(Debug, Default)]
pub(super) struct Sends {
    list: Vec<Sending>,
    /// The number of the first in the list.
    first: u32,
    /// How many of them are over, as far as what has arrived tells of those that were not whole.
    over: usize,
    /// Changes when of all sends so far it is known what they took.
    round: u8,
}

impl Sends {
    pub(super) fn is_full(&self) -> bool {
        self.list.len() >= SENDS_PER_CELL_MAX
    }

    pub(super) const fn len(&self) -> usize {
        self.list.len()
    }

    /// A number that is another one when of every send so far it is known what it took.
    #[inline]
    pub(super) const fn round(&self) -> u8 {
        self.round
    }

    /// Adds a send and says its number; the caller has checked that the list is not full.
    #[inline(always)]
    pub(super) fn push(&mut self, sending: Sending) -> u32 {
        let number = self.first.wrapping_add(self.list.len() as u32);
        self.list.push(sending);
        number
    }

    /// Takes back the send that was added last and could not be submitted.
    #[cold]
    pub(super) fn pop(&mut self, spare: &mut SpareVectors) -> Spans {
        let Some(sending) = self.list.pop() else { return Spans::new() };
        if let Some(vectors) = sending.vectors {
            spare.recycle(vectors);
        }
        sending.spans
    }

    /// Everything that was pushed was submitted.
    #[inline]
    pub(super) const fn settle(&mut self) {
        self.over = self.list.len();
    }

    /// A send took only `taken` bytes: whose it was, and what is left of it.
    pub(super) fn cut(&mut self, number: u32, taken: usize) -> Option<(Token, Spans)> {
        let at = number.wrapping_sub(self.first) as usize;
        let sending = self.list.get_mut(at).filter(|sending| (sending.bytes as usize) > taken)?;
        sending.bytes = taken as u32;
        Some((sending.token, without_first(std::mem::take(&mut sending.spans), taken)))
    }

    /// Lets go of the sends that are over, once everything that arrived was taken. Says how many bytes
    /// they had sent.
    #[inline]
    pub(super) fn release(&mut self, spare: &mut SpareVectors) -> u64 {
        let mut bytes = 0;
        self.round = self.round.wrapping_add(u8::from(self.over == self.list.len()));
        self.first = self.first.wrapping_add(self.over as u32);
        for sending in self.list.drain(..std::mem::take(&mut self.over)) {
            bytes += u64::from(sending.bytes);
            if let Some(vectors) = sending.vectors {
                spare.recycle(vectors);
            }
        }
        bytes
    }

    pub(super) fn resident_bytes(&self) -> usize {
        self.list.capacity() * size_of::<Sending>()
    }
}

/// The scatter list of a send of several spans; boxed, because the kernel reads it by address.
pub(super) struct Vectors {
    pub(super) header: libc::msghdr,
    pub(super) list: Vec<libc::iovec>,
}

impl std::fmt::Debug for Vectors {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Vectors({})", self.list.len())
    }
}

/// Scatter lists to use again.
#[derive(Debug, Default)]
pub(super) struct SpareVectors {
    #[expect(clippy::vec_box, reason = "the kernel reads a list by address while it is in flight")]
    spare: Vec<Box<Vectors>>,
}

/// Scatter lists kept for use again.
const SPARE_VECTORS_MAX: usize = 256;

impl SpareVectors {
    pub(super) fn take(&mut self) -> Box<Vectors> {
        self.spare.pop().unwrap_or_else(|| {
            // SAFETY: `msghdr` is a plain C struct for which all zeroes mean "nothing set".
            let header = unsafe { std::mem::zeroed() };
            Box::new(Vectors { header, list: Vec::new() })
        })
    }

    pub(super) fn recycle(&mut self, mut vectors: Box<Vectors>) {
        if self.spare.len() < SPARE_VECTORS_MAX {
            vectors.list.clear();
            self.spare.push(vectors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Key, Payload, Span};

    fn sending(index: u32, bytes: &[u8]) -> Sending {
        let spans = Spans::from_buf([Span::from_payload(Payload::copied_from(bytes))]);
        let token = Key { index, generation: 1 };
        Sending { token, bytes: bytes.len() as u32, spans, vectors: None }
    }

    #[test]
    fn only_what_was_submitted_is_let_go() {
        let mut spare = SpareVectors::default();
        let mut sends = Sends { first: u32::MAX, ..Sends::default() };
        let first = sends.push(sending(1, b"one"));
        let second = sends.push(sending(2, b"second"));
        assert_eq!((first, second), (u32::MAX, 0));
        assert_eq!(sends.release(&mut spare), 0);
        sends.settle();
        let third = sends.push(sending(3, b"third"));
        let (token, left) = sends.cut(second, 4).expect("it is in the list");
        assert_eq!((token.index, &left[0][..]), (2, &b"nd"[..]));
        assert_eq!(sends.release(&mut spare), 3 + 4);
        assert!(sends.cut(second, 0).is_none(), "it was let go");
        let (token, left) = sends.cut(third, 0).expect("it is in the list");
        assert_eq!((token.index, &left[0][..]), (3, &b"third"[..]));
        assert_eq!(sends.pop(&mut spare).len(), 0);
    }

    #[test]
    fn a_whole_send_that_is_told_all_the_same_is_not_cut() {
        let mut sends = Sends::default();
        let number = sends.push(sending(1, b"one"));
        assert!(sends.cut(number, 3).is_none());
    }
}
