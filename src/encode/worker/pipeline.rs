//! What the worker's thread does, without the thread and its clocks.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::schedule::{Due, Schedule};
use super::{
    Counters, FAILURES_IN_A_ROW_MAX, MakeEncoder, PacketSink, PictureSource, WorkerOptions, add,
};
use crate::encode::{EncodeError, Encoder, Packet, Picture, SubmitError, SubmitOptions};
use crate::time::{Monotonic, Now};

/// More pictures than this inside an encoder are not late but lost; backends hold fewer.
const IN_FLIGHT_MAX: usize = 64;

/// Long enough not to spin on a device that is gone, short enough for a viewer's buffer.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(200);

/// Source, encoder and sink in a row.
///
/// [`turn`](Self::turn) submits at most one picture and takes out every packet there is.
pub(super) struct Pipeline {
    schedule: Schedule,
    make_encoder: MakeEncoder,
    encoder: Option<Box<dyn Encoder>>,
    source: Box<dyn PictureSource>,
    sink: Box<dyn PacketSink>,
    counters: Arc<Counters>,
    /// The `pts` of what the encoder holds, oldest first.
    in_flight: VecDeque<i64>,
    key_frame_interval: u64,
    next_key_frame: u64,
    /// A packet is missing: only a key frame can follow.
    broken: bool,
    failures_in_a_row: u32,
}

impl Pipeline {
    pub(super) fn new(
        options: &WorkerOptions,
        make_encoder: MakeEncoder,
        source: Box<dyn PictureSource>,
        sink: Box<dyn PacketSink>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            schedule: Schedule::new(options.pictures_per_second),
            make_encoder,
            encoder: None,
            source,
            sink,
            counters,
            in_flight: VecDeque::new(),
            key_frame_interval: u64::from(options.key_frame_interval.max(1)),
            next_key_frame: 0,
            broken: false,
            failures_in_a_row: 0,
        }
    }

    #[cfg(test)]
    pub(super) fn has_encoder(&self) -> bool {
        self.encoder.is_some()
    }

    /// Does what is due; gives the time of the next turn.
    pub(super) fn turn(
        &mut self,
        now: Now,
        context: &mut Context<'_>,
    ) -> Result<Monotonic, EncodeError> {
        let Some(mut encoder) = self.encoder.take() else {
            return match (self.make_encoder)() {
                Ok(encoder) => {
                    self.encoder = Some(encoder);
                    // A turn of its own: making one takes long enough to make pictures late.
                    Ok(now.monotonic)
                }
                Err(error) => self.on_failure(error, now.monotonic),
            };
        };
        let due = match self.schedule.poll(now.monotonic) {
            Due::At(due) => due,
            Due::Now { number, late } => {
                add(&self.counters.late, late);
                if let Some(picture) = self.source.picture(number, now.wall) {
                    self.submit(encoder.as_mut(), number, picture);
                }
                // Another picture may be due by the time the packets are out.
                now.monotonic
            }
        };
        match self.take_packets(encoder.as_mut(), context) {
            Ok(()) => {
                self.encoder = Some(encoder);
                Ok(due)
            }
            Err(error) => self.on_failure(error, now.monotonic),
        }
    }

    fn submit(&mut self, encoder: &mut dyn Encoder, number: u64, picture: Picture) {
        let force_key_frame = number >= self.next_key_frame;
        let pts = self.schedule.pts(number);
        match encoder.submit(picture, SubmitOptions { pts, force_key_frame }) {
            Ok(()) => {
                add(&self.counters.submitted, 1);
                self.in_flight.push_back(pts);
                if self.in_flight.len() > IN_FLIGHT_MAX {
                    self.in_flight.pop_front();
                    add(&self.counters.lost, 1);
                    self.broken = true;
                    encoder.force_key_frame();
                }
                if force_key_frame {
                    self.next_key_frame = number + self.key_frame_interval;
                }
            }
            Err(error @ (SubmitError::Unsupported { .. } | SubmitError::WrongSize { .. })) => {
                add(&self.counters.refused, 1);
                tracing::debug!(%error, number, "picture refused");
            }
            // A closed encoder says why in the poll that follows.
            Err(SubmitError::Full(_) | SubmitError::Closed(_)) => add(&self.counters.refused, 1),
        }
    }

    fn take_packets(
        &mut self,
        encoder: &mut dyn Encoder,
        context: &mut Context<'_>,
    ) -> Result<(), EncodeError> {
        while let Poll::Ready(packet) = encoder.poll_packet(context) {
            let Some(packet) = packet? else { break };
            self.failures_in_a_row = 0;
            let missing = self.account_for(&packet);
            let whole = packet.key_frame || !self.broken;
            self.broken = !whole || (missing && !packet.key_frame);
            self.deliver(packet);
            // Again when more went missing: it may have been the key frame asked for.
            if self.broken && (whole || missing) {
                encoder.force_key_frame();
            }
        }
        Ok(())
    }

    /// Takes the packet off the list of what is inside; `true` when one before it is missing.
    fn account_for(&mut self, packet: &Packet) -> bool {
        let missing = self.in_flight.iter().take_while(|pts| **pts < packet.pts).count();
        self.in_flight.drain(..missing);
        if self.in_flight.front() == Some(&packet.pts) {
            self.in_flight.pop_front();
        }
        add(&self.counters.lost, missing as u64);
        missing > 0
    }

    /// Sends the packet on, unless one it needs did not arrive.
    fn deliver(&mut self, packet: Packet) {
        if self.broken {
            add(&self.counters.undecodable, 1);
            return;
        }
        let (bytes, key_frame) = (packet.data.len() as u64, packet.key_frame);
        if self.sink.send(packet).is_err() {
            self.broken = true;
            add(&self.counters.sink_full, 1);
            return;
        }
        add(&self.counters.packets, 1);
        add(&self.counters.bytes, bytes);
        add(&self.counters.key_frames, u64::from(key_frame));
    }

    /// Leaves the failed encoder behind; a turn after a pause makes another, which begins with a
    /// key frame.
    fn on_failure(&mut self, error: EncodeError, now: Monotonic) -> Result<Monotonic, EncodeError> {
        add(&self.counters.failures, 1);
        add(&self.counters.lost, self.in_flight.len() as u64);
        self.in_flight.clear();
        self.broken = true;
        self.next_key_frame = 0;
        self.failures_in_a_row += 1;
        if self.failures_in_a_row > FAILURES_IN_A_ROW_MAX {
            return Err(error);
        }
        tracing::warn!(%error, "the encoder failed; starting another");
        Ok(now + PAUSE_AFTER_FAILURE)
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pipeline")
            .field("schedule", &self.schedule)
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}
