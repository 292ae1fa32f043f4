//! Subscribers of two servers, held in one process, and what each server is told to send them.
//!
//! In: two servers and how many subscribers in how many channels. Out: publications that have arrived
//! everywhere. Both servers run all the time and one of them works, so that the two halves of a pair are
//! a moment apart.
//!
//! Invariants: a connection that is the `i`-th of its server is on channel `i % channels`, on both; the
//! servers' connections are opened by turns, because who comes first has memory that costs more or less
//! (4 % between two runs of one program).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::http::{self, Upgrade};
use crate::ring::{Event, Parked};
use crate::{frames, headwater, peers};

/// How many subscribers there are, and of what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) subscribers: u32,
    pub(super) channels: u32,
}

/// Who goes first changes from step to step.
fn order(step: u32) -> [usize; 2] {
    if step.is_multiple_of(2) { [FIRST, OTHER] } else { [OTHER, FIRST] }
}

impl Size {
    /// Connections of one server that are opened together.
    fn step(self) -> u32 {
        (self.subscribers / 16).clamp(1, 1000)
    }

    /// Whose a connection is, in the order of opening.
    fn server_of(self, connection: u32) -> usize {
        let (both, within) = (connection / (2 * self.step()), connection % (2 * self.step()));
        let opened_before = both * self.step();
        let is_second = within >= self.step().min(self.subscribers - opened_before);
        order(both)[usize::from(is_second)]
    }

    /// Of one channel, counted from 0.
    fn of_channel(self, channel: u32) -> u64 {
        u64::from((self.subscribers - channel).div_ceil(self.channels))
    }
}

/// The subscribers of both servers.
pub(super) struct Audience {
    parked: Parked,
    size: Size,
    /// Bytes of one delivery, on the wire.
    message: Vec<u8>,
    /// By server.
    received: [u64; 2],
    publishers: [Publisher; 2],
    ended: Option<String>,
}

/// Who tells a server to send.
#[derive(Debug)]
enum Publisher {
    /// By HTTP, on a connection for each publication of a burst.
    Posts { streams: Vec<TcpStream>, used: Instant, address: SocketAddr, payload: Vec<u8> },
    /// By numbers.
    Numbers(TcpStream),
    /// By messages of a WebSocket.
    Messages { stream: TcpStream, payload: Vec<u8> },
}

/// Which of the two.
pub(super) const FIRST: usize = 0;
/// The other.
pub(super) const OTHER: usize = 1;

/// What a server speaks, and where.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Headwater(SocketAddr),
    Raw(SocketAddr),
    Peer(SocketAddr),
}

impl Place {
    fn path(self, channel: u32) -> String {
        match self {
            Self::Headwater(_) => headwater::channel_path(&channel_name(channel)),
            Self::Peer(_) => peers::channel_path(channel),
            Self::Raw(_) => String::new(),
        }
    }

    /// Subscribers, the first of which is the `base`-th of the run and the `first`-th of the server.
    fn open(
        self,
        base: usize,
        first: usize,
        count: usize,
        paths: &[String],
    ) -> Result<Vec<TcpStream>> {
        match self {
            Self::Headwater(address) | Self::Peer(address) => {
                http::open_websockets_to(address, base, count, |index| {
                    Upgrade::to(&paths[(index - base + first) % paths.len()])
                })
            }
            Self::Raw(address) => http::open_raw(address, base, count),
        }
    }
}

impl Audience {
    /// Opens all connections.
    pub(super) fn open(
        servers: [Place; 2],
        size: Size,
        payload: &[u8],
        message: &[u8],
    ) -> Result<Self> {
        let mut parked = Parked::new(PER_RING)?;
        let mut publishers = [
            Publisher::open(servers[0], size, payload)?,
            Publisher::open(servers[1], size, payload)?,
        ];
        let paths = servers
            .map(|server| (0..size.channels).map(|one| server.path(one)).collect::<Vec<String>>());
        let mut first = 0;
        while first < size.subscribers {
            let count = size.step().min(size.subscribers - first);
            for server in order(first / size.step()) {
                let base = server * size.subscribers as usize + first as usize;
                parked.add(servers[server].open(
                    base,
                    first as usize,
                    count as usize,
                    &paths[server],
                )?)?;
            }
            first += count;
        }
        for publisher in &mut publishers {
            publisher.wait_until_all_came()?;
        }
        let message = message.to_vec();
        Ok(Self { parked, size, message, received: [0; 2], publishers, ended: None })
    }

    /// One publication on each of `channels`, at once; over when everyone has it. Says how many
    /// deliveries that were.
    pub(super) fn publish(&mut self, server: usize, channels: &[u32]) -> Result<u64> {
        let deliveries: u64 = channels.iter().map(|&channel| self.size.of_channel(channel)).sum();
        let goal = self.received[server] + deliveries * self.message.len() as u64;
        self.publishers[server].tell(channels)?;
        let deadline = Instant::now() + PATIENCE;
        while self.received[server] < goal {
            self.turn(TURN)?;
            ensure!(
                Instant::now() < deadline,
                "{} bytes are missing after {} s",
                goal - self.received[server],
                PATIENCE.as_secs()
            );
        }
        ensure!(self.received[server] == goal, "more arrived than was published");
        self.publishers[server].take_answers(channels.len())?;
        Ok(deliveries)
    }

