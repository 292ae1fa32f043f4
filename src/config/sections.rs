//! The sections of the file, each with its defaults and the rules that concern it alone.
//!
//! In: what serde gives. Out: plain structs whose fields are the keys, and small questions about them (may this peer
//! publish here?). Rules that join two sections are in `mod.rs`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use websocket::deflate;

use super::values::{Count, FileMode, ProxyRange, Secret, SocketPath, StreamPattern};
use super::{Violation, bounds, within};

/// `[http]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Addresses that speak HTTP/1.1 and, by upgrade, WebSocket.
    pub addr: Vec<SocketAddr>,
    /// Paths of sockets that speak the same; who may write to one counts as this machine.
    #[serde(deserialize_with = "one_or_more")]
    pub unix: Vec<SocketPath>,
    /// Who may connect to them, as in chmod.
    pub unix_mode: FileMode,
    /// Whose word on who asks is believed: in the PROXY protocol and in `Forwarded` and `X-Forwarded-*`.
    pub proxies: Vec<ProxyRange>,
    /// Whether every connection has to begin with a header of the PROXY protocol, from one of `proxies`.
    pub proxy_protocol: bool,
    /// Whether text is sent compressed to clients that ask for it.
    pub compression: bool,
    /// Whether `GET /echo` sends every WebSocket message back to its sender.
    pub echo: bool,
    /// Addresses that send every byte back (RFC 862), to measure the path without a protocol.
    pub raw_echo: Vec<SocketAddr>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            addr: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))],
            unix: Vec::new(),
            unix_mode: FileMode::default(),
            proxies: Vec::new(),
            proxy_protocol: false,
            compression: true,
            echo: false,
            raw_echo: Vec::new(),
        }
    }
}

impl Http {
    /// Whether those who connect by a path are proxies.
    #[must_use]
    pub fn trusts_unix(&self) -> bool {
        self.proxies.contains(&ProxyRange::Unix)
    }
}

/// `"a"` or `["a", "b"]`.
fn one_or_more<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<SocketPath>, D::Error> {
    struct Visitor;

    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Vec<SocketPath>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a path or a list of paths")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            SocketPath::try_from(text.to_owned()).map(|path| vec![path]).map_err(E::custom)
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(seq))
        }
    }

    input.deserialize_any(Visitor)
}

/// `[rtmp]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rtmp {
    /// Addresses that take RTMP publishers; empty turns RTMP off.
    pub addr: Vec<SocketAddr>,
    /// Whether every connection has to begin with a header of the PROXY protocol, from one of `http.proxies`.
    pub proxy_protocol: bool,
}

impl Default for Rtmp {
    fn default() -> Self {
        Self { addr: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 1935))], proxy_protocol: false }
    }
}

/// `[log]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// What is worth a line.
    pub level: LogLevel,
    /// Its form.
    pub format: LogFormat,
}

/// The least severe event that is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// We failed.
    Error,
    /// An operator should look.
    Warn,
    /// Start, stop, streams coming and going.
    #[default]
    Info,
    /// Each connection; compiled out of release builds.
    Debug,
    /// Each step; compiled out of release builds.
    Trace,
}

impl std::str::FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "error" => Ok(Self::Error),
            "warn" => Ok(Self::Warn),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            "trace" => Ok(Self::Trace),
            other => Err(format!("{other} is not one of error, warn, info, debug, trace")),
        }
    }
}

impl LogLevel {
    /// The word used in the file and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// `[auth]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Keys for what never follows `open`: `/metrics` and `/api` from other machines.
    pub api_keys: Vec<Secret>,
    /// Who may publish which stream.
    pub publish: Vec<PublishKey>,
}

/// One entry of `[[auth.publish]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishKey {
    /// The streams it opens.
    pub stream: StreamPattern,
    /// The key, sent by encoders as `name?key=...`.
    pub key: Secret,
}

impl Auth {
    /// Whether there is no key at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.api_keys.is_empty() && self.publish.is_empty()
    }

    /// Whether a peer may publish `app/name` (with or without `@rendition`). With no keys configured that is anyone on
    /// this machine; as soon as one is, everyone needs one that fits.
    ///
    /// Every key is compared, in constant time each, so that the time says nothing about which one nearly fitted.
    #[must_use]
    pub fn may_publish(&self, peer: IpAddr, app: &str, name: &str, key: Option<&str>) -> bool {
        if self.publish.is_empty() {
            return peer.to_canonical().is_loopback();
        }
        let Some(key) = key else { return false };
        let mut fits = false;
        for entry in &self.publish {
            fits |= entry.key.matches(key) & entry.stream.matches(app, name);
        }
        fits
    }

    /// Whether `key` is one of the API keys.
    #[must_use]
    pub fn is_api_key(&self, key: &str) -> bool {
        let mut fits = false;
        for secret in &self.api_keys {
            fits |= secret.matches(key);
        }
        fits
    }
}

