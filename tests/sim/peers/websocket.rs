//! A WebSocket client that publishes numbered messages and reads everything.

use super::link::{HTTP, Link, State};
use super::{Client, Io, NEVER};
use crate::core::{MICROSECOND, MILLISECOND, SECOND};
use crate::oracle::{Ledger, Message, Subscription, parse_position, parse_text, text_of};
use websocket::deflate::{
    self, Agreement, ClientWindow, Compressor, Decompressor, Offer, WindowBits, WindowClass,
};
use websocket::encode::{Opcode, close_payload, write_masked_frame};
use websocket::handshake::{ClientRequest, Key, read_response, write_request};
use websocket::{Decoder, Event, Limits, Role, Step};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Away,
    Asking,
    Open,
    Closing,
    Gone,
}

/// The client.
#[derive(Debug)]
pub(crate) struct WebSocketClient {
    link: Link,
    stage: Stage,
    channel: usize,
    /// Whether it asks for the JSON subprotocol, which has ids.
    json: bool,
    skips_own: bool,
    /// What it offers of permessage-deflate, and what was agreed.
    offer: Option<Offer>,
    agreement: Option<Agreement>,
    compressor: Option<Compressor>,
    decompressor: Decompressor,
    key: Key,
    decoder: Decoder,
    message: Vec<u8>,
    /// Whether the message is to be inflated.
    compressed: bool,
    subscription: Option<Subscription>,
    last_id: Option<String>,
    publisher: Option<u32>,
    /// Publications still to be made.
    left: u32,
    next_at: u64,
    open_since: u64,
    /// The shard that it connects to, if it minds, publishing as fast as it can.
    shard: Option<usize>,
}

impl WebSocketClient {
    pub(crate) fn new(channel: usize, json: bool, skips_own: bool, publications: u32) -> Self {
        Self {
            link: Link::default(),
            stage: Stage::Away,
            channel,
            json,
            skips_own,
            offer: None,
            agreement: None,
            compressor: None,
            decompressor: Decompressor::new(1 << 20),
            key: Key::from_nonce([7; 16]),
            decoder: Decoder::new(Role::Client),
            message: Vec::new(),
            compressed: false,
            subscription: None,
            last_id: None,
            publisher: None,
            left: publications,
            next_at: 0,
            open_since: 0,
            shard: None,
        }
    }

    /// One with ids on this shard that publishes as fast as it can from `start` on.
    pub(crate) fn flood(channel: usize, shard: usize, publications: u32, start: u64) -> Self {
        let plain = Self::new(channel, true, false, publications);
        Self { shard: Some(shard), next_at: start, ..plain }
    }

    fn ask(&mut self, io: &mut Io<'_>) {
        match self.shard {
            Some(shard) => self.link.connect_to(io, HTTP, shard),
            None => self.link.connect(io, HTTP),
        }
        self.stage = Stage::Asking;
        // Another each time, so that readers change between the logs of a channel.
        self.offer = io.random.chance(1, 2).then(|| Offer {
            server_no_context_takeover: io.random.chance(1, 2),
            client_no_context_takeover: io.random.chance(1, 2),
            server_max_window_bits: WindowBits::new(io.random.between(9, 22) as u8),
            client_max_window_bits: ClientWindow::Limitable,
        });
        self.agreement = None;
        self.compressor = None;
        self.key =
            Key::from_nonce(io.random.next().to_le_bytes().repeat(2).try_into().expect("16"));
        self.message.clear();
        let mut target = format!("/ws/c{}?x=1", self.channel);
        if self.skips_own {
            target.push_str("&echo=0");
        }
        let after = self.last_id.as_deref().filter(|_| self.json);
        if let Some(id) = after {
            target.push_str("&after=");
            target.push_str(id);
            io.ledger.resumed += 1;
        }
        let request = self.request(&target);
        let mut out = Vec::new();
        write_request(&mut out, &request, &self.key);
        self.link.write(io, &out);
        let publisher = io.ledger.new_publisher(self.channel);
        self.publisher = Some(publisher);
        let after = after.map(|id| parse_position(id).1);
        let own = self.skips_own.then_some(publisher);
        self.subscription = Some(Subscription::new(self.channel, after, own));
    }

