//! Each op of `src/ring` against the real kernel, and the whole shard on it.
//!
//! In: sockets of the loopback on ports that the kernel picked, with `std::net::TcpStream` as the
//! peer. Out: every failure that the kernel documents for an op in use, and every behaviour that the
//! shard relies on, is a case here. Nothing waits for a time to pass: a test enters the ring until
//! what it expects has arrived, with a bound after which it fails.
//!
//! Where io_uring is refused the cases say so and pass; with `CI` set they fail instead. What a shard
//! does with faults that the kernel shows too rarely to wait for is the simulator's business.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a case ends where something is not as it expects; its numbers are small"
)]

mod accept;
mod agreement;
mod cells;
mod close;
mod gather;
mod listener;
mod overflow;
mod receive;
mod receive_many;
mod rig;
mod send;
mod shard;
mod wait;
