//! The loop of the load's thread: send what is due, take what came, note how late it was.
//!
//! In: a [`Plan`] and what the watching thread shares. Out: messages counted and latencies of the
//! window. Invariants: a connection has one message under way (several sends in flight on one socket
//! could mix their bytes), and latency at a given rate counts from when a message was due, not from
//! when it could be sent: a late server is not excused by the client that waits for it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;

use super::answers::{Checker, Expected, Progress};
use super::{BEGIN, MEASURING, Pattern, Plan, STOP, Shared};
use crate::ring::{Cells, Event};

pub(super) struct Driver {
    cells: Cells,
    expected: Expected,
    connections: Vec<Connection>,
    checker: Option<Checker>,
    schedule: Schedule,
}

/// Who sends next, and what is due.
struct Schedule {
    pattern: Pattern,
    connections: u64,
    /// When the first message was due, with a rate.
    start: Instant,
    /// Between two messages, with a rate.
    interval: Duration,
    /// Messages that became due, or were sent.
    sent: u64,
    /// Connections that may send.
    ready: Vec<u32>,
    /// Broadcast: publications under way, oldest first, and how many deliveries they lack.
    publications: VecDeque<(Instant, u32)>,
    /// Broadcast: publications that everybody has.
    done: u64,
}

#[derive(Debug, Clone, Copy)]
struct Connection {
    progress: Progress,
    /// Paced: a message is under way.
    busy: bool,
    /// Paced: messages that are due and wait for the one under way.
    backlog: u32,
    /// Messages answered, or publications received.
    answered: u64,
    sent: Instant,
}

impl Driver {
    pub(super) fn new(plan: Plan) -> Result<Self> {
        let count = u32::try_from(plan.sockets.len())?;
        let least = if plan.pattern.is_broadcast() { 2 } else { 1 };
        ensure!(count >= least, "at least {least} connections");
        let sockets: Vec<OwnedFd> = plan.sockets.into_iter().map(OwnedFd::from).collect();
        let buffer = plan.expected.len().next_power_of_two().clamp(1024, 16_384);
        let cells = Cells::new(sockets, &plan.request, u32::try_from(buffer)?, PER_RING)
            .context("cannot set up the client's rings")?;
        let now = Instant::now();
        let progress = Progress::default();
        let connection = Connection { progress, busy: false, backlog: 0, answered: 0, sent: now };
        let interval = match plan.pattern {
            Pattern::Paced { rate } | Pattern::Broadcast { rate: Some(rate) } => {
                ensure!(rate > 0.0, "a rate above 0");
                Duration::from_secs_f64(1.0 / rate)
            }
            Pattern::Echo | Pattern::Broadcast { rate: None } => Duration::ZERO,
        };
        Ok(Self {
            cells,
            checker: Checker::of(&plan.expected),
            expected: plan.expected,
            connections: vec![connection; count as usize],
            schedule: Schedule {
                pattern: plan.pattern,
                connections: u64::from(count),
                start: now,
                interval,
                sent: 0,
                ready: (0..count).collect(),
                publications: VecDeque::new(),
                done: 0,
            },
        })
    }

    pub(super) fn run(mut self, shared: &Shared) -> Result<Histogram<u64>> {
        let mut histogram = Histogram::new_with_max(LATENCY_NS_MAX, 3)?;
        let mut messages = 0;
        self.schedule.start = Instant::now();
        loop {
            let phase = shared.phase.load(Ordering::Relaxed);
            match phase {
                BEGIN => {
                    histogram.reset();
                    // Fails if the window was ended meanwhile, which the next turn sees.
                    let _ = shared.phase.compare_exchange(
                        BEGIN,
                        MEASURING,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    );
                }
                STOP => return Ok(histogram),
                _ => {}
            }
            let wait = self.send(shared.allowed.load(Ordering::Relaxed))?;
            messages += self.receive(wait, (phase == MEASURING).then_some(&mut histogram))?;
            shared.messages.store(messages, Ordering::Relaxed);
        }
    }

