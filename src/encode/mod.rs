//! Video encoders behind one trait, and the thread that runs one.
//!
//! In come raw pictures, out go coded packets. [`Encoder`] is the seam every backend stands behind:
//! a software encoder that works on the caller's thread, or hardware that works by itself and wakes
//! the caller. [`worker`] owns an encoder on a thread of its own and paces it on real time, [`demo`]
//! picks a size this machine can afford, [`picture`] draws what the demo shows, `fake` stands in for
//! hardware in tests and fails on command.
//!
//! Invariants: packets come out in the order their pictures went in; the first packet after
//! creation, after [`Encoder::force_key_frame`] and after a lost packet the worker noticed is a key
//! frame that carries its sequence header; every queue is bounded, a picture that does not fit is
//! handed back, never kept.
//!
//! Deliberately absent: encoding on a shard (an encoder may take tens of milliseconds for a
//! picture), B-frames (a live encoder does not wait for the future; `dts` exists for the backend
//! that does), scaling and colour conversion.

use std::any::Any;
use std::fmt;
use std::task::{Context, Poll};

use bytes::Bytes;

pub mod demo;
pub mod fake;
pub mod picture;
#[cfg(feature = "av1")]
pub mod rav1e;
pub mod worker;

#[cfg(test)]
mod contract;

/// Ticks per second of every `pts` and `dts` in this room; a multiple of the usual picture rates.
pub const TIMESCALE: u32 = 90_000;

/// A video encoder. One owner, on a thread that may be kept busy.
///
/// The calls, in order: any number of [`submit`](Self::submit), each followed by
/// [`poll_packet`](Self::poll_packet) until it is pending; then [`flush`](Self::flush) once and
/// `poll_packet` until it yields `None`. After an [`EncodeError`] the encoder is only dropped.
pub trait Encoder: Send {
    /// Whether this backend can run here, found out without encoding anything.
    fn probe() -> Probe
    where
        Self: Sized;

    /// What a decoder needs to know before the first packet.
    fn description(&self) -> Description;

    /// Takes a picture and returns without waiting for its packet.
    ///
    /// # Errors
    /// Whatever the reason, the picture comes back in the error.
    fn submit(&mut self, picture: Picture, options: SubmitOptions) -> Result<(), SubmitError>;

    /// The next packet in order.
    ///
    /// `Pending` lasts until another `submit`, a `flush`, or a wake of the context's waker; a
    /// software backend encodes inside this call and never needs the waker. `Ready(Ok(None))`
    /// means flushed and empty.
    fn poll_packet(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Packet>, EncodeError>>;

    /// Ends the input: what is inside comes out, new pictures are refused.
    fn flush(&mut self);

    /// Makes the next submitted picture a key frame.
    fn force_key_frame(&mut self);

    /// Changes the target rate from the next submitted picture on. That picture may become a key
    /// frame where the backend cannot change its rate inside a coded video sequence.
    ///
    /// # Errors
    /// [`BitRateError`] when the rate is outside what the backend can do; the old one stays.
    fn set_bit_rate(&mut self, bits_per_second: u32) -> Result<(), BitRateError>;
}

/// A backend of this build and how to ask it whether it can run here.
#[derive(Clone, Copy, Debug)]
pub struct Backend {
    /// The name shown to people.
    pub name: &'static str,
    /// The codec it produces, as its sample entry's four characters.
    pub codec: &'static str,
    /// Asks the machine.
    pub probe: fn() -> Probe,
}

/// Every backend of this build, best first.
pub const BACKENDS: &[Backend] = &[
    #[cfg(feature = "av1")]
    Backend { name: rav1e::NAME, codec: "av01", probe: <rav1e::Rav1eEncoder as Encoder>::probe },
];

/// The answer to [`Encoder::probe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It can run; the text says in what form (version, device, assembly).
    Available(String),
    /// It cannot, and why.
    Unavailable(String),
}

/// What an encoder is asked for at its creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderOptions {
    /// Luma samples per row; even, at least 16.
    pub width: u32,
    /// Luma rows; even, at least 16.
    pub height: u32,
    /// The nominal rate, for rate control; pictures left out are fine.
    pub pictures_per_second: u32,
    /// The target rate.
    pub bits_per_second: u32,
    /// A key frame comes at the latest after this many pictures.
    pub key_frame_interval: u32,
    /// How many threads the encoder may use.
    pub threads: usize,
}

/// What a decoder needs before the first packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The payload of the sample entry's configuration box (`av1C` for AV1).
    pub configuration: Bytes,
    /// Luma samples per row.
    pub width: u32,
    /// Luma rows.
    pub height: u32,
}

/// One picture on its way in.
#[derive(Debug)]
pub enum Picture {
    /// Samples in this process's memory.
    Planes(Planes),
    /// A buffer shared by descriptor; opaque to everyone but the backend that knows its type.
    Dmabuf(Handle),
    /// A picture that already is on the device; opaque likewise.
    Device(Handle),
}

impl Picture {
    /// Width and height in luma samples.
    #[must_use]
    pub const fn size(&self) -> (u32, u32) {
        match self {
            Self::Planes(planes) => (planes.width, planes.height),
            Self::Dmabuf(handle) | Self::Device(handle) => (handle.width, handle.height),
        }
    }

