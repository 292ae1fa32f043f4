//! An encoder that fails on command: the stand-in for hardware in tests.
//!
//! Pictures go in, packets of eight bytes (the picture's ordinal) come out, late, lost or not at
//! all as [`Faults`] say. Time is counted in polls, so a test that uses it neither sleeps nor
//! flickers. Apart from the faults it obeys the contract of [`Encoder`] to the letter; it is the
//! reference that the contract's test-suite is checked against.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::{
    BitRateError, Description, EncodeError, Encoder, EncoderOptions, Packet, Picture, Probe,
    SubmitError, SubmitOptions,
};

/// What goes wrong, and when; ordinals count submitted pictures from zero.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// A packet is ready only after this many polls that found it not ready.
    pub delay_polls: u32,
    /// The packets of these pictures never come out.
    pub lost: Vec<u64>,
    /// The encoder fails when it reaches this picture.
    pub fails_at: Option<u64>,
    /// The encoder runs out of memory when it reaches this picture.
    pub out_of_memory_at: Option<u64>,
}

/// The most pictures it holds.
pub const IN_FLIGHT_MAX: usize = 4;

/// The encoder itself.
#[derive(Debug)]
pub struct FakeEncoder {
    options: EncoderOptions,
    faults: Faults,
    in_flight: VecDeque<(u64, Packet)>,
    submitted: u64,
    pictures_since_key: u32,
    key_frame_wanted: bool,
    polls_left: u32,
    flushed: bool,
    failed: Option<EncodeError>,
}

impl FakeEncoder {
    /// An encoder with these faults.
    #[must_use]
    pub const fn new(options: EncoderOptions, faults: Faults) -> Self {
        Self {
            options,
            polls_left: faults.delay_polls,
            faults,
            in_flight: VecDeque::new(),
            submitted: 0,
            pictures_since_key: 0,
            key_frame_wanted: true,
            flushed: false,
            failed: None,
        }
    }

    /// The rate last set.
    #[must_use]
    pub const fn bit_rate(&self) -> u32 {
        self.options.bits_per_second
    }

    fn refusal(&self, picture: Picture) -> Result<Picture, SubmitError> {
        let EncoderOptions { width, height, .. } = self.options;
        match picture {
            picture if self.flushed || self.failed.is_some() => Err(SubmitError::Closed(picture)),
            picture @ (Picture::Dmabuf(_) | Picture::Device(_)) => {
                Err(SubmitError::Unsupported { backend: "fake", picture })
            }
            picture if picture.size() != (width, height) => {
                Err(SubmitError::WrongSize { width, height, picture })
            }
            picture if self.in_flight.len() >= IN_FLIGHT_MAX => Err(SubmitError::Full(picture)),
            picture => Ok(picture),
        }
    }

    fn fault_at(&self, ordinal: u64) -> Option<EncodeError> {
        if self.faults.fails_at == Some(ordinal) {
            Some(EncodeError::Failed(format!("told to fail at picture {ordinal}")))
        } else if self.faults.out_of_memory_at == Some(ordinal) {
            Some(EncodeError::OutOfMemory)
        } else {
            None
        }
    }
}

impl Encoder for FakeEncoder {
    fn probe() -> Probe {
        Probe::Available("in memory".to_owned())
    }

    fn description(&self) -> Description {
        Description {
            configuration: Bytes::from_static(&[0x81, 0, 0x0c, 0]),
            width: self.options.width,
            height: self.options.height,
        }
    }

    fn submit(&mut self, picture: Picture, options: SubmitOptions) -> Result<(), SubmitError> {
        drop(self.refusal(picture)?);
        let key_frame = options.force_key_frame
            || self.key_frame_wanted
            || self.pictures_since_key >= self.options.key_frame_interval;
        self.key_frame_wanted = false;
        self.pictures_since_key = if key_frame { 1 } else { self.pictures_since_key + 1 };
        let data = Bytes::copy_from_slice(&self.submitted.to_be_bytes());
        let packet = Packet { data, pts: options.pts, dts: options.pts, key_frame };
        self.in_flight.push_back((self.submitted, packet));
        self.submitted += 1;
        Ok(())
    }

    fn poll_packet(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Packet>, EncodeError>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        loop {
            let Some((ordinal, _)) = self.in_flight.front() else {
                return if self.flushed { Poll::Ready(Ok(None)) } else { Poll::Pending };
            };
            let ordinal = *ordinal;
            if let Some(error) = self.fault_at(ordinal) {
                self.failed = Some(error.clone());
                return Poll::Ready(Err(error));
            }
            if self.polls_left > 0 {
                self.polls_left -= 1;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.polls_left = self.faults.delay_polls;
            let packet = self.in_flight.pop_front().map(|(_, packet)| packet);
            if !self.faults.lost.contains(&ordinal) {
                return Poll::Ready(Ok(packet));
            }
        }
    }

    fn flush(&mut self) {
        self.flushed = true;
    }

    fn force_key_frame(&mut self) {
        self.key_frame_wanted = true;
    }

    fn set_bit_rate(&mut self, bits_per_second: u32) -> Result<(), BitRateError> {
        let (min, max) = (1_000, 100_000_000);
        if !(min..=max).contains(&bits_per_second) {
            return Err(BitRateError { asked: bits_per_second, min, max });
        }
        self.options.bits_per_second = bits_per_second;
        Ok(())
    }
}
