//! Aggregate messages (RTMP 7.1.6): several FLV tags in one message, taken apart as they arrive.
//!
//! In: the payload of a message of type 22, in any cut. Out: media fragments. Nothing is collected
//! but the eleven bytes of an inner header.
//!
//! Timestamps are rebased: the first inner message has the aggregate's timestamp, the others keep
//! their distance from it. Back-pointers are skipped unread; the last one may be missing. Inner
//! messages other than audio and video are skipped.

use crate::error::Reason;
use crate::event::MediaKind;

/// Where in an aggregate the reader is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Aggregate {
    state: State,
    /// The first inner timestamp.
    base: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Header { bytes: [u8; HEADER_BYTES], filled: usize },
    Body { inner: Inner, offset: u32 },
    BackPointer { left: usize },
}

#[derive(Debug, Clone, Copy)]
struct Inner {
    kind: Option<MediaKind>,
    length: u32,
    /// Milliseconds after the aggregate's own timestamp.
    since_first: i32,
}

/// A piece of an inner message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fragment<'a> {
    pub(crate) kind: MediaKind,
    pub(crate) since_first: i32,
    pub(crate) length: u32,
    pub(crate) offset: u32,
    pub(crate) data: &'a [u8],
}

impl Default for State {
    fn default() -> Self {
        Self::Header { bytes: [0; HEADER_BYTES], filled: 0 }
    }
}

impl Aggregate {
    /// The kind of the inner message that is under way.
    pub(crate) const fn unfinished(&self) -> Option<MediaKind> {
        match self.state {
            State::Body { inner, .. } => inner.kind,
            _ => None,
        }
    }

    /// Takes the start of `data`; `left` is what remains of the aggregate, `data` included. Gives
    /// how much it took, at least one byte unless `data` is empty; an error stands behind the bytes
    /// it would have taken.
    pub(crate) fn step<'a>(
        &mut self,
        data: &'a [u8],
        left: u32,
    ) -> Result<(usize, Option<Fragment<'a>>), (usize, Reason)> {
        match &mut self.state {
            State::Header { bytes, filled } => {
                let take = data.len().min(HEADER_BYTES - *filled);
                bytes[*filled..*filled + take].copy_from_slice(&data[..take]);
                *filled += take;
                if *filled < HEADER_BYTES {
                    return Ok((take, None));
                }
                let bytes = *bytes;
                // `take` is at most eleven.
                let left = left.saturating_sub(u32::try_from(take).unwrap_or(0));
                let fragment = self.begin(bytes, left).map_err(|reason| (take, reason))?;
                Ok((take, fragment))
            }
            State::Body { inner, offset } => {
                let rest = usize::try_from(inner.length - *offset).unwrap_or(usize::MAX);
                let data = &data[..data.len().min(rest)];
                let inner = *inner;
                let at = *offset;
                *offset += u32::try_from(data.len()).unwrap_or(0);
                if *offset == inner.length {
                    self.state = State::BackPointer { left: BACK_POINTER_BYTES };
                }
                Ok((data.len(), inner.fragment(at, data)))
            }
            State::BackPointer { left } => {
                let take = data.len().min(*left);
                *left -= take;
                if *left == 0 {
                    self.state = State::default();
                }
                Ok((take, None))
            }
        }
    }

    fn begin(
        &mut self,
        bytes: [u8; HEADER_BYTES],
        left: u32,
    ) -> Result<Option<Fragment<'static>>, Reason> {
        let [message_type, l0, l1, l2, t0, t1, t2, extended, ..] = bytes;
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        if length > left {
            return Err(Reason::Aggregate { length, left });
        }
        let timestamp = u32::from_be_bytes([extended, t0, t1, t2]);
        let base = *self.base.get_or_insert(timestamp);
        let inner = Inner {
            kind: MediaKind::from_message_type(message_type),
            length,
            since_first: timestamp.wrapping_sub(base).cast_signed(),
        };
        if length == 0 {
            self.state = State::BackPointer { left: BACK_POINTER_BYTES };
            return Ok(inner.fragment(0, &[]));
        }
        self.state = State::Body { inner, offset: 0 };
        Ok(None)
    }
}

impl Inner {
    fn fragment(self, offset: u32, data: &[u8]) -> Option<Fragment<'_>> {
        let Self { kind, length, since_first } = self;
        kind.map(|kind| Fragment { kind, since_first, length, offset, data })
    }
}

/// The same eleven bytes as in front of an FLV tag.
const HEADER_BYTES: usize = 11;
const BACK_POINTER_BYTES: usize = 4;
