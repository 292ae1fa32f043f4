//! Compression for all who can share it (RFC 7692): a publication once, not once per subscriber.
//!
//! In: a publication and a format, or a message and a class. Out: its encoding, compressed where
//! that pays, else as it is, which every peer takes. Invariants: what one compressor makes refers to
//! nothing before it, so it is valid for every peer of its class; a message that is longer than
//! `DEFLATE_BYTES_MAX` is not compressed, because a shard has others to serve.
//!
//! The standard has seven windows, and each would be a compressor, a log and a compression per
//! publication if somebody asked for it. A server may use a smaller window than agreed, so there are
//! three classes; up to 4 KiB a message loses nothing by it.

use super::format::{Format, opcode_of, with_frame, write_json};
use super::publication::{Position, Publication};
use crate::limits::DEFLATE_BYTES_MAX;
use websocket::deflate::{self, Compressor, Outcome, WindowBits, WindowClass};
use websocket::encode::{self, Opcode};

/// The windows that messages are compressed with, the largest first.
const WINDOWS: [WindowBits; 3] = [WindowBits::MAX, window(12), WindowBits::MIN];

/// With whom a peer shares that agreed to a window: the class of the largest of ours within it.
#[must_use]
pub fn window_class(agreed: WindowBits) -> WindowClass {
    let within = WINDOWS.into_iter().find(|window| *window <= agreed);
    WindowClass::new(within.unwrap_or(WindowBits::MIN))
}

/// What was compressed since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeflateTotals {
    /// Messages that became shorter.
    pub compressions: u64,
    /// Their bytes before.
    pub bytes_in: u64,
    /// Their bytes after.
    pub bytes_out: u64,
}

impl DeflateTotals {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            compressions: self.compressions + other.compressions,
            bytes_in: self.bytes_in + other.bytes_in,
            bytes_out: self.bytes_out + other.bytes_out,
        }
    }

    /// Counts a message.
    pub const fn add(&mut self, bytes_in: usize, bytes_out: usize) {
        self.compressions += 1;
        self.bytes_in += bytes_in as u64;
        self.bytes_out += bytes_out as u64;
    }
}

/// One compressor for each class in use.
#[derive(Debug)]
pub struct Compressors {
    settings: deflate::Settings,
    /// Made at the first use; by [`WindowClass::index`].
    of_class: [Option<Box<Compressor>>; WindowClass::COUNT],
    totals: DeflateTotals,
    /// A message before it is compressed.
    text: Vec<u8>,
}

impl Compressors {
    /// None yet; they will be made as `settings` say.
    #[must_use]
    pub const fn new(settings: deflate::Settings) -> Self {
        Self {
            settings,
            of_class: [const { None }; WindowClass::COUNT],
            totals: DeflateTotals { compressions: 0, bytes_in: 0, bytes_out: 0 },
            text: Vec::new(),
        }
    }

    /// Appends the encoding of `publication` at `position` in `format` to `out`.
    pub fn encode(
        &mut self,
        format: Format,
        publication: &Publication,
        position: Position,
        out: &mut Vec<u8>,
    ) {
        let Some(class) = format.window_class() else {
            format.encode(publication, position, out);
            return;
        };
        if format.plain() != Format::WebSocketJson {
            return self.write_frame(class, opcode_of(publication.kind), &publication.payload, out);
        }
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        write_json(&mut text, publication, position);
        self.write_frame(class, Opcode::Text, &text, out);
        self.text = text;
        self.text.shrink_to(2 * DEFLATE_BYTES_MAX);
    }

    /// Appends a message if it becomes shorter, as the payload of a frame with RSV1.
    pub fn compress(&mut self, class: WindowClass, message: &[u8], out: &mut Vec<u8>) -> Outcome {
        if message.len() > DEFLATE_BYTES_MAX || message.len() < self.settings.threshold_bytes {
            return Outcome::DoesNotPay;
        }
        let compressor = self.of_class[class.index()]
            .get_or_insert_with(|| Box::new(Compressor::new(&self.settings, class)));
        let before = out.len();
        let outcome = compressor.compress(message, out);
        if outcome == Outcome::Compressed {
            self.totals.add(message.len(), out.len() - before);
        }
        outcome
    }

    /// What was compressed.
    #[must_use]
    pub const fn totals(&self) -> DeflateTotals {
        self.totals
    }