    /// How many sends a raw ring submits with one enter from now on.
    pub(super) fn set_send_batch(&mut self, server: usize, batch: u32) -> Result<()> {
        if let Publisher::Numbers(stream) = &mut self.publishers[server] {
            stream.write_all(&(SEND_BATCH | batch).to_le_bytes())?;
        }
        Ok(())
    }

    /// `count` publications on the first channel, `interval` apart, whether or not the ones before have
    /// arrived; over when everyone has all. Says how many deliveries that were.
    pub(super) fn publish_at(
        &mut self,
        server: usize,
        count: u32,
        interval: Duration,
    ) -> Result<u64> {
        let deliveries = self.size.of_channel(0) * u64::from(count);
        let goal = self.received[server] + deliveries * self.message.len() as u64;
        self.publishers[server].freshen()?;
        let start = Instant::now();
        for number in 0..count {
            let due = start + interval * number;
            while let Some(left) = due.checked_duration_since(Instant::now()) {
                self.turn(left.min(TURN))?;
            }
            self.publishers[server].tell_on(number as usize)?;
            // What has arrived is taken between any two, so that nobody's buffers fill.
            while self.turn(Duration::ZERO)? {}
        }
        let deadline = Instant::now() + PATIENCE;
        while self.received[server] < goal {
            self.turn(TURN)?;
            ensure!(
                Instant::now() < deadline,
                "{} bytes are missing",
                goal - self.received[server]
            );
        }
        self.publishers[server].take_answers(count as usize)?;
        Ok(deliveries)
    }

    /// Sends one publication and looks at what arrives for longer than it takes. Says how many had
    /// it, byte for byte.
    pub(super) fn check(&mut self, server: usize) -> Result<u64> {
        let channels: Vec<u32> = (0..self.size.channels).collect();
        let mut whole = 0;
        let message = self.message.clone();
        let is_exact = self.publishers[server].is_exact();
        for channels in channels.chunks(BURST) {
            self.publishers[server].tell(channels)?;
            let deadline = Instant::now() + PATIENCE;
            let wanted: u64 = channels.iter().map(|&channel| self.size.of_channel(channel)).sum();
            let goal = self.received[server] + wanted * message.len() as u64;
            while self.received[server] < goal && Instant::now() < deadline {
                self.turn_with(TURN, |of, bytes| {
                    whole += u64::from(of == server && (!is_exact || bytes == message));
                })?;
            }
            self.publishers[server].take_answers(channels.len())?;
        }
        Ok(whole)
    }

    /// Takes what is there, or waits for something.
    pub(super) fn turn(&mut self, timeout: Duration) -> Result<bool> {
        self.turn_with(timeout, |_, _| ())
    }

    fn turn_with(
        &mut self,
        timeout: Duration,
        mut on_bytes: impl FnMut(usize, &[u8]),
    ) -> Result<bool> {
        let Self { parked, received, ended, size, .. } = self;
        let any = parked.turn(timeout, |connection, event| {
            let server = size.server_of(connection);
            match event {
                Event::Received(bytes) => {
                    received[server] += bytes.len() as u64;
                    on_bytes(server, bytes);
                }
                Event::Ended(error) => {
                    let why =
                        error.map_or_else(|| "end of stream".into(), |error| error.to_string());
                    ended.get_or_insert_with(|| format!("connection {connection}: {why}"));
                }
            }
            None
        })?;
        match &self.ended {
            Some(why) => bail!("a subscriber was lost: {why}"),
            None => Ok(any),
        }
    }
}

impl Publisher {
    fn open(server: Place, size: Size, payload: &[u8]) -> Result<Self> {
        match server {
            Place::Headwater(address) => {
                let streams = open_posts(address)?;
                Ok(Self::Posts {
                    streams,
                    used: Instant::now(),
                    address,
                    payload: payload.to_vec(),
                })
            }
            Place::Raw(address) => {
                let mut control = http::open_raw(address, 0, 1)?.remove(0);
                let told = [size.subscribers.to_le_bytes(), size.channels.to_le_bytes()];
                control.write_all(&told.concat())?;
                control.set_read_timeout(Some(PATIENCE))?;
                Ok(Self::Numbers(control))
            }
            Place::Peer(address) => {
                let upgrade = Upgrade::to(peers::PUBLISH_PATH);
                let stream = http::open_websockets(address, upgrade, 0, 1)?.remove(0);
                Ok(Self::Messages { stream, payload: payload.to_vec() })
            }
        }
    }

