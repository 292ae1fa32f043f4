//! A shard on a ring that does as it is told.

use super::*;
use crate::config::Config;
use crate::connection::{Role, Transport};
use crate::limits::NEWCOMERS_WAITING_MAX;
use crate::mailbox::mesh;
use crate::observe::Board;
use crate::ring::{Cell, Doorbell, Failure, Refusal, Refused, RingCounters};
use crate::session::Settings;
use crate::time::{Now, Wall};
use std::sync::Arc;

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
    let options = ShardOptions {
        listeners: vec![ListenerInfo::local(Role::Http)],
        settings: Arc::new(Settings::new(&Config::default(), 1, 2)),
        board: Arc::new(Board::new(1)),
        transport: Transport::Plain,
        entropy: 3,
        sinks_per_turn: crate::limits::SINKS_PER_TURN,
    };
    let ring = Scripted {
        now_ms: 1000,
        arrives: VecDeque::new(),
        pushed: Vec::new(),
        waits: Vec::new(),
        refuses: |_| false,
        round: 0,
    };
    Shard::new(ring, mesh(1, 16).remove(0), options)
}

/// A turn with what arrives in it; says what was pushed.
fn turn(shard: &mut Shard<Scripted>, arrives: Vec<Completion>) -> Vec<Op> {
    shard.ring.arrives.extend(arrives);
    shard.turn().expect("this ring never fails");
    std::mem::take(&mut shard.ring.pushed)
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
