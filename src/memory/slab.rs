//! A table of slots with generations: a key names one occupant, never its successor.
//!
//! Slots live in chunks, so the table grows without moving anything and gives whole chunks back
//! when they are empty. A key is an index and a generation; a key of an occupant that left finds
//! nothing. Chunks lie one behind the other in extents.

use super::extent::Extents;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Names one occupant of a [`Slab`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The slot.
    pub index: u32,
    /// Which of the slot's occupants; 24 bits, so that a key fits in an op's token.
    pub generation: u32,
}

impl Key {
    /// A key that no slab ever gives out.
    pub const NONE: Self = Self { index: u32::MAX, generation: 0 };

    /// The key as one number.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The key that [`Self::to_bits`] made into `bits`.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 & GENERATION_MAX }
    }
}

impl Default for Key {
    /// [`Key::NONE`].
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}#{}", self.index, self.generation)
    }
}

/// The largest generation; after it a slot starts again at 1.
const GENERATION_MAX: u32 = 0xFF_FFFF;

/// Slots of a chunk.
const CHUNK_SLOTS: usize = 256;

/// Slots that grow in chunks and are named by [`Key`]s.
pub struct Slab<T> {
    chunks: Vec<Option<Chunk<T>>>,
    /// Generations outlive their chunk, so that a key stays wrong after memory was given back.
    floor: Vec<u32>,
    /// Chunks that have a free slot, in the order they will be used from the end.
    open: Vec<u32>,
    len: usize,
    slots_max: usize,
    /// Where the chunks lie; after them, so that they are dropped first.
    extents: Extents,
}

struct Chunk<T> {
    slots: Slots<T>,
    free: u32,
    used: u32,
}

#[repr(C)]
struct Slot<T> {
    generation: u32,
    state: State<T>,
}

enum State<T> {
    Free { next: u32 },
    Used(T),
}

const END: u32 = u32::MAX;

impl<T> Slab<T> {
    /// A table of at most `slots_max` slots.
    #[must_use]
    pub const fn new(slots_max: usize) -> Self {
        Self {
            chunks: Vec::new(),
            floor: Vec::new(),
            open: Vec::new(),
            len: 0,
            slots_max,
            extents: Extents::new(CHUNK_SLOTS * size_of::<Slot<T>>()),
        }
    }

