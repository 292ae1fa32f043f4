//! Append-only payload blocks and the references to their bytes.
//!
//! A block is a fixed piece of memory with one writer. Bytes below the writer's length never change
//! again; bytes above it are known to the writer alone. A [`Payload`] (crosses threads) or a
//! [`Span`] (stays in its shard) names a range below that length and keeps the block alive.
//! Blocks go back to the [`BlockPool`] they came from by themselves: the pool keeps one reference
//! and takes a block again when that reference is the last one.
//!
//! Deliberately absent: freeing part of a block, and any write below the length.

use super::{Meter, Spans};
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::fmt;
use std::ops::{Deref, Range};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// The bytes of a block, and who counts them.
struct Bytes(Box<[UnsafeCell<u8>]>, Option<Arc<Meter>>);

impl Drop for Bytes {
    fn drop(&mut self) {
        if let Some(meter) = &self.1 {
            meter.remove(self.0.len());
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}

// SAFETY: the only writer is the one `BlockWriter` of the block, and it writes at or above its
// `length`; every reader holds a range that ended at or below `length` when it was made, and
// `length` never falls while a reader exists (`BlockPool::take` resets it only after `get_mut`
// proved that no other reference is left, `Current::rewind` only when none but the arena's is). Readers on other threads got their range through a
// channel that orders the writes before the reads, and an arena begins its block again only when the
// counts say that no range of it is left, with an acquire fence behind that look.
unsafe impl Sync for Bytes {}

impl Bytes {
    fn zeroed(capacity: usize, meter: Option<Arc<Meter>>) -> Self {
        if let Some(meter) = &meter {
            meter.add(capacity);
        }
        let bytes: Box<[u8]> = vec![0; capacity].into_boxed_slice();
        let raw = Box::into_raw(bytes) as *mut [UnsafeCell<u8>];
        // SAFETY: `UnsafeCell<u8>` has the layout of `u8`, and `raw` came from `Box::into_raw` of a
        // slice of the same length just above, so ownership passes to this box alone.
        Self(unsafe { Box::from_raw(raw) }, meter)
    }

    /// The bytes in `range`, all of which were written before.
    #[inline]
    fn read(&self, range: Range<usize>) -> &[u8] {
        let cells = &self.0[range];
        // SAFETY: the caller's range ended at or below the writer's length when it was made, and the
        // writer never writes below its length (see `Sync` above), so no one writes these bytes
        // while the slice lives. `UnsafeCell<u8>` has the layout of `u8`.
        unsafe { std::slice::from_raw_parts(cells.as_ptr().cast::<u8>(), cells.len()) }
    }

    /// Copies `source` to `at`, which is at or above the writer's length.
    #[inline(always)]
    fn write(&self, at: usize, source: &[u8]) {
        let cells = &self.0[at..at + source.len()];
        let target = cells.as_ptr().cast::<u8>().cast_mut();
        // SAFETY: `cells` is in bounds (the index above panics otherwise) and lies at or above the
        // length of the one writer that calls this, so no reader has a slice of it; `source` is a
        // live shared slice, which therefore cannot overlap bytes that no slice covers.
        unsafe { std::ptr::copy_nonoverlapping(source.as_ptr(), target, source.len()) }
    }
}

/// An immutable range of a block that may cross threads.
#[derive(Clone)]
pub struct Payload {
    bytes: Arc<Bytes>,
    start: u32,
    length: u32,
}

impl Payload {
    /// A payload of its own, copied from `source` into a block that holds nothing else.
    ///
    /// # Panics
    /// When `source` is 4 GiB or longer, which no bound of the server allows.
    #[must_use]
    pub fn copied_from(source: &[u8]) -> Self {
        Self::written_by(BlockWriter::with_capacity(source.len()), source)
    }

    /// The same, counted by `meter` for as long as it exists.
    ///
    /// # Panics
    /// As [`Self::copied_from`].
    #[must_use]
    pub fn copied_metered(source: &[u8], meter: &Arc<Meter>) -> Self {
        let meter = Some(Arc::clone(meter));
        Self::written_by(BlockWriter::with_capacity_metered(source.len(), meter), source)
    }

    fn written_by(mut writer: BlockWriter, source: &[u8]) -> Self {
        writer.push(source);
        writer.finish()
    }

    /// The part of this payload in `range`.
    ///
    /// # Panics
    /// When `range` is not inside the payload.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len());
        Self {
            bytes: Arc::clone(&self.bytes),
            start: self.start + range.start as u32,
            length: (range.end - range.start) as u32,
        }
    }

    /// This payload followed by `next`, when `next` begins where it ends in the same block.
    #[must_use]
    pub fn joined(&self, next: &Self) -> Option<Self> {
        let adjacent =
            Arc::ptr_eq(&self.bytes, &next.bytes) && self.start + self.length == next.start;
        adjacent.then(|| Self { length: self.length + next.length, ..self.clone() })
    }

    /// The size of the block that this payload keeps alive, in bytes.
    #[must_use]
    pub fn pinned_bytes(&self) -> usize {
        self.bytes.0.len()
    }

    /// The number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = self.start as usize;
        self.bytes.read(start..start + self.length as usize)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Payload({} bytes)", self.length)
    }
}