    /// The kind, for messages.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Planes(_) => "planes in memory",
            Self::Dmabuf(_) => "a dmabuf",
            Self::Device(_) => "a device picture",
        }
    }
}

/// A picture that this process does not see into.
pub struct Handle {
    /// Luma samples per row.
    pub width: u32,
    /// Luma rows.
    pub height: u32,
    inner: Box<dyn Any + Send>,
}

impl Handle {
    /// Wraps whatever the backend works with; dropping the handle drops it.
    pub fn new<T: Any + Send>(width: u32, height: u32, inner: T) -> Self {
        Self { width, height, inner: Box::new(inner) }
    }

    /// The wrapped value, when it is a `T`.
    #[must_use]
    pub fn inner<T: Any>(&self) -> Option<&T> {
        self.inner.downcast_ref()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Handle({} x {})", self.width, self.height)
    }
}

/// 8-bit 4:2:0 samples in BT.709, limited range: Y, then Cb, then Cr, rows without padding.
#[derive(Clone, PartialEq, Eq)]
pub struct Planes {
    width: u32,
    height: u32,
    samples: Vec<u8>,
}

impl Planes {
    /// A black picture, or `None` unless both sides are even, at least 16 and below 65,536.
    #[must_use]
    pub fn black(width: u32, height: u32) -> Option<Self> {
        let fits = |side: u32| side.is_multiple_of(2) && (16..65_536).contains(&side);
        if !fits(width) || !fits(height) {
            return None;
        }
        let luma = width as usize * height as usize;
        let mut samples = vec![16; luma + luma / 2];
        samples[luma..].fill(128);
        Some(Self { width, height, samples })
    }

    /// Luma samples per row.
    #[must_use]
    pub const fn width(&self) -> u32 {
        self.width
    }

    /// Luma rows.
    #[must_use]
    pub const fn height(&self) -> u32 {
        self.height
    }

    /// Y, Cb and Cr; rows are `width`, `width / 2` and `width / 2` samples long.
    #[must_use]
    pub fn planes(&self) -> [&[u8]; 3] {
        let (y, chroma) = self.samples.split_at(self.luma_len());
        let (cb, cr) = chroma.split_at(chroma.len() / 2);
        [y, cb, cr]
    }

    /// The same, to draw into.
    pub fn planes_mut(&mut self) -> [&mut [u8]; 3] {
        let luma = self.luma_len();
        let (y, chroma) = self.samples.split_at_mut(luma);
        let (cb, cr) = chroma.split_at_mut(luma / 4);
        [y, cb, cr]
    }

    const fn luma_len(&self) -> usize {
        self.width as usize * self.height as usize
    }
}

impl fmt::Debug for Planes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Planes({} x {})", self.width, self.height)
    }
}

/// What goes with a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubmitOptions {
    /// When it is shown, in ticks of [`TIMESCALE`]; above the one before.
    pub pts: i64,
    /// Code it so that decoding can start here.
    pub force_key_frame: bool,
}

/// One coded picture on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The bytes as an MP4 sample holds them; for AV1 the low-overhead OBUs of a temporal unit
    /// without its temporal delimiter, with the sequence header in front of every key frame.
    pub data: Bytes,
    /// When it is shown, in ticks of [`TIMESCALE`].
    pub pts: i64,
    /// When it is decoded; at most `pts` and above the one before.
    pub dts: i64,
    /// Decoding can start here.
    pub key_frame: bool,
}

/// Why a picture was not taken; it comes back.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The encoder holds as many as it may. Take packets out, or leave this picture out.
    #[error("the encoder is full")]
    Full(Picture),
    /// The caller offered a kind of picture that this backend cannot read.
    #[error("{backend} takes planes in memory, not {}", picture.kind())]
    Unsupported {
        /// The backend that refused.
        backend: &'static str,
        /// What it refused.
        picture: Picture,
    },
    /// The caller offered a picture of another size than the encoder was made for.
    #[error(
        "a picture of {} x {} for an encoder of {width} x {height}",
        picture.size().0, picture.size().1
    )]
    WrongSize {
        /// The encoder's width.
        width: u32,
        /// The encoder's height.
        height: u32,
        /// What was offered.
        picture: Picture,
    },
    /// The caller offered a picture after `flush`, or after the encoder failed.
    #[error("the encoder takes no more pictures")]
    Closed(Picture),
}

/// Why an encoder stopped working; it cannot be used again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The options ask for what the backend cannot do.
    #[error("the encoder refused its options: {0}")]
    Options(String),
    /// Memory of the process or of the device ran out.
    #[error("the encoder ran out of memory")]
    OutOfMemory,
    /// The backend gave up, in its words.
    #[error("the encoder failed: {0}")]
    Failed(String),
}

/// The backend cannot produce that rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{asked} bit/s is outside {min} to {max}")]
pub struct BitRateError {
    /// What was asked for.
    pub asked: u32,
    /// The lowest possible.
    pub min: u32,
    /// The highest possible.
    pub max: u32,
}
