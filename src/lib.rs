//! Headwater.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "sizes inside the server are bounded by const-asserted limits far below 2^31; \
              parsers of a peer's bytes live in crates where these lints hold"
)]
pub mod compress;
pub mod config;
pub mod connection;
pub mod demo;
pub mod encode;
pub mod fanout;
pub mod governor;
pub mod hub;
pub mod limits;
pub mod live;
pub mod mailbox;
pub mod memory;
pub mod observe;
pub mod probe;
pub mod ring;
pub mod server;
pub mod session;
pub mod shard;
pub mod time;