    fn request<'a>(&self, target: &'a str) -> ClientRequest<'a> {
        let subprotocols = self.json.then_some("headwater.json");
        ClientRequest {
            host: "localhost",
            target,
            subprotocols,
            deflate: self.offer,
            ..ClientRequest::default()
        }
    }

    /// What both sides agreed on; the server may refer to nothing earlier, and we do where we may.
    fn agree(&mut self, agreement: Option<Agreement>) {
        self.agreement = agreement;
        let Some(agreement) = agreement else {
            self.decoder = Decoder::new(Role::Client);
            return;
        };
        assert!(agreement.server_no_context_takeover, "publications are shared");
        self.decoder = Decoder::with_deflate(Role::Client);
        let settings = deflate::Settings { threshold_bytes: 1, ..deflate::Settings::default() };
        let window = agreement.client_window(&settings);
        self.compressor = Some(if agreement.client_no_context_takeover {
            Compressor::new(&settings, WindowClass::new(window))
        } else {
            Compressor::with_takeover(&settings, window)
        });
    }

    /// Over, for whatever reason; comes again unless it is to leave.
    fn end(&mut self, io: &mut Io<'_>) -> u64 {
        if let Some(mut subscription) = self.subscription.take() {
            subscription.end(io.ledger);
        }
        self.link.close(io);
        self.publisher = None;
        if io.leaving || io.core.draining {
            self.stage = Stage::Gone;
            return NEVER;
        }
        self.stage = Stage::Away;
        io.core.now + io.random.between(MILLISECOND / 10, SECOND / 4)
    }

    fn send(&mut self, io: &mut Io<'_>, opcode: Opcode, last: bool, payload: &[u8]) {
        let mask = (io.random.next() as u32).to_le_bytes();
        let mut out = Vec::new();
        write_masked_frame(&mut out, opcode, last, mask, payload);
        self.link.write(io, &out);
    }

    fn publish_text(&mut self, io: &mut Io<'_>) -> Option<Message> {
        let message = io.ledger.publishes(self.publisher?);
        let padding = if io.random.chance(1, 10) { 3000 } else { 40 };
        let text = text_of(message, io.random.index(padding));
        if self.compressor.is_some() && io.random.chance(2, 3) {
            self.publish_compressed(io, text.as_bytes());
        } else if io.random.chance(1, 6) {
            let cut = io.random.index(text.len());
            self.send(io, Opcode::Text, false, &text.as_bytes()[..cut]);
            self.send(io, Opcode::Continuation, true, &text.as_bytes()[cut..]);
        } else {
            self.send(io, Opcode::Text, true, text.as_bytes());
        }
        Some(message)
    }

    fn publish_compressed(&mut self, io: &mut Io<'_>, text: &[u8]) {
        let mut payload = Vec::new();
        let Some(compressor) = &mut self.compressor else { return };
        compressor.compress_always(text, &mut payload);
        let mask = (io.random.next() as u32).to_le_bytes();
        let is_whole = io.random.chance(2, 3);
        let cut = if is_whole { payload.len() } else { io.random.index(payload.len()) };
        let mut out = Vec::new();
        deflate::write_masked_frame(&mut out, Opcode::Text, is_whole, mask, &payload[..cut]);
        if !is_whole {
            write_masked_frame(&mut out, Opcode::Continuation, true, mask, &payload[cut..]);
        }
        self.link.write(io, &out);
    }

    /// Reads what came; true when the server said goodbye.
    fn read(&mut self, io: &mut Io<'_>) -> bool {
        if self.stage == Stage::Asking {
            match read_response(&self.link.input, &self.request(""), &self.key) {
                Ok(None) => return false,
                Ok(Some(accepted)) => {
                    assert_eq!(accepted.subprotocol.is_some(), self.json);
                    let (consumed, agreement) = (accepted.consumed, accepted.deflate);
                    assert_eq!(agreement.is_some(), self.offer.is_some());
                    self.agree(agreement);
                    self.link.input.drain(..consumed);
                    self.stage = Stage::Open;
                    self.open_since = io.core.now;
                }
                Err(error) => {
                    assert!(self.link.is_excused(io), "a handshake failed: {error}");
                    return true;
                }
            }
        }
        let mut input = std::mem::take(&mut self.link.input);
        let mut start = 0;
        let mut closed = false;
        loop {
            let step = self.decoder.receive(&mut input[start..], &Limits::default());
            let Step::Event { consumed, event } = step.expect("the server obeys RFC 6455") else {
                break;
            };
            let mut pong = None;
            match event {
                Event::Message { data, compressed, .. } => {
                    self.message.extend_from_slice(data);
                    self.compressed = compressed;
                }
                Event::Fragment { data, compressed, last, .. } => {
                    self.message.extend_from_slice(data);
                    self.compressed = compressed;
                    if !last {
                        start += consumed;
                        continue;
                    }
                }
                Event::Ping(data) => pong = Some(data.to_vec()),
                Event::Pong(_) => {}
                Event::Close { code, reason } => {
                    // Who has no ids cannot be told of a gap in another way.
                    let missed = code == Some(1013) && io.ledger.allows_gaps && !self.json;
                    let expected =
                        missed || self.stage == Stage::Closing || self.link.is_excused(io);
                    assert!(expected, "the server closed: {code:?} {reason}");
                    closed = true;
                }
            }
            start += consumed;
            if let Some(data) = pong {
                self.send(io, Opcode::Pong, true, &data);
            } else if !self.message.is_empty() {
                self.on_message(io);
            }
            if closed {
                break;
            }
        }
        input.drain(..start);
        self.link.input = input;
        closed
    }

    fn on_message(&mut self, io: &mut Io<'_>) {
        let mut bytes = std::mem::take(&mut self.message);
        if std::mem::take(&mut self.compressed) {
            let payload = std::mem::take(&mut bytes);
            self.decompressor.message(&payload, &mut bytes).expect("the server sends DEFLATE");
            io.ledger.inflated += 1;
        }
        let text = std::str::from_utf8(&bytes).expect("the server sends UTF-8");
        let Some(subscription) = &mut self.subscription else { return };
        if !self.json {
            subscription.without_id(io.ledger, parse_text(text));
            return;
        }
        let (id, rest) = match text.strip_prefix("{\"gap\":true,\"id\":\"") {
            Some(rest) => (rest.split('"').next().unwrap_or(""), None),
            None => {
                let rest = text.strip_prefix("{\"id\":\"").expect("an id first");
                let (id, rest) = rest.split_once('"').expect("a JSON text");
                (id, Some(rest))
            }
        };
        match rest {
            None => subscription.on_gap(io.ledger, id),
            Some(rest) => subscription.with_id(
                io.ledger,
                id,
                parse_text(rest.split_once(':').expect("a member").1),
            ),
        }
        self.last_id = Some(id.to_string());
    }
}

