//! For whom a proxy asks: `Forwarded` (RFC 7239) and the `X-Forwarded-*` fields before it.
//!
//! In: a request that a configured proxy sent, and which addresses are configured proxies. Out: the client's address,
//! its scheme and the host it asked for, as far as they are said in one way. Invariants: only what the nearest proxies
//! wrote is believed: entries are taken from the right while they name configured proxies, and the first that does not
//! is the client, whatever stands left of it; what is malformed, empty or contradictory is "unknown", never an error and
//! never an address; nothing is allocated, each value is walked once.
//!
//! It does not know who sent the request: the caller asks only when that was a configured proxy.

use crate::origin::Scheme;
use crate::{Authority, Request};
use std::net::{IpAddr, SocketAddr};

/// What the proxies in front say of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarded<'a> {
    /// Who asks.
    pub client: Client,
    /// How the client spoke to the first proxy; [`Scheme::Either`] when that is not known.
    pub scheme: Scheme,
    /// Whom the client asked.
    pub host: Host<'a>,
}

/// Who asks through a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// The proxy itself: it forwards nothing.
    Proxy,
    /// This address.
    Address(IpAddr),
    /// Somebody: the field is malformed, hides the address, or contradicts another.
    Unknown,
}

/// Whom a client asked, by the word of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host<'a> {
    /// Nothing is said; the request's own authority counts.
    Unsaid,
    /// This host.
    Named(Authority<'a>),
    /// Several, or what is no host.
    Malformed,
}

/// Reads what a request says of those before the peer that sent it.
pub fn forwarded<'a>(
    request: &Request<'a>,
    is_proxy: impl Fn(IpAddr) -> bool + Copy,
) -> Forwarded<'a> {
    if !request.came_through_proxy() {
        return Forwarded { client: Client::Proxy, scheme: Scheme::Either, host: Host::Unsaid };
    }
    let standard = last_foreign(
        request.header_lines("forwarded").flat_map(|line| parts(line, b',')).map(element),
        is_proxy,
    );
    let customary = last_foreign(
        request
            .header_lines("x-forwarded-for")
            .flat_map(|line| line.split(|byte| *byte == b','))
            .map(|node| Element {
                node: Some(customary_node(node.trim_ascii())),
                ..Element::EMPTY
            }),
        is_proxy,
    );
    let client = match (standard, customary) {
        (Some(one), None) | (None, Some(one)) => one.client(),
        (Some(one), Some(other)) if one.client() == other.client() => one.client(),
        // `Via` alone, or two fields that disagree: one of them was not written by our proxy.
        _ => Client::Unknown,
    };
    let standard = standard.unwrap_or(Element::EMPTY);
    Forwarded {
        client,
        scheme: scheme_of(standard.proto, request.header_lines("x-forwarded-proto")),
        host: host_of(standard, request.header_lines("x-forwarded-host")),
    }
}

/// The client's entry: the last that is no configured proxy, or the first when all are. Entries are in the order in
/// which proxies appended them (RFC 7239 4).
fn last_foreign<'a>(
    elements: impl Iterator<Item = Element<'a>>,
    is_proxy: impl Fn(IpAddr) -> bool,
) -> Option<Element<'a>> {
    elements.reduce(|client, next| match next.client() {
        Client::Address(address) if is_proxy(address) => client,
        _ => next,
    })
}

/// A `forwarded-element` (RFC 7239 4), as far as it is of use.
#[derive(Clone, Copy)]
struct Element<'a> {
    /// `for`; the inner `None`: not an address.
    node: Option<Option<IpAddr>>,
    proto: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
    is_malformed: bool,
}

impl Element<'_> {
    const EMPTY: Self = Self { node: None, proto: None, host: None, is_malformed: false };

    fn client(&self) -> Client {
        match self.node {
            Some(Some(address)) if !self.is_malformed => Client::Address(address),
            _ => Client::Unknown,
        }
    }
}

fn element(text: &[u8]) -> Element<'_> {
    let mut element = Element::EMPTY;
    for pair in parts(text, b';') {
        let Some((name, value)) = pair_of(pair.trim_ascii()) else {
            element.is_malformed = true;
            continue;
        };
        // Each parameter at most once (RFC 7239 4).
        let is_second = if name.eq_ignore_ascii_case(b"for") {
            element.node.replace(standard_node(value)).is_some()
        } else if name.eq_ignore_ascii_case(b"proto") {
            element.proto.replace(value).is_some()
        } else if name.eq_ignore_ascii_case(b"host") {
            element.host.replace(value).is_some()
        } else {
            false
        };
        element.is_malformed |= is_second;
    }
    element
}

