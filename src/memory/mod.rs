//! Memory with a bound: payload blocks, receive leases and the generation-checked slab.
//!
//! Everything that travels is a range of a [`block`]: bytes are copied into one once, become
//! immutable, and are then named by reference. Between shards a range is a [`Payload`] (one atomic
//! count), inside a shard a [`Span`] (a plain count), so that what one subscriber costs is a plain
//! increment. Received bytes live in a [`Lease`], lent by a fixed pool and given back.
//!
//! With `ring` this is the only room of the server that may use `unsafe`. It knows no peer, no
//! protocol and no kernel.
#![allow(unsafe_code, reason = "append-only blocks share bytes that the type system cannot split")]

pub mod block;
pub mod counting;
mod extent;
pub mod lease;
pub mod meter;
pub mod pages;
pub mod slab;

pub use block::{Arena, BlockPool, BlockWriter, Payload, Span, SpanBlock, without_first};
pub use counting::{Counting, allocations};
pub use lease::{Lease, LeasePool, PoolId};
pub use meter::Meter;
pub use slab::{Key, Slab};

/// What a send is made of: most are one span.
pub type Spans = smallvec::SmallVec<[Span; 1]>;