    /// Bytes of compressors.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        let windows = WINDOWS.into_iter();
        let made = windows.filter(|bits| self.of_class[WindowClass::new(*bits).index()].is_some());
        let compressors: usize = made.map(|bits| Compressor::bytes(&self.settings, bits)).sum();
        compressors + self.text.capacity()
    }

    /// Appends a frame with the message, compressed or as it is.
    fn write_frame(
        &mut self,
        class: WindowClass,
        opcode: Opcode,
        message: &[u8],
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        let mut outcome = Outcome::DoesNotPay;
        with_frame(
            out,
            |bytes| deflate::frame_header(opcode, bytes),
            |out| outcome = self.compress(class, message, out),
        );
        if outcome == Outcome::DoesNotPay {
            out.truncate(start);
            encode::write_frame(out, opcode, message);
        }
    }
}

/// A window that there is.
const fn window(bits: u8) -> WindowBits {
    match WindowBits::new(bits) {
        Some(window) => window,
        None => panic!("a window has 9 to 15 bits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::PublicationKind;
    use crate::memory::Payload;
    use websocket::deflate::Decompressor;
    use websocket::{Decoder, Event, Limits, Role, Step};

    const POSITION: Position = Position { epoch: 10, offset: 3 };

    fn publication(kind: PublicationKind, bytes: &[u8]) -> Publication {
        let payload = Payload::copied_from(bytes);
        Publication { payload, kind, sender: 0, event: None, key: None }
    }

    /// What a client reads, and whether it was compressed.
    fn read(mut frame: Vec<u8>) -> (Vec<u8>, bool) {
        let limits = Limits { coalesce_bytes: 1 << 20, ..Limits::default() };
        let mut decoder = Decoder::with_deflate(Role::Client);
        let step = decoder.receive(&mut frame, &limits).expect("a correct frame");
        let Step::Event { event: Event::Message { compressed, data, .. }, .. } = step else {
            panic!("one message was expected, not {step:?}");
        };
        let mut message = Vec::new();
        if compressed {
            Decompressor::new(1 << 20).message(data, &mut message).expect("DEFLATE");
        } else {
            message.extend_from_slice(data);
        }
        (message, compressed)
    }

    #[test]
    fn a_compressed_format_says_what_the_plain_one_says() {
        let mut compressors = Compressors::new(deflate::Settings::default());
        let long = r#"{"name":"a","text":"hello hello hello"},"#.repeat(20);
        let json = format!("[{}]", long.trim_end_matches(','));
        let mut expected = 0;
        for (kind, bytes) in [
            (PublicationKind::Json, json.as_bytes()),
            (PublicationKind::Text, long.as_bytes()),
            (PublicationKind::Binary, &[7; 500]),
            (PublicationKind::Text, b"short"),
        ] {
            let publication = publication(kind, bytes);
            for plain in [Format::WebSocket, Format::WebSocketJson] {
                for window in WINDOWS {
                    let format = plain.compressed(WindowClass::new(window));
                    assert_eq!(format.plain(), plain);
                    let (mut compressed, mut out) = (Vec::new(), Vec::new());
                    compressors.encode(format, &publication, POSITION, &mut compressed);
                    format.encode(&publication, POSITION, &mut out);
                    let (message, was_compressed) = read(compressed);
                    assert_eq!((message, false), read(out));
                    assert_eq!(was_compressed, bytes.len() > 64);
                    expected += u64::from(was_compressed);
                }
            }
        }
        assert_eq!(compressors.totals().compressions, expected);
        assert!(compressors.totals().bytes_out < compressors.totals().bytes_in / 3);
        assert!(compressors.resident_bytes() > 3 * (128 << 10));
    }

    #[test]
    fn what_does_not_pay_is_a_plain_frame() {
        let mut compressors = Compressors::new(deflate::Settings::default());
        let format = Format::WebSocket.compressed(window_class(WindowBits::MAX));
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            (state >> 56) as u8
        };
        let noise: Vec<u8> = (0..5000).map(|_| noise()).collect();
        let too_long = vec![b'a'; DEFLATE_BYTES_MAX + 1];
        for bytes in [&noise, &too_long] {
            let (mut out, mut plain) = (b"before".to_vec(), b"before".to_vec());
            let publication = publication(PublicationKind::Binary, bytes);
            compressors.encode(format, &publication, POSITION, &mut out);
            format.encode(&publication, POSITION, &mut plain);
            assert_eq!(out, plain);
        }
        assert_eq!(compressors.totals(), DeflateTotals::default());
    }

    #[test]
    fn there_are_three_classes_none_beyond_what_was_agreed() {
        for bits in 9..=15 {
            let agreed = window(bits);
            let ours = window_class(agreed).window();
            assert!(ours <= agreed && WINDOWS.contains(&ours), "{bits}");
        }
        assert_eq!(window_class(WindowBits::MAX).window(), WindowBits::MAX);
        assert_eq!(window_class(window(14)).window(), window(12));
    }
}
