//! Every bound of the server, with its unit in its name.
//!
//! A bound that an operator may change has its default here and its range in the configuration.
//! Assertions at the end relate bounds that depend on each other.

/// Bytes of one receive lease: a message of 16 KiB and its frame fit.
pub const LEASE_BYTES: usize = 20 * 1024;
/// Receive leases of a shard.
pub const LEASES_PER_SHARD: u16 = 224;
/// Bytes of one buffer that the kernel picks for a multishot receive.
pub const RING_BUFFER_BYTES: usize = 4 * 1024;
/// Buffers per cell that the kernel picks from; a power of two, and several times the completions one
/// enter brings, because a multishot receive that finds none ends.
pub const RING_BUFFERS_PER_CELL: u16 = 256;

/// Short receives in a row, none later than [`HOT_IDLE_MS`] after the one before, after which the kernel
/// picks the buffers of a connection's receives.
pub const HOT_RECEIVES: u8 = 16;
/// Bytes of a receive that counts there: one that does not fill its buffer. Who sends more at once gets
/// one lease per turn like everybody, not all buffers there are.
pub const HOT_RECEIVE_BYTES_MAX: usize = RING_BUFFER_BYTES - 1;
/// How long a connection is silent when it is no longer hot.
pub const HOT_IDLE_MS: u64 = 1_000;
/// How often a hot connection is looked at.
pub const HOT_LOOK_MS: u64 = 5_000;

/// Submission entries of a cell.
pub const SUBMISSION_ENTRIES: u32 = 1024;
/// Completion entries of a cell.
pub const COMPLETION_ENTRIES: u32 = 8192;
/// Direct descriptors of a cell, when the process may have that many.
pub const SLOTS_PER_CELL_MAX: u32 = 1 << 20;
/// Cells of a shard.
pub const CELLS_MAX: u8 = 128;
/// Sends of a cell between two enters; more wait for the next.
pub const SENDS_PER_CELL_MAX: usize = 1 << 16;
/// Sends of a fan-out in a cell that are worth an enter while more come.
pub const GATHERED_SENDS_ENOUGH: usize = 128;
/// Every so many enters a cell with fewer is entered all the same, each cell at another time, so that no turn
/// submits what several turns gathered.
pub const GATHERING_ENTERS_MAX: u8 = 8;
/// Further enters of a cell that sent much, for events that it deferred: the kernel runs 20 of them in each, and
/// a turn starts 128 receives.
pub const DEFERRED_ENTERS_MAX: usize = 8;
/// A channel hurries, that is, its sends do not wait for those of others, when its subscribers on a shard, so many
/// times, are no more than the sinks of a turn.
pub const HURRIED_SINKS_FACTOR: usize = 16;
/// Connections waiting to be accepted.
pub const LISTEN_BACKLOG: i32 = 4096;

/// Connections of a shard.
pub const CONNECTIONS_PER_SHARD_MAX: usize = 4_000_000;
/// Subscriptions of a shard.
pub const SUBSCRIPTIONS_PER_SHARD_MAX: usize = 8_000_000;
/// Channels with subscribers on a shard, and channels at home on it.
pub const CHANNELS_PER_SHARD_MAX: usize = 1_000_000;
/// Subscriptions of one connection.
pub const SUBSCRIPTIONS_PER_CONNECTION_MAX: usize = 64;

