//! Small clients of our own for HTTP/1.1, WebSocket and event streams, over blocking sockets with deadlines.
//!
//! In: an address. Out: responses, messages, events. A deadline that passes fails the test with what was waited for.
//! Deliberately absent: redirects, proxies, TLS, anything a server of ours does not send.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use websocket::deflate::Offer;
use websocket::encode::{Opcode, write_masked_frame};
use websocket::handshake::{ClientRequest, Key, read_response, write_request};
use websocket::{Decoder, Event, Limits, Role, Step};

/// How long anything on the loopback may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(15);

/// A connection with both deadlines set.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).expect("the server accepts");
    stream.set_nodelay(true).expect("a socket option");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket option");
    stream.set_write_timeout(Some(DEADLINE)).expect("a socket option");
    stream
}

/// One keep-alive connection of HTTP/1.1.
#[derive(Debug)]
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
    host: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// A header field; its name in small letters.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    /// The code of an error in JSON; anything else fails.
    pub(crate) fn error_code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let error: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
        error["code"].as_str().expect("a code").to_owned()
    }
}

impl Http {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(connect(address), &address.to_string())
    }

    /// Over a connection that is there.
    pub(crate) fn over(stream: TcpStream, host: &str) -> Self {
        Self { stream: BufReader::new(stream), host: host.to_owned() }
    }

    pub(crate) fn get(&mut self, target: &str) -> Response {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.send(head.as_bytes());
        self.response()
    }

    pub(crate) fn post(&mut self, target: &str, body: &[u8]) -> Response {
        let length = body.len();
        let host = &self.host;
        let mut request =
            format!("POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n")
                .into_bytes();
        request.extend_from_slice(body);
        self.send(&request);
        self.response()
    }

    /// Any bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the server reads");
    }

    /// The next answer, to anything but HEAD.
    pub(crate) fn response(&mut self) -> Response {
        self.try_response().expect("an answer")
    }

    /// The next answer, `None` when the server has closed.
    pub(crate) fn try_response(&mut self) -> Option<Response> {
        let (status, headers) = self.head()?;
        let mut response = Response { status, headers, body: Vec::new() };
        if response.header("transfer-encoding") == Some("chunked") {
            while self.chunk(&mut response.body) {}
        } else if let Some(length) = response.header("content-length") {
            let length: usize = length.parse().expect("a length");
            response.body.resize(length, 0);
            self.stream.read_exact(&mut response.body).expect("the whole body");
        }
        Some(response)
    }

    /// The next answer, when it has no body whatever its header says: to HEAD, or 1xx.
    pub(crate) fn head_response(&mut self) -> Response {
        let (status, headers) = self.head().expect("an answer");
        Response { status, headers, body: Vec::new() }
    }

    /// Whether the server closed, and nothing more came before that.
    pub(crate) fn is_at_end(&mut self) -> bool {
        match self.stream.fill_buf() {
            Ok(rest) => rest.is_empty(),
            // What the server had not read when it closed resets the connection.
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    fn head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        let status_line = self.line()?;
        let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let status = status.and_then(|text| text.parse().ok()).expect("a status line");
        let mut headers = Vec::new();
        loop {
            let line = self.line().expect("the end of the head");
            if line.is_empty() {
                return Some((status, headers));
            }
            let (name, value) = line.split_once(':').expect("a header field");
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// A line without its end; `None` at the end of the stream.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.stream.read_line(&mut line).expect("the server answers in time");
        (count > 0).then(|| line.strip_suffix("\r\n").expect("lines end in CRLF").to_owned())
    }

    /// Appends the next chunk; whether there may be another.
    fn chunk(&mut self, body: &mut Vec<u8>) -> bool {
        let size = self.line().expect("a chunk");
        let size = usize::from_str_radix(&size, 16).expect("a chunk's size");
        let start = body.len();
        body.resize(start + size, 0);
        self.stream.read_exact(&mut body[start..]).expect("the whole chunk");
        assert_eq!(self.line().as_deref(), Some(""), "a chunk ends with its line");
        size > 0
    }
}

/// A WebSocket.
#[derive(Debug)]
pub(crate) struct WebSocket {
    stream: TcpStream,
    decoder: Decoder,
    pending: Vec<u8>,
}

/// What a WebSocket received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Message(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    /// The end of the stream.
    End,
}

impl WebSocket {
    pub(crate) fn open(address: SocketAddr, target: &str) -> Self {
        Self::over(connect(address), address, target)
    }

    /// Opens over a connection that is there.
    pub(crate) fn over(stream: TcpStream, address: SocketAddr, target: &str) -> Self {
        Self::over_with(stream, address, target, None)
    }