/// A shard's one atomic reference of a block; spans count it plainly.
#[derive(Debug)]
struct Held(Arc<Bytes>);

/// An immutable range of a block inside one shard: what an outbox and a send are made of.
#[derive(Clone)]
pub struct Span {
    block: Rc<Held>,
    start: u32,
    length: u32,
}

impl Span {
    /// Takes one shard-wide reference of a payload; clones of the span are plain counts.
    #[must_use]
    pub fn from_payload(payload: Payload) -> Self {
        Self { block: Rc::new(Held(payload.bytes)), start: payload.start, length: payload.length }
    }

    /// The same bytes as a reference that may cross threads.
    #[must_use]
    pub fn to_payload(&self) -> Payload {
        Payload { bytes: Arc::clone(&self.block.0), start: self.start, length: self.length }
    }

    /// The number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Where the bytes begin, for the ring to hand to the kernel.
    #[inline(always)]
    #[must_use]
    pub fn address(&self) -> *const u8 {
        self.block.0.0.as_ptr().cast::<u8>().wrapping_add(self.start as usize)
    }

    /// Leaves out the first `count` bytes.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "a span cannot be advanced past its end");
        self.start += count as u32;
        self.length -= count as u32;
    }

    /// What of its block's memory this reference keeps alive: the block is shared by all that name a
    /// part of it here, so the shares of all of them are the block, whatever their number.
    #[must_use]
    pub fn pinned_share(&self) -> usize {
        self.block.0.0.len() / Rc::strong_count(&self.block)
    }

    /// Makes this span cover `next` too, when `next` begins where it ends in the same block.
    pub fn try_join(&mut self, next: &Self) -> bool {
        let adjacent =
            Rc::ptr_eq(&self.block, &next.block) && self.start + self.length == next.start;
        if adjacent {
            self.length += next.length;
        }
        adjacent
    }

    /// The part of this span in `range`.
    ///
    /// # Panics
    /// When `range` is not inside the span.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len());
        Self {
            block: Rc::clone(&self.block),
            start: self.start + range.start as u32,
            length: (range.end - range.start) as u32,
        }
    }
}

impl Deref for Span {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let start = self.start as usize;
        self.block.0.read(start..start + self.length as usize)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Span({} bytes)", self.length)
    }
}

/// What is left of `spans` without their first `count` bytes.
#[must_use]
pub fn without_first(mut spans: Spans, mut count: usize) -> Spans {
    let mut whole = 0;
    while let Some(span) = spans.get(whole)
        && count >= span.len()
    {
        count -= span.len();
        whole += 1;
    }
    spans.drain(..whole);
    if let Some(first) = spans.first_mut() {
        first.advance(count);
    }
    spans
}