/// `token "=" ( token / quoted-string )`, the value without its quotes. A backslash in quotes is refused: neither a
/// node nor a host needs one.
fn pair_of(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (&pair[..equals], &pair[equals + 1..]);
    let value = match value.strip_prefix(b"\"") {
        Some(rest) => {
            let inner = rest.strip_suffix(b"\"")?;
            (!inner.iter().any(|byte| matches!(byte, b'"' | b'\\'))).then_some(inner)?
        }
        None => (!value.is_empty() && value.iter().all(|byte| is_token(*byte))).then_some(value)?,
    };
    (!name.is_empty() && name.iter().all(|byte| is_token(*byte))).then_some((name, value))
}

/// Parts between separators that do not stand in quotes.
fn parts(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |byte| {
        let is_escaped = std::mem::take(&mut escaped);
        match *byte {
            b'\\' if quoted => escaped = !is_escaped,
            b'"' if !is_escaped => quoted = !quoted,
            byte => return byte == separator && !quoted,
        }
        false
    })
}

/// RFC 7239 6: an IPv4 address, an IPv6 address in brackets, either with a port; not `unknown`, not `_hidden`.
fn standard_node(node: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(node).ok()?;
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (name, rest) = rest.split_once(']')?;
            let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
            (IpAddr::V6(name.parse().ok()?), port)
        }
        None => {
            let (name, port) =
                text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
            (IpAddr::V4(name.parse().ok()?), port)
        }
    };
    port.is_none_or(is_port).then(|| name.to_canonical())
}

