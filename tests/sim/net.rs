//! TCP as far as the server sees it: two queues of bytes with an end each, half-close and reset.
//!
//! The client's half is called by the peers; the server's half is called by the rings.

use std::collections::VecDeque;
use std::io::Read as _;

/// Names a connection for the whole run.
pub(crate) type ConnId = usize;

/// One connection.
#[derive(Debug)]
pub(crate) struct Conn {
    /// Whose it is.
    pub(crate) peer: usize,
    /// The shard whose listener has it.
    pub(crate) shard: usize,
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    to_server_max: usize,
    to_client_max: usize,
    /// The client sends no more.
    client_fin: bool,
    /// The client closed the socket.
    client_gone: bool,
    server_fin: bool,
    server_gone: bool,
    reset: bool,
    /// Whether the network did it (a fault), not one of the two.
    pub(crate) torn: bool,
    /// The direct descriptor, once accepted.
    pub(crate) slot: Option<(u8, u32)>,
    /// Something came for the server since it was last told.
    pub(crate) news: bool,
}

/// What a client finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes,
    Nothing,
    End,
    Reset,
}

/// What a server's receive finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Bytes(usize),
    Nothing,
    End,
    Gone,
}

impl Conn {
    pub(crate) fn new(
        peer: usize,
        shard: usize,
        to_server_max: usize,
        to_client_max: usize,
    ) -> Self {
        Self {
            peer,
            shard,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            to_server_max,
            to_client_max,
            client_fin: false,
            client_gone: false,
            server_fin: false,
            server_gone: false,
            reset: false,
            torn: false,
            slot: None,
            news: false,
        }
    }

    // The client's half.

    pub(crate) fn client_write(&mut self, bytes: &[u8]) -> usize {
        if self.reset || self.server_gone || self.client_fin {
            return bytes.len();
        }
        let count = bytes.len().min(self.to_server_max - self.to_server.len());
        self.to_server.extend(&bytes[..count]);
        self.news |= count > 0;
        count
    }

    pub(crate) fn client_read(&mut self, most: usize, into: &mut Vec<u8>) -> Read {
        let count = most.min(self.to_client.len());
        let start = into.len();
        into.resize(start + count, 0);
        self.to_client.read_exact(&mut into[start..]).expect("no more than is there");
        if count > 0 {
            // Room to send is news too.
            self.news = true;
            Read::Bytes
        } else if self.reset {
            Read::Reset
        } else if self.server_fin || self.server_gone {
            Read::End
        } else {
            Read::Nothing
        }
    }

    pub(crate) fn client_shutdown(&mut self) {
        self.client_fin = true;
        self.news = true;
    }

    pub(crate) fn client_close(&mut self) {
        // Closing with unread bytes resets, as TCP does.
        if !self.to_client.is_empty() {
            self.reset = true;
            self.to_server.clear();
        }
        self.to_client.clear();
        self.client_fin = true;
        self.client_gone = true;
        self.news = true;
    }

    /// The network ends it for both.
    pub(crate) fn tear(&mut self) {
        self.reset = true;
        self.torn = true;
        self.to_server.clear();
        self.to_client.clear();
        self.news = true;
    }

    // The server's half.

    pub(crate) fn is_readable(&self) -> bool {
        !self.to_server.is_empty() || self.client_fin || self.reset
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.reset || self.client_gone || self.to_client.len() < self.to_client_max
    }

    pub(crate) fn waiting(&self) -> usize {
        self.to_server.len()
    }

    pub(crate) fn has_more(&self) -> bool {
        !self.to_server.is_empty() || self.client_fin
    }

    pub(crate) fn receive(&mut self, into: &mut [u8]) -> Found {
        if self.reset {
            return Found::Gone;
        }
        if self.to_server.is_empty() {
            return if self.client_fin { Found::End } else { Found::Nothing };
        }
        let count = into.len().min(self.to_server.len());
        self.to_server.read_exact(&mut into[..count]).expect("no more than is there");
        Found::Bytes(count)
    }

    /// How much can be sent; nothing when the client is gone.
    pub(crate) fn room(&self) -> Option<usize> {
        if self.reset || self.client_gone {
            return None;
        }
        assert!(!self.server_fin, "the server sends after it closed its half");
        Some(self.to_client_max.saturating_sub(self.to_client.len()))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.to_client.extend(bytes);
    }

    pub(crate) fn server_shutdown(&mut self) {
        self.server_fin = true;
    }

    pub(crate) fn server_close(&mut self) {
        assert!(!self.server_gone, "a socket is closed once");
        self.server_gone = true;
        // What the client sent and no one read makes a close a reset.
        if !self.to_server.is_empty() {
            self.reset = true;
            self.to_client.clear();
        }
        self.to_server.clear();
    }
}