/// The one writer of a block.
///
/// Bytes are pushed, then finished into a [`Payload`]: `push push finish` names both pushes.
pub struct BlockWriter {
    bytes: Arc<Bytes>,
    length: usize,
    /// Where the payload that is being pushed began.
    open: usize,
}

impl BlockWriter {
    /// A writer of a new block, which belongs to no pool.
    ///
    /// # Panics
    /// When `capacity` is 4 GiB or more.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self::with_capacity_metered(capacity, None)
    }

    fn with_capacity_metered(capacity: usize, meter: Option<Arc<Meter>>) -> Self {
        assert!(u32::try_from(capacity).is_ok(), "a block is smaller than 4 GiB");
        Self { bytes: Arc::new(Bytes::zeroed(capacity, meter)), length: 0, open: 0 }
    }

    /// Bytes that still fit.
    #[must_use]
    pub fn room(&self) -> usize {
        self.bytes.0.len() - self.length
    }

    /// Bytes pushed since the last `finish` or `abandon`.
    #[must_use]
    pub fn open_len(&self) -> usize {
        self.length - self.open
    }

    /// The bytes pushed since the last `finish`.
    #[must_use]
    pub fn open_bytes(&self) -> &[u8] {
        self.bytes.read(self.open..self.length)
    }

    /// Appends `source`.
    ///
    /// # Panics
    /// When there is no room for it: callers check `room` first.
    pub fn push(&mut self, source: &[u8]) {
        self.bytes.write(self.length, source);
        self.length += source.len();
    }

    /// The next `count` bytes, to be written; they count only when the length says so.
    #[inline]
    fn space(&mut self, count: usize) -> &mut [u8] {
        let cells = &self.bytes.0[self.length..self.length + count];
        let target = cells.as_ptr().cast::<u8>().cast_mut();
        // SAFETY: `cells` is in bounds (the index above panics otherwise) and lies at or above the
        // length of the block's one writer, which is borrowed exclusively while the slice lives: no
        // reader has a slice of these bytes and none can be made meanwhile. They were zeroed or
        // written before, so they are initialised; `UnsafeCell<u8>` has the layout of `u8`.
        unsafe { std::slice::from_raw_parts_mut(target, count) }
    }

    /// Ends the open payload and names it.
    pub fn finish(&mut self) -> Payload {
        let payload = Payload {
            bytes: Arc::clone(&self.bytes),
            start: self.open as u32,
            length: (self.length - self.open) as u32,
        };
        self.open = self.length;
        payload
    }

    /// Gives up the open payload; its bytes stay unused.
    pub fn abandon(&mut self) {
        self.open = self.length;
    }
}

impl fmt::Debug for BlockWriter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BlockWriter({} of {} bytes)", self.length, self.bytes.0.len())
    }
}

/// A block that its one shard appends to and names ranges of: a stretch of an encoded log.
#[derive(Debug)]
pub struct SpanBlock {
    writer: BlockWriter,
    block: Rc<Held>,
}

impl SpanBlock {
    /// Appends through `writer`, which begins at its present length.
    #[must_use]
    pub fn new(writer: BlockWriter) -> Self {
        let block = Rc::new(Held(Arc::clone(&writer.bytes)));
        Self { writer, block }
    }

    /// Bytes that still fit.
    #[must_use]
    pub fn room(&self) -> usize {
        self.writer.room()
    }

    /// Bytes appended so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.writer.length
    }

    /// Whether nothing was appended.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.writer.length == 0
    }

    /// Bytes of memory.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.writer.bytes.0.len()
    }

    /// The log's share of the block, as [`Span::pinned_share`].
    #[must_use]
    pub fn pinned_share(&self) -> usize {
        self.capacity() / Rc::strong_count(&self.block)
    }

    /// Appends `source`.
    ///
    /// # Panics
    /// When there is no room for it: callers check `room` first.
    pub fn push(&mut self, source: &[u8]) {
        self.writer.push(source);
        self.writer.abandon();
    }

    /// Names the bytes in `range`.
    ///
    /// # Panics
    /// When `range` is not inside what was appended.
    #[must_use]
    pub fn span(&self, range: Range<usize>) -> Span {
        assert!(range.start <= range.end && range.end <= self.len());
        Span {
            block: Rc::clone(&self.block),
            start: range.start as u32,
            length: (range.end - range.start) as u32,
        }
    }
}

