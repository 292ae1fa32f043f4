//! The configuration: one TOML file, overridden by flags, checked as a whole before anything opens a socket.
//!
//! In: the text of a file and the flags. Out: a [`Config`] in which every value is within its bound and the
//! combination is safe (`Config::validate`), or a [`ConfigError`] that names the file and line, or the flag.
//! Every key has a default; `headwater.toml` at the top of the repository lists them all, and a test holds the two
//! together.
//!
//! Invariants: a key that is not known is an error, never ignored; a secret is never printed, neither by `Debug` nor
//! by [`Config::to_toml`]. Not here: reading the environment, the kernel's limits (`probe`), and anything that depends
//! on whether an address can be bound.

mod error;
mod sections;
#[cfg(test)]
mod tests;
mod values;

use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use error::{ConfigError, Place};
pub use sections::{
    Auth, Cells, Channels, Http, Log, LogFormat, LogLevel, Media, Memory, PublishKey, Rtmp, Sse,
    Tcp, WebSocket,
};
pub use values::{
    AppName, Count, FileMode, HostName, Origin, ProxyRange, Secret, SocketPath, StreamPattern,
};

/// Everything an operator can decide. Field names are the keys of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How many shards (pinned threads) serve; `auto` is one per core.
    pub shards: Count,
    /// Whether anyone who reaches the addresses may read and publish messages and read media.
    pub open: bool,
    /// Whether an address other than loopback may be served without TLS (because a proxy in front has it).
    pub plaintext: bool,
    /// The first path segments under which live streams are published.
    pub apps: Vec<AppName>,
    /// The values of `Host` that are answered; empty stands for localhost, 127.0.0.1 and `[::1]`.
    pub hosts: Vec<HostName>,
    /// Origins that may open WebSockets and send unsafe methods, beside the one equal to the `Host`.
    pub origins: Vec<Origin>,
    /// How long a drain waits for clients to leave before it closes them.
    pub drain_timeout_ms: u32,
    /// The HTTP listeners.
    pub http: Http,
    /// The RTMP listeners.
    pub rtmp: Rtmp,
    /// What is logged, and in which form.
    pub log: Log,
    /// Who may publish streams, and the keys of the admin side.
    pub auth: Auth,
    /// What a channel keeps.
    pub channels: Channels,
    /// WebSocket sessions.
    pub websocket: WebSocket,
    /// Server-sent events.
    pub sse: Sse,
    /// Segments, parts and the window of a live stream.
    pub media: Media,
    /// Socket options.
    pub tcp: Tcp,
    /// Rings per shard.
    pub cells: Cells,
    /// The memory budget, and who is guaranteed what of it.
    pub memory: Memory,
}

/// What the command line says; each one that is given replaces the value of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--http ADDR`
    pub http: Option<SocketAddr>,
    /// `--rtmp ADDR`
    pub rtmp: Option<SocketAddr>,
    /// `--shards N`
    pub shards: Option<std::num::NonZeroU32>,
    /// `--log LEVEL`
    pub log: Option<LogLevel>,
}

