//! Several rings driven in turn by one thread: each has its share of the connections as direct
//! descriptors, of which the kernel gives one ring only so many.
//!
//! In: connected sockets. Out: the events of all rings under one numbering. With one ring the wait
//! is the ring's own; several are asked without waiting and share an eventfd for the wait, because
//! polling a ring whose completions are deferred loses wake-ups.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::{Event, Ring};

/// All connections of a load.
pub(crate) struct Cells {
    rings: Vec<Ring>,
    /// None with one ring.
    bell: Option<OwnedFd>,
    per_ring: u32,
}

impl Cells {
    /// See [`Ring::new`]; at most `per_ring` connections to a ring.
    pub(crate) fn new(
        sockets: Vec<OwnedFd>,
        outgoing: &[u8],
        buffer_size: u32,
        per_ring: u32,
    ) -> io::Result<Self> {
        assert!(per_ring > 0, "a ring holds connections");
        let mut rings = Vec::new();
        let mut sockets = sockets.into_iter();
        loop {
            let share: Vec<OwnedFd> = sockets.by_ref().take(per_ring as usize).collect();
            if share.is_empty() {
                break;
            }
            rings.push(Ring::new(share, outgoing.to_vec(), buffer_size)?);
        }
        let bell = match rings.len() {
            0 | 1 => None,
            _ => Some(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?),
        };
        if let Some(bell) = &bell {
            rings.iter().try_for_each(|ring| ring.ring_at(bell))?;
        }
        Ok(Self { rings, bell, per_ring })
    }

    /// Queues one send of the outgoing bytes on a connection.
    pub(crate) fn send(&mut self, connection: u32) -> io::Result<()> {
        let ring = &mut self.rings[(connection / self.per_ring) as usize];
        ring.send(connection % self.per_ring)
    }

    /// Submits what is queued, waits for something or for `timeout`, and reports what came.
    pub(crate) fn turn(
        &mut self,
        timeout: Duration,
        mut on_event: impl FnMut(u32, Event<'_>),
    ) -> io::Result<()> {
        let Some(bell) = &self.bell else {
            return match self.rings.first_mut() {
                Some(ring) => ring.turn(timeout, on_event).map(drop),
                None => Ok(()),
            };
        };
        // Emptied before the rings are asked: what comes after the asking rings again.
        let mut count = [0; 8];
        let _ = rustix::io::read(bell, &mut count);
        let mut any = false;
        for (ring, base) in self.rings.iter_mut().zip((0..).step_by(self.per_ring as usize)) {
            any |= ring.turn(Duration::ZERO, |index, event| on_event(base + index, event))?;
        }
        if !any && !timeout.is_zero() {
            let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(bell, PollFlags::IN)], Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