/// Blocks of one size that are used again when no one reads them any more.
#[derive(Debug)]
pub struct BlockPool {
    block_bytes: usize,
    /// Blocks given out, oldest first; one is free again when the pool's reference is the last.
    lent: VecDeque<Lent>,
    /// How many blocks the pool remembers; more are allocated and freed like any memory.
    blocks_max: usize,
    meter: Option<Arc<Meter>>,
}

struct Lent(Arc<Bytes>);

impl fmt::Debug for Lent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Lent({} references)", Arc::strong_count(&self.0))
    }
}

/// How many of the oldest lent blocks one `take` looks at before it allocates.
const TAKE_PROBES: usize = 8;

impl BlockPool {
    /// A pool that remembers up to `blocks_max` blocks of `block_bytes` each.
    #[must_use]
    pub const fn new(block_bytes: usize, blocks_max: usize) -> Self {
        Self { block_bytes, lent: VecDeque::new(), blocks_max, meter: None }
    }

    /// The same with its blocks counted by `meter`.
    #[must_use]
    pub fn metered(block_bytes: usize, blocks_max: usize, meter: Arc<Meter>) -> Self {
        Self { meter: Some(meter), ..Self::new(block_bytes, blocks_max) }
    }

    /// Gives blocks that no one refers to back to the allocator, except `kept` of them.
    pub fn give_back(&mut self, kept: usize) {
        let mut free = 0;
        self.lent.retain(|block| {
            let is_free = Arc::strong_count(&block.0) == 1;
            free += usize::from(is_free);
            !is_free || free <= kept
        });
        self.lent.shrink_to(2 * self.lent.len());
    }

    /// A writer of a block that no one else refers to: a used one when there is one.
    pub fn take(&mut self) -> BlockWriter {
        for _ in 0..TAKE_PROBES.min(self.lent.len()) {
            let Some(mut oldest) = self.lent.pop_front() else { break };
            let free = Arc::get_mut(&mut oldest.0).is_some();
            self.lent.push_back(Lent(Arc::clone(&oldest.0)));
            if free {
                return BlockWriter { bytes: oldest.0, length: 0, open: 0 };
            }
        }
        let writer = BlockWriter::with_capacity_metered(self.block_bytes, self.meter.clone());
        if self.lent.len() < self.blocks_max {
            self.lent.push_back(Lent(Arc::clone(&writer.bytes)));
        }
        writer
    }

    /// The size of the pool's blocks.
    #[must_use]
    pub const fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Bytes the pool remembers, in use or not.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        self.lent.len() * self.block_bytes
    }

    /// Bytes of the blocks that wait for use.
    #[must_use]
    pub fn idle_bytes(&self) -> usize {
        (self.lent.len() - self.blocks_in_use()) * self.block_bytes
    }

    /// Blocks that someone still refers to.
    #[must_use]
    pub fn blocks_in_use(&self) -> usize {
        self.lent.iter().filter(|block| Arc::strong_count(&block.0) > 1).count()
    }
}

/// A bump allocator of spans for one shard: replies, frame headers, shared encodings.
///
/// Bytes appended one after the other lie one after the other, so that spans for one peer join
/// into one send.
#[derive(Debug)]
pub struct Arena {
    pool: BlockPool,
    current: Option<Current>,
}

struct Current {
    writer: BlockWriter,
    block: Rc<Held>,
    /// References of the block when nothing of it was named: the writer's, the shard's, and the pool's,
    /// which it keeps as long as it lives; so the count is this one only when nothing is named.
    references: usize,
}

impl Current {
    /// Begins the block again when no one reads any of it, so that a turn writes where the last one
    /// wrote and finds it in the nearest cache.
    #[inline(always)]
    fn rewind(&mut self) {
        if Rc::strong_count(&self.block) == 1
            && Arc::strong_count(&self.writer.bytes) == self.references
        {
            // Who read on another thread let go of the block before this saw the count.
            fence(Ordering::Acquire);
            self.writer.length = 0;
            self.writer.open = 0;
        }
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.writer.fmt(formatter)
    }
}

