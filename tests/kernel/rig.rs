//! What every case starts from: a ring with one listener, and peers to connect to it.
//!
//! Completions that a case does not wait for now stay in the order they arrived in, so a case can
//! wait for them later or assert that there are none.

use headwater::memory::{Key, Lease, Payload, Span, Spans};
use headwater::ring::{
    AcceptCount, Armed, Cell, Completion, Failure, Gathers, KernelRing, Listener, ListenerId,
    ListenerOptions, Op, Options, Refused, Ring, Socket, Token, Wait, trial,
};
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// After so long a case has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How long a case looks for what must not come.
pub(crate) const QUIET: Duration = Duration::from_millis(30);
/// The only listener of a rig.
pub(crate) const LISTENER: ListenerId = ListenerId(0);

/// A ring, its listener, and what arrived and was not waited for.
pub(crate) struct Rig {
    pub(crate) ring: KernelRing,
    pub(crate) address: SocketAddr,
    arrived: VecDeque<Completion>,
    accepting: Option<Cell>,
    next_token: u32,
}

/// Small sizes, so that bounds are reached with few connections.
pub(crate) const fn options() -> Options {
    Options {
        submission_entries: 64,
        completion_entries: 256,
        slots_per_cell: 128,
        cells_max: 4,
        leases: 16,
        lease_bytes: 4096,
        ring_buffers: 16,
        ring_buffer_bytes: 1024,
    }
}

/// Whether this kernel lets us have io_uring; says so loudly where it does not.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let refusal = match trial::trial() {
            Ok(features) if features.suffices() => return true,
            Ok(features) => features.to_string(),
            Err(error) => error.to_string(),
        };
        assert!(std::env::var_os("CI").is_none(), "io_uring must be there in CI: {refusal}");
        // Not a macro: the harness would capture it, and a skip has to be seen.
        let _ = writeln!(io::stderr(), "SKIPPED, io_uring is refused: {refusal}");
        false
    })
}

/// A listener on a port of the kernel's choice.
pub(crate) fn listener() -> Listener {
    let options = ListenerOptions {
        backlog: 1024,
        congestion: None,
        unacknowledged_ms: 0,
        defers_accept: false,
    };
    Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &options).expect("a free port")
}

/// A peer that is connected as soon as the kernel has queued it; nothing has to accept it yet.
pub(crate) fn peer(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the listener's backlog has room");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

/// Reads once. A thread whose ring went away is interrupted once by the kernel's clearing up, and a
/// read with a timeout is not started again by itself.
pub(crate) fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Waits until nobody listens on `address` any more. The kernel takes a ring that is gone apart on a
/// thread of its own, so its listener outlives it a little; binding the address disturbs no one.
pub(crate) fn wait_until_closed(address: SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = TcpListener::bind(address) {
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(Instant::now() < deadline, "the listener outlives its ring");
        std::thread::yield_now();
    }
}

/// Makes the end of the peer's connection a reset instead of an orderly end.
pub(crate) fn reset(peer: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).expect("a socket");
    drop(peer);
}

/// One span per piece.
pub(crate) fn spans(pieces: &[&[u8]]) -> Spans {
    pieces.iter().map(|piece| Span::from_payload(Payload::copied_from(piece))).collect()
}

