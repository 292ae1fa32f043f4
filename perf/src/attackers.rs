//! Attackers: threads that do to a server what its tests of bug classes do, over and over.
//!
//! In: which attack, an address, a core. Out: load on the server until it is stopped, and how much was done. Invariant:
//! they run only when nobody else wants their core (SCHED_IDLE), so that the client that measures beside them is late
//! because of the server and not because of them; what the kernel does for their packets is the exception. Whether the
//! server answers them as it should is for its tests to say, not asked here.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use flate2::{Compress, Compression, FlushCompress};
use rustix::net::sockopt;
use serde::{Deserialize, Serialize};

use crate::http::{self, Upgrade};
use crate::process;
use crate::ring::socket;

/// What they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Attack {
    /// Frames that declare 2^63 bytes and other lengths that nobody may: a connection each.
    Lengths,
    /// Messages in 1,024 fragments of one byte.
    Fragments,
    /// Upgrades that stop in the middle of a line, some thousand at a time.
    HalfOpen,
    /// A hundred readers of a byte a second on a channel with a hundred publications of 16 KiB a second.
    SlowReaders,
    /// Pings whose pongs nobody reads.
    Pings,
    /// A KiB that inflates to a MiB: a connection each.
    Bombs,
}

impl Attack {
    pub(crate) const ALL: [Self; 6] = [
        Self::Lengths,
        Self::Fragments,
        Self::HalfOpen,
        Self::SlowReaders,
        Self::Pings,
        Self::Bombs,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lengths => "lengths",
            Self::Fragments => "fragments",
            Self::HalfOpen => "half-open",
            Self::SlowReaders => "slow-readers",
            Self::Pings => "pings",
            Self::Bombs => "bombs",
        }
    }
}

/// An attack under way, until [`stop`](Self::stop) or drop.
#[derive(Debug)]
pub(crate) struct Attackers {
    shared: Arc<Shared>,
    started: Instant,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    acts: AtomicU64,
}

impl Attackers {
    pub(crate) fn start(attack: Attack, server: SocketAddr, cpu: Option<usize>) -> Self {
        let shared = Arc::<Shared>::default();
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            process::pin(cpu)?;
            process::yield_to_everybody()?;
            Field { server, shared: for_thread, opened: FIRST_CONNECTION }.run(attack)
        });
        Self { shared, started: Instant::now(), thread: Some(thread) }
    }

    /// Ends it; frames, connections or publications a second.
    pub(crate) fn stop(mut self) -> Result<f64> {
        let acts = self.shared.acts.load(Ordering::Relaxed);
        let seconds = self.started.elapsed().as_secs_f64();
        self.join()?;
        Ok(acts as f64 / seconds)
    }

    fn join(&mut self) -> Result<()> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the attack has ended")?;
        thread.join().map_err(|_| anyhow::anyhow!("an attacker panicked"))?
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        if self.thread.is_some() {
            // An error is already on its way to the caller.
            let _ = self.join();
        }
    }
}

/// Whether the server speaks permessage-deflate: without it there is nothing to inflate.
pub(crate) fn compresses(server: SocketAddr) -> bool {
    let upgrade = Upgrade { path: PATH, deflate: true };
    http::open_websockets(server, upgrade, FIRST_CONNECTION, 1).is_ok()
}

/// The attackers' side.
struct Field {
    server: SocketAddr,
    shared: Arc<Shared>,
    /// Connections so far, which decides source addresses.
    opened: usize,
}

impl Field {
    fn run(&mut self, attack: Attack) -> Result<()> {
        match attack {
            Attack::Lengths => self.one_frame_each(false, &lengths()),
            Attack::Bombs => self.one_frame_each(true, &[bomb()?]),
            Attack::Fragments => self.fragments(),
            Attack::HalfOpen => self.half_open(),
            Attack::SlowReaders => self.slow_readers(),
            Attack::Pings => self.pings(),
        }
    }

    fn goes_on(&self) -> bool {
        !self.shared.stopped.load(Ordering::Relaxed)
    }