impl Arena {
    /// An arena over blocks of `block_bytes`, of which it remembers `blocks_max`.
    #[must_use]
    pub const fn new(block_bytes: usize, blocks_max: usize) -> Self {
        Self { pool: BlockPool::new(block_bytes, blocks_max), current: None }
    }

    /// Copies `parts` one after the other and names them as one span.
    pub fn append(&mut self, parts: &[&[u8]]) -> Span {
        let length = parts.iter().map(|part| part.len()).sum();
        let current = self.room_for(length);
        for part in parts {
            current.writer.push(part);
        }
        let start = current.writer.open as u32;
        current.writer.abandon();
        Span { block: Rc::clone(&current.block), start, length: length as u32 }
    }

    /// Copies the first `head_bytes` of `head` and then `body`, and names them as one span.
    ///
    /// # Panics
    /// When `head_bytes` is more than `head` has.
    #[inline(always)]
    pub fn append_framed<const N: usize>(
        &mut self,
        head: &[u8; N],
        head_bytes: usize,
        body: &[u8],
    ) -> Span {
        assert!(head_bytes <= N, "a head has no more bytes than it has");
        let current = self.room_for(N + body.len());
        let start = current.writer.length;
        // A copy of known size is two moves; the body then lies over what is too much of it.
        current.writer.bytes.write(start, head);
        current.writer.bytes.write(start + head_bytes, body);
        let length = head_bytes + body.len();
        current.writer.length = start + length;
        current.writer.open = start + length;
        Span { block: Rc::clone(&current.block), start: start as u32, length: length as u32 }
    }

    /// The same with a body of `body_bytes` that `fill` writes; nothing is named if it says that it did
    /// not.
    ///
    /// # Panics
    /// When `head_bytes` is more than `head` has.
    #[inline(always)]
    pub fn append_framed_by<const N: usize>(
        &mut self,
        head: &[u8; N],
        head_bytes: usize,
        body_bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> bool,
    ) -> Option<Span> {
        assert!(head_bytes <= N, "a head has no more bytes than it has");
        let current = self.room_for(N + body_bytes);
        let start = current.writer.length;
        current.writer.bytes.write(start, head);
        current.writer.length = start + head_bytes;
        if !fill(current.writer.space(body_bytes)) {
            current.writer.length = start;
            return None;
        }
        let length = head_bytes + body_bytes;
        current.writer.length = start + length;
        current.writer.open = start + length;
        Some(Span { block: Rc::clone(&current.block), start: start as u32, length: length as u32 })
    }

    #[inline(always)]
    fn room_for(&mut self, length: usize) -> &mut Current {
        let fits = self.current.as_mut().is_some_and(|current| {
            current.rewind();
            current.writer.room() >= length
        });
        if !fits {
            self.renew(length);
        }
        // The branch above left a block with room.
        self.current.as_mut().expect("a current block was just made")
    }

    #[cold]
    fn renew(&mut self, length: usize) {
        self.current = None;
        let writer = if length > self.pool.block_bytes {
            BlockWriter::with_capacity(length)
        } else {
            self.pool.take()
        };
        let block = Rc::new(Held(Arc::clone(&writer.bytes)));
        let references = Arc::strong_count(&writer.bytes);
        self.current = Some(Current { writer, block, references });
    }

    /// Gives blocks that no one refers to back to the allocator, except `kept` of them.
    pub fn give_back(&mut self, kept: usize) {
        self.pool.give_back(kept);
    }