impl Config {
    /// Reads and checks a file, without flags.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, has an unknown key, or a value or combination is not allowed.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(Some(path), &Flags::default())
    }

    /// Reads `path` if there is one, lays the flags over it, and checks the result.
    ///
    /// # Errors
    /// As [`Config::load`]; an error that a flag caused names the flag.
    pub fn load_with(path: Option<&Path>, flags: &Flags) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            return Self::parse_with("", Path::new("defaults"), flags);
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::file(path, None, format!("cannot be read: {error}")))?;
        Self::parse_with(&text, path, flags)
    }

    /// The same for a text in memory; `path` is only for messages.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse_with(text: &str, path: &Path, flags: &Flags) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| error::line_of(text, span.start));
            ConfigError::file(path, line, error.message().to_owned())
        })?;
        config.apply(flags);
        config.validate().map_err(|violation| violation.placed(text, path, flags))?;
        Ok(config)
    }

    /// The effective configuration as TOML, secrets hidden: what `headwater check` prints.
    #[must_use]
    pub fn to_toml(&self) -> String {
        // No map with non-string keys and no value TOML lacks occurs in these types, so this cannot fail; if it ever
        // did, the operator sees the reason in place of the file.
        toml::to_string(self).unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
    }

    /// Things that are allowed but probably not meant, for the log at start.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.hosts.is_empty() && self.http.addr.iter().any(|addr| !is_loopback(*addr)) {
            warnings.push(
                "http.addr can be reached from other machines, but hosts is empty: a request is answered 421 unless \
                 its Host is localhost; list the names clients use in hosts"
                    .to_owned(),
            );
        }
        if self.http.addr.is_empty() && self.http.unix.is_empty() && self.rtmp.addr.is_empty() {
            warnings.push(
                "http.addr, http.unix and rtmp.addr are all empty: nothing is served".to_owned(),
            );
        }
        warnings
    }

    fn apply(&mut self, flags: &Flags) {
        if let Some(addr) = flags.http {
            self.http.addr = vec![addr];
        }
        if let Some(addr) = flags.rtmp {
            self.rtmp.addr = vec![addr];
        }
        if let Some(shards) = flags.shards {
            self.shards = Count::Exactly(shards);
        }
        if let Some(level) = flags.log {
            self.log.level = level;
        }
    }

    /// Checks each value against its bound, then what only the whole can say.
    fn validate(&self) -> Result<(), Violation> {
        self.validate_bounds()?;
        self.validate_relations()?;
        self.validate_exposure()
    }

    fn validate_bounds(&self) -> Result<(), Violation> {
        if let Count::Exactly(shards) = self.shards {
            within("shards", shards.get(), 1, bounds::SHARDS_MAX)?;
        }
        within("drain_timeout_ms", self.drain_timeout_ms, 0, bounds::DRAIN_TIMEOUT_MS_MAX)?;
        list("apps", self.apps.len(), bounds::APPS_MAX)?;
        list("hosts", self.hosts.len(), bounds::HOSTS_MAX)?;
        list("origins", self.origins.len(), bounds::ORIGINS_MAX)?;
        list("http.addr", self.http.addr.len(), bounds::LISTENERS_MAX)?;
        list("http.unix", self.http.unix.len(), bounds::LISTENERS_MAX)?;
        list("http.proxies", self.http.proxies.len(), bounds::PROXIES_MAX)?;
        list("http.raw_echo", self.http.raw_echo.len(), bounds::LISTENERS_MAX)?;
        list("rtmp.addr", self.rtmp.addr.len(), bounds::LISTENERS_MAX)?;
        list("auth.publish", self.auth.publish.len(), bounds::KEYS_MAX)?;
        list("auth.api_keys", self.auth.api_keys.len(), bounds::KEYS_MAX)?;
        self.channels.validate()?;
        self.websocket.validate()?;
        self.sse.validate()?;
        self.media.validate()?;
        self.tcp.validate()?;
        self.cells.validate()?;
        self.memory.validate()
    }

    fn validate_relations(&self) -> Result<(), Violation> {
        if self.apps.is_empty() {
            return Err(Violation::new(
                "apps",
                "is empty: name at least one app, such as \"live\"",
            ));
        }
        unique("apps", &self.apps)?;
        unique("http.addr", &self.http.addr.iter().filter(|a| a.port() != 0).collect::<Vec<_>>())?;
        unique("http.unix", &self.http.unix)?;
        for (key, is_set) in [
            ("http.proxy_protocol", self.http.proxy_protocol),
            ("rtmp.proxy_protocol", self.rtmp.proxy_protocol),
        ] {
            if is_set && self.http.proxies.is_empty() {
                return Err(Violation::new(
                    key,
                    "nobody could connect: name the proxies that send the header in http.proxies",
                ));
            }
        }
        unique("rtmp.addr", &self.rtmp.addr.iter().filter(|a| a.port() != 0).collect::<Vec<_>>())?;
        let shared = self.rtmp.addr.iter().find(|a| a.port() != 0 && self.http.addr.contains(a));
        if let Some(addr) = shared {
            return Err(Violation::new("rtmp.addr", format!("{addr} is also in http.addr")));
        }
        for key in &self.auth.publish {
            if !self.apps.iter().any(|app| key.stream.covers_app(app.as_str())) {
                return Err(Violation::new(
                    "auth.publish",
                    format!("the pattern {} is in none of the configured apps", key.stream),
                ));
            }
        }
        Ok(())
    }

    /// The safe defaults: what other machines can reach has to be asked for in words.
    fn validate_exposure(&self) -> Result<(), Violation> {
        if let Some(addr) = self.http.raw_echo.iter().find(|addr| !is_loopback(**addr)) {
            return Err(Violation::new(
                "http.raw_echo",
                format!(
                    "{addr} can be reached from other machines: the echo is for measuring here"
                ),
            ));
        }
        let exposed = [("http.addr", &self.http.addr), ("rtmp.addr", &self.rtmp.addr)]
            .into_iter()
            .flat_map(|(key, addrs)| addrs.iter().map(move |addr| (key, *addr)))
            .filter(|(_, addr)| !is_loopback(*addr));
        for (key, addr) in exposed {
            if !self.open && self.auth.is_empty() {
                return Err(Violation::new(
                    key,
                    format!(
                        "{addr} can be reached from other machines: add an [auth] section with keys, or say open = true \
                         if anyone may read and publish"
                    ),
                ));
            }
            if !self.plaintext {
                return Err(Violation::new(
                    key,
                    format!(
                        "{addr} would be served to other machines without TLS, which this version does not have: put a \
                         proxy in front and say plaintext = true"
                    ),
                ));
            }
            if key == "rtmp.addr" && self.auth.publish.is_empty() {
                return Err(Violation::new(
                    key,
                    format!(
                        "{addr} takes streams from other machines: RTMP publishing needs a key also when open; add \
                         [[auth.publish]] with stream and key (`headwater token` mints one)"
                    ),
                ));
            }
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shards: Count::Auto,
            open: false,
            plaintext: false,
            apps: vec![AppName::live()],
            hosts: Vec::new(),
            origins: Vec::new(),
            drain_timeout_ms: bounds::DRAIN_TIMEOUT_MS,
            http: Http::default(),
            rtmp: Rtmp::default(),
            log: Log::default(),
            auth: Auth::default(),
            channels: Channels::default(),
            websocket: WebSocket::default(),
            sse: Sse::default(),
            media: Media::default(),
            tcp: Tcp::default(),
            cells: Cells::default(),
            memory: Memory::default(),
        }
    }
}

