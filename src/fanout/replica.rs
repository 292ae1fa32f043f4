//! This shard's copy of a channel: recent publications by reference, their encodings, their readers.

use super::deflate::Compressors;
use super::format::Format;
use super::log::{FormatLog, Taken};
use super::publication::{Position, Publication};
use crate::limits::PULL_BYTES_MAX;
use crate::limits::{HISTORY_BYTES, HISTORY_PUBLICATIONS, REPLICA_LAG_MAX};
use crate::memory::{BlockPool, Key, Span, Spans};
use crate::time::Monotonic;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;

/// What the home answers to a shard's first subscribe.
#[derive(Debug)]
pub struct Answer {
    /// The channel's life.
    pub epoch: u64,
    /// The offset that is published next.
    pub next: u64,
    /// The newest publications before it, oldest first.
    pub history: Vec<Publication>,
}

/// Where a subscriber is in its replica.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Which of the replica's lists it is in; there is one per format.
    pub(super) readers: u8,
    /// Where in the list.
    pub(super) position: u32,
}

/// A subscriber that a removal moved to another place in its list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moved {
    pub(super) subscription: u32,
    pub(super) position: u32,
}

/// Where a subscriber begins.
#[derive(Debug, Default)]
pub(super) struct Start {
    pub(super) cursor: u64,
    /// The last offset before what it is going to get.
    pub(super) position: u64,
    pub(super) catch_up: Vec<u8>,
    pub(super) gap: bool,
}

/// This shard's copy of a channel.
#[derive(Debug)]
pub struct Replica {
    name: Arc<str>,
    epoch: u64,
    /// The offset that comes next.
    next: u64,
    live: bool,
    window: VecDeque<Publication>,
    window_bytes: usize,
    /// In the order of their first use; one whose readers have left stays, empty.
    readers: Vec<Readers>,
    /// Subscribers that came before the home answered.
    waiting: Vec<(Key, Option<Position>)>,
    moved: Vec<Moved>,
    dirty: bool,
    /// When its sweep may begin.
    due: Monotonic,
    /// Which of the lists the sweep is in.
    sweeping: usize,
}

/// The readers of one format.
#[derive(Debug)]
struct Readers {
    format: Format,
    log: Option<FormatLog>,
    list: Vec<u32>,
    /// How far the present sweep came in `list`.
    swept: usize,
    /// The lowest cursor that the present sweep saw.
    lowest: u64,
    /// The log's end when the present sweep began.
    goal: u64,
    /// What the present sweep pulled last, which is what most of its readers get.
    shared: Option<Shared>,
}

/// A pull that several readers have in common.
#[derive(Debug)]
struct Shared {
    from: u64,
    to: u64,
    span: Span,
}

impl Readers {
    const fn new(format: Format) -> Self {
        Self { format, log: None, list: Vec::new(), swept: 0, lowest: 0, goal: 0, shared: None }
    }
}

impl Readers {
    /// The log goes on at `next`, and what was pulled before is not what is pulled from now on.
    fn restart(&mut self, next: u64) {
        self.shared = None;
        if let Some(log) = &mut self.log {
            log.restart(next);
        }
    }

    #[inline(never)]
    fn share(&mut self, cursor: u64, next: u64) -> Option<(Span, u64)> {
        let mut spans = Spans::new();
        let taken = self.log.as_ref()?.pull(cursor, None, PULL_BYTES_MAX, &mut spans)?;
        if taken.cursor != next || spans.len() != 1 {
            return None;
        }
        let span = spans.pop()?;
        self.shared = Some(Shared { from: cursor, to: next, span: span.clone() });
        Some((span, next))
    }
}