    /// Bytes the arena remembers, in use or not.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        self.pool.resident_bytes()
    }

    /// Blocks that a span outside the arena still refers to; the current block does not count.
    #[must_use]
    pub fn blocks_in_use(&self) -> usize {
        let current = usize::from(self.current.is_some());
        self.pool.blocks_in_use().saturating_sub(current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_payload_names_what_was_pushed_since_the_last() {
        let mut writer = BlockWriter::with_capacity(16);
        writer.push(b"ab");
        writer.push(b"cd");
        let first = writer.finish();
        writer.push(b"ef");
        let second = writer.finish();
        assert_eq!((&first[..], &second[..]), (&b"abcd"[..], &b"ef"[..]));
        assert_eq!(&first.joined(&second).expect("adjacent")[..], b"abcdef");
        assert!(second.joined(&first).is_none());
        assert_eq!(writer.room(), 10);
    }

    #[test]
    fn a_block_is_taken_again_only_when_no_one_reads_it() {
        let mut pool = BlockPool::new(8, 4);
        let mut writer = pool.take();
        writer.push(b"held");
        let held = writer.finish();
        drop(writer);
        let mut other = pool.take();
        other.push(b"xxxx");
        assert_eq!(&held[..], b"held");
        drop((held, other));
        for _ in 0..10 {
            drop(pool.take());
        }
        assert_eq!(pool.resident_bytes(), 16);
        assert_eq!(pool.blocks_in_use(), 0);
    }

    #[test]
    fn spans_appended_in_a_row_join() {
        let mut arena = Arena::new(64, 4);
        let mut first = arena.append(&[b"head", b"er"]);
        let second = arena.append(&[b"body"]);
        assert!(first.try_join(&second));
        assert_eq!(&first[..], b"headerbody");
        first.advance(6);
        assert_eq!(&first[..], b"body");
        assert!(!first.try_join(&second));
    }

    #[test]
    fn a_frame_has_as_much_of_its_head_as_it_was_told() {
        let mut arena = Arena::new(64, 4);
        let mut first = arena.append_framed(b"head", 2, b"body");
        let second = arena.append_framed(b"head", 4, b"");
        assert_eq!((&first[..], &second[..]), (&b"hebody"[..], &b"head"[..]));
        assert!(first.try_join(&second));
        let filled = arena.append_framed_by(b"head", 1, 3, |body| {
            body.copy_from_slice(b"123");
            true
        });
        let filled = filled.expect("filled");
        assert_eq!(&filled[..], b"h123");
        assert!(arena.append_framed_by(b"head", 4, 3, |_| false).is_none());
        let next = arena.append_framed(b"head", 4, b"");
        assert!(std::ptr::eq(filled.as_ptr_range().end, next.as_ptr()), "nothing lies between");
        assert_eq!(&arena.append_framed(b"head", 0, &[7; 60])[..], &[7; 60]);
        assert_eq!(&first[..], b"hebodyhead");
    }

    #[test]
    fn an_arena_begins_again_only_when_nothing_of_its_block_is_read() {
        let mut arena = Arena::new(64, 4);
        let first = arena.append(&[b"first"]);
        let address = first.as_ptr();
        let second = arena.append(&[b"second"]);
        drop(first);
        assert_ne!(arena.append(&[b"third"]).as_ptr(), address);
        assert_eq!(&second[..], b"second");
        // A reference that may be on another thread counts like a span.
        let payload = second.to_payload();
        drop(second);
        assert_ne!(arena.append(&[b"fourth"]).as_ptr(), address);
        assert_eq!(&payload[..], b"second");
        drop(payload);
        let fifth = arena.append(&[b"fifth"]);
        assert_eq!((fifth.as_ptr(), &fifth[..]), (address, &b"fifth"[..]));
    }

    #[test]
    fn an_arena_serves_what_is_larger_than_its_blocks() {
        let mut arena = Arena::new(8, 4);
        let large = [7; 100];
        assert_eq!(&arena.append(&[&large])[..], &large);
        assert_eq!(&arena.append(&[b"small"])[..], b"small");
    }

    #[test]
    fn steady_use_keeps_an_arena_at_its_size() {
        let mut arena = Arena::new(64, 8);
        for _ in 0..1000 {
            drop(arena.append(&[&[0; 20]]));
        }
        assert!(arena.resident_bytes() <= 128, "{}", arena.resident_bytes());
    }
}