/// Bytes that differ from place to place, so that a shift or a repetition shows.
pub(crate) fn pattern(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// A wait for one completion.
pub(crate) const fn at_most(timeout: Duration) -> Wait {
    Wait { timeout, completions: 1, batch: Duration::ZERO, gathers: Gathers::Nothing }
}

/// What was received, and whether more waits.
pub(crate) type Received = (Result<Vec<u8>, Failure>, bool);

impl Rig {
    /// A rig with [`options`], or nothing where io_uring is refused.
    pub(crate) fn open() -> Option<Self> {
        Self::with(options())
    }

    pub(crate) fn with(options: Options) -> Option<Self> {
        is_available().then(|| Self::on(options, listener()))
    }

    /// A rig on a given listener.
    pub(crate) fn on(options: Options, listener: Listener) -> Self {
        let address = listener.address();
        let ring = KernelRing::new(options, vec![listener]).expect("a ring");
        assert_eq!(ring.addresses(), [address]);
        Self { ring, address, arrived: VecDeque::new(), accepting: None, next_token: 1 }
    }

    /// A token that no other connection of this rig has.
    pub(crate) fn token(&mut self) -> Token {
        self.next_token += 1;
        Key { index: self.next_token, generation: 0xAB_0000 + self.next_token }
    }

    pub(crate) fn push(&mut self, op: Op) {
        if let Err(Refused { op, reason }) = self.ring.push(op) {
            panic!("{op:?} was refused: {reason:?}");
        }
    }

    /// Enters and takes over what arrived.
    pub(crate) fn enter(&mut self, wait: Wait) {
        self.ring.enter(wait).expect("the ring goes on");
        while let Some(completion) = self.ring.pop() {
            self.arrived.push_back(completion);
        }
    }

    /// Submits what was pushed and takes what is there already.
    pub(crate) fn look(&mut self) {
        self.enter(Wait::default());
    }

    /// The oldest completion that `pick` takes, of what has arrived or will.
    pub(crate) fn wait_for<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(Completion) -> Result<T, Completion>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.find(&mut pick) {
                return found;
            }
            assert!(Instant::now() < deadline, "no {what} came, but {:?}", self.arrived);
            self.enter(at_most(Duration::from_millis(500)));
        }
    }

    /// The oldest completion that has arrived and that `pick` takes.
    pub(crate) fn find<T>(
        &mut self,
        mut pick: impl FnMut(Completion) -> Result<T, Completion>,
    ) -> Option<T> {
        let mut kept = VecDeque::with_capacity(self.arrived.len());
        let mut found = None;
        while let Some(completion) = self.arrived.pop_front() {
            match if found.is_none() { pick(completion) } else { Err(completion) } {
                Ok(taken) => found = Some(taken),
                Err(completion) => kept.push_back(completion),
            }
        }
        self.arrived = kept;
        found
    }

    /// Everything that has arrived, without waiting.
    pub(crate) fn take_arrived(&mut self) -> VecDeque<Completion> {
        std::mem::take(&mut self.arrived)
    }

    /// Looks for a while and asserts that nothing comes.
    pub(crate) fn expect_quiet(&mut self, why: &str) {
        self.enter(at_most(QUIET));
        assert!(self.arrived.is_empty(), "{why}, but there came {:?}", self.arrived);
    }

    /// Arms the accept of a cell, unless it is armed.
    pub(crate) fn accept_on(&mut self, cell: Cell) {
        if self.accepting != Some(cell) {
            self.push(Op::Accept { listener: LISTENER, cell, count: AcceptCount::Many });
            self.accepting = Some(cell);
        }
    }

    /// Arms the accept again, because it ended.
    pub(crate) fn accept_again(&mut self, cell: Cell) {
        self.accepting = None;
        self.accept_on(cell);
    }

    pub(crate) fn accepted(&mut self) -> Socket {
        self.wait_for("accepted connection", |completion| match completion {
            Completion::Accepted { listener: LISTENER, socket } => Ok(socket),
            other => Err(other),
        })
    }

    pub(crate) fn accept_ended(&mut self) -> Failure {
        let failure = self.wait_for("end of the accept", |completion| match completion {
            Completion::AcceptEnded { listener: LISTENER, failure, .. } => Ok(failure),
            other => Err(other),
        });
        self.accepting = None;
        failure
    }

    /// A connection, accepted on the first cell, and a token for it.
    pub(crate) fn connect(&mut self) -> (TcpStream, Socket, Token) {
        self.connect_on(0)
    }

    pub(crate) fn connect_on(&mut self, cell: Cell) -> (TcpStream, Socket, Token) {
        self.accept_on(cell);
        let peer = peer(self.address);
        let socket = self.accepted();
        assert_eq!(socket.cell(), cell);
        (peer, socket, self.token())
    }

    pub(crate) fn poll(&mut self, socket: Socket, token: Token) {
        self.push(Op::Poll { socket, token });
    }

    /// Waits until the poll of `wanted` says something: whether it goes on, and why not.
    pub(crate) fn readable(&mut self, wanted: Token) -> (bool, Option<Failure>) {
        self.wait_for("word that it is readable", |completion| match completion {
            Completion::Readable { token, more, failure, .. } if token == wanted => {
                Ok((more, failure))
            }
            other => Err(other),
        })
    }

    /// Waits until there is something to receive and receives it.
    pub(crate) fn receive(&mut self, socket: Socket, token: Token) -> Received {
        self.push(Op::Receive { socket, token });
        self.received(token)
    }

    /// The end of a receive that was pushed.
    pub(crate) fn received(&mut self, wanted: Token) -> Received {
        let (result, nonempty) =
            self.wait_for("end of the receive", |completion| match completion {
                Completion::Received { token, result, nonempty } if token == wanted => {
                    Ok((result, nonempty))
                }
                other => Err(other),
            });
        let result = result.map(|lease| {
            let bytes = lease.filled().to_vec();
            self.ring.release(lease);
            bytes
        });
        (result, nonempty)
    }

    /// Receives until `count` bytes are there, polling in between as a shard does.
    pub(crate) fn receive_exactly(
        &mut self,
        socket: Socket,
        token: Token,
        count: usize,
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while bytes.len() < count {
            assert!(Instant::now() < deadline, "only {} of {count} bytes came", bytes.len());
            match self.receive(socket, token).0 {
                Ok(some) => {
                    assert!(!some.is_empty(), "the stream ended after {} bytes", bytes.len());
                    bytes.extend_from_slice(&some);
                }
                Err(Failure::WouldBlock) => self.enter(at_most(Duration::from_millis(1))),
                Err(failure) => panic!("a receive failed after {} bytes: {failure:?}", bytes.len()),
            }
        }
        bytes
    }

    /// Sends once: what came of it, and what was not taken.
    pub(crate) fn send(
        &mut self,
        socket: Socket,
        wanted: Token,
        spans: Spans,
    ) -> (Result<usize, Failure>, Spans) {
        let bytes = spans.iter().map(|span| span.len()).sum();
        self.push(Op::Send { socket, token: wanted, spans });
        self.look();
        self.sent(wanted, bytes)
    }

    /// What came of a send of `bytes` that was submitted: it is over by now.
    pub(crate) fn sent(&mut self, wanted: Token, bytes: usize) -> (Result<usize, Failure>, Spans) {
        let short = self.find(|completion| match completion {
            Completion::SentShort { token, result, unsent } if token == wanted => {
                Ok((result, *unsent))
            }
            other => Err(other),
        });
        short.unwrap_or_else(|| (Ok(bytes), Spans::new()))
    }

    /// From where a socket's peer connected.
    pub(crate) fn peer_address(&mut self, socket: Socket, wanted: Token) -> Option<SocketAddr> {
        self.push(Op::PeerAddress { socket, token: wanted });
        self.wait_for("peer's address", |completion| match completion {
            Completion::PeerAddress { token, address } if token == wanted => {
                Ok(address.map(|address| *address))
            }
            other => Err(other),
        })
    }

    /// Closes, and waits until the slot is free.
    pub(crate) fn close(&mut self, socket: Socket, token: Token, armed: Armed) {
        self.push(Op::Close { socket, token, armed });
        self.closed(token, socket);
    }

    pub(crate) fn closed(&mut self, wanted: Token, expected: Socket) {
        let socket = self.wait_for("end of the close", |completion| match completion {
            Completion::Closed { token, socket } if token == wanted => Ok(socket),
            other => Err(other),
        });
        assert_eq!(socket, expected, "a close names the socket that was");
    }

    /// Asserts that no lease is out: none was lost, none is held.
    pub(crate) fn expect_no_lease_out(&self) {
        assert_eq!(self.ring.counters().leases_out, 0, "leases are out");
    }
}

/// What has to be cancelled when only a poll is armed.
pub(crate) const POLLED: Armed = Armed { poll: true, writable: false, receive_many: false };
/// What has to be cancelled when nothing is armed.
pub(crate) const UNARMED: Armed = Armed { poll: false, writable: false, receive_many: false };

/// What a multishot receive brought, or why it ended, and whether it goes on.
pub(crate) type Arrival = (Result<Option<Lease>, Failure>, bool);

/// The arrival that a completion is, if it is one of this connection's.
pub(crate) fn arrival(completion: Completion, wanted: Token) -> Result<Arrival, Completion> {
    match completion {
        Completion::ReceivedMany { token, lease, more } if token == wanted => {
            Ok((Ok(Some(lease)), more))
        }
        Completion::ReceiveManyEnded { token, failure } if token == wanted => {
            Ok((failure.map_or(Ok(None), Err), false))
        }
        other => Err(other),
    }
}