impl Replica {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            epoch: 0,
            next: 1,
            live: false,
            window: VecDeque::new(),
            window_bytes: 0,
            readers: Vec::new(),
            waiting: Vec::new(),
            moved: Vec::new(),
            dirty: false,
            due: Monotonic::default(),
            sweeping: 0,
        }
    }

    pub(super) const fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) const fn is_live(&self) -> bool {
        self.live
    }

    pub(super) fn is_saturated(&self) -> bool {
        self.readers.iter().filter_map(|readers| readers.log.as_ref()).any(FormatLog::is_saturated)
    }

    pub(super) fn logs(&self) -> impl Iterator<Item = &FormatLog> {
        self.readers.iter().filter_map(|readers| readers.log.as_ref())
    }

    /// Memory of lists: of recent publications without their payloads, and of subscribers.
    pub(super) fn list_bytes(&self) -> (usize, usize) {
        let subscribers = self.readers.iter().map(|readers| readers.list.capacity()).sum::<usize>();
        (self.window.capacity() * size_of::<Publication>(), subscribers * size_of::<u32>())
    }

    /// Drops the oldest publications until at most `part_of` of their bytes is left.
    pub(super) fn trim_window(&mut self, part_of: impl Fn(u64) -> u64) {
        let bytes_max = part_of(self.window_bytes as u64) as usize;
        while self.window_bytes > bytes_max
            && let Some(oldest) = self.window.pop_front()
        {
            self.window_bytes -= oldest.payload.len();
        }
        self.window.shrink_to(2 * self.window.len());
    }

    /// Encoded bytes that a cursor in the list `readers` has not been sent.
    pub(super) fn bytes_after(&self, readers: u8, cursor: u64) -> u64 {
        let log = self.readers.get(usize::from(readers)).and_then(|readers| readers.log.as_ref());
        log.map_or(0, |log| log.bytes_after(cursor))
    }

    pub(super) fn subscriber_count(&self) -> usize {
        self.readers.iter().map(|readers| readers.list.len()).sum()
    }

    /// The subscribers, by format.
    pub(super) fn subscribers(&self) -> impl Iterator<Item = (Format, &[u32])> {
        self.readers.iter().map(|readers| (readers.format, &readers.list[..]))
    }

    pub(super) fn format(&self, readers: u8) -> Format {
        self.readers[usize::from(readers)].format
    }

    /// Adds a subscriber and says at which place.
    pub(super) fn join(&mut self, format: Format, subscription: u32) -> Place {
        let known = self.readers.iter().position(|readers| readers.format == format);
        let at = known.unwrap_or_else(|| {
            self.readers.reserve_exact(1);
            self.readers.push(Readers::new(format));
            self.readers.len() - 1
        });
        let readers = &mut self.readers[at];
        if readers.log.is_none() {
            readers.log = Some(FormatLog::new(self.next));
        }
        readers.list.push(subscription);
        // There are few formats.
        Place { readers: at as u8, position: readers.list.len() as u32 - 1 }
    }

    /// Removes the subscriber at `place`; [`Self::take_moved`] says who has another position now.
    pub(super) fn leave(&mut self, place: Place, key: Key) {
        self.waiting.retain(|(waiting, _)| *waiting != key);
        let readers = &mut self.readers[usize::from(place.readers)];
        let mut at = place.position as usize;
        debug_assert_eq!(readers.list.get(at), Some(&key.index), "a subscriber knows its place");
        if at < readers.swept {
            // The last one that the sweep visited takes its place, so that the last of the list,
            // which it did not visit, can take that one's.
            readers.swept -= 1;
            let visited = readers.list[readers.swept];
            readers.list.swap(at, readers.swept);
            if at != readers.swept {
                self.moved.push(Moved { subscription: visited, position: at as u32 });
            }
            at = readers.swept;
        }
        readers.list.swap_remove(at);
        if let Some(subscription) = readers.list.get(at).copied() {
            self.moved.push(Moved { subscription, position: at as u32 });
        }
        if readers.list.is_empty() {
            readers.log = None;
        }
    }

    pub(super) fn take_moved(&mut self) -> impl Iterator<Item = Moved> + use<> {
        let moved: SmallVec<[Moved; 2]> = self.moved.drain(..).collect();
        moved.into_iter()
    }

    pub(super) fn wait(&mut self, key: Key, after: Option<Position>) {
        self.waiting.push((key, after));
    }

    /// Takes over what the home knows and names those who waited for it.
    pub(super) fn begin(&mut self, answer: Answer) -> Vec<(Key, Option<Position>)> {
        self.epoch = answer.epoch;
        self.next = answer.next;
        self.live = true;
        self.window_bytes = answer.history.iter().map(|entry| entry.payload.len()).sum();
        self.window = answer.history.into();
        for readers in &mut self.readers {
            readers.restart(self.next);
        }
        self.take_waiting()
    }

    /// Those who wait for the home's answer.
    pub(super) fn take_waiting(&mut self) -> Vec<(Key, Option<Position>)> {
        std::mem::take(&mut self.waiting)
    }

    /// Appends the publication at `offset`; false when it is not the one that comes next.
    pub(super) fn append(
        &mut self,
        offset: u64,
        publication: Publication,
        pool: &mut BlockPool,
        compressors: &mut Compressors,
        scratch: &mut Vec<u8>,
    ) -> bool {
        if !self.live || offset != self.next {
            debug_assert!(!self.live || offset < self.next, "the home tells every offset in order");
            return false;
        }
        let position = Position { epoch: self.epoch, offset };
        for readers in &mut self.readers {
            if let Some(log) = &mut readers.log {
                scratch.clear();
                compressors.encode(readers.format, &publication, position, scratch);
                log.append(scratch, publication.sender, pool);
            }
        }
        self.next += 1;
        self.window_bytes += publication.payload.len();
        self.window.push_back(publication);
        while self.window.len() > HISTORY_PUBLICATIONS
            || (self.window_bytes > HISTORY_BYTES && self.window.len() > 1)
        {
            if let Some(oldest) = self.window.pop_front() {
                self.window_bytes -= oldest.payload.len();
            }
        }
        true
    }

    /// The home no longer has what is before `next`.
    pub(super) fn skip_to(&mut self, next: u64) {
        if next <= self.next {
            return;
        }
        self.next = next;
        self.window.clear();
        self.window_bytes = 0;
        for readers in &mut self.readers {
            readers.restart(next);
        }
    }

    /// Where a subscriber in the list `readers` that had everything up to `after` begins.
    ///
    /// What it catches up with is encoded for it alone, and not compressed: a whole history would
    /// take a tenth of a second.
    pub(super) fn start_after(
        &self,
        readers: u8,
        after: Option<Position>,
        scratch: &mut Vec<u8>,
    ) -> Start {
        let newest = Start { cursor: self.next, position: self.next - 1, ..Start::default() };
        let Some(after) = after else { return newest };
        if after.epoch != self.epoch || after.offset >= self.next + REPLICA_LAG_MAX {
            return Start { gap: true, ..newest };
        }
        let wanted = after.offset + 1;
        if wanted > self.next {
            // It was told on a shard that is ahead of this one.
            return Start { cursor: wanted, position: after.offset, ..Start::default() };
        }
        let oldest = self.next - self.window.len() as u64;
        let readers = &self.readers[usize::from(readers)];
        let logged = readers.log.as_ref().map_or(self.next, FormatLog::first);
        if wanted >= logged {
            return Start { cursor: wanted, position: after.offset, ..Start::default() };
        }
        let from = wanted.max(oldest);
        scratch.clear();
        for offset in from..logged.max(from) {
            let position = Position { epoch: self.epoch, offset };
            readers.format.encode(&self.window[(offset - oldest) as usize], position, scratch);
        }
        Start {
            cursor: logged.max(from),
            position: from - 1,
            catch_up: std::mem::take(scratch),
            gap: wanted < oldest,
        }
    }

    /// True when it was clean; its sweep may begin at `due` then.
    pub(super) const fn mark_dirty(&mut self, due: Monotonic) -> bool {
        let was_clean = !self.dirty;
        self.dirty = true;
        if was_clean {
            self.sweeping = 0;
            self.due = due;
        }
        was_clean
    }

    /// Whether there is something to tell, or being told, and its sweep may begin at that time.
    pub(super) fn is_due_at(&self, due: Monotonic) -> bool {
        self.dirty && self.due == due
    }

    /// True once, when so much has gathered for a sweep that it should not wait for more; it may begin now.
    pub(super) fn hurries(&mut self, now: Monotonic) -> bool {
        let gathered = |readers: &Readers| readers.log.as_ref().is_some_and(FormatLog::is_bulky);
        let hurries = self.due > now && self.readers.iter().any(gathered);
        if hurries {
            self.due = now;
        }
        hurries
    }

    /// The next subscriber of the sweep and the end of its log.
    pub(super) fn sweep_next(&mut self) -> Option<(u32, u64)> {
        while let Some(readers) = self.readers.get_mut(self.sweeping) {
            if let Some(log) = &readers.log
                && let Some(index) = readers.list.get(readers.swept).copied()
            {
                if readers.swept == 0 {
                    readers.goal = log.next();
                    readers.lowest = log.next();
                }
                readers.swept += 1;
                return Some((index, log.next()));
            }
            self.sweeping += 1;
        }
        None
    }

    pub(super) fn saw_cursor(&mut self, readers: u8, cursor: u64) {
        let lowest = &mut self.readers[usize::from(readers)].lowest;
        *lowest = cursor.min(*lowest);
    }

    /// Ends a sweep; true when another has to follow, because more was published meanwhile. It may begin at
    /// `due`.
    pub(super) fn end_sweep(&mut self, due: Monotonic) -> bool {
        let mut again = false;
        for readers in &mut self.readers {
            if let Some(log) = &mut readers.log {
                if readers.swept > 0 {
                    log.swept(readers.lowest);
                    again |= log.next() > readers.goal;
                }
                readers.swept = 0;
            }
            readers.shared = None;
        }
        self.sweeping = 0;
        self.due = due;
        self.dirty = again;
        again
    }

    /// How long the list is that the sweep is in.
    pub(super) fn list_length(&self) -> usize {
        self.readers.get(self.sweeping).map_or(0, |readers| readers.list.len())
    }

    /// The subscriber that the sweep comes to after `count` others, in the same list.
    pub(super) fn ahead(&self, count: usize) -> Option<u32> {
        let readers = self.readers.get(self.sweeping)?;
        readers.list.get(readers.swept + count).copied()
    }

    /// Everything from `cursor` on in one span, and the cursor behind it. `None` where that takes several
    /// spans or pulls, or where there is nothing: [`Self::pull`] does it then.
    #[inline]
    pub(super) fn pull_shared(&mut self, readers: u8, cursor: u64) -> Option<(Span, u64)> {
        let readers = &mut self.readers[usize::from(readers)];
        let next = readers.log.as_ref()?.next();
        match &readers.shared {
            Some(shared) if (shared.from, shared.to) == (cursor, next) => {
                Some((shared.span.clone(), next))
            }
            _ => readers.share(cursor, next),
        }
    }

    pub(super) fn pull(
        &self,
        readers: u8,
        cursor: u64,
        skipped: Option<u64>,
        bytes_max: usize,
        spans: &mut Spans,
    ) -> Option<Taken> {
        let log = self.readers[usize::from(readers)].log.as_ref()?;
        log.pull(cursor, skipped, bytes_max, spans)
    }
}
