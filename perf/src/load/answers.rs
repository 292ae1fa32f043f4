//! What must come back, and how far a connection is with it.
//!
//! In: received bytes in pieces of any size. Out: how many messages they complete. Every byte of a
//! known answer is compared; a ping between two is none of them (RFC 6455 5.5.2), and is not answered. Compressed answers are told apart by their frame headers (RFC 6455 5.2);
//! one connection keeps them and inflates each.

use crate::frames;
use crate::inflate::Inflate;

/// What must come for each message.
#[derive(Debug, Clone)]
pub(crate) enum Expected {
    /// Exactly these bytes.
    Bytes(Vec<u8>),
    /// So many, whatever they are.
    Count(usize),
    /// A data frame of any content; one connection checks that it is this text, compressed.
    Deflated(Vec<u8>),
}

impl Expected {
    /// Bytes of one answer, as far as that is known.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Count(count) => *count,
            Self::Deflated(plain) => plain.len(),
        }
    }
}

/// How much of its answer a connection has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    received: usize,
    /// The first of the two bytes of a ping was received.
    in_ping: bool,
    /// Of a frame whose header was seen: its bytes in all.
    frame: usize,
    header: [u8; frames::HEADER_BYTES_MAX],
}

impl Progress {
    /// Whether nothing of a next answer is there.
    pub(super) fn is_at_start(&self) -> bool {
        self.received == 0 && !self.in_ping
    }

    /// Takes `bytes`; the messages that they complete.
    pub(super) fn take(&mut self, expected: &Expected, bytes: &[u8]) -> Result<u32, String> {
        match expected {
            Expected::Bytes(due) => self.compare(due, bytes),
            Expected::Count(due) => {
                let have = self.received + bytes.len();
                self.received = have % due;
                u32::try_from(have / due).map_err(|error| error.to_string())
            }
            Expected::Deflated(_) => self.skip(bytes),
        }
    }

    fn compare(&mut self, due: &[u8], mut bytes: &[u8]) -> Result<u32, String> {
        let mut complete = 0;
        while !bytes.is_empty() {
            if self.received == 0 && (self.in_ping || bytes[0] == PING[0] && due[0] != PING[0]) {
                if bytes[0] != PING[usize::from(self.in_ping)] {
                    return Err(format!("a ping with a payload: {:02x?}", bytes[0]));
                }
                self.in_ping = !self.in_ping;
                bytes = &bytes[1..];
                continue;
            }
            let length = bytes.len().min(due.len() - self.received);
            let (now, rest) = bytes.split_at(length);
            if now != &due[self.received..self.received + length] {
                let head = &now[..now.len().min(32)];
                return Err(format!("wrong bytes at {} of the answer: {head:02x?}", self.received));
            }
            self.received += length;
            if self.received == due.len() {
                self.received = 0;
                complete += 1;
            }
            bytes = rest;
        }
        Ok(complete)
    }

    /// Counts frames without looking into them.
    fn skip(&mut self, mut bytes: &[u8]) -> Result<u32, String> {
        let mut complete = 0;
        while !bytes.is_empty() {
            let header_bytes = frames::HEADER_BYTES_MAX;
            if self.frame == 0 {
                // Byte by byte: at most ten of a message.
                self.header[self.received] = bytes[0];
                self.received += 1;
                bytes = &bytes[1..];
                match frames::length(&self.header[..self.received]) {
                    Some(length) if self.header[0] & 0x0f > 2 => {
                        return Err(format!("a frame {:02x?} of {length} bytes", self.header));
                    }
                    Some(length) => self.frame = length,
                    None if self.received == header_bytes => return Err("no header".into()),
                    None => continue,
                }
            }
            let length = bytes.len().min(self.frame - self.received);
            self.received += length;
            bytes = &bytes[length..];
            if self.received == self.frame {
                *self = Self::default();
                complete += 1;
            }
        }
        Ok(complete)
    }
}

/// The connection that looks into compressed frames.
#[derive(Debug)]
pub(super) struct Checker {
    plain: Vec<u8>,
    bytes: Vec<u8>,
    inflate: Inflate,
}

