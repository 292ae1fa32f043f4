//! What the peers written in Rust share, so that they differ in nothing but what is compared.
//!
//! In: argv. Out: a listening socket with the server's socket options, the line that says where, and
//! the arithmetic of the peers without a protocol. Every peer takes the same options and ignores
//! those it has no use for, so that one command line fits all.
//!
//! Deliberately absent: anything that runs per message, except [`Count`].

#![allow(clippy::print_stdout, reason = "the port is told on stdout")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Parser, ValueEnum};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// A server that the lab compares. Prints `{"port":N}` when it accepts connections.
#[derive(Debug, Clone, Parser)]
#[command(version, args_override_self = true)]
pub struct Arguments {
    /// Port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// What a message does.
    #[arg(long, value_enum, default_value_t = Role::Echo)]
    pub role: Role,
    /// Without a protocol: bytes that count as one message.
    #[arg(long, default_value_t = 26, value_parser = clap::value_parser!(u32).range(1..=MESSAGE_MAX))]
    pub recv: u32,
    /// Without a protocol: bytes sent for each message.
    #[arg(long, default_value_t = 22, value_parser = clap::value_parser!(u32).range(1..=MESSAGE_MAX))]
    pub reply: u32,
    /// With pings: milliseconds between two of a connection.
    #[arg(long, default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub ping_ms: u32,
    /// TCP_CONGESTION of the connections; empty leaves the system's.
    #[arg(long, default_value = "cubic")]
    pub congestion: String,
}

impl Arguments {
    /// Parses argv; says on stderr what is wrong with it, and ends.
    #[must_use]
    pub fn from_command_line() -> Self {
        Self::parse()
    }
}

/// What a message does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// It goes back to its sender.
    Echo,
    /// It goes to every other connection.
    Broadcast,
    /// Nothing; connections are pinged.
    Pings,
    /// One of `/publish`, `NUMBER TEXT`, brings the text to those of `/c/NUMBER`.
    Channels,
}

/// The largest message of a peer without a protocol.
const MESSAGE_MAX: i64 = 1 << 20;

/// More than the lab opens at one time; the kernel takes the least of this and `somaxconn`.
const BACKLOG: i32 = 65_535;

/// A listening, non-blocking socket of 127.0.0.1, whose connections inherit its options.
///
/// Raises the limit of descriptors, and lets SIGTERM and SIGINT end the process with success.
///
/// # Errors
/// When the kernel refuses.
pub fn listen(arguments: &Arguments) -> io::Result<TcpListener> {
    raise_descriptor_limit();
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        let at_once = Arc::new(AtomicBool::new(true));
        signal_hook::flag::register_conditional_shutdown(signal, 0, at_once)?;
    }
    let listener = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    sockopt::set_socket_reuseaddr(&listener, true)?;
    sockopt::set_tcp_nodelay(&listener, true)?;
    if !arguments.congestion.is_empty() {
        sockopt::set_tcp_congestion(&listener, &arguments.congestion)?;
    }
    rustix::net::bind(&listener, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, arguments.port))?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener.into())
}

/// Says on stdout which port `address` has.
pub fn announce(address: SocketAddr) {
    println!("{{\"port\":{}}}", address.port());
}

/// Every connection is a descriptor; the hard limit is ours to take.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Best effort: with less, the connection that is one too many is refused.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Counts the bytes of one connection of a peer without a protocol.
#[derive(Debug, Clone, Copy)]
pub struct Count {
    recv: usize,
    reply: usize,
    /// Bytes of an unfinished message.
    carry: usize,
}

impl Count {
    /// Nothing received yet.
    #[must_use]
    pub fn new(arguments: &Arguments) -> Self {
        Self { recv: arguments.recv as usize, reply: arguments.reply as usize, carry: 0 }
    }

    /// Size of a buffer that holds a whole message and a whole answer; 4 KiB if they are smaller.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.recv.max(self.reply).max(4096)
    }

    /// Bytes to send, now that `received` more came.
    pub fn answer(&mut self, received: usize) -> usize {
        let have = self.carry + received;
        self.carry = have % self.recv;
        have / self.recv * self.reply
    }
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn bytes_are_counted_and_not_receives() {
        let mut count = Count { recv: 26, reply: 22, carry: 0 };
        assert_eq!(count.answer(26), 22);
        assert_eq!(count.answer(25), 0);
        assert_eq!(count.answer(1), 22);
        assert_eq!(count.answer(27), 22);
        assert_eq!(count.answer(51), 44);
    }
}
