//! A shard on a ring that does as it is told.

use super::*;
use crate::config::Config;
use crate::connection::{Role, Transport};
use crate::limits::{NEWCOMERS_WAITING_MAX, SINKS_PER_TURN};
use crate::mailbox::mesh;
use crate::memory::LeasePool;
use crate::observe::Board;
use crate::ring::{Cell, Doorbell, Failure, Refusal, Refused, RingCounters};
use crate::session::Settings;
use crate::time::{Now, Wall};
use std::sync::{Arc, Mutex};

#[derive(Debug)]
struct Silence;

impl Doorbell for Silence {
    fn ring(&self) {}
}

/// Remembers what it is asked for, and says what the test wants.
#[derive(Debug)]
struct Scripted {
    now_ms: u64,
    arrives: VecDeque<Completion>,
    pushed: Vec<Op>,
    waits: Vec<Duration>,
    refuses: fn(&Op) -> bool,
    round: u8,
}

impl Ring for Scripted {
    fn push(&mut self, op: Op) -> Result<(), Refused> {
        if (self.refuses)(&op) {
            let is_receive = matches!(op, Op::Receive { .. });
            let reason = if is_receive { Refusal::NoLease } else { Refusal::NoRoom };
            return Err(Refused { op, reason });
        }
        self.pushed.push(op);
        Ok(())
    }

    fn round(&self, _: Cell) -> u8 {
        self.round
    }

    fn enter(&mut self, wait: Wait) -> Result<(), RingError> {
        self.waits.push(wait.timeout);
        self.round = self.round.wrapping_add(1);
        Ok(())
    }

    fn pop(&mut self) -> Option<Completion> {
        self.arrives.pop_front()
    }

    fn release(&mut self, _: crate::memory::Lease) {}

    fn now(&self) -> Now {
        let wall = Wall::from_unix_millis(1_700_000_000_000 + self.now_ms as i64);
        Now { monotonic: Monotonic::from_millis(self.now_ms), wall }
    }

    fn slots_per_cell(&self) -> u32 {
        30_000
    }

    fn open_cell(&mut self) -> Result<Cell, RingError> {
        Err(RingError::CellsExhausted(1))
    }

    fn doorbell(&self) -> Arc<dyn Doorbell> {
        Arc::new(Silence)
    }

    fn counters(&self) -> RingCounters {
        RingCounters::default()
    }

    fn resident_bytes(&self) -> usize {
        0
    }
}

const LISTENER: ListenerId = ListenerId(0);

fn shard() -> Shard<Scripted> {
    shard_of(1)
}

/// The first of some shards; the others say nothing.
fn shard_of(shards: u8) -> Shard<Scripted> {
    let options = ShardOptions {
        listeners: vec![ListenerInfo::local(Role::Http)],
        settings: Arc::new(Settings::new(&Config::default(), 1, 2)),
        board: Arc::new(Board::new(usize::from(shards))),
        transport: Transport::Plain,
        entropy: 3,
        sinks_per_turn: SINKS_PER_TURN,
    };
    let ring = Scripted {
        now_ms: 1000,
        arrives: VecDeque::new(),
        pushed: Vec::new(),
        waits: Vec::new(),
        refuses: |_| false,
        round: 0,
    };
    Shard::new(ring, mesh(shards, 16).remove(0), options)
}

/// A turn with what arrives in it; says what was pushed.
fn turn(shard: &mut Shard<Scripted>, arrives: Vec<Completion>) -> Vec<Op> {
    shard.ring.arrives.extend(arrives);
    shard.turn().expect("this ring never fails");
    std::mem::take(&mut shard.ring.pushed)
}

/// A connection of which a receive is in flight.
fn connect(shard: &mut Shard<Scripted>, slot: u32) -> Key {
    let socket = Socket::new(0, slot);
    let pushed = turn(shard, vec![Completion::Accepted { listener: LISTENER, socket }]);
    let received = pushed.iter().find_map(|op| match op {
        Op::Receive { socket: of, token } if *of == socket => Some(*token),
        _ => None,
    });
    received.expect("a receive of the new connection")
}

