//! A channel in one wire format: encodings one after the other, in blocks.
//!
//! A cursor that is behind is a range of at most a few blocks. The newest blocks are kept up to a
//! bound; a cursor before them has fallen off.

use crate::limits::{
    BLOCK_BYTES, LOG_BLOCK_BYTES_MIN, LOG_BYTES_MAX, PULL_BYTES_MAX, PULL_PUBLICATIONS_MAX,
    SPANS_PER_SEND_MAX,
};
use crate::memory::{BlockPool, BlockWriter, SpanBlock, Spans};
use std::collections::VecDeque;

/// What a pull took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) cursor: u64,
    pub(super) bytes: usize,
    pub(super) publications: u64,
    pub(super) more: bool,
}

/// The log.
#[derive(Debug)]
pub(super) struct FormatLog {
    blocks: VecDeque<LogBlock>,
    /// The offset that is appended next.
    next: u64,
    bytes: usize,
    /// Bytes appended since a sweep last ended.
    unswept: usize,
    /// The table of a block that was dropped, for the next one.
    spare_ends: Vec<(u32, u64)>,
}

#[derive(Debug)]
struct LogBlock {
    block: SpanBlock,
    /// The offset of its first publication.
    first: u64,
    /// Where each of its publications ends, and who sent it.
    ends: Vec<(u32, u64)>,
}

impl FormatLog {
    /// An empty log that begins with offset `next`.
    pub(super) const fn new(next: u64) -> Self {
        Self { blocks: VecDeque::new(), next, bytes: 0, unswept: 0, spare_ends: Vec::new() }
    }

    /// The oldest offset that can be pulled.
    pub(super) fn first(&self) -> u64 {
        self.blocks.front().map_or(self.next, |block| block.first)
    }

    /// The offset after the newest.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// The block that is being filled.
    pub(super) fn newest_bytes(&self) -> usize {
        self.blocks.back().map_or(0, |block| block.block.capacity())
    }

    /// The log's share of the blocks before that, which only readers that lag need.
    pub(super) fn lagging_bytes(&self) -> usize {
        self.blocks.iter().rev().skip(1).map(|block| block.block.pinned_share()).sum()
    }

    /// Encoded bytes from `cursor` on; all of them when it fell off.
    pub(super) fn bytes_after(&self, cursor: u64) -> u64 {
        let newer = self.blocks.partition_point(|block| block.next() <= cursor);
        let after = |block: &LogBlock| {
            let from = cursor.saturating_sub(block.first).min(block.ends.len() as u64) as usize;
            (block.block.len() - block.start_of(from)) as u64
        };
        self.blocks.range(newer..).map(after).sum()
    }

    /// Whether more than one send may take was appended since a sweep ended.
    pub(super) const fn is_bulky(&self) -> bool {
        self.unswept > PULL_BYTES_MAX
    }

    pub(super) const fn is_saturated(&self) -> bool {
        self.unswept > LOG_BYTES_MAX / 4
    }

    pub(super) fn append(&mut self, encoded: &[u8], sender: u64, pool: &mut BlockPool) {
        let fits = self.blocks.back().is_some_and(|block| block.block.room() >= encoded.len());
        if !fits {
            let block = self.new_block(encoded.len(), pool);
            let ends = std::mem::take(&mut self.spare_ends);
            self.blocks.push_back(LogBlock { block, first: self.next, ends });
        }
        // The branch above left a block with room at the back.
        let newest = self.blocks.back_mut().expect("a newest block");
        newest.block.push(encoded);
        newest.ends.push((newest.block.len() as u32, sender));
        self.next += 1;
        self.bytes += encoded.len();
        self.unswept += encoded.len();
        while self.bytes > LOG_BYTES_MAX && self.blocks.len() > 1 {
            self.drop_oldest();
        }
    }

