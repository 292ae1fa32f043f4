//! Counts that a shard keeps and anyone may read.
//!
//! Each has one writer, its shard, so adding is a relaxed load and a relaxed store: no locked
//! instruction on the path of data. Readers see a value that was true a moment ago.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number with one writer and any readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the shard that owns the counter may.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Sets, for a number that goes up and down.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ident $metric:literal,)+) => {
        /// One shard's counts.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: Counter,)+
        }

        impl Counters {
            /// Every counter: metric name, help, whether it only grows, value.
            #[must_use]
            pub fn all(&self) -> Vec<(&'static str, &'static str, Kind, u64)> {
                vec![$(($metric, concat!($($doc,)+), Kind::$kind, self.$name.value()),)+]
            }
        }
    };
}

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Total,
    /// It goes up and down.
    Gauge,
}

counters! {
    /// Connections accepted.
    accepted: Total "headwater_connections_accepted_total",
    /// Connections that are open.
    connections: Gauge "headwater_connections",
    /// Connections refused because a table was full.
    refused_full: Total "headwater_connections_refused_total",
    /// Connections told to come back later because too many came at one time.
    shed_newcomers: Total "headwater_newcomers_shed_total",
    /// Connections closed because the peer broke its protocol.
    protocol_errors: Total "headwater_protocol_errors_total",
    /// Subscribers closed because they read too slowly.
    slow_closes: Total "headwater_slow_subscribers_closed_total",
    /// Connections closed because a send made no progress.
    stalled_closes: Total "headwater_stalled_connections_closed_total",
    /// HTTP requests.
    requests: Total "headwater_http_requests_total",
    /// Messages received from clients.
    messages_in: Total "headwater_messages_received_total",
    /// Publications ordered on this shard.
    publications: Total "headwater_publications_total",
    /// Publications handed to subscribers.
    deliveries: Total "headwater_deliveries_total",
    /// Publications that a shard with readers was never told of.
    skipped: Total "headwater_publications_skipped_total",
    /// Subscriptions.
    subscriptions: Gauge "headwater_subscriptions",
    /// Channels at home on this shard.
    channels: Gauge "headwater_channels",
    /// WebSocket pings sent.
    pings: Total "headwater_websocket_pings_total",
    /// WebSocket messages compressed: a publication once on each shard and for each window class in use there.
    deflate_compressions: Total "headwater_deflate_compressions_total",
    /// Bytes of these before.
    deflate_bytes_in: Total "headwater_deflate_bytes_in_total",
    /// Bytes of these after.
    deflate_bytes_out: Total "headwater_deflate_bytes_out_total",
    /// Compressed WebSocket messages that were inflated.
    inflate_messages: Total "headwater_inflate_messages_total",
    /// Compressed WebSocket messages that could not be inflated, or to more than is accepted.
    inflate_failures: Total "headwater_inflate_failures_total",
    /// Bytes received.
    bytes_in: Total "headwater_received_bytes_total",
    /// Bytes sent.
    bytes_out: Total "headwater_sent_bytes_total",
    /// Access units received from publishers.
    access_units: Total "headwater_access_units_total",
    /// Live streams at home on this shard.
    live_streams: Gauge "headwater_live_streams",
    /// Turns of the shard's loop.
    turns: Total "headwater_shard_turns_total",
    /// Messages sent to other shards.
    mail_sent: Total "headwater_mailbox_messages_total",
    /// Doorbells of other shards rung: at most one a turn for each of them, and none for who is awake.
    doorbells: Total "headwater_mailbox_doorbells_total",
    /// Times that a publisher was not read any further because what it publishes could not be passed on.
    publishers_held: Total "headwater_publishers_held_total",
    /// Calls of io_uring_enter.
    enters: Total "headwater_ring_enters_total",
    /// Operations submitted to the ring.
    submitted: Total "headwater_ring_submitted_total",
    /// Completions reaped from the ring.
    completed: Total "headwater_ring_completed_total",
    /// Times the completion queue overflowed.
    overflows: Total "headwater_ring_overflows_total",
    /// Receive leases that are out.
    leases_out: Gauge "headwater_leases",
    /// Bytes of tables, logs, pools and leases of this shard.
    user_bytes: Gauge "headwater_user_bytes",
}
