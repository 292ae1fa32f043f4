//! Who may ask: the Host and Origin rules that keep other sites' pages out.
//!
//! In: what a request said, and the operator's lists. Out: nothing, or a refusal with its status.
//! Pure functions; comparisons of names ignore case. They do not know routes: the caller decides
//! which requests need the Origin check (WebSockets and every unsafe method).

use crate::Authority;

/// The scheme an `Origin` must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// This listener speaks plain HTTP to browsers.
    Http,
    /// This listener speaks TLS to browsers.
    Https,
    /// A proxy in front may speak either.
    Either,
}

/// Checks whom the request was meant for, against DNS rebinding.
///
/// Without `hosts` only `localhost`, `127.0.0.1` and `[::1]` are served, on any port. An entry of
/// `hosts` is a name, then on any port, or `name:port`.
pub fn check_host<S: AsRef<str>>(
    authority: Option<Authority<'_>>,
    hosts: &[S],
) -> Result<(), Refusal> {
    let authority = authority.ok_or(Refusal::Host)?;
    let is_served = if hosts.is_empty() {
        ["localhost", "127.0.0.1", "[::1]"]
            .iter()
            .any(|host| authority.host.eq_ignore_ascii_case(host))
    } else {
        hosts.iter().any(|host| {
            Authority::parse(host.as_ref().as_bytes()).is_some_and(|allowed| {
                !allowed.host.is_empty()
                    && allowed.host.eq_ignore_ascii_case(authority.host)
                    && (allowed.port.is_none() || allowed.port == authority.port)
            })
        })
    };
    if is_served { Ok(()) } else { Err(Refusal::Host) }
}

/// Checks which site's page made the request.
///
/// `origins` are the values of all `Origin` lines. None: not a browser, or a same-origin request
/// that carries none; allowed. One: it must name the authority the request was sent to, or stand in
/// `allowed` (as `scheme://host[:port]`). `null`, a list, several lines, another scheme than http
/// or https, or anything with user information or a path is refused.
pub fn check_origin<'a, S: AsRef<str>>(
    origins: impl IntoIterator<Item = &'a [u8]>,
    authority: Option<Authority<'_>>,
    scheme: Scheme,
    allowed: &[S],
) -> Result<(), Refusal> {
    let mut origins = origins.into_iter();
    let Some(origin) = origins.next() else { return Ok(()) };
    if origins.next().is_some() {
        return Err(Refusal::Origin);
    }
    let origin = Origin::parse(origin).ok_or(Refusal::Origin)?;
    let is_listed = allowed
        .iter()
        .any(|entry| Origin::parse(entry.as_ref().as_bytes()).is_some_and(|e| e.is_same(origin)));
    if is_listed {
        return Ok(());
    }
    let is_same_site = authority.is_some_and(|authority| {
        let scheme_fits = match scheme {
            Scheme::Http => !origin.is_https,
            Scheme::Https => origin.is_https,
            Scheme::Either => true,
        };
        scheme_fits && Origin { is_https: origin.is_https, authority }.is_same(origin)
    });
    if is_same_site { Ok(()) } else { Err(Refusal::Origin) }
}

/// Why a request is not served. The fault is the client's, or the operator's list is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request was meant for a name that is not served here.
    #[error("this server does not answer for that Host; add it to `hosts` if it should")]
    Host,
    /// A page of another site made the request.
    #[error("pages of that Origin may not do this; add it to the allowed origins if they should")]
    Origin,
}

impl Refusal {
    /// 421 (RFC 9110 15.5.20) or 403.
    pub const fn status(self) -> u16 {
        match self {
            Self::Host => 421,
            Self::Origin => 403,
        }
    }

    /// The stable name for an error body.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Host => "host_not_served",
            Self::Origin => "origin_not_allowed",
        }
    }
}