    fn did(&self, acts: usize) {
        self.shared.acts.fetch_add(acts as u64, Ordering::Relaxed);
    }

    fn next(&mut self) -> usize {
        self.opened = FIRST_CONNECTION + (self.opened + 1 - FIRST_CONNECTION) % CONNECTIONS_MAX;
        self.opened
    }

    fn open(&mut self, upgrade: Upgrade<'_>) -> Result<TcpStream> {
        let mut sockets = http::open_websockets(self.server, upgrade, self.next(), 1)?;
        let socket = sockets.pop().context("one was opened")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(socket)
    }

    /// Connects, sends a frame that ends the connection, waits for that.
    fn one_frame_each(&mut self, deflate: bool, frames: &[Vec<u8>]) -> Result<()> {
        for frame in frames.iter().cycle() {
            if !self.goes_on() {
                break;
            }
            let mut socket = self.open(Upgrade { path: PATH, deflate })?;
            // The server may have closed before it had all of it.
            let _ = socket.write_all(frame);
            let mut rest = [0; 256];
            while socket.read(&mut rest).is_ok_and(|count| count > 0) {}
            self.did(1);
        }
        Ok(())
    }

    fn fragments(&mut self) -> Result<()> {
        let mut message = Vec::new();
        for number in 0..FRAGMENTS {
            let first = if number == 0 { BINARY } else { CONTINUATION };
            let last = if number + 1 == FRAGMENTS { FIN } else { 0 };
            message.extend_from_slice(&[first | last, MASKED | 1, 0, 0, 0, 0, b'f']);
        }
        let mut sockets = VecDeque::new();
        while self.goes_on() {
            if sockets.len() < FRAGMENTERS {
                sockets.push_back(self.open(Upgrade::to(PATH))?);
            }
            sockets.rotate_left(1);
            let Some(mut socket) = sockets.pop_front() else { continue };
            if socket.write_all(&message).is_ok() {
                self.did(FRAGMENTS);
                sockets.push_back(socket);
            }
        }
        Ok(())
    }

    fn half_open(&mut self) -> Result<()> {
        let server = self.server;
        let half = format!(
            "GET {PATH} HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\nUpgrade: websoc"
        );
        let mut held = VecDeque::with_capacity(HALVES);
        while self.goes_on() {
            if held.len() == HALVES {
                held.pop_front();
            }
            match socket::connect(server, self.next()) {
                Ok(mut socket) => {
                    // The server may be quicker to send it away.
                    let _ = socket.write_all(half.as_bytes());
                    held.push_back(socket);
                    self.did(1);
                }
                // No port or descriptor is free at the moment.
                Err(_) => sleep(PAUSE),
            }
        }
        Ok(())
    }

