//! permessage-deflate on a shard (RFC 7692): what its connections share, and what a connection with context takeover
//! has for itself.
//!
//! In: compressed messages, and replies to be compressed. Out: messages, counted as they come out, and frames.
//! Invariants: a message of a peer without takeover leaves nothing behind in the shared states, also when it is broken;
//! states with takeover are made at their first use, and a shard agrees to no more than fit into
//! `DEFLATE_TAKEOVER_BYTES_MAX`. Publications are compressed in `fanout`, once for all.

use crate::fanout::{Compressors, DeflateTotals, window_class};
use crate::limits::{DEFLATE_BYTES_MAX, DEFLATE_TAKEOVER_BYTES_MAX, INFLATED_BYTES_KEPT};
use websocket::deflate::{
    Agreement, Compressor, DECOMPRESSOR_BYTES, Decompressor, Error, Level, Outcome, Settings,
    WindowBits, WindowClass, negotiate,
};

/// The states of a shard.
#[derive(Debug)]
pub struct Deflate {
    settings: Settings,
    takeover: bool,
    /// For replies to single peers: fast.
    replies: Compressors,
    /// What was compressed with takeover.
    own: DeflateTotals,
    /// Made at the first use.
    decompressor: Option<Box<Decompressor>>,
    /// The message that was inflated last.
    inflated: Vec<u8>,
    /// Bytes of the states that connections with takeover have or may make.
    takeover_bytes: usize,
}

/// A connection's own states.
#[derive(Debug)]
pub struct Takeover {
    /// The client refers to its earlier messages.
    client: bool,
    /// We refer to ours, within this window.
    server: Option<WindowBits>,
    decompressor: Option<Decompressor>,
    compressor: Option<Compressor>,
}

/// What was agreed with a peer.
#[derive(Debug)]
pub struct Agreed {
    /// What the answer says.
    pub agreement: Agreement,
    /// With whom it shares what is compressed for many.
    pub class: WindowClass,
    /// Its own states, if it has any.
    pub takeover: Option<Box<Takeover>>,
}

impl Deflate {
    /// As the operator decided; nothing is made yet.
    #[must_use]
    pub fn new(settings: Settings, takeover: bool) -> Self {
        let level = Level::new(REPLY_LEVEL).unwrap_or(settings.level);
        let settings = Settings { level: level.min(settings.level), ..settings };
        Self {
            settings,
            takeover,
            replies: Compressors::new(settings),
            own: DeflateTotals::default(),
            decompressor: None,
            inflated: Vec::new(),
            takeover_bytes: 0,
        }
    }

    /// Agrees to the first acceptable offer in the fields of a request. Who `shares` what is sent to him with others
    /// gets messages that stand alone; his own may still refer to each other.
    pub(super) fn negotiate<'a>(
        &mut self,
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        shares: bool,
    ) -> Option<Agreed> {
        let has_room = self.takeover_bytes + TAKEOVER_BYTES_MAX <= DEFLATE_TAKEOVER_BYTES_MAX;
        let takeover = self.takeover && has_room;
        let settings = Settings {
            client_context_takeover: takeover,
            server_context_takeover: takeover && !shares,
            ..self.settings
        };
        let agreement = negotiate(headers, &settings)?;
        let window = agreement.server_window(&settings);
        let takeover = Takeover {
            client: !agreement.client_no_context_takeover,
            server: (!agreement.server_no_context_takeover).then_some(window),
            decompressor: None,
            compressor: None,
        };
        let bytes = self.bytes_of(&takeover);
        self.takeover_bytes += bytes;
        Some(Agreed {
            agreement,
            class: window_class(window),
            takeover: (bytes > 0).then(|| Box::new(takeover)),
        })
    }

    /// A connection with states of its own ends.
    pub(super) fn release(&mut self, takeover: &Takeover) {
        self.takeover_bytes -= self.bytes_of(takeover);
    }

    /// Inflates a whole message; the vector goes back with [`Self::put_back`].
    pub(super) fn inflate(
        &mut self,
        takeover: Option<&mut Takeover>,
        payload: &[u8],
        message_bytes_max: u64,
    ) -> Result<Vec<u8>, Error> {
        let mut inflated = std::mem::take(&mut self.inflated);
        inflated.clear();
        let result = match takeover {
            Some(own) if own.client => own
                .decompressor
                .get_or_insert_with(|| Decompressor::with_takeover(message_bytes_max))
                .message(payload, &mut inflated),
            _ => {
                let shared = self
                    .decompressor
                    .get_or_insert_with(|| Box::new(Decompressor::new(message_bytes_max)));
                shared.set_message_bytes_max(message_bytes_max);
                shared.message(payload, &mut inflated)
            }
        };
        match result {
            Ok(()) => Ok(inflated),
            Err(error) => {
                self.put_back(inflated);
                Err(error)
            }
        }
    }

    /// Takes a message's memory for the next; what a large one took is given back.
    pub(super) fn put_back(&mut self, mut inflated: Vec<u8>) {
        inflated.clear();
        inflated.shrink_to(INFLATED_BYTES_KEPT);
        self.inflated = inflated;
    }

    /// Appends a reply if it becomes shorter, as the payload of a frame with RSV1.
    pub(super) fn compress(
        &mut self,
        takeover: Option<&mut Takeover>,
        class: WindowClass,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Outcome {
        let Some((own, window)) = takeover.and_then(|own| own.server.map(|window| (own, window)))
        else {
            return self.replies.compress(class, message, out);
        };
        let compressor =
            own.compressor.get_or_insert_with(|| Compressor::with_takeover(&self.settings, window));
        if message.len() > DEFLATE_BYTES_MAX {
            return Outcome::DoesNotPay;
        }
        let before = out.len();
        let outcome = compressor.compress(message, out);
        if outcome == Outcome::Compressed {
            self.own.add(message.len(), out.len() - before);
        }
        outcome
    }

    /// What was compressed for single peers.
    #[must_use]
    pub const fn totals(&self) -> DeflateTotals {
        self.replies.totals().plus(self.own)
    }

    /// Bytes of all states; those with takeover count as if each were made.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        let shared = if self.decompressor.is_some() { DECOMPRESSOR_BYTES } else { 0 };
        self.replies.resident_bytes() + shared + self.inflated.capacity() + self.takeover_bytes
    }

    fn bytes_of(&self, takeover: &Takeover) -> usize {
        let decompressor = if takeover.client { DECOMPRESSOR_BYTES } else { 0 };
        let window = takeover.server;
        decompressor + window.map_or(0, |window| Compressor::bytes(&self.settings, window))
    }
}

