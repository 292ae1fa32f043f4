//! Bounded single-producer single-consumer mailboxes between shards and to side threads.
//!
//! Every pair of shards has a queue each way; a full queue gives the message back and no one ever
//! waits. A receiver goes round the senders, a few messages of each, so that one who floods keeps
//! nobody else waiting. A sender rings the receiver's doorbell at most once per
//! [`Post::ring_doorbells`], and only when the receiver said that it sleeps: the receiver raises its
//! flag, looks once more, then sleeps; the sender pushes, then looks at the flag. Both orders go
//! through sequentially consistent fences, so at least one of the two sees the other. Who finds the
//! flag raised takes it down and rings, so a sleep is ended by one doorbell, whoever else sends
//! before the sleeper is up.
//!
//! It knows no ring: what wakes a shard is a closure.

use crate::limits::MAIL_IN_A_ROW_MAX;
use rtrb::{Consumer, Producer, PushError, RingBuffer};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};

/// Which shard, by number.
pub type ShardId = u8;

/// Wakes a shard, from any thread.
pub type Bell = Box<dyn Fn() + Send + Sync>;

/// What senders know of a receiver.
#[derive(Default)]
struct Sleeper {
    asleep: AtomicBool,
    bell: OnceLock<Bell>,
}

impl Sleeper {
    /// Wakes the receiver if it sleeps and nobody did; says whether it rang. Called after a push.
    fn wake(&self) -> bool {
        fence(Ordering::SeqCst);
        // Mostly it is awake, and looking does not take the line away from it.
        let rings = self.asleep.load(Ordering::Relaxed)
            // Who comes second sees the flag down: the receiver is on its way and looks at every queue
            // before it raises the flag again.
            && self.asleep.swap(false, Ordering::Relaxed);
        if rings && let Some(bell) = self.bell.get() {
            bell();
        }
        rings
    }
}

impl fmt::Debug for Sleeper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Sleeper(asleep: {})", self.asleep.load(Ordering::Relaxed))
    }
}

/// One shard's end of the mesh.
#[derive(Debug)]
pub struct Post<T> {
    shard: ShardId,
    outbound: Vec<Option<Producer<T>>>,
    inbound: Vec<Consumer<T>>,
    sleepers: Arc<[Sleeper]>,
    /// To whom something was sent since the doorbells were rung.
    to_ring: u64,
    /// Where the next look at the inbound queues starts, and how much was taken there in a row.
    turn: usize,
    in_a_row: usize,
    capacity: usize,
    totals: PostTotals,
    #[cfg(planted = "reordered_mailbox")]
    held_back: Option<T>,
    #[cfg(planted = "lost_doorbell")]
    rung: u64,
}

/// What a shard did since the mesh was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PostTotals {
    /// Messages sent.
    pub messages: u64,
    /// Doorbells rung.
    pub doorbells: u64,
}

/// Makes the ends of a mesh of `shards` shards whose queues hold `capacity` messages each.
///
/// # Panics
/// When there are more than 64 shards.
#[must_use]
pub fn mesh<T>(shards: ShardId, capacity: usize) -> Vec<Post<T>> {
    assert!(shards <= SHARDS_MAX, "a mesh joins at most {SHARDS_MAX} shards");
    let sleepers: Arc<[Sleeper]> = (0..shards).map(|_| Sleeper::default()).collect();
    let mut posts: Vec<Post<T>> = (0..shards)
        .map(|shard| Post {
            shard,
            outbound: (0..shards).map(|_| None).collect(),
            inbound: Vec::new(),
            sleepers: Arc::clone(&sleepers),
            to_ring: 0,
            turn: 0,
            in_a_row: 0,
            capacity,
            totals: PostTotals::default(),
            #[cfg(planted = "reordered_mailbox")]
            held_back: None,
            #[cfg(planted = "lost_doorbell")]
            rung: 0,
        })
        .collect();
    for from in 0..usize::from(shards) {
        for to in (0..usize::from(shards)).filter(|to| *to != from) {
            let (producer, consumer) = RingBuffer::new(capacity);
            posts[from].outbound[to] = Some(producer);
            posts[to].inbound.push(consumer);
        }
    }
    posts
}

/// Shards that a mesh can join: sets of shards are 64-bit masks.
pub const SHARDS_MAX: ShardId = 64;

impl<T> Post<T> {
    /// Whose end this is.
    #[must_use]
    pub const fn shard(&self) -> ShardId {
        self.shard
    }

