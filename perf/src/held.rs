//! A crowd: WebSockets opened many at a time, held, cut, and opened again.
//!
//! In: which clients shall be there, and the request of each. Out: what the server says to whom, and how
//! the opening went. Pings are answered here. A client that is refused comes back when it was told to, and
//! one that failed soon. Deliberately absent: threads; who owns a crowd calls [`Crowd::turn`].

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::frames::{self, Frame};
use crate::http;
use crate::ring::{Connector, Event, Opened, Parked, Reply, Until};

/// What a client hears.
#[derive(Debug)]
pub(crate) enum Said<'a> {
    Frame(&'a Frame<'a>),
    /// Its connection ended, which was not its wish.
    Lost(Option<io::Error>),
}

/// How openings went since the crowd began.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Openings {
    pub(crate) opened: u64,
    /// Told to come back later.
    pub(crate) refused: u64,
    /// Reset, or not connected.
    pub(crate) failed: u64,
}

/// The clients of one purpose.
pub(crate) struct Crowd {
    parked: Parked,
    connector: Connector,
    request: Box<dyn Fn(u32) -> Vec<u8>>,
    /// Of each connection that is held, whose it is.
    who: Vec<u32>,
    /// Bytes of frames that are not whole yet.
    partial: HashMap<u32, Vec<u8>>,
    wanting: VecDeque<u32>,
    /// Those who come again, and when; oldest first.
    later: VecDeque<(Instant, u32)>,
    fresh: Vec<(u32, TcpStream, Vec<u8>)>,
    pub(crate) openings: Openings,
    pub(crate) pings: u64,
    /// The first thing that went wrong with an opening.
    pub(crate) trouble: Option<String>,
}

impl Crowd {
    /// Nobody yet; `request` is what a client sends when it connects.
    pub(crate) fn new(
        server: SocketAddr,
        in_flight: u32,
        request: impl Fn(u32) -> Vec<u8> + 'static,
    ) -> Result<Self> {
        Ok(Self {
            parked: Parked::new(PER_RING)?,
            connector: Connector::new(server, Until::Head, in_flight as usize)?,
            request: Box::new(request),
            who: Vec::new(),
            partial: HashMap::new(),
            wanting: VecDeque::new(),
            later: VecDeque::new(),
            fresh: Vec::new(),
            openings: Openings::default(),
            pings: 0,
            trouble: None,
        })
    }

    /// These shall connect.
    pub(crate) fn want(&mut self, clients: impl IntoIterator<Item = u32>) {
        self.wanting.extend(clients);
    }

    /// With another request from now on.
    pub(crate) fn ask(&mut self, request: impl Fn(u32) -> Vec<u8> + 'static) {
        self.request = Box::new(request);
    }

    /// Whether everybody who shall connect has.
    pub(crate) fn is_complete(&self) -> bool {
        self.wanting.is_empty() && self.later.is_empty() && self.connector.is_idle()
    }

    /// Resets all connections that are held.
    pub(crate) fn cut(&mut self) -> Result<()> {
        self.parked.cut()?;
        self.who.clear();
        self.partial.clear();
        Ok(())
    }

