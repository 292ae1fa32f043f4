//! What the operator decided, as sessions need it.

use crate::config::Config;
use crate::hub::HistoryLimits;
use crate::limits::CHANNELS_PER_SHARD_MAX;
use std::time::Duration;

/// Fixed for the life of a shard.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The configuration it was made from.
    pub config: Config,
    /// Longest WebSocket message.
    pub websocket_message_bytes_max: u64,
    /// How WebSocket messages are compressed; what of takeover is said here holds for nobody.
    pub deflate: websocket::deflate::Settings,
    /// Silence after which a WebSocket peer is pinged; up to a quarter less, so that who came together
    /// is not pinged together.
    pub websocket_ping_ms: u64,
    /// Silence after which a WebSocket peer is given up.
    pub websocket_idle_ms: u64,
    /// Between two heartbeats of an event stream.
    pub sse_heartbeat_ms: u64,
    /// What an EventSource is told to wait before it reconnects.
    pub sse_retry_ms: u32,
    /// How many channels may be at home on a shard.
    pub channels_max: usize,
    /// How much of a channel's past is kept.
    pub history: HistoryLimits,
    /// How long publications gather before a shard's subscribers are told.
    pub batch_window: Duration,
    /// How live streams are cut.
    pub live: crate::live::Settings,
    /// What every shard hashes names with.
    pub seed: u64,
}

impl Settings {
    /// From a checked configuration; `seed` is the process's, `epoch` names its life in file names.
    #[must_use]
    pub fn new(config: &Config, seed: u64, epoch: u64) -> Self {
        let live = crate::live::Settings {
            segment_duration_ms: config.media.segment_duration_ms,
            part_duration_ms: config.media.part_duration_ms,
            window_segments: config.media.window_segments as usize,
            keep_segments: config.media.keep_segments as usize,
            epoch,
            ..crate::live::Settings::default()
        };
        Self {
            websocket_message_bytes_max: u64::from(config.websocket.message_bytes_max),
            deflate: config.websocket.deflate_settings(),
            websocket_ping_ms: u64::from(config.websocket.ping_interval_ms),
            websocket_idle_ms: u64::from(config.websocket.idle_timeout_ms),
            sse_heartbeat_ms: u64::from(config.sse.heartbeat_ms),
            sse_retry_ms: config.sse.retry_ms,
            channels_max: CHANNELS_PER_SHARD_MAX,
            history: HistoryLimits {
                publications: config.channels.history_publications as usize,
                bytes: config.channels.history_bytes as usize,
                age: Duration::from_secs(u64::from(config.channels.history_seconds)),
            },
            batch_window: Duration::from_millis(u64::from(config.channels.batch_window_ms)),
            live,
            seed,
            config: config.clone(),
        }
    }
}