fn is_accept(op: &Op) -> bool {
    matches!(op, Op::Accept { .. })
}

fn is_cancel(op: &Op) -> bool {
    matches!(op, Op::CancelAccept { .. })
}

const fn accept_ended(failure: Failure) -> Completion {
    Completion::AcceptEnded { listener: LISTENER, cell: 0, failure }
}

#[test]
fn accepting_rests_no_longer_than_it_says() {
    let mut shard = shard();
    assert!(turn(&mut shard, Vec::new()).iter().any(is_accept));
    assert!(!turn(&mut shard, vec![accept_ended(Failure::OutOfFiles)]).iter().any(is_accept));
    assert!(!turn(&mut shard, Vec::new()).iter().any(is_accept), "it rests");
    let slept = *shard.ring.waits.last().expect("an enter");
    assert!(slept > Duration::ZERO && slept <= Duration::from_millis(100), "{slept:?}");
    shard.ring.now_ms += slept.as_millis() as u64;
    assert!(turn(&mut shard, Vec::new()).iter().any(is_accept));
    turn(&mut shard, Vec::new());
    let slept = *shard.ring.waits.last().expect("an enter");
    assert!(slept > Duration::from_millis(100), "{slept:?}: it rested long ago");
}

#[test]
fn a_cancel_of_an_accept_without_room_is_tried_again() {
    let mut shard = shard();
    assert!(turn(&mut shard, Vec::new()).iter().any(is_accept));
    shard.ring.refuses = is_cancel;
    shard.drain();
    assert!(!turn(&mut shard, Vec::new()).iter().any(is_cancel));
    shard.ring.refuses = |_| false;
    assert_eq!(turn(&mut shard, Vec::new()).into_iter().filter(is_cancel).count(), 1);
    turn(&mut shard, vec![accept_ended(Failure::Canceled)]);
    let pushed = turn(&mut shard, Vec::new());
    assert!(matches!(pushed[..], [Op::CloseListener { .. }]), "{pushed:?}");
}

/// More come than can be served, and before those beyond are answered a drain closes them.
#[test]
fn who_was_turned_away_and_then_drained_is_closed_and_nothing_else() {
    let mut shard = shard();
    shard.ring.refuses = |op| matches!(op, Op::Receive { .. });
    let last = NEWCOMERS_WAITING_MAX as u32 + 20;
    for slot in 0..last {
        let socket = Socket::new(0, slot);
        shard.ring.arrives.push_back(Completion::Accepted { listener: LISTENER, socket });
    }
    while !shard.ring.arrives.is_empty() {
        turn(&mut shard, Vec::new());
    }
    shard.drain();
    let mut closed = std::collections::BTreeSet::new();
    while shard.drain_next.is_some() {
        for op in turn(&mut shard, Vec::new()) {
            if let Op::Close { token, .. } = op {
                closed.insert(token);
            }
        }
    }
    assert_eq!(closed.len(), 20, "those who were turned away");
    shard.ring.refuses = |_| false;
    let pushed = turn(&mut shard, Vec::new());
    assert!(!pushed.is_empty());
    for op in pushed {
        if let Op::Receive { token, .. } | Op::Send { token, .. } = op {
            assert!(!closed.contains(&token), "{op:?} after the close");
        }
    }
}

/// The peer of a connection of which a receive is in flight says something.
fn said(token: Key, bytes: &[u8]) -> Completion {
    let mut lease = LeasePool::new(0, 1, 1024).lend().expect("its only one");
    lease.space_mut()[..bytes.len()].copy_from_slice(bytes);
    lease.set_filled(bytes.len());
    Completion::Received { token, result: Ok(lease), nonempty: false }
}