/// Messages in a mailbox from one shard to another.
pub const MAILBOX_MESSAGES: usize = 4096;
/// Messages that wait for room in a full mailbox before publishers are held back; where mailboxes hold
/// fewer, so many.
pub const OUTBOUND_MESSAGES_HIGH: usize = MAILBOX_MESSAGES;
/// How many times as many may wait before publications are refused whose publishers cannot be held back,
/// because the next one comes on another connection.
pub const OUTBOUND_REFUSES_FACTOR: usize = 4;
/// Messages taken from one mailbox before the next one is looked at.
pub const MAIL_IN_A_ROW_MAX: usize = 64;
/// Messages taken from mailboxes in one turn.
pub const MAIL_PER_TURN: usize = 4096;
/// Channels of which a turn looks whether shards that could not be told can be: as many as fill a mailbox.
pub const CHANNELS_BEHIND_PER_TURN: usize = MAILBOX_MESSAGES;
/// Sinks visited by the fan-out in one turn.
pub const SINKS_PER_TURN: usize = 1024;
/// Which part of sinks, newcomers and leavers a turn takes in which other things happened while a fan-out goes
/// on: a publication is a receive and a fan-out, each in a turn of its own, and 1,024 sends take the kernel up
/// to 4 ms. A part of all of them, so that none has the others' time.
pub const SHORT_TURN_PERCENT: usize = 25;
/// Sinks passed over in one turn beside them, because they have everything already: each is a look at its cursor.
pub const SINKS_PASSED_PER_TURN: usize = 16 * SINKS_PER_TURN;
/// Pages of 2 MiB that a table asks for in a second; each is a copy of so much, in the turn.
pub const HUGE_PAGES_A_SECOND: usize = 4;
/// How long publications may gather before subscribers are sent them together.
pub const BATCH_WINDOW_MS_MAX: u64 = 10_000;
/// Sinks of one channel visited in a row while another has something to tell.
pub const SINKS_IN_A_ROW: usize = 128;
/// How far a replica may be behind its channel: what can be on its way to it. A reader that resumes
/// at a place at most so far ahead of the replica was there on another shard.
pub const REPLICA_LAG_MAX: u64 = (MAILBOX_MESSAGES + OUTBOUND_MESSAGES_HIGH) as u64;
/// Completions routed in one turn.
pub const COMPLETIONS_PER_TURN: u32 = 8192;
/// Slots of connections that a turn of a drain looks at; each connection there is told.
pub const DRAIN_SLOTS_PER_TURN: u32 = 1024;
/// Channels at home that a turn looks at for what can be forgotten.
pub const CHANNEL_LOOKS_PER_TURN: usize = 256;
/// Channels at home, or slots of replicas, of which a turn gives up history before its time.
pub const CHANNELS_TRIMMED_PER_TURN: usize = 1024;
/// Replicas that are looked at for what their logs take, each time the governor is told.
pub const REPLICA_LOOKS_PER_TICK: u32 = 4096;
/// In how long each channel at home is looked at once.
pub const CHANNEL_LOOKS_LAP_MS: u64 = 5_000;
/// Timers that fire in one turn: what most of them do is a ping, which is a send.
pub const TIMERS_PER_TURN: usize = 256;
/// Receives started in one turn for connections that were answered before.
pub const RECEIVES_PER_TURN: usize = 128;
/// Publishers that were held back and are tried again in one turn: each has as much to publish as a receive brings, or
/// more.
pub const HELD_PER_TURN: usize = RECEIVES_PER_TURN;
/// Receives started in one turn for connections that were not: a handshake is 5 us, so a storm of them
/// takes at most a third of a millisecond of a turn from the others.
pub const NEWCOMERS_PER_TURN: usize = 64;
/// Receives started in one turn for connections of which it is known that they end.
pub const LEAVERS_PER_TURN: usize = 32;
/// Closes of a shard that the kernel works on at one time. Each leaves it 6 us to do, which come before
/// whatever arrives later: so somebody waits 0.4 ms for those who go.
pub const CLOSES_IN_FLIGHT_MAX: usize = 64;
/// New connections of a shard that may wait for their first receive; more are told to come back. They
/// wait 256 turns at most, which at 2 ms of a very busy turn is half a second.
pub const NEWCOMERS_WAITING_MAX: usize = 16_384;
/// After how many seconds those who were told so may come back.
pub const NEWCOMERS_RETRY_SECONDS: u8 = 2;

/// Bytes of a block of the shard's arena and of a busy log.
pub const BLOCK_BYTES: usize = 64 * 1024;
/// Arena blocks that a shard keeps for use again.
pub const ARENA_BLOCKS_MAX: usize = 1024;
/// Log blocks that a shard keeps for use again.
pub const LOG_BLOCKS_MAX: usize = 1024;
/// Bytes of the first block of a quiet log.
pub const LOG_BLOCK_BYTES_MIN: usize = 2 * 1024;
/// Encoded bytes that a replica keeps per wire format for readers that lag.
pub const LOG_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Publications pulled from one log into one send.
pub const PULL_PUBLICATIONS_MAX: usize = 4096;
/// Bytes pulled from logs into one send.
pub const PULL_BYTES_MAX: usize = 256 * 1024;
/// Spans of one send (IOV_MAX of the kernel is 1024).
pub const SPANS_PER_SEND_MAX: usize = 64;

