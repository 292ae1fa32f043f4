//! Accepting into direct descriptors: on and on, until told otherwise, a full table, or no files.

use crate::rig::{LISTENER, Rig, UNARMED, is_available, options, peer, read};
use headwater::ring::{Completion, Failure, KernelRing, Op, Ring, RingError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Read as _;
use std::process::Command;

#[test]
fn one_accept_takes_many_connections_into_slots_of_their_own() {
    let Some(mut rig) = Rig::open() else { return };
    let mut connections: Vec<_> = (0..40).map(|_| rig.connect()).collect();
    let mut slots: Vec<u32> = connections.iter().map(|(_, socket, _)| socket.slot()).collect();
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots.len(), 40);
    // Each slot is the connection it was given to.
    for (number, (peer, socket, token)) in connections.iter_mut().enumerate() {
        let name = format!("connection {number}");
        let (sent, _) = rig.send(*socket, *token, crate::rig::spans(&[name.as_bytes()]));
        assert_eq!(sent, Ok(name.len()));
        let mut read = vec![0; name.len()];
        peer.read_exact(&mut read).unwrap();
        assert_eq!(read, name.as_bytes());
    }
}

#[test]
fn connections_that_wait_in_the_backlog_are_accepted() {
    let Some(mut rig) = Rig::open() else { return };
    let _peers: Vec<_> = (0..30).map(|_| peer(rig.address)).collect();
    rig.accept_on(0);
    for _ in 0..30 {
        rig.accepted();
    }
}

#[test]
fn a_cancelled_accept_ends_and_can_be_armed_again() {
    let Some(mut rig) = Rig::open() else { return };
    let _first = rig.connect();
    rig.push(Op::CancelAccept { listener: LISTENER, cell: 0 });
    assert_eq!(rig.accept_ended(), Failure::Canceled);
    let waiting = peer(rig.address);
    rig.expect_quiet("nothing is accepted while no accept is armed");
    rig.accept_on(0);
    rig.accepted();
    drop(waiting);
}

#[test]
fn a_full_table_ends_the_accept_and_drops_the_connection_it_took() {
    let Some(mut rig) = Rig::with(headwater::ring::Options { slots_per_cell: 4, ..options() })
    else {
        return;
    };
    assert_eq!(rig.ring.slots_per_cell(), 4);
    let mut connections: Vec<_> = (0..4).map(|_| rig.connect()).collect();
    let mut dropped = peer(rig.address);
    assert_eq!(rig.accept_ended(), Failure::TableFull);
    assert_eq!(read(&mut dropped, &mut [0]).unwrap(), 0, "the peer sees an end of stream");

    let (_, socket, token) = connections.remove(1);
    rig.close(socket, token, UNARMED);
    rig.accept_on(0);
    let _peer = peer(rig.address);
    assert_eq!(rig.accepted().slot(), socket.slot(), "the only free slot is used again");
}

/// A multishot accept empties the whole backlog within one enter, so slots in reserve do not help
/// against more connections than are in reserve: whoever meets the full table is lost, each time the
/// accept is armed, and only the others go on waiting.
#[test]
fn a_backlog_longer_than_the_table_loses_one_connection_per_accept() {
    let Some(mut rig) = Rig::with(headwater::ring::Options { slots_per_cell: 4, ..options() })
    else {
        return;
    };
    let mut peers: Vec<_> = (0..8).map(|_| peer(rig.address)).collect();
    rig.accept_on(0);
    let sockets: Vec<_> = (0..4).map(|_| rig.accepted()).collect();
    assert_eq!(rig.accept_ended(), Failure::TableFull);
    assert_eq!(read(&mut peers[4], &mut [0]).unwrap(), 0, "the fifth is lost");
    for socket in sockets {
        let token = rig.token();
        rig.close(socket, token, UNARMED);
    }
    rig.accept_on(0);
    for peer in &mut peers[5..] {
        let socket = rig.accepted();
        let token = rig.token();
        assert_eq!(rig.send(socket, token, crate::rig::spans(&[b"x"])).0, Ok(1));
        assert_eq!(read(peer, &mut [0]).unwrap(), 1);
    }
}

/// The name under which the next case starts itself, and the variable that says so.
const IN_CHILD: &str = "KERNEL_CASE_WITHOUT_FILES";

/// RLIMIT_NOFILE is the process's, so this happens in a process of its own.
#[test]
fn without_files_no_ring_opens_and_accepts_go_on() {
    if !is_available() {
        return;
    }
    if std::env::var_os(IN_CHILD).is_none() {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "accept::without_files_no_ring_opens_and_accepts_go_on"])
            .args(["--nocapture", "--test-threads=1"])
            .env(IN_CHILD, "1")
            .status()
            .unwrap();
        assert!(status.success(), "the case failed in its process");
        return;
    }
    let mut rig = Rig::open().expect("it was looked at before");
    rig.accept_on(0);
    let peers: Vec<_> = (0..3).map(|_| peer(rig.address)).collect();
    let maximum = getrlimit(Resource::Nofile).maximum;

    // Fewer files than slots: the table of direct descriptors cannot be registered.
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).unwrap();
    let refused = rig.ring.open_cell();
    assert!(is_out_of_files(refused.as_ref()), "{refused:?}");
    let refused = KernelRing::new(options(), Vec::new()).map(drop);
    assert!(is_out_of_files(refused.as_ref()), "{refused:?}");

    // No file at all: a ring cannot even be set up, but direct descriptors are not counted.
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), maximum }).unwrap();
    let refused = rig.ring.open_cell();
    assert!(is_out_of_files(refused.as_ref()), "{refused:?}");
    let sockets: Vec<_> = peers.iter().map(|_| rig.accepted()).collect();
    for socket in sockets {
        let token = rig.token();
        assert_eq!(rig.send(socket, token, crate::rig::spans(&[b"hello"])).0, Ok(5));
    }
    let ended = rig.find(|completion| match completion {
        Completion::AcceptEnded { failure, .. } => Ok(failure),
        other => Err(other),
    });
    assert_eq!(ended, None, "an accept into direct descriptors needs no file");

    // With files again, the cell that was refused opens.
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    assert_eq!(rig.ring.open_cell().unwrap(), 1);
}

fn is_out_of_files<T>(result: Result<&T, &RingError>) -> bool {
    matches!(result, Err(RingError::Call { source, .. })
        if source.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()))
}
