//! As much HTTP/1.1 as the lab needs, blocking and bounded in time and size.
//!
//! In: an address and a path. Out: bodies, and sockets that speak WebSocket. Deliberately absent:
//! keep-alive, redirects, chunked bodies (every request asks for `Connection: close`).

use std::io::{self, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::ring::socket;

/// `GET path`; the body of a 200.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<String> {
    exchange(address, &format!("GET {path} HTTP/1.1\r\n{}\r\n", headers(address)))
}

/// `POST path` with a body.
pub(crate) fn post(address: SocketAddr, path: &str, body: &str) -> Result<String> {
    let (headers, length) = (headers(address), body.len());
    exchange(
        address,
        &format!(
            "POST {path} HTTP/1.1\r\n{headers}Content-Type: text/plain\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ),
    )
}

/// Asks `path` until it answers 200; `check` may give up earlier, with its reason.
pub(crate) fn wait_until_ready(
    address: SocketAddr,
    path: &str,
    mut check: impl FnMut() -> Result<()>,
) -> Result<()> {
    let mut last = None;
    for _ in 0..READY_ATTEMPTS {
        check()?;
        match get(address, path) {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
        std::thread::sleep(READY_PAUSE);
    }
    let last = last.map_or_else(String::new, |error| format!("{error:#}"));
    bail!("http://{address}{path} was not ready after {READY_ATTEMPTS} attempts: {last}")
}

/// What a WebSocket asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upgrade<'a> {
    pub(crate) path: &'a str,
    /// Offer permessage-deflate without parameters (RFC 7692 7.1), and insist on it.
    pub(crate) deflate: bool,
}

impl<'a> Upgrade<'a> {
    pub(crate) fn to(path: &'a str) -> Self {
        Self { path, deflate: false }
    }

    fn request(&self, address: SocketAddr) -> String {
        let Self { path, deflate } = self;
        let offer = if *deflate { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
        format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{offer}\r\n"
        )
    }

    /// Reads the answer, which must be the right one.
    fn accept(&self, stream: &TcpStream) -> Result<()> {
        let Self { path, deflate } = self;
        let answer = upgrade_answer(stream)?;
        ensure!(answer.starts_with("HTTP/1.1 101 "), "{path} was refused: {answer}");
        ensure!(answer.contains(ACCEPT), "wrong Sec-WebSocket-Accept: {answer}");
        let agreed = answer.to_ascii_lowercase().contains("permessage-deflate");
        ensure!(agreed || !deflate, "{path} does not compress");
        Ok(())
    }
}

/// A connection on which requests follow each other, until it becomes a WebSocket.
#[derive(Debug)]
pub(crate) struct KeptAlive {
    stream: TcpStream,
    address: SocketAddr,
}

impl KeptAlive {
    /// The `index`-th connection of the run.
    pub(crate) fn connect(address: SocketAddr, index: usize) -> Result<Self> {
        let stream = socket::connect(address, index)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self { stream, address })
    }

    /// The body of a 200.
    pub(crate) fn get(&mut self, path: &str) -> Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        self.exchange(request.as_bytes())
    }

    pub(crate) fn post(&mut self, path: &str, body: &str) -> Result<String> {
        self.exchange(&post_request(self.address, path, body.as_bytes()))
    }

    pub(crate) fn upgrade(mut self, upgrade: Upgrade<'_>) -> Result<TcpStream> {
        self.stream.write_all(upgrade.request(self.address).as_bytes())?;
        upgrade.accept(&self.stream)?;
        Ok(self.stream)
    }

    fn exchange(&mut self, request: &[u8]) -> Result<String> {
        self.stream.write_all(request)?;
        let mut answer = Vec::new();
        let mut bytes = [0; 16_384];
        loop {
            let read = read_some(&mut self.stream, &mut bytes)?;
            ensure!(read > 0 && answer.len() <= ANSWER_BYTES_MAX, "no end of the answer");
            answer.extend_from_slice(&bytes[..read]);
            let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.context("an answer without a length")?.trim().parse()?;
            if answer.len() >= end + 4 + length {
                ensure!(head.starts_with("http/1.1 200 "), "{head}");
                return Ok(String::from_utf8(answer.split_off(end + 4))?);
            }
        }
    }
}