/// Bytes of a channel's name.
pub const CHANNEL_NAME_BYTES_MAX: usize = 255;
/// Bytes of an event name or a conflation key.
pub const EVENT_NAME_BYTES_MAX: usize = 255;
/// Bytes of one publication.
pub const PUBLICATION_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a message above which it is sent as it is: a shard has others to serve. Measured on JSON at
/// level 6: 4.5 to 7.5 us for 512 bytes, 130 us for this many.
pub const DEFLATE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the compressors and decompressors that connections with context takeover have on a shard;
/// beyond, it is agreed to none.
pub const DEFLATE_TAKEOVER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes that a shard keeps for inflated messages between two of them.
pub const INFLATED_BYTES_KEPT: usize = 256 * 1024;
/// Bytes of one WebSocket message that may be configured.
pub const WEBSOCKET_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Frames of one WebSocket message.
pub const WEBSOCKET_FRAGMENTS_MAX: u32 = 128 * 1024;
/// Publications in a channel's history.
pub const HISTORY_PUBLICATIONS: usize = 16_384;
/// Bytes in a channel's history.
pub const HISTORY_BYTES: usize = 4 * 1024 * 1024;
/// How long a publication stays in the history.
pub const HISTORY_MS: u64 = 300_000;
/// How long a channel without subscribers and history is remembered.
pub const CHANNEL_IDLE_MS: u64 = 60_000;
/// Idempotency keys remembered per channel.
pub const IDEMPOTENCY_KEYS_PER_CHANNEL: usize = 64;

/// Bytes kept of a peer that were not consumed: an incomplete message, and what was on its way when
/// the peer was no longer read.
pub const INBOX_BYTES_MAX: usize =
    RING_BUFFERS_PER_CELL as usize * RING_BUFFER_BYTES + 4 * LEASE_BYTES;
/// Bytes waiting to be sent above which nothing more is received from the peer.
pub const OUTBOX_BYTES_HIGH: usize = 256 * 1024;
/// Spans waiting to be sent above which nothing more is received from the peer.
pub const OUTBOX_SPANS_HIGH: usize = 256;
/// Short spans in a row that wait for one peer before they are copied into one of their own.
pub const OUTBOX_SPANS_LOOSE_MAX: usize = 8;
/// Bytes of a span that counts as short there.
pub const OUTBOX_COPY_BYTES_MAX: usize = 4 * 1024;

/// How long a peer may take to send a request's head.
pub const HTTP_HEAD_MS: u64 = 10_000;
/// How long a peer may take to send a request's body.
pub const HTTP_BODY_MS: u64 = 30_000;
/// How long a kept-alive connection may be idle.
pub const HTTP_IDLE_MS: u64 = 75_000;
/// How long a response may make no progress.
pub const SEND_STALL_MS: u64 = 30_000;
/// Bytes that a peer has to take in that time for it to count as progress: 546 a second.
pub const SEND_PROGRESS_BYTES_MIN: u16 = 16 * 1024;
/// How long what was sent may stay unacknowledged, or a peer's window closed, before the kernel gives up
/// the connection (RFC 5482); also one that we closed. Longer than our own patience.
pub const UNACKNOWLEDGED_MS: u32 = 2 * SEND_STALL_MS as u32;
/// How long a closed connection's peer may take to close its half.
pub const LINGER_MS: u64 = 2_000;
/// How often a silent WebSocket peer is pinged.
pub const WEBSOCKET_PING_MS: u64 = 25_000;
/// How long a WebSocket peer may stay silent.
pub const WEBSOCKET_IDLE_MS: u64 = 60_000;
/// How long a WebSocket peer may take to answer a close frame.
pub const WEBSOCKET_CLOSE_MS: u64 = 5_000;
/// How often an event stream says that it lives.
pub const SSE_HEARTBEAT_MS: u64 = 15_000;
/// After how long an EventSource shall reconnect.
pub const SSE_RETRY_MS: u32 = 2_000;
/// How long an RTMP peer may take to begin publishing.
pub const RTMP_SETUP_MS: u64 = 10_000;
/// How long an RTMP publisher may be silent.
pub const RTMP_IDLE_MS: u64 = 30_000;
/// How long the drain on SIGTERM may take.
pub const DRAIN_MS: u64 = 10_000;
/// How long a request for a stream waits for its first segment, or for the one that comes next.
pub const LIVE_WAIT_MS: u64 = 10_000;
/// How long a shard without requests for a stream goes on following it.
pub const LIVE_REPLICA_IDLE_MS: u64 = 60_000;
/// Live streams at home on a shard.
pub const LIVE_STREAMS_PER_SHARD_MAX: usize = 1024;
/// Requests that wait for one stream's first segment on a shard.
pub const LIVE_WAITERS_MAX: usize = 4096;