/// Whether only this machine can reach the address. An IPv4 address in IPv6 clothes counts as what it stands for.
#[must_use]
pub fn is_loopback(addr: SocketAddr) -> bool {
    addr.ip().to_canonical().is_loopback()
}

/// A rule that a value breaks, before it is known where the value came from.
#[derive(Debug)]
struct Violation {
    /// The key's path, dotted.
    key: &'static str,
    message: String,
}

impl Violation {
    fn new(key: &'static str, message: impl Into<String>) -> Self {
        Self { key, message: message.into() }
    }

    /// Finds out who said it: a flag, a line of the file, or neither (a default, blamed on the file as a whole).
    fn placed(self, text: &str, path: &Path, flags: &Flags) -> ConfigError {
        let flag = match self.key {
            "http.addr" if flags.http.is_some() => Some("--http"),
            "rtmp.addr" if flags.rtmp.is_some() => Some("--rtmp"),
            "shards" if flags.shards.is_some() => Some("--shards"),
            _ => None,
        };
        let message = format!("{}: {}", self.key, self.message);
        match flag {
            Some(flag) => ConfigError { place: Place::Flag(flag), message },
            None => ConfigError::file(path, error::line_of_key(text, self.key), message),
        }
    }
}

fn within(key: &'static str, value: u32, min: u32, max: u32) -> Result<(), Violation> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Violation::new(key, format!("{value} is not between {min} and {max}")))
}