    /// The same, with an offer of permessage-deflate that must be taken. What is inflated is read elsewhere.
    pub(crate) fn over_with(
        mut stream: TcpStream,
        address: SocketAddr,
        target: &str,
        deflate: Option<Offer>,
    ) -> Self {
        let host = address.to_string();
        let key = Key::from_nonce(*b"e2e-test-client!");
        let request = ClientRequest { host: &host, target, deflate, ..ClientRequest::default() };
        let mut bytes = Vec::with_capacity(256);
        write_request(&mut bytes, &request, &key);
        stream.write_all(&bytes).expect("the server reads");
        Self::upgraded(stream, &request, &key)
    }

    /// Over a connection on which the upgrade was asked for.
    pub(crate) fn upgraded(mut stream: TcpStream, request: &ClientRequest<'_>, key: &Key) -> Self {
        let mut pending = Vec::new();
        loop {
            if let Some(accepted) = read_response(&pending, request, key).expect("an upgrade") {
                assert_eq!(
                    accepted.deflate.is_some(),
                    request.deflate.is_some(),
                    "what was offered"
                );
                pending.drain(..accepted.consumed);
                break;
            }
            assert!(fill(&mut stream, &mut pending) > 0, "closed during the handshake");
        }
        Self { stream, decoder: Decoder::new(Role::Client), pending }
    }

    pub(crate) fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut frame = Vec::with_capacity(payload.len() + 14);
        write_masked_frame(&mut frame, opcode, true, [0x1d, 0xc4, 0x37, 0x9a], payload);
        self.stream.write_all(&frame).expect("the server reads");
    }

    /// Any bytes; frames that nobody should send.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.try_send_raw(bytes).expect("the server reads");
    }

    /// The same, to a server that may have closed.
    pub(crate) fn try_send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next message or control frame.
    pub(crate) fn receive(&mut self) -> Received {
        loop {
            if let Some(received) = self.step() {
                return received;
            }
            if fill(&mut self.stream, &mut self.pending) == 0 {
                return Received::End;
            }
        }
    }

    /// The next message as text; anything else fails.
    pub(crate) fn text(&mut self) -> String {
        match self.receive() {
            Received::Message(data) => String::from_utf8(data).expect("text"),
            other => panic!("a message was expected, not {other:?}"),
        }
    }

    /// The socket, for those who wait for many at once.
    pub(crate) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.pending)
    }

    fn step(&mut self) -> Option<Received> {
        let limits = Limits { coalesce_bytes: 1 << 20, ..Limits::default() };
        let step = self.decoder.receive(&mut self.pending, &limits).expect("correct frames");
        let Step::Event { consumed, event } = step else { return None };
        let received = match event {
            Event::Message { data, .. } => Received::Message(data.to_vec()),
            Event::Ping(data) => Received::Ping(data.to_vec()),
            Event::Pong(data) => Received::Pong(data.to_vec()),
            Event::Close { code, .. } => Received::Close(code),
            other => panic!("unexpected {other:?}"),
        };
        self.pending.drain(..consumed);
        Some(received)
    }
}

/// Reads what is there; 0 at the end of the stream.
fn fill(stream: &mut TcpStream, pending: &mut Vec<u8>) -> usize {
    let mut piece = [0; 16 * 1024];
    let count = match stream.read(&mut piece) {
        Ok(count) => count,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
        Err(error) => panic!("the server did not answer in time: {error}"),
    };
    pending.extend_from_slice(&piece[..count]);
    count
}

/// An event stream over one connection.
#[derive(Debug)]
pub(crate) struct EventStream {
    http: Http,
    parser: sse::Parser,
}

impl EventStream {
    /// Opens `target`, after the event with this id if there was one.
    pub(crate) fn open(address: SocketAddr, target: &str, last_id: Option<&str>) -> Self {
        let mut http = Http::connect(address);
        let resume = last_id.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        let head = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n{resume}\r\n");
        http.send(head.as_bytes());
        let (status, _) = http.head().expect("an answer");
        assert_eq!(status, 200);
        Self { http, parser: sse::Parser::default() }
    }

    /// The socket and what was read of it beyond the head, for those who wait for many at once.
    pub(crate) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        let pending = self.http.stream.buffer().to_vec();
        (self.http.stream.into_inner(), pending)
    }

    /// Reads until `on_event` says that it is enough, or fails at the deadline. The arguments are id and data.
    pub(crate) fn read(&mut self, mut on_event: impl FnMut(&str, &str) -> bool) {
        let deadline = Instant::now() + 4 * DEADLINE;
        let (mut enough, mut chunk) = (false, Vec::new());
        while !enough {
            assert!(Instant::now() < deadline, "not enough events in time");
            chunk.clear();
            assert!(self.http.chunk(&mut chunk), "the stream ended");
            let dispatch = |event: sse::Received<'_>| {
                // What comes after enough in the same chunk was never read.
                enough = enough || on_event(event.id, event.data);
            };
            self.parser.receive(&chunk, dispatch).expect("a correct event stream");
        }
    }

    /// Reads to the end of the stream; whether the server ended the body in its proper way.
    pub(crate) fn ends_properly(&mut self) -> bool {
        let mut rest = Vec::new();
        while self.http.chunk(&mut rest) {}
        self.http.is_at_end()
    }
}