impl Client for WebSocketClient {
    fn step(&mut self, io: &mut Io<'_>) -> u64 {
        match self.stage {
            Stage::Gone => return NEVER,
            Stage::Away if io.leaving || io.core.draining => {
                self.stage = Stage::Gone;
                return NEVER;
            }
            Stage::Away => {
                self.ask(io);
                self.next_at = self.next_at.max(io.core.now + io.random.below(SECOND));
            }
            Stage::Asking | Stage::Open | Stage::Closing => {}
        }
        let mut due = NEVER;
        if self.stage == Stage::Open {
            if io.leaving {
                let (payload, length) = close_payload(Some(1000), "");
                self.send(io, Opcode::Close, true, &payload[..length]);
                self.stage = Stage::Closing;
            } else if self.left > 0 && io.core.now >= self.next_at {
                self.left -= 1;
                self.publish_text(io);
                // Often in bursts, which fill mailboxes.
                let pause = match self.shard {
                    Some(_) => MICROSECOND,
                    None if io.random.chance(3, 4) => SECOND / 2000,
                    None => SECOND,
                };
                self.next_at = io.core.now + io.random.below(pause) + 1;
            }
            if self.left > 0 && self.stage == Stage::Open {
                due = self.next_at;
            }
        }
        let state = self.link.exchange(io, &mut due);
        let stage = self.stage;
        let closed = self.read(io);
        if closed && stage == Stage::Open && self.link.is_open() {
            // The server goes away; so do we, as RFC 6455 7.1.1 wants it.
            self.send(io, Opcode::Close, true, &[]);
            self.link.exchange(io, &mut due);
        }
        if closed {
            if stage == Stage::Closing
                && let Some(publisher) = self.publisher
            {
                // Our close was answered, so what came before it was taken.
                io.ledger.is_complete(publisher);
            }
            return self.end(io);
        }
        if state == State::Over {
            let expected = self.link.is_excused(io) || stage == Stage::Closing;
            assert!(expected, "the server ended a WebSocket that did nothing wrong: {self:?}");
            return self.end(io);
        }
        due
    }

    fn publish(&mut self, io: &mut Io<'_>) -> Option<Message> {
        let calm = self.link.keeps_up_since(io.core.now.saturating_sub(SECOND / 5));
        (self.stage == Stage::Open && calm && self.link.is_flushed())
            .then(|| self.publish_text(io))
            .flatten()
    }

    fn channel(&self) -> Option<usize> {
        Some(self.channel)
    }

    fn was_told(&self, ledger: &Ledger, message: Message, since: u64) -> Option<bool> {
        let keeps_up = self.link.keeps_up_since(since) && self.open_since < since;
        let subscription = self.subscription.as_ref().filter(|_| keeps_up)?;
        (self.stage == Stage::Open).then(|| subscription.has(ledger, message))
    }

    fn is_done(&self) -> bool {
        self.left == 0
    }
}
