//! A publication through the hub of a server with one shard, and to everyone who subscribed.
//!
//! Publishing copies the bytes in, orders them, remembers them and encodes them once; a delivery is
//! a visit of the sweep and a pull, which gives the range of bytes that a send would name. Missing
//! to a real delivery are the connection and the kernel. The history is full, as in a channel that
//! has been in use for a while.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use headwater::fanout::{Format, NO_SUBSCRIPTION, PublicationKind, Sink, SubscribeOptions};
use headwater::hub::{Draft, HistoryLimits, Hub};
use headwater::limits::{HISTORY_BYTES, HISTORY_MS, HISTORY_PUBLICATIONS};
use headwater::memory::Key;
use headwater::time::Monotonic;

use super::{Call, Case, text};

const SUBSCRIBERS: [u32; 2] = [1, 1000];
/// A chat line with its JSON around it.
const PUBLICATION_BYTES: usize = 120;

pub(super) fn cases() -> Vec<Case> {
    let case = |subscribers: &u32| {
        let subscribers = *subscribers;
        // Several blocks of the log and of the hub, so that the change of blocks counts its share.
        Case::new(format!("fanout/{subscribers}"), move || prepare(subscribers))
            .operations(subscribers.into())
            .calls(4 * 1024)
    };
    SUBSCRIBERS.iter().map(case).collect()
}

fn prepare(subscribers: u32) -> Call {
    let mut room = Room::new();
    room.join();
    // One reader is enough to fill the history and to grow every table to its bound.
    for _ in 0..HISTORY_PUBLICATIONS + HISTORY_PUBLICATIONS / 4 {
        assert_eq!(room.publish(), 1);
    }
    for _ in 1..subscribers {
        room.join();
    }
    Box::new(move || assert_eq!(room.publish(), subscribers))
}

struct Room {
    hub: Hub,
    channel: Arc<str>,
    /// The subscriptions of each connection.
    readers: u32,
    text: Vec<u8>,
    now_ms: u64,
}

impl Room {
    fn new() -> Self {
        let history = HistoryLimits {
            publications: HISTORY_PUBLICATIONS,
            bytes: HISTORY_BYTES,
            age: Duration::from_millis(HISTORY_MS),
        };
        Self {
            hub: Hub::new(0, 1, 7, 1, history, websocket::deflate::Settings::default()),
            channel: Arc::from("chat"),
            readers: 0,
            text: text(PUBLICATION_BYTES),
            now_ms: 1,
        }
    }

    fn join(&mut self) {
        let connection = Key { index: self.readers, generation: 1 };
        let sink = Sink { connection, stream: 0 };
        let options = SubscribeOptions { format: Format::WebSocket, after: None, skips_own: false };
        let mut head = NO_SUBSCRIPTION;
        let now = Monotonic::from_millis(self.now_ms);
        self.hub.subscribe(&self.channel, sink, &mut head, options, now).expect("room");
        self.readers += 1;
        while self.hub.poll_event().is_some() {}
    }

    /// Publishes, and pulls for everyone who is due; how many got it.
    fn publish(&mut self) -> u32 {
        self.now_ms += 1;
        let now = Monotonic::from_millis(self.now_ms);
        let draft = Draft::of(PublicationKind::Text);
        self.hub.publish(&self.channel, black_box(&self.text), draft, now).expect("small");
        let fanout = self.hub.fanout();
        let mut told = 0;
        while let Some(due) = fanout.next_due() {
            let (span, publications) = fanout.pull_alone(&due).expect("one is due, in one block");
            assert_eq!(publications, 1);
            // Dropped as when the kernel has sent it.
            drop(black_box(span));
            told += 1;
        }
        told
    }
}
