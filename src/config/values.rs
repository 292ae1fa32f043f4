//! Values that cannot be wrong once they exist: names, origins, patterns, secrets, counts.
//!
//! In: strings and numbers of the file. Out: types that were checked while they were parsed, so that the error carries
//! the line. Not here: how values relate to each other.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::bounds;

/// A number, or `"auto"`: as many as the machine gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Count {
    /// `"auto"`
    #[default]
    Auto,
    /// A number of at least one.
    Exactly(NonZeroU32),
}

impl Count {
    /// The number, or what `auto` stands for here.
    #[must_use]
    pub fn or(self, auto: u32) -> u32 {
        match self {
            Self::Auto => auto,
            Self::Exactly(count) => count.get(),
        }
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Exactly(count) => serializer.serialize_u32(count.get()),
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"auto\" or a number of at least 1")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Count, E> {
                if text == "auto" {
                    return Ok(Count::Auto);
                }
                Err(E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Count, E> {
                u32::try_from(number)
                    .ok()
                    .and_then(NonZeroU32::new)
                    .map(Count::Exactly)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// Whose word on who asks is believed: addresses with a common prefix, or whoever connects by a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ProxyRange {
    /// `"10.0.0.0/8"`, `"::1"`
    Internet {
        /// An address of the range; bits behind the prefix are 0.
        network: IpAddr,
        /// How many bits all addresses of the range have in common.
        prefix_bits: u8,
    },
    /// `"unix"`
    Unix,
}

impl ProxyRange {
    /// Whether an address is in the range. An IPv4 address in IPv6 clothes counts as what it stands for.
    #[must_use]
    pub fn covers(&self, address: IpAddr) -> bool {
        let Self::Internet { network, prefix_bits } = *self else { return false };
        match (network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differs = network.to_bits() ^ address.to_bits();
                differs.leading_zeros() >= u32::from(prefix_bits)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differs = network.to_bits() ^ address.to_bits();
                differs.leading_zeros() >= u32::from(prefix_bits)
            }
            _ => false,
        }
    }
}

impl TryFrom<String> for ProxyRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let wrong = || {
            format!(
                "{text:?} is not a proxy: write an address, a range such as 10.0.0.0/8, or unix"
            )
        };
        let (address, bits) =
            text.split_once('/').map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
        let network: IpAddr = address.parse().map_err(|_| wrong())?;
        if network != network.to_canonical() {
            return Err(format!(
                "{text:?}: write the IPv4 address itself, it covers this form of it too"
            ));
        }
        let bits_max: u8 = if network.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match bits {
            None => bits_max,
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|parsed| *parsed <= bits_max && !bits.starts_with('+'))
                .ok_or_else(wrong)?,
        };
        let behind = u32::from(bits_max - prefix_bits);
        let has_bits_behind = match network {
            IpAddr::V4(network) => network.to_bits().trailing_zeros() < behind,
            IpAddr::V6(network) => network.to_bits().trailing_zeros() < behind,
        };
        if has_bits_behind {
            return Err(format!(
                "{text:?} has bits behind its prefix: is the range or the address meant?"
            ));
        }
        Ok(Self::Internet { network, prefix_bits })
    }
}

impl fmt::Display for ProxyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet { network, prefix_bits } => write!(f, "{network}/{prefix_bits}"),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl From<ProxyRange> for String {
    fn from(range: ProxyRange) -> Self {
        range.to_string()
    }
}

/// A path that can be listened on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SocketPath(String);

impl SocketPath {
    /// The path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl TryFrom<String> for SocketPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if !text.starts_with('/') || text.ends_with('/') || text.contains('\0') {
            return Err(format!("{text:?} cannot be listened on: write a path that begins with /"));
        }
        if text.len() > bounds::SOCKET_PATH_BYTES_MAX {
            let max = bounds::SOCKET_PATH_BYTES_MAX;
            return Err(format!(
                "{text:?} is longer than the {max} bytes that the path of a socket may have"
            ));
        }
        Ok(Self(text))
    }
}

impl fmt::Display for SocketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<SocketPath> for String {
    fn from(path: SocketPath) -> Self {
        path.0
    }
}

/// Who may use a file: three or four octal digits, as chmod takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileMode(u16);

impl FileMode {
    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }
}

impl Default for FileMode {
    /// The owner and the group.
    fn default() -> Self {
        Self(0o660)
    }
}

impl TryFrom<String> for FileMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = if text.len() == 4 { text.strip_prefix('0').unwrap_or("") } else { &text };
        let is_octal = digits.len() == 3 && digits.bytes().all(|b| matches!(b, b'0'..=b'7'));
        u16::from_str_radix(digits, 8).ok().filter(|_| is_octal).map(Self).ok_or_else(|| {
            format!("{text:?} is not a mode: write three octal digits, such as \"660\"")
        })
    }
}

impl From<FileMode> for String {
    fn from(mode: FileMode) -> Self {
        format!("{:03o}", mode.0)
    }
}

/// The first segment of a stream's path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppName(String);

