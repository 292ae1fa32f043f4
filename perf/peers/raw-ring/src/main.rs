//! The limit: what an echo or a broadcast costs on one io_uring when there is nothing else.
//!
//! In: bytes on TCP connections. Out: `--reply` bytes for every `--recv`, to the connection they came
//! from or to all others (or to groups, by `fan_out.rs`), and counters as JSON on stdout. One thread, one ring, direct descriptors,
//! the ring flags and socket options that the server uses. Bytes are counted, not receives.
//!
//! Invariants: a send never waits (MSG_DONTWAIT), so that it is over when its submission is, and only
//! then is its buffer lent again; with MSG_WAITALL a success is a whole send, so that its completion
//! can be left out (IOSQE_CQE_SKIP_SUCCESS) and any that comes is a failure; completions carry the
//! generation of their slot, so that a late one is not taken for its successor's.
//!
//! Deliberately absent: any protocol, timers, limits, slow-reader handling (a reply that does not
//! fit the socket closes it), and anything that would make it kinder than a limit has to be.

mod accept;
mod arena;
mod arguments;
mod fan_out;
mod ring;
mod server;
mod signals;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::{error, io};

use clap::Parser;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use arguments::{Arguments, Role};

fn main() -> ExitCode {
    let arguments = match Arguments::parse().check() {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("raw-ring: {why}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("raw-ring: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn error::Error>> {
    if let Some(cpu) = arguments.cpu {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set)?;
    }
    raise_descriptor_limit();
    let (listener, port) = listen(arguments)?;
    match arguments.role {
        Role::FanOut => fan_out::serve(arguments, listener, port)?,
        Role::Accept => accept::serve(arguments, listener.as_raw_fd(), port)?,
        Role::Echo | Role::Broadcast => server::serve(arguments, listener.as_raw_fd(), port)?,
    }
    Ok(())
}

/// Accepted connections inherit both options from the listener.
fn listen(arguments: &Arguments) -> io::Result<(OwnedFd, u16)> {
    let listener = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    sockopt::set_socket_reuseaddr(&listener, true)?;
    sockopt::set_tcp_nodelay(&listener, true)?;
    if !arguments.congestion.is_empty() {
        sockopt::set_tcp_congestion(&listener, &arguments.congestion)?;
    }
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, arguments.port);
    rustix::net::bind(&listener, &address)?;
    rustix::net::listen(&listener, BACKLOG)?;
    let bound = SocketAddr::try_from(rustix::net::getsockname(&listener)?)?;
    Ok((listener, bound.port()))
}

/// More than the lab opens at one time; the kernel takes the least of this and `somaxconn`.
const BACKLOG: i32 = 65_535;

/// The table of direct descriptors is bounded by the soft limit; the hard one is ours to take.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Best effort: if it fails, registering the table says so.
    let _ = setrlimit(Resource::Nofile, limit);
}
