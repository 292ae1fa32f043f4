//! Blocking sockets that speak as much HTTP and WebSocket as the check needs.
//!
//! In: bytes to send, bytes to expect. Out: an error that says what came instead.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Result;
use crate::peers::Wire;

/// One connection of a client.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Without a protocol the bytes of an answer are anything.
    exact: bool,
}

impl Connection {
    pub(crate) fn open_raw(address: SocketAddr) -> Result<Self> {
        Ok(Self { stream: connect(address)?, exact: false })
    }

    /// The key and its answer are the example of RFC 6455 1.3.
    pub(crate) fn open_websocket(address: SocketAddr, path: &str) -> Result<Self> {
        let mut stream = connect(address)?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )?;
        let head = head(&mut stream)?;
        if !head.starts_with("HTTP/1.1 101") || !head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
            return Err(format!("the upgrade was answered {head:?}").into());
        }
        Ok(Self { stream, exact: true })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result {
        Ok(self.stream.write_all(bytes)?)
    }

    /// The next bytes are `count` answers.
    pub(crate) fn expect(&mut self, wire: &Wire, count: usize) -> Result {
        for _ in 0..count {
            let mut answer = vec![0; wire.reply.len()];
            self.stream.read_exact(&mut answer)?;
            if self.exact && answer != wire.reply {
                return Err(format!("wrong answer, starting {:02x?}", &answer[..16]).into());
            }
        }
        Ok(())
    }

    /// The next bytes are a ping without payload (RFC 6455 5.5.2), which is answered.
    pub(crate) fn expect_ping(&mut self) -> Result {
        let mut ping = [0; 2];
        self.stream.read_exact(&mut ping)?;
        if ping != [0x89, 0] {
            return Err(format!("no ping but {ping:02x?}").into());
        }
        self.send(&[0x8a, 0x80, 0x37, 0xfa, 0x21, 0x3d])
    }

    /// Nothing has come, now that half a message was sent. An answer that is on its way is found by
    /// the bytes that follow it.
    pub(crate) fn silent(&mut self) -> Result {
        self.stream.set_nonblocking(true)?;
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false)?;
        match peeked {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
            Ok(count) => Err(format!("{count} bytes came for half a message").into()),
        }
    }
}

/// Publishes by HTTP on a connection of its own.
pub(crate) fn post(address: SocketAddr, path: &str, payload: &[u8]) -> Result {
    let mut stream = connect(address)?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        payload.len()
    )?;
    stream.write_all(payload)?;
    let head = head(&mut stream)?;
    if !head.starts_with("HTTP/1.1 2") {
        return Err(format!("the publication was answered {head:?}").into());
    }
    Ok(())
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A response up to its empty line, byte by byte so that nothing behind it is taken.
fn head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
        if head.len() > HEAD_BYTES_MAX {
            return Err("an endless response".into());
        }
    }
    Ok(String::from_utf8(head)?)
}

const PATIENCE: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 8192;
