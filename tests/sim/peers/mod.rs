//! The clients: each a state machine over bytes that acts when its time has come or when something
//! happened to its connection.

mod echo;
mod event_stream;
mod link;
mod live;
mod poster;
mod rogue;
mod websocket;

use crate::core::{Core, MICROSECOND};
use crate::oracle::{Ledger, Message};
use crate::random::Random;
pub(crate) use echo::EchoClient;
pub(crate) use event_stream::{EventStreamReader, Habit};
pub(crate) use live::{HlsReader, RtmpPublisher};
pub(crate) use poster::Poster;
pub(crate) use rogue::Rogue;
use std::collections::BTreeSet;
pub(crate) use websocket::WebSocketClient;

/// What a client may use.
#[derive(Debug)]
pub(crate) struct Io<'a> {
    pub(crate) core: &'a mut Core,
    pub(crate) ledger: &'a mut Ledger,
    pub(crate) random: &'a mut Random,
    /// Combined with every byte on the wire.
    pub(crate) key: u8,
    pub(crate) id: usize,
    /// Whether connections crowd on one shard.
    pub(crate) skewed: bool,
    /// Whether clients are to leave.
    pub(crate) leaving: bool,
}

/// A client.
pub(crate) trait Client: std::fmt::Debug {
    /// Does what can be done now and says when it wants to act again.
    fn step(&mut self, io: &mut Io<'_>) -> u64;

    /// Publishes now, if it is that kind and can.
    fn publish(&mut self, _io: &mut Io<'_>) -> Option<Message> {
        None
    }

    /// The channel it publishes to or reads.
    fn channel(&self) -> Option<usize> {
        None
    }

    /// Whether it has read all the time since `since`, and whether it was told `message`.
    fn was_told(&self, _ledger: &Ledger, _message: Message, _since: u64) -> Option<bool> {
        None
    }

    /// Whether it has done everything it was there for.
    fn is_done(&self) -> bool {
        true
    }
}

/// Never.
pub(crate) const NEVER: u64 = u64::MAX;

/// All clients of a run.
#[derive(Debug)]
pub(crate) struct Peers {
    clients: Vec<Box<dyn Client>>,
    due: Vec<u64>,
    schedule: BTreeSet<(u64, usize)>,
    random: Random,
    pub(crate) ledger: Ledger,
    key: u8,
    skewed: bool,
    pub(crate) leaving: bool,
}

impl Peers {
    pub(crate) fn new(mut random: Random, ledger: Ledger, key: u8) -> Self {
        Self {
            clients: Vec::new(),
            due: Vec::new(),
            schedule: BTreeSet::new(),
            skewed: random.chance(1, 3),
            random,
            ledger,
            key,
            leaving: false,
        }
    }

    pub(crate) fn add(&mut self, client: Box<dyn Client>, at: u64) {
        self.clients.push(client);
        self.due.push(at);
        self.schedule.insert((at, self.clients.len() - 1));
    }

    pub(crate) fn next_due(&self) -> u64 {
        self.schedule.first().map_or(NEVER, |(due, _)| *due)
    }

    fn schedule(&mut self, id: usize, at: u64) {
        if at < self.due[id] {
            self.schedule.remove(&(self.due[id], id));
            self.due[id] = at;
            self.schedule.insert((at, id));
        }
    }

    pub(crate) fn step(&mut self, core: &mut Core) {
        self.pass_touches(core);
        while let Some((due, id)) = self.schedule.first().copied() {
            if due > core.now || due == NEVER {
                break;
            }
            self.schedule.remove(&(due, id));
            self.due[id] = NEVER;
            let next = self.with(id, core, |client, io| client.step(io));
            self.schedule(id, next.max(core.now + MICROSECOND));
            self.pass_touches(core);
        }
    }

    fn pass_touches(&mut self, core: &mut Core) {
        for id in std::mem::take(&mut core.touched) {
            if self.due[id] > core.now {
                let latency = self.random.between(1, 300) * MICROSECOND;
                self.schedule(id, core.now + latency);
            }
        }
    }

    fn with<T>(
        &mut self,
        id: usize,
        core: &mut Core,
        act: impl FnOnce(&mut dyn Client, &mut Io<'_>) -> T,
    ) -> T {
        let mut io = Io {
            core,
            ledger: &mut self.ledger,
            random: &mut self.random,
            key: self.key,
            id,
            skewed: self.skewed,
            leaving: self.leaving,
        };
        act(&mut *self.clients[id], &mut io)
    }

    /// Tells everyone to leave.
    pub(crate) fn leave(&mut self, core: &mut Core) {
        self.leaving = true;
        core.touched.extend(0..self.clients.len());
    }

    /// Lets some client publish in its channel; says what and where.
    pub(crate) fn publish_one(&mut self, core: &mut Core) -> Option<(usize, Message)> {
        let count = self.clients.len();
        let start = self.random.index(count);
        for id in (start..start + count).map(|id| id % count) {
            if let Some(message) = self.with(id, core, |client, io| client.publish(io)) {
                self.schedule(id, core.now);
                return Some((self.clients[id].channel()?, message));
            }
        }
        None
    }

    /// How many readers that kept up since `since` were told `message`; none may be without.
    pub(crate) fn check_told(&self, channel: usize, message: Message, since: u64) -> usize {
        let mut told = 0;
        for client in self.clients.iter().filter(|client| client.channel() == Some(channel)) {
            match client.was_told(&self.ledger, message, since) {
                Some(true) => told += 1,
                Some(false) => panic!("a reader was not told {message:?} in time: {client:?}"),
                None => {}
            }
        }
        told
    }

    pub(crate) fn undone(&self) -> Option<&dyn Client> {
        self.clients.iter().map(Box::as_ref).find(|client| !client.is_done())
    }

    pub(crate) fn are_done(&self) -> bool {
        self.clients.iter().all(|client| client.is_done())
    }
}