/// RFC 7239 6.3: digits, or an obfuscated port.
fn is_port(port: &str) -> bool {
    match port.strip_prefix('_') {
        Some(hidden) => {
            let is_hidden = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !hidden.is_empty() && hidden.bytes().all(is_hidden)
        }
        None => (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// What proxies write in `X-Forwarded-For`: an address, bare or as in an URL.
fn customary_node(node: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(node).ok()?;
    let address: Option<IpAddr> = text.parse().ok();
    let address = address.or_else(|| {
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        bracketed.and_then(|inner| inner.parse().ok().map(IpAddr::V6))
    });
    let address = address.or_else(|| text.parse().ok().map(|socket: SocketAddr| socket.ip()));
    address.map(|address| address.to_canonical())
}

/// How the client spoke. Two proxies may have written the field; if they differ nobody knows.
fn scheme_of<'a>(standard: Option<&[u8]>, lines: impl Iterator<Item = &'a [u8]>) -> Scheme {
    let customary = lines.flat_map(|line| line.split(|byte| *byte == b','));
    standard
        .into_iter()
        .chain(customary)
        .map(|proto| match proto.trim_ascii() {
            proto if is_one_of(proto, [b"https", b"wss"]) => Scheme::Https,
            proto if is_one_of(proto, [b"http", b"ws"]) => Scheme::Http,
            _ => Scheme::Either,
        })
        .reduce(|one, other| if one == other { one } else { Scheme::Either })
        .unwrap_or(Scheme::Either)
}

fn is_one_of(text: &[u8], names: [&[u8]; 2]) -> bool {
    names.iter().any(|name| text.eq_ignore_ascii_case(name))
}

/// Whom the client asked. A list is refused: which of its hosts counts is a matter of taste, and so of attacks.
fn host_of<'a>(standard: Element<'a>, mut lines: impl Iterator<Item = &'a [u8]>) -> Host<'a> {
    if standard.is_malformed && standard.host.is_some() {
        return Host::Malformed;
    }
    let parse = |text| Authority::parse(text).filter(|authority| !authority.host.is_empty());
    match (standard.host, lines.next(), lines.next()) {
        (None, None, _) => Host::Unsaid,
        (Some(host), None, _) | (None, Some(host), None) => {
            parse(host).map_or(Host::Malformed, Host::Named)
        }
        (Some(one), Some(other), None) if one.eq_ignore_ascii_case(other) => {
            parse(one).map_or(Host::Malformed, Host::Named)
        }
        _ => Host::Malformed,
    }
}

use crate::decode::is_token_byte as is_token;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decoder, HeaderStorage, Limits, Step};

    /// What is said by these lines, with 10.0.0.0/8 and ::1 as proxies.
    fn said<T>(lines: &str, look: impl FnOnce(Forwarded<'_>) -> T) -> T {
        let bytes = format!("GET / HTTP/1.1\r\nHost: inner\r\n{lines}\r\n");
        let mut storage = HeaderStorage::new();
        match Decoder::new().receive(bytes.as_bytes(), &mut storage, &Limits::default()) {
            Ok(Step::Request { request, .. }) => {
                look(forwarded(&request, |address| match address {
                    IpAddr::V4(address) => address.octets()[0] == 10,
                    IpAddr::V6(address) => address.is_loopback(),
                }))
            }
            other => panic!("{lines:?}: {other:?}"),
        }
    }

    fn client(lines: &str) -> Client {
        said(lines, |forwarded| forwarded.client)
    }

    fn address(text: &str) -> Client {
        Client::Address(text.parse().unwrap())
    }

    /// The examples of RFC 7239 4, 6, 7.1 and 7.4.
    #[test]
    fn examples_of_rfc_7239() {
        for (value, expected) in [
            ("for=\"_gazonk\"", Client::Unknown),
            ("For=\"[2001:db8:cafe::17]:4711\"", address("2001:db8:cafe::17")),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", address("192.0.2.60")),
            ("for=192.0.2.43, for=198.51.100.17", address("198.51.100.17")),
            ("for=_hidden, for=_SEVKISEK", Client::Unknown),
            ("for=unknown", Client::Unknown),
            ("for=\"192.0.2.43:47011\"", address("192.0.2.43")),
            ("for=\"[2001:db8:cafe::17]:47011\"", address("2001:db8:cafe::17")),
            ("for=192.0.2.43, for=\"[2001:db8:cafe::17]\"", address("2001:db8:cafe::17")),
            ("for=192.0.2.43,for=\"[2001:db8:cafe::17]\",for=unknown", Client::Unknown),
            (
                "for=192.0.2.43, for=\"[2001:db8:cafe::17]\";proto=https;by=_x",
                address("2001:db8:cafe::17"),
            ),
        ] {
            assert_eq!(client(&format!("Forwarded: {value}\r\n")), expected, "{value}");
        }
        // Several lines are one list (RFC 7239 7.1).
        let lines = "Forwarded: for=192.0.2.43\r\nForwarded: for=10.0.0.1, for=10.1.1.1\r\n";
        assert_eq!(client(lines), address("192.0.2.43"));
        said("Forwarded: for=192.0.2.60;proto=https;host=\"a.example:1\"\r\n", |forwarded| {
            assert_eq!(forwarded.scheme, Scheme::Https);
            let host = Authority { host: "a.example", port: Some(1) };
            assert_eq!(forwarded.host, Host::Named(host));
        });
    }

    /// The entry that the nearest unknown hop made is the client; what the client wrote itself stands left of it.
    #[test]
    fn the_right_most_entry_that_is_no_proxy_is_the_client() {
        for (value, expected) in [
            ("192.0.2.1", address("192.0.2.1")),
            ("127.0.0.1, 192.0.2.1", address("192.0.2.1")),
            ("127.0.0.1, 192.0.2.1, 10.0.0.7", address("192.0.2.1")),
            ("127.0.0.1,192.0.2.1 ,10.0.0.7,\t::1", address("192.0.2.1")),
            ("10.0.0.9, 10.0.0.7", address("10.0.0.9")),
            ("127.0.0.1, unknown, 10.0.0.7", Client::Unknown),
            ("127.0.0.1, , 10.0.0.7", Client::Unknown),
            ("127.0.0.1,", Client::Unknown),
            ("2001:db8::1", address("2001:db8::1")),
            ("[2001:db8::1]", address("2001:db8::1")),
            ("[2001:db8::1]:80", address("2001:db8::1")),
            ("192.0.2.1:65535", address("192.0.2.1")),
            ("::ffff:10.0.0.1, ::ffff:192.0.2.1", address("192.0.2.1")),
        ] {
            let line = format!("X-Forwarded-For: {value}\r\n");
            assert_eq!(client(&line), expected, "{value}");
            assert_eq!(client(&line.to_lowercase()), expected, "{value}");
        }
    }

    /// Bug class "Hooks and ids": a server fell over an empty X-Forwarded-For.
    #[test]
    fn hooks_and_ids_empty_and_malformed_values_are_an_unknown_client() {
        for value in [
            "",
            " ",
            ",",
            ",,",
            "\t",
            "localhost",
            "127.0.0.1.",
            "127.1",
            "0x7f000001",
            "2130706433",
            "127.0.0.1:",
            "127.0.0.1:x",
            "[::1",
            "::1]",
            "[]",
            "[127.0.0.1]",
            "%3a%3a1",
            "127.0.0.1 127.0.0.1",
            "127.0.0.1;",
            "\"127.0.0.1\"",
            "for=127.0.0.1",
            "\u{ff11}27.0.0.1",
            "fe80::1%eth0",
            "127.0.0.01",
        ] {
            assert_eq!(
                client(&format!("X-Forwarded-For: {value}\r\n")),
                Client::Unknown,
                "{value:?}"
            );
        }
        for value in [
            "",
            ",",
            ";",
            "=",
            "for",
            "for=",
            "=1",
            "for=;",
            "for=\"",
            "for=\"\"",
            "for=\"127.0.0.1",
            "for=127.0.0.1\"",
            "for=[::1]",
            "for=::1",
            "for=\"::1\"",
            "for=127.0.0.1:80",
            "for=\"127.0.0.1:\"",
            "for=\"127.0.0.1:123456\"",
            "for=\"127.0.0.1:_\"",
            "for =127.0.0.1",
            "for= 127.0.0.1",
            "f\u{f6}r=127.0.0.1",
            "for=127.0.0.1;for=127.0.0.1",
            "for=127.0.0.1;x",
            "for=127.0.0.1 by=x",
            "for=\"127.0.0.\\1\"",
            "by=127.0.0.1",
            "proto=http",
            "for=\"127.0.0.1\"x",
            "for=\"a,b\", for=_x",
        ] {
            assert_eq!(client(&format!("Forwarded: {value}\r\n")), Client::Unknown, "{value:?}");
        }
        // An unclosed quote swallows what follows: it is never taken for an entry of its own.
        assert_eq!(client("Forwarded: for=\"x, for=192.0.2.1\r\n"), Client::Unknown);
        for lines in ["Via: 1.1 x\r\n", "X-Forwarded-Proto: http\r\n", "X-Real-IP: 127.0.0.1\r\n"] {
            assert_eq!(client(lines), Client::Unknown, "{lines}");
        }
        assert_eq!(client(""), Client::Proxy);
        assert_eq!(client("X-Other: 1\r\n"), Client::Proxy);
    }

    /// Our proxy writes one of the fields; the other may be the client's.
    #[test]
    fn fields_that_disagree_are_an_unknown_client() {
        let both = |standard: &str, customary: &str| {
            client(&format!("Forwarded: for={standard}\r\nX-Forwarded-For: {customary}\r\n"))
        };
        assert_eq!(both("192.0.2.1", "127.0.0.1, 192.0.2.1"), address("192.0.2.1"));
        assert_eq!(both("127.0.0.1", "192.0.2.1"), Client::Unknown);
        assert_eq!(both("192.0.2.1", "127.0.0.1"), Client::Unknown);
        assert_eq!(both("192.0.2.1", ""), Client::Unknown);
        assert_eq!(both("\"\"", "192.0.2.1"), Client::Unknown);
    }

    #[test]
    fn schemes_and_hosts() {
        for (lines, scheme) in [
            ("Via: x\r\n", Scheme::Either),
            ("X-Forwarded-Proto: https\r\n", Scheme::Https),
            ("X-Forwarded-Proto: WSS, https\r\n", Scheme::Https),
            ("X-Forwarded-Proto: ws\r\nX-Forwarded-Proto: HTTP\r\n", Scheme::Http),
            ("X-Forwarded-Proto: https, http\r\n", Scheme::Either),
            ("X-Forwarded-Proto: https\r\nForwarded: for=1.2.3.4;proto=http\r\n", Scheme::Either),
            ("X-Forwarded-Proto:\r\n", Scheme::Either),
            ("X-Forwarded-Proto: httpss\r\n", Scheme::Either),
            ("Forwarded: proto=https;for=1.2.3.4, for=10.0.0.1;proto=http\r\n", Scheme::Https),
        ] {
            assert_eq!(said(lines, |forwarded| forwarded.scheme), scheme, "{lines}");
        }
        let named = |host| Host::Named(Authority { host, port: None });
        for (lines, host) in [
            ("Via: x\r\n", Host::Unsaid),
            ("X-Forwarded-Host: a.example\r\n", named("a.example")),
            ("X-Forwarded-Host: a.example\r\nForwarded: host=A.example\r\n", named("A.example")),
            ("X-Forwarded-Host: a.example\r\nForwarded: host=b.example\r\n", Host::Malformed),
            ("X-Forwarded-Host: a, b\r\n", Host::Malformed),
            ("X-Forwarded-Host: a\r\nX-Forwarded-Host: a\r\n", Host::Malformed),
            ("X-Forwarded-Host:\r\n", Host::Malformed),
            ("X-Forwarded-Host: u@a\r\n", Host::Malformed),
            ("Forwarded: host=a;host=b\r\n", Host::Malformed),
        ] {
            assert!(said(lines, |forwarded| forwarded.host == host), "{lines}");
        }
    }
}