impl Checker {
    pub(super) fn of(expected: &Expected) -> Option<Self> {
        let Expected::Deflated(plain) = expected else { return None };
        Some(Self { plain: plain.clone(), bytes: Vec::new(), inflate: Inflate::new() })
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.bytes.extend_from_slice(bytes);
        while let Some(frame) = frames::parse(&self.bytes) {
            let text = match frame.is_compressed {
                true => self.inflate.message(frame.payload)?,
                false => return Err("the server did not compress a message".into()),
            };
            if text != self.plain {
                return Err(format!("inflated to {} bytes that are not the message", text.len()));
            }
            let length = frame.length;
            self.bytes.drain(..length);
        }
        Ok(())
    }
}

/// As the server's are.
const PING: [u8; 2] = [0x80 | frames::PING, 0];

#[cfg(test)]
mod tests {
    use super::{Checker, Expected, PING, Progress};
    use crate::frames;

    #[test]
    fn an_answer_may_come_in_any_pieces_but_must_be_the_one() {
        let due: Vec<u8> = (0..22).collect();
        for expected in [Expected::Bytes(due.clone()), Expected::Count(22)] {
            for cut in 1..22 {
                let mut progress = Progress::default();
                assert_eq!(progress.take(&expected, &due[..cut]), Ok(0));
                assert!(!progress.is_at_start());
                assert_eq!(progress.take(&expected, &due[cut..]), Ok(1));
                assert!(progress.is_at_start());
            }
        }
        let mut progress = Progress::default();
        assert!(progress.take(&Expected::Bytes(due.clone()), &due[1..]).is_err());
        let three = due.repeat(3);
        assert_eq!(Progress::default().take(&Expected::Bytes(due), &three), Ok(3));
    }

    #[test]
    fn pings_come_between_answers_and_nowhere_else() {
        let answer = frames::server_text(b"yes");
        let due = Expected::Bytes(answer.clone());
        let bytes = [&PING[..], &answer, &PING, &PING, &answer, &PING].concat();
        for step in 1..=bytes.len() {
            let mut progress = Progress::default();
            let pieces = bytes.chunks(step);
            let counted: u32 = pieces.map(|piece| progress.take(&due, piece).unwrap()).sum();
            assert_eq!((counted, progress.is_at_start()), (2, true), "in pieces of {step}");
        }
        let within = [&answer[..2], &PING, &answer[2..]].concat();
        assert!(Progress::default().take(&due, &within).is_err());
        assert!(Progress::default().take(&due, &[PING[0], 1, 0]).is_err(), "with a payload");
        let like_it = Expected::Bytes(vec![PING[0], 7]);
        assert_eq!(Progress::default().take(&like_it, &[PING[0], 7]), Ok(1));
    }

    #[test]
    fn frames_are_counted_in_any_pieces() {
        let deflated = Expected::Deflated(Vec::new());
        for size in [0, 5, 125, 126, 70_000] {
            let bytes = frames::server_text(&vec![7; size]).repeat(2);
            for step in [1, 3, 4096, bytes.len()] {
                let mut progress = Progress::default();
                let pieces = bytes.chunks(step);
                let counted: u32 =
                    pieces.map(|piece| progress.take(&deflated, piece).unwrap()).sum();
                assert_eq!(counted, 2, "{size} in pieces of {step}");
                assert!(progress.is_at_start());
            }
        }
        assert!(Progress::default().take(&deflated, &[0x88, 0]).is_err(), "a close frame");
    }

    /// The example of RFC 7692 7.2.3.1 as a frame, in two pieces, twice.
    #[test]
    fn one_connection_looks_into_what_is_compressed() {
        let frame = [0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        let mut checker = Checker::of(&Expected::Deflated(b"Hello".to_vec())).unwrap();
        for _ in 0..2 {
            checker.take(&frame[..5]).unwrap();
            checker.take(&frame[5..]).unwrap();
        }
        assert!(checker.take(&frames::server_text(b"Hello")).is_err(), "not compressed");
        let mut checker = Checker::of(&Expected::Deflated(b"Hallo".to_vec())).unwrap();
        assert!(checker.take(&frame).is_err(), "another text");
        assert!(Checker::of(&Expected::Count(1)).is_none());
    }
}