    /// The number of occupants.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no slot is occupied.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether an insert would be refused.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.len >= self.slots_max
    }

    /// Puts `value` into a slot, or gives it back when the table is full.
    ///
    /// # Errors
    /// The value, when the table is at its bound.
    pub fn insert(&mut self, value: T) -> Result<Key, T> {
        if self.is_full() {
            return Err(value);
        }
        let number = self.open_chunk();
        // `open_chunk` names a chunk that is present and has a free slot.
        let chunk = self.chunks[number].as_mut().expect("an open chunk is present");
        let within = chunk.free;
        let slot = &mut chunk.slots[within as usize];
        let State::Free { next } = slot.state else {
            unreachable!("the free list is of free slots")
        };
        slot.state = State::Used(value);
        let generation = slot.generation;
        chunk.free = next;
        chunk.used += 1;
        if next == END {
            let at = self.open.iter().rposition(|open| *open as usize == number);
            if let Some(at) = at {
                self.open.swap_remove(at);
            }
        }
        self.len += 1;
        Ok(Key { index: (number * CHUNK_SLOTS) as u32 + within, generation })
    }

    /// Empties the slot of `key`.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let (number, within) = split(key.index);
        let chunk = self.chunks.get_mut(number)?.as_mut()?;
        let slot = &mut chunk.slots[within];
        if slot.generation != key.generation || matches!(slot.state, State::Free { .. }) {
            return None;
        }
        let was_full = chunk.free == END;
        let state = std::mem::replace(&mut slot.state, State::Free { next: chunk.free });
        slot.generation = next_generation(slot.generation);
        chunk.free = within as u32;
        chunk.used -= 1;
        self.len -= 1;
        if was_full {
            self.open.push(number as u32);
        }
        if chunk.used == 0 && self.open.len() > 1 {
            self.give_back(number);
        }
        match state {
            State::Used(value) => Some(value),
            State::Free { .. } => None,
        }
    }

    /// The occupant that `key` names.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&T> {
        let (number, within) = split(key.index);
        let slot = &self.chunks.get(number)?.as_ref()?.slots[within];
        match &slot.state {
            State::Used(value) if slot.generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The occupant that `key` names, to be changed.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (number, within) = split(key.index);
        let slot = &mut self.chunks.get_mut(number)?.as_mut()?.slots[within];
        match &mut slot.state {
            State::Used(value) if slot.generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// Asks for the slot `index` to be near when it is looked at soon. Changes nothing.
    #[inline]
    pub fn prefetch(&self, index: u32) {
        let (number, within) = split(index);
        if let Some(Some(chunk)) = self.chunks.get(number) {
            prefetch_lines(&chunk.slots[within]);
        }
    }

    /// The occupant of slot `index`, with its key.
    #[inline]
    #[must_use]
    pub fn entry_at(&self, index: u32) -> Option<(Key, &T)> {
        let (number, within) = split(index);
        let slot = self.chunks.get(number)?.as_ref()?.slots.get(within)?;
        match &slot.state {
            State::Used(value) => Some((Key { index, generation: slot.generation }, value)),
            State::Free { .. } => None,
        }
    }

    /// The key of the occupant of slot `index`.
    #[must_use]
    pub fn key_at(&self, index: u32) -> Option<Key> {
        let (number, within) = split(index);
        let slot = self.chunks.get(number)?.as_ref()?.slots.get(within)?;
        matches!(slot.state, State::Used(_)).then_some(Key { index, generation: slot.generation })
    }

    /// Every occupant's index is below.
    #[must_use]
    pub const fn slot_count(&self) -> u32 {
        (self.chunks.len() * CHUNK_SLOTS) as u32
    }

    /// All occupants with their keys.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.chunks
            .iter()
            .enumerate()
            .filter_map(|(number, chunk)| Some((number, chunk.as_ref()?)))
            .flat_map(|(number, chunk)| {
                chunk.slots.iter().enumerate().filter_map(move |(within, slot)| {
                    let index = (number * CHUNK_SLOTS + within) as u32;
                    match &slot.state {
                        State::Used(value) => {
                            Some((Key { index, generation: slot.generation }, value))
                        }
                        State::Free { .. } => None,
                    }
                })
            })
    }

    /// What one occupant takes.
    pub const SLOT_BYTES: usize = size_of::<Slot<T>>();

    /// Bytes of the chunks that are present.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        self.chunks.iter().flatten().count() * CHUNK_SLOTS * size_of::<Slot<T>>()
    }

    /// Asks the kernel to back at most `most` more pieces of 2 MiB, of which all is in use, by one page each, and
    /// says how many it did. It copies such a piece, which takes a fraction of a millisecond.
    pub fn collapse(&mut self, most: usize) -> usize {
        let Self { chunks, extents, .. } = self;
        extents.collapse(most, |number| chunks.get(number).is_some_and(Option::is_some))
    }

    /// The number of a chunk that is present and has a free slot.
    fn open_chunk(&mut self) -> usize {
        if let Some(number) = self.open.last() {
            return *number as usize;
        }
        let number = self.chunks.iter().position(Option::is_none).unwrap_or_else(|| {
            self.chunks.push(None);
            self.floor.push(1);
            self.chunks.len() - 1
        });
        let place = self.extents.place(number);
        // SAFETY: no chunk of this number is present, and places hold `CHUNK_SLOTS` slots.
        self.chunks[number] = Some(unsafe { Chunk::new(self.floor[number], place.cast()) });
        self.open.push(number as u32);
        number
    }

    fn give_back(&mut self, number: usize) {
        if let Some(chunk) = self.chunks[number].take() {
            let newest = chunk.slots.iter().map(|slot| slot.generation).max();
            self.floor[number] = next_generation(newest.unwrap_or(1));
            drop(chunk);
            self.extents.give_back(number);
        }
        self.open.retain(|open| *open as usize != number);
    }
}