    /// Sends what may be sent; says how long there is nothing else to send.
    fn send(&mut self, allowed: u64) -> io::Result<Duration> {
        let now = Instant::now();
        match self.schedule.pattern {
            Pattern::Echo => self.send_closed(now, allowed),
            Pattern::Paced { .. } => self.send_paced(now),
            Pattern::Broadcast { rate: None } => {
                if self.schedule.publications.is_empty() {
                    self.publish(now)?;
                }
                Ok(TURN)
            }
            Pattern::Broadcast { rate: Some(_) } => {
                let Schedule { publications, .. } = &self.schedule;
                let mut under_way = publications.len();
                while self.schedule.next_due() <= now && under_way < PUBLICATIONS_UNDER_WAY_MAX {
                    self.publish(self.schedule.next_due())?;
                    self.schedule.sent += 1;
                    under_way += 1;
                }
                Ok(self.schedule.wait(now))
            }
        }
    }

    fn send_closed(&mut self, now: Instant, allowed: u64) -> io::Result<Duration> {
        let Self { schedule, connections, cells, .. } = self;
        while schedule.sent < allowed
            && let Some(connection) = schedule.ready.pop()
        {
            schedule.sent += 1;
            connections[connection as usize].sent = now;
            cells.send(connection)?;
        }
        Ok(TURN)
    }

    fn send_paced(&mut self, now: Instant) -> io::Result<Duration> {
        let Self { schedule, connections, cells, .. } = self;
        while schedule.next_due() <= now {
            // Connections take turns; the remainder is below their number, which is a `u32`.
            let index = u32::try_from(schedule.sent % schedule.connections).unwrap_or(0);
            schedule.sent += 1;
            let connection = &mut connections[index as usize];
            if connection.busy {
                connection.backlog += 1;
            } else {
                connection.busy = true;
                cells.send(index)?;
            }
        }
        Ok(schedule.wait(now))
    }

    fn publish(&mut self, due: Instant) -> io::Result<()> {
        let subscribers = u32::try_from(self.schedule.connections - 1).unwrap_or(u32::MAX);
        self.schedule.publications.push_back((due, subscribers));
        self.cells.send(PUBLISHER)
    }

    /// One turn of the rings; messages that became complete.
    fn receive(
        &mut self,
        wait: Duration,
        mut histogram: Option<&mut Histogram<u64>>,
    ) -> Result<u64> {
        let Self { cells, expected, connections, checker, schedule } = self;
        let mut messages = 0;
        let mut failure = None;
        let mut again = Vec::new();
        cells.turn(wait, |index, event| {
            let taken = match event {
                // What the publisher hears is an answer to a POST, or its own message.
                Event::Received(_) if schedule.pattern.is_broadcast() && index == PUBLISHER => {
                    return;
                }
                Event::Received(bytes) => {
                    let checked = match checker {
                        Some(checker) if index == CHECKED => checker.take(bytes),
                        _ => Ok(()),
                    };
                    let progress = &mut connections[index as usize].progress;
                    checked.and_then(|()| progress.take(expected, bytes))
                }
                Event::Ended(error) => {
                    Err(error.map_or_else(|| "end of stream".into(), |error| error.to_string()))
                }
            };
            let connection = &mut connections[index as usize];
            let noted = taken.and_then(|complete| {
                for _ in 0..complete {
                    let due = schedule.answered(index, connection, &mut again)?;
                    messages += 1;
                    if let Some(histogram) = histogram.as_deref_mut() {
                        let latency = u64::try_from(due.elapsed().as_nanos());
                        histogram.saturating_record(latency.unwrap_or(u64::MAX));
                    }
                }
                Ok(())
            });
            if let Err(why) = noted {
                failure.get_or_insert_with(|| format!("connection {index}: {why}"));
            }
        })?;
        for connection in again {
            cells.send(connection)?;
        }
        match failure {
            None => Ok(messages),
            Some(failure) => bail!("{failure}"),
        }
    }
}

