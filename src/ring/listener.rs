//! Listening sockets: made here, or taken over from the process that started this one.
//!
//! Every shard listens on a socket of its own (SO_REUSEPORT), so the kernel spreads connections and
//! no shard waits for another. Options are set on the listener and inherited by what it accepts.
//! There is no SO_REUSEPORT for paths (unix(7)), and of two rings that accept from one socket one
//! gets everything: a path belongs to one shard.

use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use rustix::fs::{self, AtFlags, CWD, FileType, Mode, Stat};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// How connections of a listener behave.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// Connections that may wait to be accepted.
    pub backlog: i32,
    /// The congestion control to ask for; the system's when it has none of that name.
    pub congestion: Option<String>,
    /// How long what was sent may stay unacknowledged, or the peer's window closed, before the kernel
    /// gives up the connection (RFC 5482), also one that is closed here already.
    pub unacknowledged_ms: u32,
    /// Whether connections wait for their first bytes before they are accepted, or a second at most.
    pub defers_accept: bool,
}

/// A listening socket of one shard.
#[derive(Debug)]
pub struct Listener {
    descriptor: OwnedFd,
    address: SocketAddr,
    file: Option<SocketFile>,
}

/// The path of a listener. One that was made by binding to it is removed with the listener, unless
/// another process has put its own socket in its place; one that was handed over stays.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode of what was made.
    made: Option<(u64, u64)>,
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

    /// Listens on a path, which others may open as `mode` says (connecting needs the right to write).
    ///
    /// A socket that a former process left there is removed if nobody listens on it any more. The
    /// path is removed again when the listener is dropped.
    ///
    /// # Errors
    /// What the kernel says; that the address is in use when somebody listens there, or when what
    /// is there is no socket.
    pub fn bind_path(path: &Path, mode: u32, options: &ListenerOptions) -> io::Result<Self> {
        let (family, flags) = (AddressFamily::UNIX, SocketFlags::CLOEXEC);
        let descriptor = net::socket_with(family, SocketType::STREAM, flags, None)?;
        let address = SocketAddrUnix::new(path)?;
        match net::bind(&descriptor, &address) {
            Err(Errno::ADDRINUSE) if is_abandoned(path, &address)? => {
                fs::unlink(path)?;
                net::bind(&descriptor, &address)?;
            }
            result => result?,
        }
        // Until `listen` nobody can connect, so the mode is never wider than it was asked for.
        fs::chmod(path, Mode::from_raw_mode(mode))?;
        let Stat { st_dev, st_ino, .. } = fs::lstat(path)?;
        net::listen(&descriptor, options.backlog)?;
        let file = SocketFile { path: path.to_owned(), made: Some((st_dev, st_ino)) };
        Ok(Self { descriptor, address: NO_ADDRESS, file: Some(file) })
    }

    /// Where it listens; tells the port when 0 was asked for. 0.0.0.0:0 for a path.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The path on which it listens, if it does.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    pub(super) fn raw(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }

    fn configure(descriptor: &OwnedFd, options: &ListenerOptions) -> io::Result<()> {
        if sockopt::socket_domain(descriptor)? == AddressFamily::UNIX {
            return Ok(());
        }
        sockopt::set_tcp_nodelay(descriptor, true)?;
        // What is queued for a peer that does not read, 2.8 MB on the loopback, would outlive the close of
        // its socket by minutes.
        sockopt::set_tcp_user_timeout(descriptor, options.unacknowledged_ms)?;
        if options.defers_accept
            && let Err(error) = defer_accept(descriptor)
        {
            tracing::debug!(%error, "connections are accepted before they have said something");
        }
        if let Some(name) = &options.congestion
            && sockopt::set_tcp_congestion(descriptor, name).is_err()
        {
            tracing::warn!(name, "this kernel has no such congestion control; using its default");
        }
        Ok(())
    }

    fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        let address = net::getsockname(descriptor.as_fd())?;
        if let Ok(address) = SocketAddrUnix::try_from(address.clone())
            && let Some(path) = address.path_bytes()
        {
            let path = PathBuf::from(OsStr::from_bytes(path));
            let file = Some(SocketFile { path, made: None });
            return Ok(Self { descriptor, address: NO_ADDRESS, file });
        }
        let address = SocketAddr::try_from(address).map_err(io::Error::from)?;
        Ok(Self { descriptor, address, file: None })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let Some(made) = self.made else { return };
        let is_ours = fs::lstat(&self.path).is_ok_and(|found| (found.st_dev, found.st_ino) == made);
        if is_ours && let Err(error) = fs::unlink(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a socket could not be removed");
        }
    }
}

/// Connections are accepted when their first bytes are there (tcp(7), TCP_DEFER_ACCEPT): in all protocols
/// here the client speaks first. Who stays silent is accepted after [`SILENT_ACCEPT_SECONDS`].
fn defer_accept(descriptor: &OwnedFd) -> io::Result<()> {
    let seconds: libc::c_int = SILENT_ACCEPT_SECONDS;
    let size = libc::socklen_t::try_from(size_of_val(&seconds)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the call, and `seconds` is `size` readable bytes.
    let result = unsafe {
        libc::setsockopt(
            descriptor.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether what is at the path is a socket on which nobody listens.
fn is_abandoned(path: &Path, address: &SocketAddrUnix) -> io::Result<bool> {
    let found = fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        return Ok(false);
    }
    let (family, flags) = (AddressFamily::UNIX, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
    let probe = net::socket_with(family, SocketType::STREAM, flags, None)?;
    // Somebody who listens accepts, or his queue is full (EAGAIN).
    Ok(net::connect(&probe, address) == Err(Errno::CONNREFUSED))
}

/// The kernel rounds it up to its steps of 1, 3, 7 ... seconds.
const SILENT_ACCEPT_SECONDS: libc::c_int = 1;
const NO_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// First descriptor that a service manager hands over (sd_listen_fds(3)).
const FIRST_HANDED_OVER: RawFd = 3;

/// Listeners handed over by a service manager or a former process (`LISTEN_FDS`, `LISTEN_PID`).
///
/// # Errors
/// When the variables name descriptors that do not listen on an internet address or a path.
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
