//! Ops in flight that own something: the spans of a send, a socket to be closed.
//!
//! The slot and generation of an entry travel in `user_data`, so a completion finds its entry and a
//! stale one finds nothing. Entries are reused; a steady state allocates nothing.

use super::{Socket, Token};
use crate::memory::Spans;

/// What an op in flight owns.
#[derive(Debug)]
pub(super) enum Held {
    /// `bytes` is what the spans have together.
    Send {
        token: Token,
        bytes: u32,
        spans: Spans,
        vectors: Option<Box<Vectors>>,
    },
    Close {
        token: Token,
        socket: Socket,
    },
}

/// The scatter list of a send of several spans; boxed, because the kernel reads it by address.
pub(super) struct Vectors {
    pub(super) header: libc::msghdr,
    pub(super) list: Vec<libc::iovec>,
}

impl std::fmt::Debug for Vectors {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Vectors({})", self.list.len())
    }
}

/// A slot and its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<(u32, Option<Held>)>,
    free: Vec<u32>,
    /// Scatter lists to use again.
    #[expect(clippy::vec_box, reason = "the kernel reads a list by address while it is in flight")]
    spare: Vec<Box<Vectors>>,
    entries_max: usize,
}

/// Scatter lists kept for use again.
const SPARE_VECTORS_MAX: usize = 256;

impl Table {
    pub(super) const fn new(entries_max: usize) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), spare: Vec::new(), entries_max }
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() >= self.entries_max
    }

    /// Puts an op in; the caller has checked that the table is not full.
    #[inline]
    pub(super) fn insert(&mut self, held: Held) -> Entry {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() as u32 - 1
        });
        let (generation, slot) = &mut self.slots[index as usize];
        *slot = Some(held);
        Entry { index, generation: *generation }
    }

    /// Takes an op out at its completion.
    #[inline]
    pub(super) fn remove(&mut self, entry: Entry) -> Option<Held> {
        let (generation, slot) = self.slots.get_mut(entry.index as usize)?;
        if *generation != entry.generation {
            return None;
        }
        let held = slot.take()?;
        *generation = (*generation + 1) & 0xFF_FFFF;
        self.free.push(entry.index);
        Some(held)
    }

    pub(super) fn vectors(&mut self) -> Box<Vectors> {
        self.spare.pop().unwrap_or_else(|| {
            // SAFETY: `msghdr` is a plain C struct for which all zeroes mean "nothing set".
            let header = unsafe { std::mem::zeroed() };
            Box::new(Vectors { header, list: Vec::new() })
        })
    }

    pub(super) fn recycle(&mut self, mut vectors: Box<Vectors>) {
        if self.spare.len() < SPARE_VECTORS_MAX {
            vectors.list.clear();
            self.spare.push(vectors);
        }
    }

    pub(super) fn resident_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<(u32, Option<Held>)>() + self.free.capacity() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Key;

    fn close(slot: u32) -> Held {
        Held::Close { token: Key::NONE, socket: Socket::new(0, slot) }
    }

    #[test]
    fn a_stale_entry_finds_nothing() {
        let mut table = Table::new(1);
        let first = table.insert(close(1));
        assert!(table.is_full());
        assert!(table.remove(first).is_some());
        let second = table.insert(close(2));
        assert_eq!(first.index, second.index);
        assert!(table.remove(first).is_none());
        assert!(table.remove(second).is_some());
    }
}