/// The level at which replies to single peers are compressed, if publications are not at a lower one. Measured: 1.9 us
/// for 512 bytes of JSON, 7.5 us at level 6.
const REPLY_LEVEL: u8 = 1;
/// The most that one connection's states take.
const TAKEOVER_BYTES_MAX: usize = DECOMPRESSOR_BYTES + websocket::deflate::COMPRESSOR_BYTES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: [(&str, &[u8]); 1] =
        [("Sec-WebSocket-Extensions", b"permessage-deflate; client_max_window_bits")];

    #[test]
    fn without_takeover_an_idle_peer_costs_nothing() {
        let mut deflate = Deflate::new(Settings::default(), false);
        for shares in [false, true] {
            let agreed = deflate.negotiate(OFFER, shares).expect("an agreement");
            assert!(agreed.takeover.is_none());
            assert!(agreed.agreement.server_no_context_takeover);
            assert!(agreed.agreement.client_no_context_takeover);
        }
        assert_eq!(deflate.resident_bytes(), 0);
    }

    #[test]
    fn takeover_is_agreed_to_while_there_is_room_and_the_room_comes_back() {
        let mut deflate = Deflate::new(Settings::default(), true);
        for shares in [false, true, false] {
            let mut held = Vec::new();
            let refused = loop {
                let agreed = deflate.negotiate(OFFER, shares).expect("an agreement");
                match agreed.takeover {
                    Some(takeover) => held.push(takeover),
                    None => break agreed.agreement,
                }
            };
            assert!(refused.server_no_context_takeover && refused.client_no_context_takeover);
            assert!(held.len() > 100 && deflate.takeover_bytes <= DEFLATE_TAKEOVER_BYTES_MAX);
            assert!(held.iter().all(|takeover| takeover.server.is_none() == shares));
            held.iter().for_each(|takeover| deflate.release(takeover));
            assert_eq!(deflate.takeover_bytes, 0);
        }
    }

    #[test]
    fn a_broken_message_leaves_nothing_behind() {
        let mut deflate = Deflate::new(Settings::default(), false);
        let class = window_class(WindowBits::MAX);
        let text = "some text that repeats itself, some text that repeats itself".repeat(20);
        let mut small = Vec::new();
        assert_eq!(deflate.compress(None, class, text.as_bytes(), &mut small), Outcome::Compressed);
        for broken in [&[0xff; 9][..], &small[..small.len() - 3], &[]] {
            let _ = deflate.inflate(None, broken, 1 << 20);
            let limit = text.len() as u64;
            assert_eq!(deflate.inflate(None, &small, limit - 1), Err(Error::TooBig));
            let inflated = deflate.inflate(None, &small, limit).expect("within the limit");
            assert_eq!(inflated, text.as_bytes());
            deflate.put_back(inflated);
        }
        // What a large message took is given back.
        let inflated = vec![0; 4 * INFLATED_BYTES_KEPT];
        deflate.put_back(inflated);
        assert!(deflate.inflated.capacity() <= INFLATED_BYTES_KEPT);
    }
}