/// The bytes of a POST on a connection that stays.
pub(crate) fn post_request(address: SocketAddr, path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: text/plain\r\n\
         Content-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

/// The bytes of a request for a WebSocket.
pub(crate) fn upgrade_request(address: SocketAddr, upgrade: Upgrade<'_>) -> Vec<u8> {
    let Upgrade { path, deflate } = upgrade;
    let offer = if deflate { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{offer}\r\n"
    )
    .into_bytes()
}

/// Whether an answer to that says that it is one now.
pub(crate) fn is_upgraded(answer: &[u8]) -> bool {
    let accepts = |line: &[u8]| line.windows(ACCEPT.len()).any(|part| part == ACCEPT.as_bytes());
    answer.starts_with(b"HTTP/1.1 101 ") && accepts(answer)
}

/// Opens `count` WebSockets (RFC 6455 4.1), in batches that fit a listen queue. `first` is
/// the number of the first among all connections of the run, which decides source addresses.
pub(crate) fn open_websockets(
    address: SocketAddr,
    upgrade: Upgrade<'_>,
    first: usize,
    count: usize,
) -> Result<Vec<TcpStream>> {
    open_websockets_to(address, first, count, |_| upgrade)
}

/// The same, each to a path of its own.
pub(crate) fn open_websockets_to<'a>(
    address: SocketAddr,
    first: usize,
    count: usize,
    upgrade: impl Fn(usize) -> Upgrade<'a>,
) -> Result<Vec<TcpStream>> {
    let mut open = Vec::with_capacity(count);
    while open.len() < count {
        let (start, share) = (first + open.len(), BATCH.min(count - open.len()));
        let asked = ask_websockets(address, start, share, &upgrade)?;
        accept_websockets(&asked, start, &upgrade)?;
        open.extend(asked);
    }
    Ok(open)
}

/// The first half of that: they connect and ask, and nobody has answered yet. At most [`BATCH`], which wait in the
/// kernel if the server does not come to them.
pub(crate) fn ask_websockets<'a>(
    address: SocketAddr,
    first: usize,
    count: usize,
    upgrade: &impl Fn(usize) -> Upgrade<'a>,
) -> Result<Vec<TcpStream>> {
    (first..first + count)
        .map(|index| {
            let mut stream =
                socket::connect(address, index).with_context(|| format!("connection {index}"))?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.write_all(&upgrade_request(address, upgrade(index)))?;
            Ok(stream)
        })
        .collect()
}

/// The second half: they are answered.
pub(crate) fn accept_websockets<'a>(
    asked: &[TcpStream],
    first: usize,
    upgrade: &impl Fn(usize) -> Upgrade<'a>,
) -> Result<()> {
    for (index, stream) in (first..).zip(asked) {
        upgrade(index).accept(stream).with_context(|| format!("upgrade of connection {index}"))?;
    }
    Ok(())
}

/// Opens `count` connections that speak nothing.
pub(crate) fn open_raw(address: SocketAddr, first: usize, count: usize) -> Result<Vec<TcpStream>> {
    (first..first + count)
        .map(|index| socket::connect(address, index).with_context(|| format!("connection {index}")))
        .collect()
}

fn upgrade_answer(mut stream: &TcpStream) -> Result<String> {
    let mut answer = Vec::with_capacity(512);
    let mut bytes = [0; 1024];
    loop {
        let read = read_some(&mut stream, &mut bytes)?;
        ensure!(read > 0, "the server closed the connection");
        answer.extend_from_slice(&bytes[..read]);
        if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            let refused = !answer.starts_with(b"HTTP/1.1 101 ");
            ensure!(refused || end + 4 == answer.len(), "bytes after the upgrade");
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
        ensure!(answer.len() < 16_384, "no end of headers in 16 KiB");
    }
}

/// What is there, or comes. A read with a timeout is interrupted also when this process was only stopped and
/// went on (signal(7)).
pub(crate) fn read_some(from: &mut impl io::Read, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn headers(address: SocketAddr) -> String {
    format!("Host: {address}\r\nConnection: close\r\n")
}

fn exchange(address: SocketAddr, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let deadline = Instant::now() + TIMEOUT;
    let mut bytes = [0; 16_384];
    loop {
        match read_some(&mut stream, &mut bytes) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&bytes[..read]),
            // A reset after a whole answer is the server's way of closing, not ours to judge.
            Err(error) if error.kind() == ErrorKind::ConnectionReset && !answer.is_empty() => break,
            Err(error) => return Err(error.into()),
        }
        ensure!(answer.len() <= ANSWER_BYTES_MAX, "an answer of more than 4 MiB");
        ensure!(Instant::now() < deadline, io::Error::from(ErrorKind::TimedOut));
    }
    let answer = String::from_utf8(answer).context("the answer is not UTF-8")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of headers")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    ensure!(matches!(status, "200" | "201" | "202" | "204"), "{head}: {body}");
    Ok(body.to_owned())
}

/// The example of RFC 6455 1.3: a fixed nonce makes the accept value a constant.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 4 << 20;
const READY_ATTEMPTS: u32 = 600;
const READY_PAUSE: Duration = Duration::from_millis(50);
pub(crate) const BATCH: usize = 128;

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind, Read};

    use super::read_some;

    /// Gives what it holds, the last first.
    struct Scripted(Vec<io::Result<usize>>);

    impl Read for Scripted {
        fn read(&mut self, _bytes: &mut [u8]) -> io::Result<usize> {
            self.0.pop().unwrap_or(Ok(0))
        }
    }

    #[test]
    fn who_was_stopped_reads_on() {
        let interrupted = || Err(ErrorKind::Interrupted.into());
        let mut script = Scripted(vec![Ok(7), interrupted(), interrupted()]);
        assert_eq!(read_some(&mut script, &mut []).unwrap(), 7);
        let mut script = Scripted(vec![Ok(7), Err(ErrorKind::WouldBlock.into())]);
        assert!(read_some(&mut script, &mut []).is_err(), "its time is over");
    }
}