impl AppName {
    /// The app that exists without a configuration.
    #[must_use]
    pub fn live() -> Self {
        Self("live".to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AppName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if ROUTES.contains(&text.as_str()) {
            return Err(format!(
                "an app cannot be named {text}: that path is a route of the server"
            ));
        }
        if !is_stream_name(&text) {
            return Err(format!(
                "{text:?} cannot be an app: use 1 to 128 of A-Z a-z 0-9 _ - . and start with a letter, digit, _ or -"
            ));
        }
        Ok(Self(text))
    }
}

impl AsRef<str> for AppName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<AppName> for String {
    fn from(app: AppName) -> Self {
        app.0
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value that `Host` may have: a name or an IP address (IPv6 in brackets), lower case, without a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// The name, lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HostName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let text = text.to_ascii_lowercase();
        if is_host(&text) {
            return Ok(Self(text));
        }
        Err(format!(
            "{text:?} is not a host: write a name or an address, without scheme, port or path"
        ))
    }
}

impl AsRef<str> for HostName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<HostName> for String {
    fn from(host: HostName) -> Self {
        host.0
    }
}

/// An origin as browsers send it (RFC 6454 6.2): scheme, host, and the port unless it is the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin(String);

impl Origin {
    /// The origin, lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Origin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let text = text.to_ascii_lowercase();
        let default_port = if text.starts_with("https://") { "443" } else { "80" };
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let wrong = || {
            format!(
                "{text:?} is not an origin: write it as browsers send it, such as https://example.org or \
                 http://localhost:3000, without a path"
            )
        };
        let rest = rest.ok_or_else(wrong)?;
        // The port follows the last colon that is not inside the brackets of an IPv6 address.
        let split = rest.rfind(':').filter(|at| !rest[*at..].contains(']'));
        let (host, port) = match split {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        let port_is_good = match port {
            None => true,
            Some(port) => {
                port != default_port
                    && port.bytes().all(|b| b.is_ascii_digit())
                    && port.parse::<u16>().is_ok_and(|port| port != 0)
            }
        };
        if is_host(host) && port_is_good { Ok(Self(text)) } else { Err(wrong()) }
    }
}

impl AsRef<str> for Origin {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.0
    }
}

/// Which streams a key opens: `app/name`, `app/prefix*` or `app/*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamPattern {
    app: String,
    name: String,
    /// Whether the name is only a prefix.
    prefix: bool,
}

impl StreamPattern {
    /// Whether the stream is meant. A rendition (`cam@720p`) is meant by whatever means its stream (`cam`).
    #[must_use]
    pub fn matches(&self, app: &str, name: &str) -> bool {
        let stream = name.split_once('@').map_or(name, |(stream, _)| stream);
        let named = if self.prefix { stream.starts_with(&self.name) } else { stream == self.name };
        app == self.app && named
    }

    pub(super) fn covers_app(&self, app: &str) -> bool {
        self.app == app
    }
}

impl TryFrom<String> for StreamPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(app, name)| {
            let (name, prefix) = name.strip_suffix('*').map_or((name, false), |name| (name, true));
            let name_is_good = is_stream_name(name) || (prefix && name.is_empty());
            (is_stream_name(app) && name_is_good).then(|| Self {
                app: app.to_owned(),
                name: name.to_owned(),
                prefix,
            })
        });
        parsed.ok_or_else(|| {
            format!("{text:?} is not a stream: write app/name, app/prefix* or app/*")
        })
    }
}

impl From<StreamPattern> for String {
    fn from(pattern: StreamPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for StreamPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.app, self.name, if self.prefix { "*" } else { "" })
    }
}

/// A key. It shows itself to nobody: `Debug` and serialisation print a placeholder.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Secret(String);

impl Secret {
    /// Compares without stopping at the first difference. The length is not hidden.
    #[must_use]
    pub fn matches(&self, key: &str) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), key.as_bytes());
        if ours.len() != theirs.len() {
            return false;
        }
        let difference = ours.iter().zip(theirs).fold(0, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

impl TryFrom<String> for Secret {
    type Error = String;

    /// The message never repeats the text.
    fn try_from(text: String) -> Result<Self, String> {
        if !(bounds::KEY_BYTES_MIN..=bounds::KEY_BYTES_MAX).contains(&text.len()) {
            return Err(format!(
                "a key of {} characters: use {} to {} (`headwater token` mints one)",
                text.len(),
                bounds::KEY_BYTES_MIN,
                bounds::KEY_BYTES_MAX
            ));
        }
        // RFC 3986 2.3: what needs no escape in a URL, because encoders carry the key in one.
        let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        if !text.bytes().all(unreserved) {
            return Err(
                "a key may hold only A-Z a-z 0-9 - . _ ~, because it travels in URLs".to_owned()
            );
        }
        Ok(Self(text))
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// The rule for names that become paths, for apps and streams alike (a rendition's `@` is not part of a name).
fn is_stream_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || b == b'.';
    let first = text.bytes().next();
    first.is_some_and(|b| b != b'.' && inner(b))
        && text.len() <= 128
        && text.bytes().all(inner)
        && !text.contains("..")
        && ![".flv", ".m3u8", ".mpd"].iter().any(|suffix| text.ends_with(suffix))
}

fn is_host(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// First path segments that the server answers itself.
const ROUTES: [&str; 15] = [
    "ws",
    "sse",
    "pub",
    "stream",
    "poll",
    "api",
    "history",
    "presence",
    "metrics",
    "healthz",
    "readyz",
    "examples",
    "connection",
    "ticket",
    "assets",
];

const HIDDEN: &str = "(hidden)";