/// `[channels]`: whichever bound of the history is reached first trims it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Channels {
    /// Publications kept per channel.
    pub history_publications: u32,
    /// Bytes of publications kept per channel.
    pub history_bytes: u32,
    /// Age at which a publication is dropped.
    pub history_seconds: u32,
    /// How long publications of a channel gather before its subscribers are sent them together.
    pub batch_window_ms: u32,
}

impl Channels {
    pub(super) fn validate(&self) -> Result<(), Violation> {
        within(
            "channels.history_publications",
            self.history_publications,
            0,
            bounds::HISTORY_PUBLICATIONS_MAX,
        )?;
        within("channels.history_bytes", self.history_bytes, 0, bounds::HISTORY_BYTES_MAX)?;
        within("channels.history_seconds", self.history_seconds, 0, bounds::HISTORY_SECONDS_MAX)?;
        within("channels.batch_window_ms", self.batch_window_ms, 0, bounds::BATCH_WINDOW_MS_MAX)
    }
}

impl Default for Channels {
    fn default() -> Self {
        Self {
            history_publications: bounds::HISTORY_PUBLICATIONS,
            history_bytes: bounds::HISTORY_BYTES,
            history_seconds: bounds::HISTORY_SECONDS,
            batch_window_ms: 0,
        }
    }
}

/// `[websocket]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocket {
    /// The longest message a peer may send, over all its fragments; close code 1009 beyond (RFC 6455 7.4.1).
    pub message_bytes_max: u32,
    /// Whether messages are compressed for peers that offer permessage-deflate (RFC 7692).
    pub deflate: bool,
    /// Shorter messages are sent as they are.
    pub deflate_threshold_bytes: u32,
    /// How hard publications are compressed, 1 (fast) to 9 (small).
    pub deflate_level: u8,
    /// Whether a peer's messages may refer to its earlier ones, which takes memory for each peer.
    pub deflate_takeover: bool,
    /// After this long without a byte from the peer it is pinged.
    pub ping_interval_ms: u32,
    /// After this long without a byte from the peer it is closed.
    pub idle_timeout_ms: u32,
}

impl WebSocket {
    /// The same as the protocol has it; without takeover, which depends on the connection.
    #[must_use]
    pub fn deflate_settings(&self) -> deflate::Settings {
        let defaults = deflate::Settings::default();
        deflate::Settings {
            enabled: self.deflate,
            threshold_bytes: self.deflate_threshold_bytes as usize,
            // The level was checked.
            level: deflate::Level::new(self.deflate_level).unwrap_or(defaults.level),
            ..defaults
        }
    }

    pub(super) fn validate(&self) -> Result<(), Violation> {
        within(
            "websocket.message_bytes_max",
            self.message_bytes_max,
            bounds::MESSAGE_BYTES_MIN,
            bounds::MESSAGE_BYTES_MAX,
        )?;
        within(
            "websocket.deflate_threshold_bytes",
            self.deflate_threshold_bytes,
            0,
            bounds::DEFLATE_THRESHOLD_BYTES_MAX,
        )?;
        within("websocket.deflate_level", self.deflate_level.into(), 1, bounds::DEFLATE_LEVEL_MAX)?;
        interval("websocket.ping_interval_ms", self.ping_interval_ms)?;
        interval("websocket.idle_timeout_ms", self.idle_timeout_ms)?;
        if self.idle_timeout_ms <= self.ping_interval_ms {
            return Err(Violation::new(
                "websocket.idle_timeout_ms",
                format!(
                    "{} is not longer than ping_interval_ms ({}): peers would be closed before they are asked",
                    self.idle_timeout_ms, self.ping_interval_ms
                ),
            ));
        }
        Ok(())
    }
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            message_bytes_max: bounds::MESSAGE_BYTES,
            deflate: true,
            deflate_threshold_bytes: bounds::DEFLATE_THRESHOLD_BYTES,
            deflate_level: bounds::DEFLATE_LEVEL,
            deflate_takeover: false,
            ping_interval_ms: bounds::PING_INTERVAL_MS,
            idle_timeout_ms: bounds::IDLE_TIMEOUT_MS,
        }
    }
}

/// `[sse]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sse {
    /// Between two comments on a silent stream.
    pub heartbeat_ms: u32,
    /// The `retry:` field a client is told at the start.
    pub retry_ms: u32,
}

impl Sse {
    pub(super) fn validate(&self) -> Result<(), Violation> {
        interval("sse.heartbeat_ms", self.heartbeat_ms)?;
        within("sse.retry_ms", self.retry_ms, 0, bounds::INTERVAL_MS_MAX)
    }
}

impl Default for Sse {
    fn default() -> Self {
        Self { heartbeat_ms: bounds::HEARTBEAT_MS, retry_ms: bounds::RETRY_MS }
    }
}

/// `[media]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Media {
    /// What a segment aims at.
    pub segment_duration_ms: u32,
    /// What a part aims at.
    pub part_duration_ms: u32,
    /// Segments listed in a playlist.
    pub window_segments: u32,
    /// Segments that can be fetched after they left the playlist.
    pub keep_segments: u32,
}