    /// Blocks grow with use: a quiet channel holds a small one.
    fn new_block(&self, needed: usize, pool: &mut BlockPool) -> SpanBlock {
        let former = self.blocks.back().map_or(0, |block| block.block.capacity());
        let wanted = (former * 2).clamp(LOG_BLOCK_BYTES_MIN, BLOCK_BYTES);
        let writer = if needed > BLOCK_BYTES || wanted < BLOCK_BYTES {
            BlockWriter::with_capacity(wanted.max(needed))
        } else {
            pool.take()
        };
        SpanBlock::new(writer)
    }

    /// Forgets everything and goes on at `next`.
    pub(super) fn restart(&mut self, next: u64) {
        *self = Self::new(next);
    }

    /// A sweep ended that saw no cursor before `cursor`.
    pub(super) fn swept(&mut self, cursor: u64) {
        self.unswept = 0;
        while self.blocks.len() > 1 && self.blocks[1].first <= cursor {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(block) = self.blocks.pop_front() {
            self.bytes -= block.block.len();
            self.spare_ends = block.ends;
            self.spare_ends.clear();
        }
    }

    /// Takes the range from `cursor` on, at most `bytes_max` of it but one publication at least,
    /// without those that `skipped` sent; nothing when `cursor` fell off.
    pub(super) fn pull(
        &self,
        cursor: u64,
        skipped: Option<u64>,
        bytes_max: usize,
        spans: &mut Spans,
    ) -> Option<Taken> {
        let mut taken = Taken { cursor, ..Taken::default() };
        if cursor >= self.next {
            return Some(taken);
        }
        if cursor < self.first() {
            return None;
        }
        let newer = self.blocks.partition_point(|block| block.first <= cursor);
        for block in self.blocks.range(newer - 1..) {
            let spans_left = SPANS_PER_SEND_MAX.saturating_sub(spans.len());
            let publications_left = PULL_PUBLICATIONS_MAX - taken.publications as usize;
            let bytes_left = bytes_max.saturating_sub(taken.bytes);
            if spans_left == 0 || publications_left == 0 || (bytes_left == 0 && taken.bytes > 0) {
                break;
            }
            match skipped {
                None => block.pull_all(&mut taken, bytes_left, publications_left, spans),
                Some(sender) => block.pull_some(&mut taken, bytes_left, spans_left, sender, spans),
            }
            if taken.cursor < block.next() {
                break;
            }
        }
        taken.more = taken.cursor < self.next;
        Some(taken)
    }
}

impl LogBlock {
    fn next(&self) -> u64 {
        self.first + self.ends.len() as u64
    }

    fn start_of(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.ends[at - 1].0 as usize }
    }

    fn pull_all(
        &self,
        taken: &mut Taken,
        bytes_left: usize,
        publications_left: usize,
        spans: &mut Spans,
    ) {
        let from = (taken.cursor - self.first) as usize;
        let start = self.start_of(from);
        let limit = start.saturating_add(bytes_left);
        let fitting = if self.block.len() <= limit {
            self.ends.len()
        } else {
            from + self.ends[from..].partition_point(|(end, _)| *end as usize <= limit)
        };
        // One publication always goes, however large, when nothing was taken yet.
        let at_least = if taken.bytes == 0 { from + 1 } else { from };
        let to = fitting.max(at_least).min(from + publications_left);
        if to == from {
            return;
        }
        let span = self.block.span(start..self.ends[to - 1].0 as usize);
        taken.bytes += span.len();
        taken.publications += (to - from) as u64;
        taken.cursor = self.first + to as u64;
        spans.push(span);
    }

