//! SIGTERM: every kind of client is told to go away in its own words, what was begun is finished, the exit code is 0.

use crate::client::{DEADLINE, EventStream, Http, Received, WebSocket};
use crate::server::{BINARY, Configuration, Server};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use websocket::encode::Opcode;

/// Enough that each of two shards surely has some.
const SOCKETS: usize = 64;

#[test]
fn sigterm_drains() {
    let mut server = Server::start("drain", &Configuration::default());
    let mut sockets: Vec<WebSocket> =
        (0..SOCKETS).map(|_| WebSocket::open(server.http, "/ws/drain")).collect();
    let mut events = EventStream::open(server.http, "/sse/drain", None);
    // The answer to the first request proves that the server holds the beginning of the second.
    let mut halves: Vec<Http> = (0..SOCKETS).map(|_| Http::connect(server.http)).collect();
    for http in &mut halves {
        http.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /readyz HTTP/1.1\r\nHo");
        assert_eq!(http.response().status, 200);
    }
    server.process.signal(Signal::TERM);
    server.log("draining");

    for socket in &mut sockets {
        assert_eq!(socket.receive(), Received::Close(Some(1001)));
    }
    assert!(events.ends_properly(), "the event stream's last chunk came");
    // Every shard has said goodbye by now.
    new_clients_are_sent_away(server.http);
    for http in &mut halves {
        http.send(b"st: localhost\r\n\r\n");
        let answer = http.response();
        assert_eq!((answer.status, answer.text().as_str()), (503, "draining\n"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(http.is_at_end());
    }
    for socket in &mut sockets {
        socket.send(Opcode::Close, &1001_u16.to_be_bytes());
        assert_eq!(socket.receive(), Received::End);
    }
    let status = server.process.wait(Duration::from_secs(5));
    assert_eq!(status.code(), Some(0), "{}", server.process.text());
}

/// Whoever read the log has gone; what is said then is lost, and the server goes on until it is told to end.
#[test]
fn a_log_that_nobody_reads_stops_nobody() {
    let mut command = Command::new(BINARY);
    command.args(["serve", "--http", "127.0.0.1:0", "--rtmp", "127.0.0.1:0"]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the server starts");
    let mut log = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let mut line = String::new();
    while !line.contains("serving rtmp") {
        line.clear();
        assert!(log.read_line(&mut line).expect("its log") > 0, "it ended");
    }
    drop(log);
    let pid = Pid::from_child(&child);
    let ended = pidfd_open(pid, PidfdFlags::empty()).expect("our child");
    kill_process(pid, Signal::TERM).expect("our child");
    let within = Timespec { tv_sec: 20, tv_nsec: 0 };
    let in_time = poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&within)).expect("a child");
    if in_time == 0 {
        child.kill().expect("our child");
    }
    let status = child.wait().expect("our child");
    assert_eq!(status.code(), Some(0), "it drains");
}

#[test]
fn a_second_sigterm_stops_at_once() {
    let top = "drain_timeout_ms = 60000\n";
    let mut server = Server::start("stop", &Configuration { top, ..Configuration::default() });
    // The beginning of a request holds a drain up for as long as a request may take.
    let mut half = Http::connect(server.http);
    half.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /readyz HTTP/1.1\r\nHo");
    assert_eq!(half.response().status, 200);
    let mut socket = WebSocket::open(server.http, "/ws/stop");
    server.process.signal(Signal::TERM);
    server.log("draining");
    assert_eq!(socket.receive(), Received::Close(Some(1001)));
    let since = Instant::now();
    server.process.signal(Signal::TERM);
    let status = server.process.wait(DEADLINE);
    let took = since.elapsed();
    assert!(took < Duration::from_secs(3), "it took {took:?}");
    assert_eq!(status.code(), Some(0), "{}", server.process.text());
}

/// Refused, reset or answered 503, but not left waiting: a load balancer has to learn it at once.
fn new_clients_are_sent_away(address: SocketAddr) {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, DEADLINE) else { return };
    stream.set_read_timeout(Some(Duration::from_secs(3))).expect("a socket option");
    let mut answer = [0; 12];
    let result = stream
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .and_then(|()| stream.read_exact(&mut answer));
    match result {
        Ok(()) => assert_eq!(answer, *b"HTTP/1.1 503"),
        Err(error) => {
            let left_waiting = [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind());
            assert!(!left_waiting, "a new client is neither served nor refused while draining");
        }
    }
}