    fn slow_readers(&mut self) -> Result<()> {
        let path = "/ws/loud";
        let mut publisher = self.open(Upgrade::to("/ws/loud?echo=0"))?;
        let publication = crate::frames::client_text(&crate::frames::payload(16 << 10));
        let mut readers = VecDeque::new();
        let started = Instant::now();
        for number in 1_u32.. {
            if !self.goes_on() {
                break;
            }
            while readers.len() < READERS {
                let socket = self.open(Upgrade::to(path))?;
                sockopt::set_socket_recv_buffer_size(&socket, 1)?;
                readers.push_back(socket);
            }
            publisher.write_all(&publication)?;
            self.did(1);
            // Everybody's turn comes once a second.
            if let Some(mut reader) = readers.pop_front() {
                let mut byte = [0];
                match reader.read(&mut byte) {
                    Ok(1..) => readers.push_back(reader),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        readers.push_back(reader);
                    }
                    // It was sent away; another one comes.
                    _ => {}
                }
            }
            sleep((started + number * PUBLICATION_EVERY).saturating_duration_since(Instant::now()));
        }
        Ok(())
    }

    fn pings(&mut self) -> Result<()> {
        let ping = [&[FIN | PING, MASKED | 125, 0, 0, 0, 0][..], &[b'p'; 125]].concat();
        let pings = ping.repeat(PINGS_AT_ONCE);
        let (mut sockets, mut full) = (VecDeque::new(), VecDeque::new());
        while self.goes_on() {
            if sockets.len() < FLOODERS {
                let socket = self.open(Upgrade::to(PATH))?;
                sockopt::set_socket_recv_buffer_size(&socket, 1)?;
                socket.set_nonblocking(true)?;
                sockets.push_back(socket);
            }
            let Some(mut socket) = sockets.pop_front() else { continue };
            match socket.write(&pings) {
                Ok(count) => {
                    self.did(count / ping.len());
                    // Of a ping that was cut, the rest is not sent: nobody reads that far.
                    if count == pings.len() {
                        sockets.push_back(socket);
                        continue;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => continue,
            }
            // It stays as it is, until there are many.
            full.push_back(socket);
            if full.len() > FLOODERS_FULL {
                full.pop_front();
            }
        }
        Ok(())
    }
}

/// Headers with a mask and eight bytes of length, or two that should be less.
fn lengths() -> Vec<Vec<u8>> {
    let eight = |length: u64| {
        [&[FIN | BINARY, MASKED | 127], &length.to_be_bytes()[..], &[0; 4], b"x"].concat()
    };
    let two = vec![FIN | BINARY, MASKED | 126, 0, 1, 0, 0, 0, 0, b'x'];
    vec![eight(1 << 63), eight(u64::MAX), eight((1 << 63) - 1), eight(1), eight(1 << 30), two]
}

/// A message of a KiB that inflates to a MiB (RFC 7692 7.2.1: without the last four bytes of the flush).
fn bomb() -> Result<Vec<u8>> {
    let mut compress = Compress::new(Compression::best(), false);
    let mut payload = Vec::with_capacity(16 << 10);
    compress.compress_vec(&vec![0; 1 << 20], &mut payload, FlushCompress::Sync)?;
    payload.truncate(payload.len().saturating_sub(4));
    let length = u16::try_from(payload.len()).map_err(io::Error::other)?;
    let header = [FIN | RSV1 | BINARY, MASKED | 126];
    Ok([&header[..], &length.to_be_bytes(), &[0; 4], &payload].concat())
}

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const PING: u8 = 9;
const MASKED: u8 = 0x80;

/// Where nobody listens but attackers.
const PATH: &str = "/ws/attack?echo=0";
/// Beyond the numbers of the connections that measure.
const FIRST_CONNECTION: usize = 100_000;
/// After so many, addresses are used again.
const CONNECTIONS_MAX: usize = 200_000;
const FRAGMENTS: usize = 1_024;
const FRAGMENTERS: usize = 8;
const HALVES: usize = 8_000;
const READERS: usize = 100;
const PUBLICATION_EVERY: Duration = Duration::from_millis(10);
const FLOODERS: usize = 16;
const FLOODERS_FULL: usize = 64;
const PINGS_AT_ONCE: usize = 64;
const PATIENCE: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::{Attack, bomb};

    #[test]
    fn a_bomb_is_small_and_inflates_to_a_mebibyte() {
        let frame = bomb().unwrap();
        assert!(frame.len() < 1_200, "{}", frame.len());
        let mut input = frame[8..].to_vec();
        input.extend_from_slice(&[0, 0, 0xff, 0xff]);
        let mut output = Vec::with_capacity(2 << 20);
        let mut state = flate2::Decompress::new(false);
        state.decompress_vec(&input, &mut output, flate2::FlushDecompress::Sync).unwrap();
        assert_eq!(output.len(), 1 << 20);
    }

    #[test]
    fn an_attack_is_asked_for_by_its_name() {
        assert_eq!(Attack::value_variants(), Attack::ALL);
        for attack in Attack::ALL {
            assert_eq!(Attack::from_str(attack.name(), false), Ok(attack));
        }
    }
}
