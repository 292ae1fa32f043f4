//! Listening sockets: made here, or taken over from the process that started this one.
//!
//! Every shard listens on a socket of its own (SO_REUSEPORT), so the kernel spreads connections and
//! no shard waits for another. Options are set on the listener and inherited by what it accepts.

use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::SocketAddr;

/// How connections of a listener behave.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// Connections that may wait to be accepted.
    pub backlog: i32,
    /// The congestion control to ask for; the system's when it has none of that name.
    pub congestion: Option<String>,
}

/// A listening socket of one shard.
#[derive(Debug)]
pub struct Listener {
    descriptor: OwnedFd,
    address: SocketAddr,
}

impl Listener {
    /// Listens on `address`, beside other listeners with the same options.
    ///
    /// # Errors
    /// What the kernel says, for example that the address is in use.
    pub fn bind(address: SocketAddr, options: &ListenerOptions) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let descriptor = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&descriptor, true)?;
        sockopt::set_socket_reuseport(&descriptor, true)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&descriptor, true)?;
        }
        net::bind(&descriptor, &address)?;
        Self::configure(&descriptor, options)?;
        net::listen(&descriptor, options.backlog)?;
        Self::from_descriptor(descriptor)
    }

    /// Where it listens; tells the port when 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn raw(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }

    fn configure(descriptor: &OwnedFd, options: &ListenerOptions) -> io::Result<()> {
        sockopt::set_tcp_nodelay(descriptor, true)?;
        if let Some(name) = &options.congestion
            && sockopt::set_tcp_congestion(descriptor, name).is_err()
        {
            tracing::warn!(name, "this kernel has no such congestion control; using its default");
        }
        Ok(())
    }

    fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        let address = net::getsockname(descriptor.as_fd())?;
        let address = SocketAddr::try_from(address).map_err(io::Error::from)?;
        Ok(Self { descriptor, address })
    }
}

/// First descriptor that a service manager hands over (sd_listen_fds(3)).
const FIRST_HANDED_OVER: RawFd = 3;

/// Listeners handed over by a service manager or a former process (`LISTEN_FDS`, `LISTEN_PID`).
///
/// # Errors
/// When the variables name descriptors that are not listening internet sockets.
pub fn listeners_from_environment(options: &ListenerOptions) -> io::Result<Vec<Listener>> {
    let Some(count) = handed_over_count() else { return Ok(Vec::new()) };
    (0..count)
        .map(|number| {
            // SAFETY: LISTEN_PID names this process, so by sd_listen_fds(3) the descriptors from 3
            // on belong to it and nothing else owns them; each is taken once.
            let descriptor = unsafe { OwnedFd::from_raw_fd(FIRST_HANDED_OVER + number) };
            if !sockopt::socket_acceptconn(&descriptor)? {
                return Err(io::Error::other("LISTEN_FDS names a socket that does not listen"));
            }
            rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC)?;
            Listener::configure(&descriptor, options)?;
            Listener::from_descriptor(descriptor)
        })
        .collect()
}

fn handed_over_count() -> Option<RawFd> {
    let pid: u32 = std::env::var("LISTEN_PID").ok()?.parse().ok()?;
    if pid != std::process::id() {
        return None;
    }
    std::env::var("LISTEN_FDS").ok()?.parse().ok().filter(|count| (1..=64).contains(count))
}