fn upgrade_to(channel: &str) -> Vec<u8> {
    format!(
        "GET /ws/{channel} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

fn bytes_sent(pushed: &[Op]) -> Vec<u8> {
    let spans = pushed.iter().filter_map(|op| match op {
        Op::Send { spans, .. } => Some(spans.iter().flat_map(|span| span.to_vec())),
        _ => None,
    });
    spans.flatten().collect()
}

#[test]
fn a_close_does_not_wait_for_the_answer_to_a_subscribe() {
    let mut shard = shard_of(2);
    let hub = shard.hub();
    let channel =
        (0..).map(|number| format!("channel-{number}")).find(|name| hub.home_of(name) == 1);
    let key = connect(&mut shard, 0);
    let pushed = turn(&mut shard, vec![said(key, &upgrade_to(&channel.expect("half of them")))]);
    assert_eq!(bytes_sent(&pushed), b"", "its home says nothing");
    shard.drain();
    let sent = bytes_sent(&turn(&mut shard, Vec::new()));
    assert!(sent.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&sent));
    assert!(sent.windows(2).any(|two| two == 1001_u16.to_be_bytes()), "and why it ends");
}

#[test]
fn beside_a_fan_out_that_goes_on_a_turn_with_events_is_short() {
    const SUBSCRIBERS: u32 = 2 * SINKS_PER_TURN as u32;
    let mut shard = shard();
    let upgrade = upgrade_to("c");
    for slot in 0..SUBSCRIBERS {
        let key = connect(&mut shard, slot);
        let mut pushed = turn(&mut shard, vec![said(key, &upgrade)]);
        pushed.extend(turn(&mut shard, Vec::new()));
        let sent = bytes_sent(&pushed);
        assert!(sent.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&sent));
    }
    let speaker = connect(&mut shard, SUBSCRIBERS);
    let publisher = connect(&mut shard, SUBSCRIBERS + 1);
    let post = b"POST /pub/c HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello";
    // Rounds are counted in a byte: a few were last sent to in one of this number, and are sent to a turn later.
    let is_about = |pushed: &[Op], expected: usize| {
        let delivery = |op: &&Op| matches!(op, Op::Send { token, .. } if *token != publisher);
        let count = pushed.iter().filter(delivery).count();
        assert!(count.abs_diff(expected) <= 16, "{count} and not {expected}");
    };
    let pushed = turn(&mut shard, vec![said(publisher, post)]);
    is_about(&pushed, SINKS_PER_TURN);
    let readable =
        Completion::Readable { token: speaker, more: true, failure: None, hung_up: false };
    let pushed = turn(&mut shard, vec![readable]);
    is_about(&pushed, SINKS_PER_TURN / 4);
    let pushed = turn(&mut shard, Vec::new());
    is_about(&pushed, SINKS_PER_TURN - SINKS_PER_TURN / 4);
}

/// Keeps the lines of the log.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl tracing::field::Visit for Lines {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if let Some(line) = self.0.lock().unwrap().last_mut() {
            line.push_str(&format!(" {field}={value:?}"));
        }
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        self.0.lock().unwrap().push(event.metadata().level().to_string());
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn the_log_says_when_the_kernel_fails_and_not_when_a_peer_goes() {
    let mut shard = shard();
    let keys: Vec<Key> = (0..6).map(|slot| connect(&mut shard, slot)).collect();
    let received =
        |token, failure| Completion::Received { token, result: Err(failure), nonempty: false };
    let sent = |token, failure| Completion::SentShort {
        token,
        result: Err(failure),
        unsent: Box::default(),
    };
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        turn(&mut shard, vec![received(keys[0], Failure::Disconnected)]);
        turn(&mut shard, vec![sent(keys[1], Failure::Disconnected)]);
        assert_eq!(*lines.0.lock().unwrap(), [""; 0]);
        turn(
            &mut shard,
            vec![received(keys[2], Failure::Other(5)), sent(keys[3], Failure::NoBuffers)],
        );
        shard.ring.now_ms += 10_000;
        turn(&mut shard, vec![sent(keys[4], Failure::Other(71))]);
    });
    let lines = lines.0.lock().unwrap();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for (line, said) in lines.iter().zip([
        ["Other(5)", "\"receive\"", "connections=1"],
        ["Other(71)", "\"send\"", "connections=2"],
    ]) {
        assert!(said.iter().all(|said| line.contains(said)), "{line}");
    }
}