    /// How many shards the mesh joins.
    #[must_use]
    pub fn shards(&self) -> ShardId {
        self.sleepers.len() as ShardId
    }

    /// Messages that each queue of the mesh holds.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// What this end did so far.
    #[must_use]
    pub const fn totals(&self) -> PostTotals {
        self.totals
    }

    /// Sets what wakes this shard; before that it must not sleep.
    pub fn set_bell(&self, bell: Bell) {
        // A second bell would be for the same ring, so keeping the first is right.
        let _ = self.sleepers[usize::from(self.shard)].bell.set(bell);
    }

    /// Whether the next message to another shard will find room.
    #[must_use]
    pub fn has_room(&self, to: ShardId) -> bool {
        #[cfg(planted = "dropped_mail")]
        return true;
        #[cfg(not(planted = "dropped_mail"))]
        self.outbound[usize::from(to)].as_ref().is_some_and(|producer| !producer.is_full())
    }

    /// Sends to another shard.
    ///
    /// # Errors
    /// The message, when the queue is full.
    ///
    /// # Panics
    /// When `to` is this shard or none.
    pub fn send(&mut self, to: ShardId, message: T) -> Result<(), T> {
        // `mesh` made a producer for every shard but the own one, which callers never address.
        let producer = self.outbound[usize::from(to)].as_mut().expect("another shard's queue");
        match producer.push(message) {
            Ok(()) => {
                self.to_ring |= 1 << to;
                self.totals.messages += 1;
                Ok(())
            }
            Err(PushError::Full(message)) => Err(message),
        }
    }

    /// Takes the next message, going round the senders with a few of each.
    pub fn receive(&mut self) -> Option<T> {
        #[cfg(planted = "reordered_mailbox")]
        if let Some(message) = self.held_back.take() {
            return Some(message);
        }
        // Once more than there are: whose share is used up is looked at again behind the others.
        for _ in 0..=self.inbound.len() {
            let Some(consumer) = self.inbound.get_mut(self.turn) else { break };
            if self.in_a_row < MAIL_IN_A_ROW_MAX
                && let Ok(message) = consumer.pop()
            {
                self.in_a_row += 1;
                #[cfg(planted = "reordered_mailbox")]
                if let Ok(next) = consumer.pop() {
                    self.held_back = Some(message);
                    return Some(next);
                }
                return Some(message);
            }
            self.in_a_row = 0;
            self.turn = (self.turn + 1) % self.inbound.len();
        }
        None
    }

    /// Whether nothing waits to be received.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inbound.iter().all(Consumer::is_empty)
    }

    /// Wakes those to whom something was sent since the last call.
    pub fn ring_doorbells(&mut self) {
        while self.to_ring != 0 {
            let to = self.to_ring.trailing_zeros();
            self.to_ring &= self.to_ring - 1;
            #[cfg(planted = "lost_doorbell")]
            {
                self.rung += 1;
                if self.rung.is_multiple_of(16) {
                    continue;
                }
            }
            self.totals.doorbells += u64::from(self.sleepers[to as usize].wake());
        }
    }

    /// Says that this shard is about to sleep; false when it must not, because something is there.
    #[must_use]
    pub fn fall_asleep(&self) -> bool {
        let sleeper = &self.sleepers[usize::from(self.shard)];
        sleeper.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.is_empty() {
            return true;
        }
        self.wake_up();
        false
    }

    /// Says that this shard is awake.
    pub fn wake_up(&self) {
        self.sleepers[usize::from(self.shard)].asleep.store(false, Ordering::Relaxed);
    }

    /// A queue into this shard for a thread that is no shard.
    pub fn side_sender(&mut self, capacity: usize) -> SideSender<T> {
        let (producer, consumer) = RingBuffer::new(capacity);
        self.inbound.push(consumer);
        SideSender { producer, sleepers: Arc::clone(&self.sleepers), shard: self.shard }
    }
}

/// The sending end of a queue into one shard.
#[derive(Debug)]
pub struct SideSender<T> {
    producer: Producer<T>,
    sleepers: Arc<[Sleeper]>,
    shard: ShardId,
}

impl<T> SideSender<T> {
    /// Sends, and wakes the shard if it sleeps.
    ///
    /// # Errors
    /// The message, when the queue is full.
    pub fn send(&mut self, message: T) -> Result<(), T> {
        match self.producer.push(message) {
            Ok(()) => {
                self.sleepers[usize::from(self.shard)].wake();
                Ok(())
            }
            Err(PushError::Full(message)) => Err(message),
        }
    }