    fn pull_some(
        &self,
        taken: &mut Taken,
        bytes_left: usize,
        spans_left: usize,
        skipped: u64,
        spans: &mut Spans,
    ) {
        let mut run: Option<(usize, usize)> = None;
        let (mut bytes, mut pushed) = (0, 0);
        for at in (taken.cursor - self.first) as usize..self.ends.len() {
            let (end, sender) = self.ends[at];
            let (start, end) = (self.start_of(at), end as usize);
            if sender == skipped {
                if let Some((start, end)) = run.take() {
                    spans.push(self.block.span(start..end));
                    pushed += 1;
                }
            } else {
                if pushed >= spans_left
                    || (bytes + end - start > bytes_left && taken.bytes + bytes > 0)
                {
                    break;
                }
                run = Some((run.map_or(start, |(start, _)| start), end));
                bytes += end - start;
                taken.publications += 1;
            }
            taken.cursor = self.first + at as u64 + 1;
        }
        if let Some((start, end)) = run {
            spans.push(self.block.span(start..end));
        }
        taken.bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(count: u64) -> (FormatLog, BlockPool) {
        let (mut log, mut pool) = (FormatLog::new(1), BlockPool::new(BLOCK_BYTES, 16));
        for offset in 1..=count {
            log.append(format!("[{offset}]").as_bytes(), offset % 3, &mut pool);
        }
        (log, pool)
    }

    fn text(spans: &Spans) -> String {
        spans.iter().map(|span| String::from_utf8_lossy(span).into_owned()).collect()
    }

    #[test]
    fn a_cursor_that_lags_is_one_range() {
        let (log, _) = log(5);
        let mut spans = Spans::new();
        let taken = log.pull(3, None, 1000, &mut spans).expect("in the log");
        assert_eq!((text(&spans).as_str(), spans.len()), ("[3][4][5]", 1));
        assert_eq!(taken, Taken { cursor: 6, bytes: 9, publications: 3, more: false });
    }

    #[test]
    fn what_is_behind_a_cursor_is_what_a_pull_would_take() {
        let (log, _) = log(3000);
        assert!(log.blocks.len() > 2);
        for cursor in [1, 2, 100, 1500, 2999, 3000, 3001, 9999] {
            let mut spans = Spans::new();
            let taken = log.pull(cursor, None, usize::MAX, &mut spans).expect("in the log");
            assert_eq!(log.bytes_after(cursor), taken.bytes as u64, "{cursor}");
        }
        assert!(log.newest_bytes() > 0 && log.lagging_bytes() > 0);
        let all: usize = log.blocks.iter().map(|block| block.block.capacity()).sum();
        assert_eq!(log.newest_bytes() + log.lagging_bytes(), all);
    }

    #[test]
    fn any_pull_size_gives_the_same_bytes() {
        let (log, _) = log(3000);
        let whole: String = (1..=3000).map(|offset| format!("[{offset}]")).collect();
        for bytes_max in [1, 7, 100, 5000, 1_000_000] {
            let (mut cursor, mut read) = (1, String::new());
            loop {
                let mut spans = Spans::new();
                let taken = log.pull(cursor, None, bytes_max, &mut spans).expect("in the log");
                read += &text(&spans);
                cursor = taken.cursor;
                if !taken.more {
                    break;
                }
            }
            assert_eq!(read, whole);
        }
    }

    #[test]
    fn own_publications_are_left_out_for_any_pull_size() {
        let (log, _) = log(1000);
        let whole: String = (1..=1000)
            .filter(|offset| offset % 3 != 1)
            .map(|offset| format!("[{offset}]"))
            .collect();
        for bytes_max in [1, 20, 1_000_000] {
            let (mut cursor, mut read) = (1, String::new());
            while cursor <= 1000 {
                let mut spans = Spans::new();
                cursor = log.pull(cursor, Some(1), bytes_max, &mut spans).expect("in").cursor;
                read += &text(&spans);
            }
            assert_eq!(read, whole);
        }
    }

    #[test]
    fn the_oldest_blocks_go_at_the_bound_and_a_cursor_there_has_fallen_off() {
        let (mut log, mut pool) = (FormatLog::new(1), BlockPool::new(BLOCK_BYTES, 16));
        for _ in 0..100 {
            log.append(&vec![7; 100_000], 0, &mut pool);
        }
        assert!(log.bytes <= LOG_BYTES_MAX);
        assert_eq!(log.pull(1, None, 10, &mut Spans::new()), None);
        let first = log.first();
        assert!(log.pull(first, None, 10, &mut Spans::new()).is_some());
        log.swept(90);
        assert_eq!(log.first(), 90);
    }
}