    /// A WebSocket is there when its upgrade is answered; the raw ring says when it has accepted all.
    fn wait_until_all_came(&mut self) -> Result<()> {
        match self {
            Self::Posts { .. } | Self::Messages { .. } => Ok(()),
            Self::Numbers(control) => {
                control.read_exact(&mut [0]).context("the raw ring did not accept all")
            }
        }
    }

    fn is_exact(&self) -> bool {
        !matches!(self, Self::Numbers(_))
    }

    fn tell(&mut self, channels: &[u32]) -> Result<()> {
        self.freshen()?;
        match self {
            Self::Posts { streams, address, payload, .. } => {
                for (stream, &channel) in streams.iter_mut().zip(channels) {
                    let path = headwater::publish_path(&channel_name(channel));
                    stream.write_all(&http::post_request(*address, &path, payload))?;
                }
            }
            Self::Numbers(stream) => {
                let numbers: Vec<u8> = channels.iter().flat_map(|one| one.to_le_bytes()).collect();
                stream.write_all(&numbers)?;
            }
            Self::Messages { stream, payload } => {
                let messages = channels.iter().flat_map(|one| publication(*one, payload));
                stream.write_all(&messages.collect::<Vec<u8>>())?;
            }
        }
        Ok(())
    }

    /// Connections of which nothing was heard for long are closed by the server.
    fn freshen(&mut self) -> Result<()> {
        if let Self::Posts { streams, used, address, .. } = self {
            if used.elapsed() > POSTS_IDLE_MAX {
                *streams = open_posts(*address)?;
            }
            *used = Instant::now();
        }
        Ok(())
    }

    /// The `number`-th of many publications on the first channel.
    fn tell_on(&mut self, number: usize) -> Result<()> {
        match self {
            Self::Posts { streams, address, payload, .. } => {
                let path = headwater::publish_path(&channel_name(0));
                let at = number % streams.len();
                streams[at].write_all(&http::post_request(*address, &path, payload))?;
            }
            Self::Numbers(stream) => stream.write_all(&0_u32.to_le_bytes())?,
            Self::Messages { stream, payload } => stream.write_all(&publication(0, payload))?,
        }
        Ok(())
    }

    /// Every request was answered with a success; they went to the connections by turns.
    fn take_answers(&mut self, count: usize) -> Result<()> {
        let Self::Posts { streams, .. } = self else { return Ok(()) };
        let connections = streams.len();
        for (index, stream) in streams.iter_mut().enumerate().take(count) {
            let expected = (count - index).div_ceil(connections);
            let (mut bytes, mut kept) = ([0; 4096], Vec::new());
            let mut answers = 0;
            while answers < expected {
                let read =
                    http::read_some(stream, &mut bytes).context("the answer to a publication")?;
                ensure!(read > 0, "a publisher's connection was closed");
                kept.extend_from_slice(&bytes[..read]);
                answers = kept.windows(SUCCESS.len()).filter(|some| *some == SUCCESS).count();
            }
        }
        Ok(())
    }
}

fn open_posts(address: SocketAddr) -> Result<Vec<TcpStream>> {
    let streams = http::open_raw(address, 0, BURST)?;
    for stream in &streams {
        stream.set_read_timeout(Some(PATIENCE))?;
    }
    Ok(streams)
}

fn channel_name(channel: u32) -> String {
    format!("fan-{channel}")
}

/// What brings `payload` to a channel of a peer.
fn publication(channel: u32, payload: &[u8]) -> Vec<u8> {
    frames::client_text(&[format!("{channel} ").as_bytes(), payload].concat())
}

/// Marks a number that is not a channel's.
const SEND_BATCH: u32 = 1 << 31;
/// Publications on different channels that are told at once.
pub(super) const BURST: usize = 64;
const SUCCESS: &[u8] = b"HTTP/1.1 200 ";
/// Direct descriptors of one ring, below the 20,000 that a process may have on small machines.
const PER_RING: u32 = 18_000;
const TURN: Duration = Duration::from_millis(50);
/// Well below the 75 s after which a kept-alive connection is closed.
const POSTS_IDLE_MAX: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::{Size, order};

    #[test]
    fn every_connection_belongs_to_one_server() {
        for subscribers in [1, 15, 16, 17, 1000, 1001, 40_003] {
            let size = Size { subscribers, channels: 1 };
            let (mut first, mut opened) = (0, Vec::new());
            while first < subscribers {
                let count = size.step().min(subscribers - first);
                for server in order(first / size.step()) {
                    opened.extend((0..count).map(|_| server));
                }
                first += count;
            }
            let told: Vec<usize> = (0..2 * subscribers).map(|one| size.server_of(one)).collect();
            assert_eq!(told, opened, "{subscribers}");
        }
    }

    #[test]
    fn channels_share_the_subscribers() {
        let size = Size { subscribers: 1005, channels: 10 };
        let counts: Vec<u64> = (0..10).map(|channel| size.of_channel(channel)).collect();
        assert_eq!(counts.iter().sum::<u64>(), 1005);
        assert_eq!((counts[4], counts[5]), (101, 100));
    }
}
