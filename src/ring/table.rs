//! Ops in flight that own something: a socket to be closed.
//!
//! The slot and generation of an entry travel in `user_data`, so a completion finds its entry and a
//! stale one finds nothing. Entries are reused; a steady state allocates nothing.

use super::{Socket, Token};

/// What a close in flight names.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Closing {
    pub(super) token: Token,
    pub(super) socket: Socket,
}

/// A slot and its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// A table of what ops of one kind own.
#[derive(Debug)]
pub(super) struct Table<T> {
    slots: Vec<(u32, T)>,
    free: Vec<u32>,
    entries_max: usize,
}

impl<T: Default> Table<T> {
    pub(super) const fn new(entries_max: usize) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), entries_max }
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() >= self.entries_max
    }

    /// Puts an op in; the caller has checked that the table is not full.
    #[inline(always)]
    pub(super) fn insert(&mut self, held: T) -> Entry {
        let Some(index) = self.free.pop() else { return self.grow(held) };
        let (generation, slot) = &mut self.slots[index as usize];
        // A free slot owns nothing, so there is nothing to drop.
        std::mem::forget(std::mem::replace(slot, held));
        Entry { index, generation: *generation }
    }

    #[cold]
    fn grow(&mut self, held: T) -> Entry {
        self.slots.push((0, held));
        Entry { index: self.slots.len() as u32 - 1, generation: 0 }
    }

    /// What the op of a completion owns; the caller takes it out and frees the slot.
    #[inline(always)]
    pub(super) fn find(&mut self, entry: Entry) -> Option<&mut T> {
        let (generation, held) = self.slots.get_mut(entry.index as usize)?;
        (*generation == entry.generation).then_some(held)
    }

    /// Frees the slot of an op that was found.
    #[inline(always)]
    pub(super) fn free(&mut self, entry: Entry) {
        let (generation, _) = &mut self.slots[entry.index as usize];
        *generation = (entry.generation + 1) & 0xFF_FFFF;
        self.free.push(entry.index);
    }

    /// Takes out what an op owns.
    pub(super) fn remove(&mut self, entry: Entry) -> Option<T> {
        let held = std::mem::take(self.find(entry)?);
        self.free(entry);
        Some(held)
    }

    pub(super) fn resident_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<(u32, T)>() + self.free.capacity() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_entry_finds_nothing() {
        let mut table = Table::new(1);
        let first = table.insert(1);
        assert!(table.is_full());
        assert_eq!(table.remove(first), Some(1));
        let second = table.insert(2);
        assert_eq!(first.index, second.index);
        assert!(table.find(first).is_none());
        assert_eq!(table.remove(second), Some(2));
        assert!(table.remove(second).is_none());
    }
}