/// Asks for the first lines of a value, up to four.
#[inline]
fn prefetch_lines<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = std::ptr::from_ref(value).cast::<i8>();
        for line in 0..size_of::<T>().div_ceil(CACHE_LINE_BYTES).min(4) {
            // SAFETY: a prefetch reads nothing that the program sees and cannot fault; the addresses lie
            // within the value, or in the line of its last byte.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(line * CACHE_LINE_BYTES)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

#[cfg(target_arch = "x86_64")]
const CACHE_LINE_BYTES: usize = 64;

impl<T> Chunk<T> {
    /// A chunk of free slots.
    ///
    /// # Safety
    /// There is room for `CHUNK_SLOTS` slots from `first` on, aligned for them, which nobody uses until the chunk is
    /// dropped.
    unsafe fn new(generation: u32, first: NonNull<Slot<T>>) -> Self {
        for within in 0..CHUNK_SLOTS {
            let next = if within + 1 < CHUNK_SLOTS { within as u32 + 1 } else { END };
            // SAFETY: the caller says that there is room for so many.
            let place = unsafe { first.add(within) };
            // SAFETY: and that it is for slots.
            unsafe { place.write(Slot { generation, state: State::Free { next } }) };
        }
        Self { slots: Slots(first.cast()), free: 0, used: 0 }
    }
}

/// The slots of a chunk, which owns them but not the memory that they lie in.
struct Slots<T>(NonNull<[Slot<T>; CHUNK_SLOTS]>);

impl<T> Deref for Slots<T> {
    type Target = [Slot<T>; CHUNK_SLOTS];

    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        // SAFETY: `Chunk::new` wrote them all, and they are this chunk's alone until it is dropped.
        unsafe { self.0.as_ref() }
    }
}

impl<T> DerefMut for Slots<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Self::Target {
        // SAFETY: as above.
        unsafe { self.0.as_mut() }
    }
}

impl<T> Drop for Slots<T> {
    fn drop(&mut self) {
        // SAFETY: as above, and nobody looks at them after this.
        unsafe { self.0.drop_in_place() };
    }
}

// SAFETY: slots are owned as those of a `Box` would be.
unsafe impl<T: Send> Send for Slots<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Slots<T> {}

impl<T> fmt::Debug for Slab<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Slab({} of at most {})", self.len, self.slots_max)
    }
}

const fn split(index: u32) -> (usize, usize) {
    (index as usize / CHUNK_SLOTS, index as usize % CHUNK_SLOTS)
}

const fn next_generation(generation: u32) -> u32 {
    if generation >= GENERATION_MAX { 1 } else { generation + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_does_not_find_a_successor() {
        let mut slab = Slab::new(10);
        let first = slab.insert("first").expect("room");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second").expect("room");
        assert_eq!(second.index, first.index);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&"second"));
        assert_eq!(Key::from_bits(second.to_bits()), second);
    }

    #[test]
    fn a_full_slab_gives_the_value_back() {
        let mut slab = Slab::new(1);
        slab.insert(1).expect("room");
        assert_eq!(slab.insert(2), Err(2));
    }

    #[test]
    fn empty_chunks_are_given_back_and_old_keys_stay_wrong() {
        let mut slab = Slab::new(10_000);
        let keys: Vec<_> = (0..2000).map(|value| slab.insert(value).expect("room")).collect();
        let full = slab.resident_bytes();
        for key in &keys {
            assert!(slab.remove(*key).is_some());
        }
        assert!(slab.resident_bytes() <= full / 4);
        for value in 0..2000 {
            slab.insert(value).expect("room");
        }
        assert!(keys.iter().all(|key| slab.get(*key).is_none()));
    }

    proptest! {
        #[test]
        fn a_slab_agrees_with_a_list(ops in proptest::collection::vec(0..3u8, 1..2000)) {
            let mut slab = Slab::new(700);
            let mut model: Vec<(Key, usize)> = Vec::new();
            for (step, op) in ops.into_iter().enumerate() {
                if op < 2 {
                    match slab.insert(step) {
                        Ok(key) => model.push((key, step)),
                        Err(value) => prop_assert_eq!((value, model.len()), (step, 700)),
                    }
                } else if !model.is_empty() {
                    let (key, value) = model.swap_remove(step % model.len());
                    prop_assert_eq!(slab.remove(key), Some(value));
                    prop_assert_eq!(slab.get(key), None);
                }
                prop_assert_eq!(slab.len(), model.len());
            }
            for (key, value) in &model {
                prop_assert_eq!(slab.get(*key), Some(value));
            }
            prop_assert_eq!(slab.iter().count(), model.len());
        }
    }
}
