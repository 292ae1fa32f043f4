//! Target-feature kernels, each with a safe twin it is tested against.
//!
//! In: plain byte slices. Out: the same bytes, transformed in place. The kernel is chosen at run
//! time from what this processor has; every kernel gives the bytes its safe twin gives, at every
//! length and alignment. No state, no allocation, no panic on any input.
//!
//! Deliberately absent: anything a portable loop does as fast, and any knowledge of a protocol.
//!
//! This is the only crate under `codecs/` and `protocols/` that may hold `unsafe`; each block has
//! its SAFETY and JUSTIFICATION.

mod unmask;

pub use unmask::{Ascii, unmask, unmask_into, unmask_into_portable, unmask_portable};