/// A serialised tuple origin of the web (RFC 6454 6.2).
#[derive(Clone, Copy)]
struct Origin<'a> {
    is_https: bool,
    authority: Authority<'a>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let colon = text.iter().position(|byte| *byte == b':')?;
        let is_https = match &text[..colon] {
            scheme if scheme.eq_ignore_ascii_case(b"http") => false,
            scheme if scheme.eq_ignore_ascii_case(b"https") => true,
            _ => return None,
        };
        let authority = Authority::parse(text[colon + 1..].strip_prefix(b"//")?)?;
        (!authority.host.is_empty()).then_some(Self { is_https, authority })
    }

    fn is_same(self, other: Self) -> bool {
        let default_port = if self.is_https { 443 } else { 80 };
        let port = |origin: Self| origin.authority.port.unwrap_or(default_port);
        self.is_https == other.is_https
            && self.authority.host.eq_ignore_ascii_case(other.authority.host)
            && port(self) == port(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [&str; 0] = [];

    fn authority(text: &str) -> Option<Authority<'_>> {
        Authority::parse(text.as_bytes())
    }

    #[test]
    fn hosts() {
        for host in ["localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:1", "[::1]:8080"] {
            assert_eq!(check_host(authority(host), &NONE), Ok(()), "{host}");
        }
        for host in ["example.org", "localhost.example.org", "127.0.0.2", "", "0.0.0.0", "[::2]"] {
            assert_eq!(check_host(authority(host), &NONE), Err(Refusal::Host), "{host}");
        }
        assert_eq!(check_host(None, &NONE), Err(Refusal::Host));
        let hosts = ["live.example.org", "example.org:8080", ""];
        for host in ["Live.example.org", "live.example.org:9", "example.org:8080"] {
            assert_eq!(check_host(authority(host), &hosts), Ok(()), "{host}");
        }
        for host in ["localhost", "example.org", "example.org:80", "xlive.example.org", ""] {
            assert_eq!(check_host(authority(host), &hosts), Err(Refusal::Host), "{host}");
        }
    }

    #[test]
    fn origins() {
        let check = |origin: &str, host: &str, scheme| {
            check_origin([origin.as_bytes()], authority(host), scheme, &NONE).is_ok()
        };
        for (origin, host, scheme, ok) in [
            ("http://localhost:8080", "localhost:8080", Scheme::Http, true),
            ("HTTP://LOCALHOST:8080", "localhost:8080", Scheme::Http, true),
            ("http://example.org", "example.org:80", Scheme::Http, true),
            ("https://example.org", "example.org", Scheme::Https, true),
            ("https://example.org", "example.org:443", Scheme::Either, true),
            ("https://example.org", "example.org", Scheme::Http, false),
            ("http://example.org", "example.org", Scheme::Https, false),
            ("http://example.org:443", "example.org", Scheme::Either, false),
            ("http://localhost:8081", "localhost:8080", Scheme::Http, false),
            ("http://localhost", "127.0.0.1", Scheme::Http, false),
            ("http://evil.example", "localhost", Scheme::Http, false),
            ("http://localhost.evil.example", "localhost", Scheme::Http, false),
            ("http://user@localhost", "localhost", Scheme::Http, false),
            ("http://localhost/", "localhost", Scheme::Http, false),
            ("http://localhost http://localhost", "localhost", Scheme::Http, false),
            ("http:localhost", "localhost", Scheme::Http, false),
            ("http://", "", Scheme::Http, false),
            ("null", "localhost", Scheme::Either, false),
            ("", "localhost", Scheme::Either, false),
            ("file://", "localhost", Scheme::Either, false),
            ("ws://localhost", "localhost", Scheme::Either, false),
        ] {
            assert_eq!(check(origin, host, scheme), ok, "{origin} {host} {scheme:?}");
        }
    }

    #[test]
    fn absent_duplicate_and_listed_origins() {
        let host = authority("localhost");
        assert_eq!(check_origin([], host, Scheme::Http, &NONE), Ok(()));
        let twice = [&b"http://localhost"[..], b"http://localhost"];
        assert_eq!(check_origin(twice, host, Scheme::Http, &NONE), Err(Refusal::Origin));
        let allowed = ["https://app.example.org", "null"];
        for (origin, ok) in [
            (&b"https://app.example.org"[..], true),
            (b"https://app.example.org:443", true),
            (b"http://app.example.org", false),
            (b"null", false),
        ] {
            assert_eq!(check_origin([origin], host, Scheme::Http, &allowed).is_ok(), ok);
        }
        assert_eq!((Refusal::Host.status(), Refusal::Origin.status()), (421, 403));
    }
}