impl Schedule {
    /// Notes that a connection has one more answer; when that answer was due to be asked for.
    fn answered(
        &mut self,
        index: u32,
        connection: &mut Connection,
        again: &mut Vec<u32>,
    ) -> Result<Instant, String> {
        let number = connection.answered;
        connection.answered += 1;
        match self.pattern {
            Pattern::Echo => {
                if !connection.progress.is_at_start() {
                    return Err("more bytes than were due".into());
                }
                self.ready.push(index);
                Ok(connection.sent)
            }
            Pattern::Paced { .. } => {
                if !connection.busy {
                    return Err("an answer to nothing".into());
                }
                if connection.backlog > 0 {
                    connection.backlog -= 1;
                    again.push(index);
                } else {
                    connection.busy = false;
                }
                Ok(self.due(number * self.connections + u64::from(index)))
            }
            Pattern::Broadcast { .. } => {
                let at = usize::try_from(number - self.done.min(number)).unwrap_or(usize::MAX);
                let Some((due, missing)) = self.publications.get_mut(at) else {
                    return Err("a publication that nobody made".into());
                };
                let due = *due;
                *missing = missing.saturating_sub(1);
                while let Some((_, 0)) = self.publications.front() {
                    self.publications.pop_front();
                    self.done += 1;
                }
                Ok(due)
            }
        }
    }

    fn due(&self, number: u64) -> Instant {
        let nanoseconds = self.interval.as_nanos() * u128::from(number);
        // Past 584 years of load.
        self.start + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX / 2))
    }

    fn next_due(&self) -> Instant {
        self.due(self.sent)
    }

    /// A sleep takes longer than it is asked to: below that, the loop spins.
    fn wait(&self, now: Instant) -> Duration {
        let left = self.next_due().saturating_duration_since(now);
        left.saturating_sub(SPIN).min(TURN)
    }
}

/// Broadcast: the connection that publishes; all others receive.
const PUBLISHER: u32 = 0;
/// Broadcast of compressed messages: the connection that inflates them.
const CHECKED: u32 = 1;
/// Direct descriptors of one ring.
const PER_RING: u32 = 8_192;
/// Beyond this a server is not behind, it has lost them; the rate is then not reached.
const PUBLICATIONS_UNDER_WAY_MAX: usize = 256;
/// How often the loop looks at its phase when nothing comes.
const TURN: Duration = Duration::from_millis(50);
const SPIN: Duration = Duration::from_micros(100);
const LATENCY_NS_MAX: u64 = 60_000_000_000;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::{Duration, Instant};

    use super::{Connection, Pattern, Progress, Schedule};

    fn schedule(pattern: Pattern, connections: u64) -> Schedule {
        Schedule {
            pattern,
            connections,
            start: Instant::now(),
            interval: Duration::from_millis(1),
            sent: 0,
            ready: Vec::new(),
            publications: VecDeque::new(),
            done: 0,
        }
    }

    fn connection() -> Connection {
        let sent = Instant::now();
        Connection { progress: Progress::default(), busy: true, backlog: 0, answered: 0, sent }
    }

    #[test]
    fn at_a_rate_latency_counts_from_when_a_message_was_due() {
        let mut schedule = schedule(Pattern::Paced { rate: 1000.0 }, 4);
        let mut third = Connection { backlog: 1, ..connection() };
        let mut again = Vec::new();
        let start = schedule.start;
        let first = schedule.answered(2, &mut third, &mut again).unwrap();
        assert_eq!(first - start, Duration::from_millis(2));
        assert_eq!(again, [2], "the message that waited leaves now");
        let second = schedule.answered(2, &mut third, &mut again).unwrap();
        assert_eq!(second - start, Duration::from_millis(6), "not from when it left");
        assert!(schedule.answered(2, &mut third, &mut again).is_err());
    }

    #[test]
    fn a_publication_is_done_when_all_have_it() {
        let mut schedule = schedule(Pattern::Broadcast { rate: Some(1000.0) }, 3);
        let due = [schedule.start, schedule.start + Duration::from_millis(1)];
        schedule.publications.extend(due.map(|due| (due, 2)));
        let (mut one, mut other) = (connection(), connection());
        let mut none = Vec::new();
        assert_eq!(schedule.answered(1, &mut one, &mut none), Ok(due[0]));
        assert_eq!(schedule.answered(1, &mut one, &mut none), Ok(due[1]));
        assert_eq!(schedule.publications.len(), 2);
        assert!(schedule.answered(1, &mut one, &mut none).is_err());
        assert_eq!(schedule.answered(2, &mut other, &mut none), Ok(due[0]));
        assert_eq!((schedule.publications.len(), schedule.done), (1, 1));
        assert_eq!(schedule.answered(2, &mut other, &mut none), Ok(due[1]));
        assert!(schedule.publications.is_empty());
    }
}
