//! Listeners: made here, several on one address, and handed over by whoever started the process.

use crate::rig::{PATIENCE, Rig, is_available, listener, options, peer, spans};
use headwater::ring::{
    AcceptCount, Listener, ListenerOptions, Op, Ring, listeners_from_environment,
};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

const OPTIONS: ListenerOptions =
    ListenerOptions { backlog: 1024, congestion: None, unacknowledged_ms: 0, defers_accept: false };

#[test]
fn several_shards_listen_on_one_address() {
    if !is_available() {
        return;
    }
    let first = listener();
    let second = Listener::bind(first.address(), &OPTIONS).expect("SO_REUSEPORT");
    assert_eq!(first.address(), second.address());
    let address = first.address();
    let (mut one, mut other) = (Rig::on(options(), first), Rig::on(options(), second));
    one.accept_on(0);
    other.accept_on(0);
    let peers: Vec<_> = (0..64).map(|_| peer(address)).collect();
    let mut accepted = [0, 0];
    while accepted.iter().sum::<usize>() < peers.len() {
        for (rig, count) in [(&mut one, 0), (&mut other, 1)] {
            rig.enter(crate::rig::at_most(std::time::Duration::from_millis(5)));
            accepted[count] += rig.take_arrived().len();
        }
    }
    assert!(accepted[0] > 0 && accepted[1] > 0, "the kernel spreads connections: {accepted:?}");
}

#[test]
fn who_has_spoken_is_accepted_at_once_and_who_is_silent_a_little_later() {
    if !is_available() {
        return;
    }
    let defers = ListenerOptions { defers_accept: true, ..OPTIONS };
    let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &defers).unwrap();
    let address = listener.address();
    let mut rig = Rig::on(options(), listener);
    rig.accept_on(0);
    let silent = peer(address);
    let mut speaks = peer(address);
    rig.expect_quiet("nobody has said anything");
    speaks.write_all(b"hello").unwrap();
    let (socket, token) = (rig.accepted(), rig.token());
    // In the same enter there is something to receive: no poll is waited for.
    assert_eq!(rig.receive(socket, token).0.as_deref(), Ok(&b"hello"[..]));
    rig.accepted();
    drop(silent);
}

#[test]
fn an_address_in_use_is_refused_with_the_kernels_reason() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let error = Listener::bind(taken.local_addr().unwrap(), &OPTIONS).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn an_unknown_congestion_control_is_no_reason_not_to_listen() {
    let options = ListenerOptions { congestion: Some("no such algorithm".to_string()), ..OPTIONS };
    Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &options).expect("listens");
}

/// What is queued for a peer that does not read goes some time after its socket was closed, and not with the peer.
#[test]
fn what_nobody_reads_does_not_outlive_its_socket() {
    if !is_available() {
        return;
    }
    let options = ListenerOptions { unacknowledged_ms: 2_000, ..OPTIONS };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = Listener::bind(address, &options).expect("listens");
    let port = listener.address().port();
    let mut rig = Rig::on(crate::rig::options(), listener);
    let (peer, socket, token) = rig.connect();
    let bytes = vec![7; 1 << 20];
    while rig.send(socket, token, spans(&[&bytes])).0 == Ok(bytes.len()) {}
    rig.close(socket, token, headwater::ring::Armed::default());
    assert!(is_queued(port), "it was queued");
    let deadline = std::time::Instant::now() + PATIENCE;
    while is_queued(port) {
        assert!(std::time::Instant::now() < deadline, "the kernel keeps what nobody reads");
        rig.enter(crate::rig::at_most(std::time::Duration::from_millis(20)));
    }
    drop(peer);
}

/// Whether a connection of this port that nobody holds has something queued: in FIN-WAIT-1 (proc_pid_net(5)).
fn is_queued(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("a Linux machine");
    let local = format!(":{port:04X}");
    table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|address| address.ends_with(&local))
            && fields.nth(1) == Some("04")
    })
}

#[test]
fn the_sixth_version_of_the_protocol() {
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    // A machine without the protocol has no loopback address of it.
    let Ok(listener) = Listener::bind(address, &OPTIONS) else { return };
    if !is_available() {
        return;
    }
    let mut rig = Rig::on(options(), listener);
    let (mut peer, socket, token) = rig.connect();
    assert_eq!(rig.send(socket, token, spans(&[b"hello"])).0, Ok(5));
    let mut read = [0; 5];
    peer.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"hello");
}

#[test]
fn several_listeners_of_one_ring_are_told_apart() {
    if !is_available() {
        return;
    }
    let (first, second) = (listener(), listener());
    let addresses = [first.address(), second.address()];
    let mut ring = headwater::ring::KernelRing::new(options(), vec![first, second]).unwrap();
    assert_eq!(ring.addresses(), addresses);
    for number in [1_u8, 0] {
        let listener = headwater::ring::ListenerId(number);
        ring.push(Op::Accept { listener, cell: 0, count: AcceptCount::Many }).unwrap();
    }
    for number in [0_u8, 1, 1, 0] {
        let _peer = peer(addresses[usize::from(number)]);
        let deadline = std::time::Instant::now() + PATIENCE;
        let found = loop {
            ring.enter(crate::rig::at_most(PATIENCE)).unwrap();
            match ring.pop() {
                Some(headwater::ring::Completion::Accepted { listener, .. }) => break listener.0,
                other => assert!(std::time::Instant::now() < deadline, "{other:?}"),
            }
        };
        assert_eq!(found, number);
    }
}

/// Says to the next case, in a process of its own, what it finds there.
const IN_CHILD: &str = "KERNEL_CASE_HANDED_OVER";