/// Kernel memory of an idle connection: its socket, what waits on it and its slot. Measured 3.9 KB on
/// Linux 6.18 for TCP in a direct descriptor with a multishot POLL_ADD.
pub const KERNEL_BYTES_PER_CONNECTION: u64 = 4 * 1024;
/// User memory of an idle connection with one subscription, and a little for what it shares of tables;
/// `shard` asserts that it is not less than the sizes of these.
pub const CONNECTION_USER_BYTES: u64 = 256;
/// What a connection is taken to need before it is accepted.
pub const CONNECTION_BYTES: u64 = KERNEL_BYTES_PER_CONNECTION + CONNECTION_USER_BYTES;
/// Of the memory budget, for connections, unless it is configured.
pub const CONNECTIONS_PERCENT: u8 = 55;
/// Of the memory budget, for histories.
pub const HISTORY_PERCENT: u8 = 15;
/// Of the memory budget, for slow readers.
pub const SLOW_READERS_PERCENT: u8 = 10;
/// Of the memory budget, for live media.
pub const MEDIA_PERCENT: u8 = 10;
/// Connections that a shard may accept between two ticks of the governor; a core does not do as many.
pub const CONNECTIONS_PER_GRANT_MAX: u64 = 8_192;
/// Connections of a shard that are told that there is no room for them; further ones are closed untold.
pub const REFUSALS_PER_SHARD_MAX: usize = 1_024;
/// What the kernel queues for one reader that does not read, at most: `net.ipv4.tcp_wmem` by default.
pub const KERNEL_BYTES_PER_SLOW_READER_MAX: u64 = 4 * 1024 * 1024;
/// Slow readers that are looked at in one tick of the governor.
pub const SLOW_READERS_PER_TICK: usize = 2_048;
/// Slow readers that are closed in one tick of the governor.
pub const SLOW_READERS_CLOSED_PER_TICK: usize = 256;
/// How long a slow reader that was told to go may take what is on its way to it.
pub const SLOW_READER_GRACE_MS: u64 = WEBSOCKET_CLOSE_MS;
/// How often a shard tells the governor what it uses. Between two of these the budget may be exceeded
/// by what is added then.
pub const GOVERNOR_TICK_MS: u64 = 64;
/// After how long a client that was refused shall come back.
pub const RETRY_AFTER_SECONDS: u32 = 5;

/// How fine deadlines are.
pub const TIMER_TICK_MS: u64 = 64;
/// Buckets of the timer wheel; a power of two.
pub const TIMER_BUCKETS: usize = 2048;

const _: () = assert!(TIMER_BUCKETS.is_power_of_two());
const _: () = assert!(MAIL_IN_A_ROW_MAX < MAIL_PER_TURN);
const _: () = assert!(RING_BUFFERS_PER_CELL.is_power_of_two());
const _: () =
    assert!(PUBLICATION_BYTES_MAX <= LOG_BYTES_MAX && HISTORY_BYTES >= PUBLICATION_BYTES_MAX);
const _: () = assert!(
    RECEIVES_PER_TURN + NEWCOMERS_PER_TURN + LEAVERS_PER_TURN <= LEASES_PER_SHARD as usize,
    "nobody waits for a lease because of the others"
);
const _: () = assert!(LOG_BLOCK_BYTES_MIN <= BLOCK_BYTES);
const _: () = assert!(HOT_IDLE_MS < HOT_LOOK_MS);
const _: () =
    assert!(CONNECTIONS_PERCENT + HISTORY_PERCENT + SLOW_READERS_PERCENT + MEDIA_PERCENT <= 100);
const _: () = assert!(REFUSALS_PER_SHARD_MAX < CONNECTIONS_PER_SHARD_MAX);
const _: () = assert!(SLOW_READERS_CLOSED_PER_TICK <= SLOW_READERS_PER_TICK);
const _: () = assert!(TIMER_BUCKETS as u64 * TIMER_TICK_MS > HTTP_IDLE_MS);
const _: () = assert!(COMPLETION_ENTRIES <= 65_536 && SUBMISSION_ENTRIES <= COMPLETION_ENTRIES);