    /// Turns until everybody who shall connect has.
    pub(crate) fn complete(
        &mut self,
        patience: Duration,
        mut on_said: impl FnMut(u32, Said<'_>),
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !self.is_complete() {
            if Instant::now() > deadline {
                let Openings { opened, refused, failed } = self.openings;
                let trouble = self.trouble.as_deref().unwrap_or("no trouble");
                bail!(
                    "{opened} opened, {refused} refused, {failed} failed, others late: {trouble}"
                );
            }
            self.turn(Duration::from_millis(5), &mut on_said)?;
        }
        Ok(())
    }

    /// Connects whoever shall, and hears what is said, for at most about `timeout` if nothing is.
    pub(crate) fn turn(
        &mut self,
        timeout: Duration,
        mut on_said: impl FnMut(u32, Said<'_>),
    ) -> Result<bool> {
        while self.later.front().is_some_and(|(due, _)| *due <= Instant::now()) {
            self.wanting.extend(self.later.pop_front().map(|(_, client)| client));
        }
        while self.connector.room() > 0
            && let Some(client) = self.wanting.pop_front()
        {
            let request = (self.request)(client);
            self.connector.begin(client, &request).context("a client's socket")?;
        }
        if !self.connector.is_idle() {
            self.connect(timeout)?;
        }
        if self.fresh.len() >= FRESH_MAX || self.connector.is_idle() {
            self.take_in(&mut on_said).context("the clients' rings")?;
        }
        let timeout = if self.is_complete() { timeout } else { Duration::ZERO };
        let Self { parked, who, partial, pings, .. } = self;
        let any = parked.turn(timeout, |index, event| {
            let &client = who.get(index as usize)?;
            match event {
                Event::Received(bytes) => hear(client, bytes, partial, pings, &mut on_said),
                Event::Ended(error) => {
                    on_said(client, Said::Lost(error));
                    None
                }
            }
        })?;
        Ok(any)
    }

    /// One client says the same as many.
    pub(crate) fn say(&mut self, frame: &[u8], whom: impl Fn(u32) -> bool) -> Result<u32> {
        let reply = Reply::new(frame);
        let who = &self.who;
        let speaks = |index: u32| who.get(index as usize).is_some_and(|client| whom(*client));
        Ok(self.parked.say(reply, speaks)?)
    }

    fn connect(&mut self, timeout: Duration) -> Result<()> {
        let Self { connector, fresh, later, openings, trouble, .. } = self;
        connector.turn(timeout.min(CONNECT_TURN), |client, opened| match opened {
            Opened::Answered(socket, answer) if http::is_upgraded(answer) => {
                openings.opened += 1;
                let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
                let behind = answer.get(head.unwrap_or(answer.len()) + 4..).unwrap_or_default();
                fresh.push((client, socket, behind.to_vec()));
            }
            Opened::Answered(_, answer) => {
                let answer = String::from_utf8_lossy(answer);
                openings.refused += 1;
                trouble.get_or_insert_with(|| answer.lines().next().unwrap_or_default().to_owned());
                later.push_back((Instant::now() + retry_after(&answer), client));
            }
            Opened::Failed(error) => {
                openings.failed += 1;
                trouble.get_or_insert_with(|| error.to_string());
                later.push_back((Instant::now() + FAILED_PAUSE, client));
            }
        })?;
        Ok(())
    }

    /// Those who have just connected are held from now on.
    fn take_in(&mut self, on_said: &mut impl FnMut(u32, Said<'_>)) -> io::Result<()> {
        let mut sockets = Vec::with_capacity(self.fresh.len());
        for (client, socket, behind) in self.fresh.drain(..) {
            self.who.push(client);
            sockets.push(socket);
            // It is too early for a ping.
            hear(client, &behind, &mut self.partial, &mut self.pings, on_said);
        }
        self.parked.add(sockets)
    }
}

/// Reads the frames of what came for a client; the answer to the last ping of them.
fn hear(
    client: u32,
    bytes: &[u8],
    partial: &mut HashMap<u32, Vec<u8>>,
    pings: &mut u64,
    on_said: &mut impl FnMut(u32, Said<'_>),
) -> Option<Reply> {
    let kept = partial.remove(&client).map(|mut kept| {
        kept.extend_from_slice(bytes);
        kept
    });
    let mut rest = kept.as_deref().unwrap_or(bytes);
    let mut reply = None;
    while let Some(frame) = frames::parse(rest) {
        if frame.opcode == frames::PING {
            *pings += 1;
            reply = Some(Reply::new(&frames::client_pong(frame.payload)));
        }
        on_said(client, Said::Frame(&frame));
        rest = &rest[frame.length..];
    }
    if !rest.is_empty() {
        partial.insert(client, rest.to_vec());
    }
    reply
}

/// What the answer says (RFC 9110 10.2.3), in seconds; soon if it says nothing.
fn retry_after(answer: &str) -> Duration {
    let field = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("retry-after").then(|| value.trim().parse().ok()).flatten()
    });
    field.map_or(FAILED_PAUSE, |seconds: u64| Duration::from_secs(seconds.min(60)))
}

/// Direct descriptors of one ring, below the 20,000 that a process may have on small machines.
const PER_RING: u32 = 18_000;
/// Ordinary descriptors that wait to become direct ones.
const FRESH_MAX: usize = 64;
const FAILED_PAUSE: Duration = Duration::from_millis(200);
const CONNECT_TURN: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::{FAILED_PAUSE, Said, hear, retry_after};
    use crate::frames;

    #[test]
    fn frames_are_heard_whole_however_they_are_cut() {
        let bytes = [frames::server_text(b"one"), frames::server_text(&[b'x'; 200])].concat();
        for cut in 0..bytes.len() {
            let (mut heard, mut partial, mut pings) = (Vec::new(), HashMap::new(), 0);
            for part in [&bytes[..cut], &bytes[cut..]] {
                let _ = hear(7, part, &mut partial, &mut pings, &mut |client, said| {
                    if let Said::Frame(frame) = said {
                        heard.push((client, frame.payload.len()));
                    }
                });
            }
            assert_eq!(heard, [(7, 3), (7, 200)], "cut at {cut}");
            assert!(partial.is_empty());
        }
    }

    #[test]
    fn who_is_told_when_to_come_back_does() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\n\r\n";
        assert_eq!(retry_after(answer), Duration::from_secs(5));
        assert_eq!(retry_after("HTTP/1.1 503 x\r\n\r\n"), FAILED_PAUSE);
    }
}