fn list(key: &'static str, len: usize, max: usize) -> Result<(), Violation> {
    if len <= max {
        return Ok(());
    }
    Err(Violation::new(key, format!("has {len} entries, at most {max} are allowed")))
}

fn unique<T: PartialEq + std::fmt::Display>(
    key: &'static str,
    values: &[T],
) -> Result<(), Violation> {
    for (at, value) in values.iter().enumerate() {
        if values[..at].contains(value) {
            return Err(Violation::new(key, format!("{value} is listed twice")));
        }
    }
    Ok(())
}

/// Defaults (no suffix) and bounds (`_MIN`, `_MAX`) of the keys, units in the names.
pub mod bounds {
    use crate::limits;

    /// Shards of one process.
    pub const SHARDS_MAX: u32 = 256;
    /// Names in `apps`.
    pub const APPS_MAX: usize = 64;
    /// Names in `hosts`.
    pub const HOSTS_MAX: usize = 256;
    /// Entries in `origins`.
    pub const ORIGINS_MAX: usize = 256;
    /// Addresses of one protocol.
    pub const LISTENERS_MAX: usize = 16;
    /// Entries in `http.proxies`.
    pub const PROXIES_MAX: usize = 256;
    /// Bytes of a path that is listened on: what `sun_path` holds with its terminator (unix(7)).
    pub const SOCKET_PATH_BYTES_MAX: usize = 107;
    /// Keys in each list of `[auth]`.
    pub const KEYS_MAX: usize = 4096;
    /// Bytes of a key. Sixteen characters of base64url are 96 bits.
    pub const KEY_BYTES_MIN: usize = 16;
    /// Bytes of a key.
    pub const KEY_BYTES_MAX: usize = 256;

    /// How long a drain waits.
    pub const DRAIN_TIMEOUT_MS: u32 = limits::DRAIN_MS as u32;
    /// An hour.
    pub const DRAIN_TIMEOUT_MS_MAX: u32 = 3_600_000;

    /// Publications a channel keeps.
    pub const HISTORY_PUBLICATIONS: u32 = limits::HISTORY_PUBLICATIONS as u32;
    /// Publications a channel may be told to keep.
    pub const HISTORY_PUBLICATIONS_MAX: u32 = 1_000_000;
    /// Bytes of publications a channel keeps.
    pub const HISTORY_BYTES: u32 = limits::HISTORY_BYTES as u32;
    /// Bytes a channel may be told to keep; at least one publication has to fit.
    pub const HISTORY_BYTES_MAX: u32 = 1 << 30;
    /// How long a channel keeps a publication.
    pub const HISTORY_SECONDS: u32 = (limits::HISTORY_MS / 1_000) as u32;
    /// A week.
    pub const HISTORY_SECONDS_MAX: u32 = 7 * 24 * 3600;
    /// How long publications may gather.
    pub const BATCH_WINDOW_MS_MAX: u32 = limits::BATCH_WINDOW_MS_MAX as u32;