    /// Whether the shard is gone.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.producer.is_abandoned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    #[cfg_attr(planted = "reordered_mailbox", ignore = "the planted bug reorders")]
    fn messages_of_one_sender_keep_their_order() {
        let mut posts = mesh::<u32>(3, 8);
        for number in 0..5 {
            posts[0].send(2, number).expect("room");
            posts[1].send(2, number + 100).expect("room");
        }
        let received: Vec<u32> = std::iter::from_fn(|| posts[2].receive()).collect();
        let of = |sender: u32| -> Vec<u32> {
            received.iter().copied().filter(|message| message / 100 == sender).collect()
        };
        assert_eq!(of(0), [0, 1, 2, 3, 4]);
        assert_eq!(of(1), [100, 101, 102, 103, 104]);
    }

    #[test]
    fn a_full_queue_gives_the_message_back() {
        let mut posts = mesh::<u32>(2, 1);
        posts[0].send(1, 1).expect("room");
        assert_eq!(posts[0].send(1, 2), Err(2));
    }

    /// A doorbell that counts.
    fn set_counting_bell(post: &Post<u32>) -> Arc<AtomicUsize> {
        let rung = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&rung);
        post.set_bell(Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        rung
    }

    #[test]
    fn who_floods_keeps_nobody_waiting() {
        let mut posts = mesh::<u32>(3, 4096);
        let mut flood = || {
            while posts[0].send(2, 0).is_ok() {}
            let _ = posts[1].send(2, 1);
            // A turn takes fewer than the flooding shard has ready for the next.
            let taken: Vec<u32> = (0..1024).map_while(|_| posts[2].receive()).collect();
            assert_eq!(taken.len(), 1024, "a share that is used up is not the end");
            taken.iter().filter(|sender| **sender == 1).count()
        };
        for _ in 0..10 {
            assert_eq!(flood(), 1);
        }
    }

    #[test]
    fn all_that_a_turn_sends_to_a_shard_rings_once_and_a_sleep_ends_once() {
        let mut posts = mesh::<u32>(4, 4096);
        let rung: Vec<_> = posts.iter().map(set_counting_bell).collect();
        let rung = |shard: usize| rung[shard].load(Ordering::Relaxed);
        assert!(posts[1].fall_asleep() && posts[2].fall_asleep());
        for number in 0..1000 {
            for to in 1..4 {
                posts[0].send(to, number).expect("room");
            }
        }
        assert_eq!((1..4).map(rung).sum::<usize>(), 0, "nothing rings before the turn's end");
        posts[0].ring_doorbells();
        assert_eq!([rung(1), rung(2), rung(3)], [1, 1, 0], "the third is awake");
        assert_eq!(posts[0].totals(), PostTotals { messages: 3000, doorbells: 2 });
        // Until the sleeper is up, nobody rings again: neither a later turn nor another sender.
        posts[0].send(1, 1000).expect("room");
        posts[0].ring_doorbells();
        posts[3].send(1, 0).expect("room");
        posts[3].ring_doorbells();
        assert_eq!((rung(1), posts[3].totals().doorbells), (1, 0));
        // It finds everything, and when it sleeps again, the next message rings again.
        posts[1].wake_up();
        assert!(!posts[1].fall_asleep());
        assert_eq!(std::iter::from_fn(|| posts[1].receive()).count(), 1002);
        assert!(posts[1].fall_asleep());
        posts[3].send(1, 0).expect("room");
        posts[3].ring_doorbells();
        assert_eq!(rung(1), 2);
    }

    #[test]
    fn only_a_sleeper_is_woken_and_once_per_batch() {
        let mut posts = mesh::<u32>(2, 8);
        let rung = set_counting_bell(&posts[1]);
        posts[0].send(1, 1).expect("room");
        posts[0].ring_doorbells();
        assert_eq!(rung.load(Ordering::Relaxed), 0);
        assert!(!posts[1].fall_asleep(), "a message waits");
        assert!(posts[1].receive().is_some());
        assert!(posts[1].fall_asleep());
        posts[0].send(1, 2).expect("room");
        posts[0].send(1, 3).expect("room");
        posts[0].ring_doorbells();
        assert_eq!(rung.load(Ordering::Relaxed), 1);
        assert!(!posts[1].fall_asleep(), "two wait");
        while posts[1].receive().is_some() {}
        assert!(posts[1].fall_asleep());
        let mut side = posts[1].side_sender(4);
        side.send(4).expect("room");
        assert_eq!(rung.load(Ordering::Relaxed), 2);
    }
}
