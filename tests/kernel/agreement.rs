//! The ring and plain system calls agree: any sequence of reads, writes and shutdowns on a
//! connection has the same results through either.

use crate::rig::{Rig, UNARMED, is_available, options, pattern, peer, read};
use headwater::memory::{Payload, Span};
use headwater::ring::{Failure, Op, Options, Socket, Token};
use proptest::prelude::*;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};

/// One step; the near side is the one that goes through the ring.
#[derive(Clone, Debug)]
enum Step {
    FarWrites(usize),
    NearWrites(Vec<usize>),
    /// Reads everything that was written to it and has not been read.
    FarReads,
    NearReads,
    /// Reads although everything was read.
    NearReadsTooMuch,
    FarShutsDown,
    NearShutsDown,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_usize..6000).prop_map(Step::FarWrites),
        4 => prop::collection::vec(1_usize..2000, 1..5).prop_map(Step::NearWrites),
        3 => Just(Step::FarReads),
        3 => Just(Step::NearReads),
        1 => Just(Step::NearReadsTooMuch),
        1 => Just(Step::FarShutsDown),
        1 => Just(Step::NearShutsDown),
    ]
}

/// What a step did.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Wrote(usize),
    Read(Vec<u8>),
    Nothing,
    End,
    Disconnected,
    ShutDown,
}

/// The near end of a connection, by one means or the other.
trait Near {
    fn write(&mut self, pieces: &[Vec<u8>]) -> Outcome;
    fn read(&mut self) -> Outcome;
    fn shut_down(&mut self);
}

struct ByRing<'a> {
    rig: &'a mut Rig,
    socket: Socket,
    token: Token,
}

impl Near for ByRing<'_> {
    fn write(&mut self, pieces: &[Vec<u8>]) -> Outcome {
        let spans = pieces.iter().map(|piece| Span::from_payload(Payload::copied_from(piece)));
        match self.rig.send(self.socket, self.token, spans.collect()).0 {
            Ok(count) => Outcome::Wrote(count),
            Err(Failure::Disconnected) => Outcome::Disconnected,
            Err(failure) => panic!("{failure:?}"),
        }
    }

    fn read(&mut self) -> Outcome {
        match self.rig.receive(self.socket, self.token).0 {
            Ok(bytes) if bytes.is_empty() => Outcome::End,
            Ok(bytes) => Outcome::Read(bytes),
            Err(Failure::WouldBlock) => Outcome::Nothing,
            Err(Failure::Disconnected) => Outcome::Disconnected,
            Err(failure) => panic!("{failure:?}"),
        }
    }

    fn shut_down(&mut self) {
        let wanted = self.token;
        self.rig.push(Op::Shutdown { socket: self.socket, token: wanted });
        self.rig.wait_for("end of the shutdown", |completion| match completion {
            headwater::ring::Completion::ShutDown { token } if token == wanted => Ok(()),
            other => Err(other),
        });
    }
}

struct ByCalls {
    stream: TcpStream,
    lease_bytes: usize,
}

impl Near for ByCalls {
    fn write(&mut self, pieces: &[Vec<u8>]) -> Outcome {
        let slices: Vec<_> = pieces.iter().map(|piece| io::IoSlice::new(piece)).collect();
        match self.stream.write_vectored(&slices) {
            Ok(count) => Outcome::Wrote(count),
            Err(error) => {
                let kinds = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
                assert!(kinds.contains(&error.kind()), "{error}");
                Outcome::Disconnected
            }
        }
    }

    fn read(&mut self) -> Outcome {
        let mut bytes = vec![0; self.lease_bytes];
        match self.stream.read(&mut bytes) {
            Ok(0) => Outcome::End,
            Ok(count) => {
                bytes.truncate(count);
                Outcome::Read(bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Outcome::Nothing,
            Err(error) => panic!("{error}"),
        }
    }

    fn shut_down(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

/// Bytes that may be unread in one direction: they fit into the smallest socket buffers.
const UNREAD_MAX: usize = 16_000;

/// Reads until `unread` bytes came, or the end when `ended`, waiting for what is on its way.
fn read_all(near: &mut impl Near, unread: usize, ended: bool) -> Vec<Outcome> {
    let mut bytes = Vec::new();
    let deadline = std::time::Instant::now() + crate::rig::PATIENCE;
    while bytes.len() < unread || ended {
        assert!(std::time::Instant::now() < deadline, "{} of {unread} bytes", bytes.len());
        match near.read() {
            Outcome::Read(more) => bytes.extend_from_slice(&more),
            Outcome::Nothing => {}
            Outcome::End => {
                assert!(ended, "nobody closed");
                return vec![Outcome::Read(bytes), Outcome::End];
            }
            other => return vec![Outcome::Read(bytes), other],
        }
    }
    vec![Outcome::Read(bytes)]
}

fn play(steps: &[Step], far: &mut TcpStream, near: &mut impl Near) -> Vec<Outcome> {
    let (mut to_near, mut to_far) = (0, 0);
    let (mut far_ended, mut near_ended) = (false, false);
    let mut outcomes = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let seed = number as u64;
        match step {
            Step::FarWrites(count) if !far_ended && to_near + count <= UNREAD_MAX => {
                far.write_all(&pattern(seed, *count)).unwrap();
                to_near += count;
            }
            Step::NearWrites(counts) if to_far + counts.iter().sum::<usize>() <= UNREAD_MAX => {
                let pieces: Vec<Vec<u8>> = counts
                    .iter()
                    .enumerate()
                    .map(|(piece, count)| pattern(seed * 8 + piece as u64, *count))
                    .collect();
                let outcome = near.write(&pieces);
                if let Outcome::Wrote(count) = outcome {
                    assert!(!near_ended);
                    to_far += count;
                }
                outcomes.push(outcome);
            }
            Step::FarReads => {
                let mut bytes = vec![0; to_far];
                far.read_exact(&mut bytes).unwrap();
                to_far = 0;
                outcomes.push(Outcome::Read(bytes));
                if near_ended {
                    assert_eq!(read(far, &mut [0]).unwrap(), 0);
                    outcomes.push(Outcome::End);
                }
            }
            Step::NearReads => {
                outcomes.extend(read_all(near, to_near, far_ended));
                to_near = 0;
            }
            Step::NearReadsTooMuch if to_near == 0 && !far_ended => outcomes.push(near.read()),
            Step::FarShutsDown if !far_ended => {
                far.shutdown(Shutdown::Write).unwrap();
                far_ended = true;
            }
            Step::NearShutsDown if !near_ended => {
                near.shut_down();
                near_ended = true;
                outcomes.push(Outcome::ShutDown);
            }
            _ => {}
        }
    }
    outcomes
}

fn by_calls(steps: &[Step], lease_bytes: usize) -> Vec<Outcome> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut far = peer(listener.local_addr().unwrap());
    let (stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    play(steps, &mut far, &mut ByCalls { stream, lease_bytes })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_ring_does_what_system_calls_do(
        steps in prop::collection::vec(step(), 1..40),
        lease_bytes in prop_oneof![Just(64_usize), Just(1000), Just(4096)],
    ) {
        if !is_available() {
            return Ok(());
        }
        let mut rig = Rig::with(Options { lease_bytes, ..options() }).expect("it is available");
        let (mut far, socket, token) = rig.connect();
        let near = ByRing { rig: &mut rig, socket, token };
        let outcomes = play(&steps, &mut far, &mut { near });
        prop_assert_eq!(outcomes, by_calls(&steps, lease_bytes));
        rig.close(socket, token, UNARMED);
        rig.expect_no_lease_out();
    }
}
