//! Which content coding a client takes (RFC 9110 8.4.1, 12.4, 12.5.3).
//!
//! In: the values of all `Accept-Encoding` lines, and what there is. Out: the coding to send, or none that would be
//! accepted. Invariants: a member that breaks the grammar is left out, as if it had not been sent; the value is walked
//! once for each coding. It compresses nothing.

/// How a body is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Brotli,
}

impl Coding {
    /// The value of `Content-Encoding`; none for [`Coding::Identity`].
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Brotli => Some("br"),
        }
    }

    fn is_named(self, name: &[u8]) -> bool {
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        match self {
            Self::Identity => is(b"identity"),
            // RFC 9110 8.4.1.3: the older name is the same.
            Self::Gzip => is(b"gzip") || is(b"x-gzip"),
            Self::Brotli => is(b"br"),
        }
    }
}

/// Chooses among `available`, best first, what the client likes most; `None` when it accepts none of them (406).
///
/// Without `Accept-Encoding` everything is acceptable, and the body is sent as it is. What is not named is not
/// acceptable unless by `*`, but for the identity, which is acceptable until it is refused by name or by `*`: then it is
/// the last resort.
pub fn negotiate<'a>(
    lines: impl Iterator<Item = &'a [u8]> + Clone,
    available: &[Coding],
) -> Option<Coding> {
    let has_identity = available.contains(&Coding::Identity);
    if lines.clone().next().is_none() {
        let first = available.first().copied();
        return if has_identity { Some(Coding::Identity) } else { first };
    }
    let mut best: Option<(Coding, u16)> = None;
    for coding in available {
        let weight = weight_of(*coding, lines.clone());
        // Of two with the same weight the first is ours to prefer.
        if weight > best.map_or(0, |(_, weight)| weight) {
            best = Some((*coding, weight));
        }
    }
    best.map(|(coding, _)| coding)
}

/// The weight of a coding in thousandths, and one more where it is named or meant by `*` with a weight above 0; 1 for
/// the identity when nothing is said of it; 0: not acceptable.
fn weight_of<'a>(coding: Coding, lines: impl Iterator<Item = &'a [u8]>) -> u16 {
    let (mut named, mut any) = (None, None);
    for member in lines.flat_map(|line| line.split(|byte| *byte == b',')) {
        let mut parts = member.split(|byte| *byte == b';');
        let name = parts.next().unwrap_or_default().trim_ascii();
        let weight = match (parts.next(), parts.next()) {
            (None, _) => Some(1000),
            (Some(weight), None) => parse_weight(weight.trim_ascii()),
            (Some(_), Some(_)) => None,
        };
        let Some(weight) = weight else { continue };
        // Said twice, the lower counts: a refusal is not overheard.
        let lower = |known: Option<u16>| Some(known.map_or(weight, |known| known.min(weight)));
        if coding.is_named(name) {
            named = lower(named);
        } else if name == b"*" {
            any = lower(any);
        }
    }
    match named.or(any) {
        Some(0) => 0,
        Some(weight) => weight + 1,
        None => u16::from(coding == Coding::Identity),
    }
}

/// `q=` and a `qvalue` (RFC 9110 12.4.2), in thousandths.
fn parse_weight(text: &[u8]) -> Option<u16> {
    let (b"q" | b"Q", value) = text.split_at_checked(1)? else { return None };
    let value = value.strip_prefix(b"=")?;
    let (whole, fraction) = value.split_first()?;
    let fraction = match fraction {
        [] => fraction,
        [b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => return None,
    };
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let thousandths = fraction
        .iter()
        .chain(b"000")
        .take(3)
        .try_fold(0, |sum, byte| Some(sum * 10 + digit(byte)?))?;
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Coding::{Brotli, Gzip, Identity};

    const ALL: [Coding; 3] = [Brotli, Gzip, Identity];

    fn chosen(value: &str) -> Option<Coding> {
        negotiate([value.as_bytes()].into_iter(), &ALL)
    }

    #[test]
    fn the_client_decides() {
        assert_eq!(negotiate([].into_iter(), &ALL), Some(Identity), "no field: any, so as it is");
        for (value, coding) in [
            // RFC 9110 12.5.3, its examples.
            ("compress, gzip", Some(Gzip)),
            ("", Some(Identity)),
            ("*", Some(Brotli)),
            ("compress;q=0.5, gzip;q=1.0", Some(Gzip)),
            ("gzip;q=1.0, identity; q=0.5, *;q=0", Some(Gzip)),
            // What browsers, curl and Node send.
            ("gzip, deflate, br, zstd", Some(Brotli)),
            ("deflate, gzip, br, zstd", Some(Brotli)),
            ("gzip,deflate", Some(Gzip)),
            ("identity", Some(Identity)),
            ("GZIP", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("br;q=0.5, gzip;q=0.6", Some(Gzip)),
            ("br;q=0.5, gzip;q=0.5", Some(Brotli)),
            ("br;q=0.001", Some(Brotli)),
            ("gzip;q=0.5, identity", Some(Identity)),
            ("gzip;q=0.5, identity;q=0.4", Some(Gzip)),
            ("br;q=0, *", Some(Gzip)),
            ("gzip;q=0", Some(Identity)),
            ("*;q=0", None),
            ("identity;q=0", None),
            ("identity;q=0, *", Some(Brotli)),
            ("identity;q=0.0, gzip;q=0.000", None),
            ("*;q=0, identity;q=0.1", Some(Identity)),
            ("zstd, identity;q=0", None),
            // What is malformed was not said.
            ("gzip;q=2", Some(Identity)),
            ("gzip;q=1.001", Some(Identity)),
            ("gzip;q=0.0001", Some(Identity)),
            ("gzip;q=", Some(Identity)),
            ("gzip;q=-1", Some(Identity)),
            ("gzip;level=1", Some(Identity)),
            ("gzip;q=1;q=0", Some(Identity)),
            ("gzip;;", Some(Identity)),
            ("gzip br", Some(Identity)),
            (",,;q=1,gzip", Some(Gzip)),
            ("gzip;q=1.", Some(Gzip)),
            ("gzip;q=0.", Some(Identity)),
            ("gzip, gzip;q=0", Some(Identity)),
        ] {
            assert_eq!(chosen(value), coding, "{value}");
        }
        let two = [&b"br;q=0.1"[..], b"gzip;q=0.2"];
        assert_eq!(negotiate(two.into_iter(), &ALL), Some(Gzip), "two lines are one list");
        assert_eq!(negotiate([&b"br"[..]].into_iter(), &[Identity]), Some(Identity));
        assert_eq!(negotiate([].into_iter(), &[Gzip]), Some(Gzip));
        assert_eq!([Gzip.name(), Brotli.name(), Identity.name()], [Some("gzip"), Some("br"), None]);
    }
}