impl Media {
    pub(super) fn validate(&self) -> Result<(), Violation> {
        within(
            "media.segment_duration_ms",
            self.segment_duration_ms,
            bounds::SEGMENT_DURATION_MS_MIN,
            bounds::SEGMENT_DURATION_MS_MAX,
        )?;
        within(
            "media.part_duration_ms",
            self.part_duration_ms,
            bounds::PART_DURATION_MS_MIN,
            self.segment_duration_ms,
        )?;
        within(
            "media.window_segments",
            self.window_segments,
            bounds::WINDOW_SEGMENTS_MIN,
            bounds::WINDOW_SEGMENTS_MAX,
        )?;
        // RFC 8216 6.2.2: a segment stays for its own duration and that of the longest playlist that held it.
        within(
            "media.keep_segments",
            self.keep_segments,
            self.window_segments + 1,
            2 * bounds::WINDOW_SEGMENTS_MAX,
        )
    }
}

impl Default for Media {
    fn default() -> Self {
        Self {
            segment_duration_ms: bounds::SEGMENT_DURATION_MS,
            part_duration_ms: bounds::PART_DURATION_MS,
            window_segments: bounds::WINDOW_SEGMENTS,
            keep_segments: bounds::KEEP_SEGMENTS,
        }
    }
}

/// `[tcp]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tcp {
    /// TCP_CONGESTION of the listeners, which their connections inherit; left as the system has it when the kernel
    /// lacks the named one, or when empty. The default is cubic because bbr cost 16 to 22 % more CPU per small message.
    pub congestion: String,
}

impl Tcp {
    pub(super) fn validate(&self) -> Result<(), Violation> {
        // TCP_CA_NAME_MAX is 16 with the terminator.
        let fits = self.congestion.len() < 16
            && self
                .congestion
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
        if fits {
            return Ok(());
        }
        Err(Violation::new(
            "tcp.congestion",
            "is not the name of a congestion control (see net.ipv4.tcp_available_congestion_control)",
        ))
    }
}

impl Default for Tcp {
    fn default() -> Self {
        Self { congestion: "cubic".to_owned() }
    }
}

/// `[cells]`: the rings of a shard. One is the normal case; RLIMIT_NOFILE bounds the connections of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cells {
    /// Direct descriptors of one ring; `auto` follows RLIMIT_NOFILE.
    pub slots_per_cell: Count,
    /// Most rings of one shard.
    pub max_cells: u32,
}

impl Cells {
    pub(super) fn validate(&self) -> Result<(), Violation> {
        if let Count::Exactly(slots) = self.slots_per_cell {
            within(
                "cells.slots_per_cell",
                slots.get(),
                bounds::SLOTS_PER_CELL_MIN,
                bounds::SLOTS_PER_CELL_MAX,
            )?;
        }
        within("cells.max_cells", self.max_cells, 1, bounds::CELLS_MAX)
    }
}

impl Default for Cells {
    fn default() -> Self {
        Self { slots_per_cell: Count::Auto, max_cells: bounds::CELLS_MAX }
    }
}

/// `[memory]`: what the server may use, user and kernel memory together, and who is guaranteed what of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// The budget in MiB; `auto` is four fifths of what the machine and its control groups give.
    pub budget_mib: Count,
    /// Connections, with the kernel's part. Beyond it new ones are refused.
    pub connections_percent: u8,
    /// Histories of channels.
    pub history_percent: u8,
    /// What waits for slow readers.
    pub slow_readers_percent: u8,
    /// Live media. Beyond it new publishers are refused.
    pub media_percent: u8,
}

impl Memory {
    pub(super) fn validate(&self) -> Result<(), Violation> {
        if let Count::Exactly(budget) = self.budget_mib {
            let (min, max) = (bounds::BUDGET_MIB_MIN, bounds::BUDGET_MIB_MAX);
            within("memory.budget_mib", budget.get(), min, max)?;
        }
        let shares = [
            ("memory.connections_percent", self.connections_percent),
            ("memory.history_percent", self.history_percent),
            ("memory.slow_readers_percent", self.slow_readers_percent),
            ("memory.media_percent", self.media_percent),
        ];
        let mut sum = 0;
        for (key, percent) in shares {
            within(key, percent.into(), 0, 100)?;
            sum += u32::from(percent);
            if sum > 100 {
                return Err(Violation::new(
                    key,
                    format!(
                        "{percent} makes {sum} percent with the shares above it; at most 100 can be given away"
                    ),
                ));
            }
        }
        if self.connections_percent == 0 {
            return Err(Violation::new(
                "memory.connections_percent",
                "is 0: nobody could connect; give connections a share",
            ));
        }
        Ok(())
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            budget_mib: Count::Auto,
            connections_percent: bounds::CONNECTIONS_PERCENT,
            history_percent: bounds::HISTORY_PERCENT,
            slow_readers_percent: bounds::SLOW_READERS_PERCENT,
            media_percent: bounds::MEDIA_PERCENT,
        }
    }
}

fn interval(key: &'static str, value: u32) -> Result<(), Violation> {
    within(key, value, bounds::INTERVAL_MS_MIN, bounds::INTERVAL_MS_MAX)
}