    /// The longest message a WebSocket may send, over all its fragments.
    pub const MESSAGE_BYTES: u32 = 64 << 10;
    /// A control frame's payload is at most 125 bytes (RFC 6455 5.5); a message limit below that helps nobody.
    pub const MESSAGE_BYTES_MIN: u32 = 125;
    /// The largest message limit that can be set. Where a message becomes a publication, the bound of those holds too.
    pub const MESSAGE_BYTES_MAX: u32 = limits::WEBSOCKET_MESSAGE_BYTES_MAX as u32;
    /// Shorter messages are not compressed.
    pub const DEFLATE_THRESHOLD_BYTES: u32 = 64;
    /// Longer ones never are, so a higher threshold says nothing.
    pub const DEFLATE_THRESHOLD_BYTES_MAX: u32 = limits::DEFLATE_BYTES_MAX as u32;
    /// How hard publications are compressed.
    pub const DEFLATE_LEVEL: u8 = 6;
    /// Hardest.
    pub const DEFLATE_LEVEL_MAX: u32 = 9;
    /// Between two pings to a silent WebSocket.
    pub const PING_INTERVAL_MS: u32 = limits::WEBSOCKET_PING_MS as u32;
    /// Without a byte from the peer, a WebSocket is closed after this.
    pub const IDLE_TIMEOUT_MS: u32 = limits::WEBSOCKET_IDLE_MS as u32;
    /// Shortest interval of pings and heartbeats.
    pub const INTERVAL_MS_MIN: u32 = 100;
    /// Longest interval of pings, heartbeats, idle and retry times.
    pub const INTERVAL_MS_MAX: u32 = 3_600_000;

    /// Between two comments to a silent EventSource.
    pub const HEARTBEAT_MS: u32 = limits::SSE_HEARTBEAT_MS as u32;
    /// What an EventSource is told to wait before it connects again.
    pub const RETRY_MS: u32 = limits::SSE_RETRY_MS;

    /// What a media segment aims at; it ends at the first random access point after that.
    pub const SEGMENT_DURATION_MS: u32 = 2_000;
    /// Shortest segment target.
    pub const SEGMENT_DURATION_MS_MIN: u32 = 500;
    /// Longest segment target.
    pub const SEGMENT_DURATION_MS_MAX: u32 = 10_000;
    /// What a part aims at.
    pub const PART_DURATION_MS: u32 = 500;
    /// Shortest part target.
    pub const PART_DURATION_MS_MIN: u32 = 100;
    /// Segments in a playlist.
    pub const WINDOW_SEGMENTS: u32 = 10;
    /// A live playlist holds at least three target durations (RFC 8216 6.2.2).
    pub const WINDOW_SEGMENTS_MIN: u32 = 3;
    /// Segments a playlist may be told to hold.
    pub const WINDOW_SEGMENTS_MAX: u32 = 3_600;
    /// Segments that can still be fetched after they left the playlist.
    pub const KEEP_SEGMENTS: u32 = 11;

    /// Most rings of one shard; also the default.
    pub const CELLS_MAX: u32 = limits::CELLS_MAX as u32;
    /// Fewest slots of a ring: the reserve and a few peers.
    pub const SLOTS_PER_CELL_MIN: u32 = 16;
    /// Most slots of a ring.
    pub const SLOTS_PER_CELL_MAX: u32 = limits::SLOTS_PER_CELL_MAX;

    /// Least memory that can be set: rings and buffers of one shard, and a little to serve with.
    pub const BUDGET_MIB_MIN: u32 = 16;
    /// 1 TiB.
    pub const BUDGET_MIB_MAX: u32 = 1 << 20;
    /// Of the budget, for connections.
    pub const CONNECTIONS_PERCENT: u8 = limits::CONNECTIONS_PERCENT;
    /// Of the budget, for histories.
    pub const HISTORY_PERCENT: u8 = limits::HISTORY_PERCENT;
    /// Of the budget, for slow readers.
    pub const SLOW_READERS_PERCENT: u8 = limits::SLOW_READERS_PERCENT;
    /// Of the budget, for live media.
    pub const MEDIA_PERCENT: u8 = limits::MEDIA_PERCENT;

    const _: () = assert!(PART_DURATION_MS <= SEGMENT_DURATION_MS);
    const _: () = assert!(PING_INTERVAL_MS < IDLE_TIMEOUT_MS);
    const _: () = assert!(KEEP_SEGMENTS > WINDOW_SEGMENTS);
    const _: () = assert!(MESSAGE_BYTES <= MESSAGE_BYTES_MAX);
}