/// Starts the next case in a process of its own, with `descriptor` as its descriptor 3. A shell does
/// what a service manager would: it moves the descriptor and names the process that shall have it.
fn start_with(descriptor: OwnedFd, expectation: &str) -> std::process::Child {
    let script = "exec 3<&0 </dev/null; LISTEN_FDS=1; export LISTEN_FDS
        if [ \"$KERNEL_CASE_HANDED_OVER\" = other ]; then LISTEN_PID=1; else LISTEN_PID=$$; fi
        export LISTEN_PID; exec \"$0\" \"$@\"";
    Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "listener::a_listener_of_another_process_is_taken_over"])
        .args(["--nocapture", "--test-threads=1"])
        .env(IN_CHILD, expectation)
        .stdin(Stdio::from(descriptor))
        .spawn()
        .unwrap()
}

#[test]
fn a_listener_of_another_process_is_taken_over() {
    if !is_available() {
        return;
    }
    match std::env::var(IN_CHILD).as_deref() {
        Ok("served") => return serve_handed_over(),
        Ok("other") => {
            assert!(listeners_from_environment(&OPTIONS).unwrap().is_empty());
            return;
        }
        Ok("wrong") => {
            listeners_from_environment(&OPTIONS).expect_err("a connection does not listen");
            return;
        }
        _ => {}
    }
    let original = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = original.local_addr().unwrap();
    // Connected before anyone could accept: the queue is handed on with the listener.
    let mut early = peer(address);
    early.write_all(b"early").unwrap();
    let connection = std::net::TcpStream::connect(address).unwrap();

    let mut child = start_with(OwnedFd::from(original), "served");
    let mut answer = [0; 5];
    early.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"early");
    drop(early);
    assert!(child.wait().unwrap().success(), "the listener was not served");

    // The same with a path, which is not removed: whoever made it keeps it.
    let folder = folder("handed-over");
    let path = folder.join("s");
    let original = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut early = std::os::unix::net::UnixStream::connect(&path).unwrap();
    early.set_read_timeout(Some(PATIENCE)).unwrap();
    early.write_all(b"early").unwrap();
    let mut child = start_with(OwnedFd::from(original), "served");
    early.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"early");
    drop(early);
    assert!(child.wait().unwrap().success(), "the listener was not served");
    assert!(path.exists());
    std::fs::remove_dir_all(folder).unwrap();

    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut child = start_with(OwnedFd::from(other), "other");
    assert!(child.wait().unwrap().success(), "LISTEN_PID names another process");
    let mut child = start_with(OwnedFd::from(connection), "wrong");
    assert!(child.wait().unwrap().success(), "only what listens is a listener");
}

/// Echoes one message of the first connection in the queue.
fn serve_handed_over() {
    let mut listeners = listeners_from_environment(&OPTIONS).unwrap();
    assert_eq!(listeners.len(), 1);
    let mut rig = Rig::on(options(), listeners.remove(0));
    rig.accept_on(0);
    let socket = rig.accepted();
    let token = rig.token();
    let message = rig.receive_exactly(socket, token, 5);
    assert_eq!(rig.send(socket, token, spans(&[&message])).0, Ok(5));
    // Lives until the peer has read the answer.
    rig.poll(socket, token);
    while rig.receive(socket, token).0 != Ok(Vec::new()) {
        rig.enter(crate::rig::at_most(PATIENCE));
    }
}

fn folder(name: &str) -> std::path::PathBuf {
    let folder =
        std::env::temp_dir().join(format!("headwater-kernel-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    folder
}

#[test]
fn a_path_is_taken_with_its_mode_and_given_back() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder("taken");
    let path = folder.join("s");
    let listener = Listener::bind_path(&path, 0o620, &OPTIONS).expect("a fresh path");
    assert_eq!(listener.path(), Some(&*path));
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o620);
    // Somebody listens: it is not taken from him.
    let error = Listener::bind_path(&path, 0o600, &OPTIONS).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    drop(listener);
    assert!(!path.exists());
    // Left over by a process that is gone.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("the path is free"));
    let listener = Listener::bind_path(&path, 0o600, &OPTIONS).expect("nobody listens");
    // Replaced by another: not ours to remove.
    std::fs::remove_file(&path).expect("it is there");
    std::fs::write(&path, "another's").expect("a temporary folder");
    drop(listener);
    assert!(path.exists());
    // What is no socket is not removed.
    let error = Listener::bind_path(&path, 0o600, &OPTIONS).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(path.exists());
    std::fs::remove_dir_all(folder).expect("ours");
}

#[test]
fn connections_by_a_path_work_as_those_by_an_address() {
    if !is_available() {
        return;
    }
    let folder = folder("works");
    let path = folder.join("s");
    let listener = Listener::bind_path(&path, 0o600, &OPTIONS).expect("a fresh path");
    let mut rig = Rig::on(options(), listener);
    rig.accept_on(0);
    let mut peer = std::os::unix::net::UnixStream::connect(&path).expect("somebody listens");
    peer.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    let socket = rig.accepted();
    let token = rig.token();
    assert_eq!(rig.send(socket, token, spans(&[b"hello"])).0, Ok(5));
    let mut hello = [0; 5];
    peer.read_exact(&mut hello).expect("in time");
    assert_eq!(&hello, b"hello");
    // A path has no address.
    assert_eq!(rig.peer_address(socket, token), None);
    std::fs::remove_dir_all(folder).expect("ours");
}

#[test]
fn a_direct_descriptor_tells_its_peer() {
    if !is_available() {
        return;
    }
    let mut rig = Rig::on(options(), listener());
    let (peer, socket, token) = rig.connect();
    let address = peer.local_addr().expect("connected");
    for _ in 0..3 {
        assert_eq!(rig.peer_address(socket, token), Some(address));
    }
}
