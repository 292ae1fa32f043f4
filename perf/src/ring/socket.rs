//! Client sockets: one per connection, from as many source addresses as their number needs.
//!
//! In: where to, and which connection of many it is. Out: a connected stream with TCP_NODELAY, the
//! same congestion control everywhere, and a reset instead of TIME_WAIT at its end.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// Connects the `index`-th connection of a run.
pub(crate) fn connect(to: SocketAddr, index: usize) -> io::Result<TcpStream> {
    let socket = prepare(index)?;
    rustix::net::connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

/// The socket of the `index`-th connection of a run, still to be connected.
pub(crate) fn prepare(index: usize) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    bind_address_no_port(&socket)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(source(index), 0))?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    // Where the kernel lacks it, both sides of a comparison lack it.
    let _ = sockopt::set_tcp_congestion(&socket, "cubic");
    Ok(socket)
}

/// 127.0.1.1 and up; few enough connections from each to find a free port at once.
fn source(index: usize) -> Ipv4Addr {
    let group = u16::try_from(index / CONNECTIONS_PER_SOURCE).unwrap_or(u16::MAX);
    let [high, low] = group.to_be_bytes();
    Ipv4Addr::new(127, high & 0x7f, 1 + low / 128, 1 + low % 128)
}

/// The port is chosen at connect, when the destination is known (ip(7), IP_BIND_ADDRESS_NO_PORT).
fn bind_address_no_port(socket: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the call, and `on` is `size` readable bytes.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const CONNECTIONS_PER_SOURCE: usize = 2000;

#[cfg(test)]
mod tests {
    use super::source;

    #[test]
    fn sources_are_distinct_loopback_addresses() {
        let mut seen: Vec<_> = (0..500).map(|group| source(group * 2000)).collect();
        assert!(seen.iter().all(|address| address.is_loopback() && address.octets()[3] != 0));
        assert_eq!(source(0), source(1999));
        seen.dedup();
        assert_eq!(seen.len(), 500);
    }
}
