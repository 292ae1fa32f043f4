//! A publication and its place in a channel.

use crate::memory::Payload;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What a publication's bytes are; checked once, when it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicationKind {
    /// A JSON text.
    Json,
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Binary,
}

/// A message in a channel.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Its bytes.
    pub payload: Payload,
    /// What they are.
    pub kind: PublicationKind,
    /// Who published it, unique in the process; 0 when no connection did.
    pub sender: u64,
    /// The name of the event, where protocols have one.
    pub event: Option<Arc<str>>,
    /// Publications with the same key replace each other where a reader only wants the newest.
    pub key: Option<Arc<str>>,
}

/// The place after a publication: a channel's life and a count in it.
///
/// Clients see it as an opaque id and hand it back to resume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Which life of the channel; another one has other publications under the same offsets.
    pub epoch: u64,
    /// The publication's number in it, from 1.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:x}-{}", self.epoch, self.offset)
    }
}

impl Position {
    /// Writes the id without allocating; `space` holds any.
    pub(super) fn write_to<'a>(&self, space: &'a mut [u8; ID_BYTES_MAX]) -> &'a str {
        use std::io::Write as _;
        let mut rest = &mut space[..];
        // Sixteen digits, a dash and twenty digits are the most there can be.
        let written = write!(rest, "{self}").map(|()| ID_BYTES_MAX - rest.len());
        let length = written.unwrap_or(0);
        std::str::from_utf8(&space[..length]).unwrap_or_default()
    }
}

/// Bytes of the longest id.
pub(super) const ID_BYTES_MAX: usize = 16 + 1 + 20;

/// The text is no id of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id that this server gave out")]
pub struct UnknownId;

impl FromStr for Position {
    type Err = UnknownId;

    fn from_str(text: &str) -> Result<Self, UnknownId> {
        let (epoch, offset) = text.split_once('-').ok_or(UnknownId)?;
        let plain =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !plain(epoch) || !plain(offset) {
            return Err(UnknownId);
        }
        Ok(Self {
            epoch: u64::from_str_radix(epoch, 16).map_err(|_| UnknownId)?,
            offset: offset.parse().map_err(|_| UnknownId)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_and_nothing_else_does() {
        let position = Position { epoch: 0xABC, offset: 42 };
        assert_eq!(position.to_string().parse(), Ok(position));
        let longest = Position { epoch: u64::MAX, offset: u64::MAX };
        assert_eq!(longest.write_to(&mut [0; ID_BYTES_MAX]), longest.to_string());
        for text in
            ["", "-", "1-", "-1", "+1-1", "1-+1", "g-1", "1-a", "1-1-1", "1-99999999999999999999"]
        {
            assert_eq!(text.parse::<Position>(), Err(UnknownId), "{text}");
        }
    }
}
