//! What has to hold of everything that clients saw, whatever went wrong on the way.
//!
//! Clients tell the [`Ledger`] each publication with the place it came under; a [`Subscription`]
//! checks one connection's own sequence as it comes. At the end the ledger checks what only the
//! whole shows: one order per channel, none lost, none twice.

use std::collections::BTreeMap;

/// Who published it, and its number there, from 1.
pub(crate) type Message = (u32, u32);

/// A publication's text: who, which, and how much follows, so that a cut or mixed one shows.
pub(crate) fn text_of((publisher, number): Message, padding: usize) -> String {
    format!("p{publisher} n{number} l{padding} {}.", "x".repeat(padding))
}

/// The publication that a text is.
pub(crate) fn parse_text(text: &str) -> Message {
    let read = || {
        let start =
            text.find('p').filter(|at| text[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
        let mut words = text[start?..].splitn(4, ' ');
        let publisher = words.next()?.strip_prefix('p')?.parse().ok()?;
        let number = words.next()?.strip_prefix('n')?.parse().ok()?;
        let length: usize = words.next()?.strip_prefix('l')?.parse().ok()?;
        let (padding, _) = words.next()?.split_once('.')?;
        let whole = padding.len() == length && padding.bytes().all(|byte| byte == b'x');
        whole.then_some((publisher, number))
    };
    read().unwrap_or_else(|| panic!("not a publication of ours: {text:?}"))
}

/// `epoch-offset`
pub(crate) fn parse_position(id: &str) -> (&str, u64) {
    let (epoch, offset) = id.split_once('-').unwrap_or_else(|| panic!("not an id: {id:?}"));
    (epoch, offset.parse().unwrap_or_else(|_| panic!("not an id: {id:?}")))
}

#[derive(Debug, Default)]
struct ChannelLedger {
    epoch: Option<String>,
    by_offset: BTreeMap<u64, Message>,
    by_message: BTreeMap<Message, u64>,
    /// From which place on a reader sees everything that comes.
    watched_from: Option<u64>,
}

#[derive(Debug)]
struct Publisher {
    channel: usize,
    /// How many it sent.
    sent: u32,
    /// Whether someone watched the channel when it began.
    watched: bool,
    /// Whether the server took all of them.
    complete: bool,
}

/// What is known of a run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    channels: Vec<ChannelLedger>,
    publishers: Vec<Publisher>,
    /// What readers without ids saw, and whose publications they did not want.
    sequences: Vec<(usize, Option<u32>, Vec<Message>)>,
    /// Places that a reader jumped over because they were its own publications.
    holes: Vec<(usize, u64, u64, u32)>,
    /// Whether history is so short that gaps have to be expected.
    pub(crate) allows_gaps: bool,
    pub(crate) gaps: u64,
    pub(crate) delivered: u64,
    pub(crate) resumed: u64,
    /// Publications that were refused because too many waited.
    pub(crate) refused: u64,
    /// Messages that came compressed.
    pub(crate) inflated: u64,
    /// Messages that came back as they were sent.
    pub(crate) echoed: u64,
    /// Files of live streams that never change.
    files: BTreeMap<String, u64>,
    pub(crate) segments: u64,
}

impl Ledger {
    pub(crate) fn new(channels: usize, allows_gaps: bool) -> Self {
        Self {
            channels: (0..channels).map(|_| ChannelLedger::default()).collect(),
            allows_gaps,
            ..Self::default()
        }
    }

    pub(crate) fn new_publisher(&mut self, channel: usize) -> u32 {
        self.publishers.push(Publisher { channel, sent: 0, watched: false, complete: false });
        self.publishers.len() as u32 - 1
    }

    /// The next publication of a publisher.
    pub(crate) fn publishes(&mut self, publisher: u32) -> Message {
        let known = &mut self.publishers[publisher as usize];
        if known.sent == 0 {
            known.watched = self.channels[known.channel].watched_from.is_some();
        }
        known.sent += 1;
        (publisher, known.sent)
    }

    /// The server has taken everything that a publisher sent.
    pub(crate) fn is_complete(&mut self, publisher: u32) {
        self.publishers[publisher as usize].complete = true;
    }

    /// Someone saw a publication at a place.
    pub(crate) fn saw(&mut self, channel: usize, id: &str, message: Message) -> u64 {
        let (epoch, offset) = parse_position(id);
        let sent = &self.publishers[message.0 as usize];
        assert_eq!(sent.channel, channel, "{message:?} is of another channel");
        assert!(message.1 <= sent.sent, "{message:?} was never sent");
        let known = &mut self.channels[channel];
        let first = known.epoch.get_or_insert_with(|| epoch.to_string());
        assert_eq!(first, epoch, "channel {channel} began another life");
        let other = *known.by_offset.entry(offset).or_insert(message);
        assert_eq!(other, message, "channel {channel} has two publications at {offset}");
        let place = *known.by_message.entry(message).or_insert(offset);
        assert_eq!(place, offset, "channel {channel} has {message:?} twice");
        offset
    }

    /// A reader that always comes back has seen `id` and is to see everything from there on.
    pub(crate) fn is_watched_from(&mut self, channel: usize, id: &str) {
        self.channels[channel].watched_from.get_or_insert_with(|| parse_position(id).1);
    }

    /// How many publications are known of a channel.
    pub(crate) fn published(&self, channel: usize) -> u64 {
        self.channels[channel].by_offset.len() as u64
    }

    /// A file that never changes was read.
    pub(crate) fn file(&mut self, path: &str, bytes: &[u8]) {
        let hash = bytes.iter().fold(bytes.len() as u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
        });
        self.segments += 1;
        let known = *self.files.entry(path.to_string()).or_insert(hash);
        assert_eq!(known, hash, "{path} changed");
    }

    /// What only the whole shows.
    pub(crate) fn check(&self) {
        for (number, channel) in self.channels.iter().enumerate() {
            let mut expected = None;
            let watched_from = channel.watched_from.unwrap_or(u64::MAX);
            for (offset, message) in channel.by_offset.range(watched_from..) {
                let gapless = expected.is_none_or(|expected| expected == *offset);
                assert!(
                    gapless || self.allows_gaps,
                    "channel {number}: nobody saw what came before {offset} {message:?}"
                );
                expected = Some(offset + 1);
            }
        }
        self.check_publishers();
        for (channel, own, sequence) in &self.sequences {
            self.check_sequence(*channel, *own, sequence);
        }
        for (channel, from, to, own) in &self.holes {
            for offset in *from..*to {
                let skipped = self.channels[*channel].by_offset.get(&offset);
                let is_own = skipped.is_none_or(|(publisher, _)| publisher == own);
                assert!(is_own, "a reader was not told {skipped:?} at {offset}");
            }
        }
    }

    fn check_publishers(&self) {
        for (number, publisher) in self.publishers.iter().enumerate() {
            let id = number as u32;
            let channel = &self.channels[publisher.channel];
            let mine: Vec<(u32, u64)> = channel
                .by_message
                .range((id, 0)..=(id, u32::MAX))
                .map(|((_, number), offset)| (*number, *offset))
                .collect();
            assert!(mine.is_sorted_by_key(|(_, offset)| *offset), "publisher {id} out of order");
            if self.allows_gaps {
                continue;
            }
            let numbers = mine.iter().map(|(number, _)| *number);
            // What was published before anyone watched may be missing.
            let first = mine.first().map_or(1, |(number, _)| *number);
            assert!(!publisher.watched || first == 1, "publisher {id}: its first are lost");
            assert!(
                numbers.eq(first..first + mine.len() as u32),
                "publisher {id}: a hole {mine:?}"
            );
            if publisher.complete && publisher.watched {
                let last = mine.last().map_or(0, |(number, _)| *number);
                assert_eq!(last, publisher.sent, "publisher {id}: its last are lost");
            }
        }
    }

    fn check_sequence(&self, channel: usize, own: Option<u32>, sequence: &[Message]) {
        let known = &self.channels[channel];
        // What was published before anyone watched may be known to no one else.
        let watched_from = known.watched_from.unwrap_or(u64::MAX);
        let mut last: Option<u64> = None;
        for message in sequence {
            let Some(offset) = known.by_message.get(message).copied() else {
                assert!(
                    last.is_none_or(|last| last < watched_from) || self.allows_gaps,
                    "{message:?} reached only readers without ids"
                );
                continue;
            };
            if let Some(last) = last {
                assert!(offset > last, "{message:?} at {offset} came after {last}");
                let missing =
                    (last + 1..offset).find(|between| match known.by_offset.get(between) {
                        Some((publisher, _)) => Some(*publisher) != own,
                        None => *between >= watched_from && !self.allows_gaps,
                    });
                assert_eq!(missing, None, "channel {channel}: a reader was not told");
            }
            last = Some(offset);
        }
    }
}

/// What one connection reads of one channel.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) channel: usize,
    /// The place it asked to go on after, or was told of last.
    last: Option<u64>,
    gap: bool,
    /// Whose publications it does not want.
    pub(crate) own: Option<u32>,
    sequence: Vec<Message>,
    pub(crate) newest: Option<Message>,
}

impl Subscription {
    pub(crate) const fn new(channel: usize, after: Option<u64>, own: Option<u32>) -> Self {
        Self { channel, last: after, gap: false, own, sequence: Vec::new(), newest: None }
    }

    /// A publication came, with its place.
    pub(crate) fn with_id(&mut self, ledger: &mut Ledger, id: &str, message: Message) {
        let offset = ledger.saw(self.channel, id, message);
        ledger.delivered += 1;
        if let Some(last) = self.last {
            assert!(offset > last, "{message:?} at {offset} came after {last}");
            match self.own {
                Some(own) if offset > last + 1 => {
                    ledger.holes.push((self.channel, last + 1, offset, own));
                }
                _ => assert_eq!(offset, last + 1, "channel {}: a gap untold", self.channel),
            }
        }
        self.last = Some(offset);
        self.newest = Some(message);
    }

    /// The server said that something is missing before what comes next.
    pub(crate) fn on_gap(&mut self, ledger: &mut Ledger, id: &str) {
        let (_, offset) = parse_position(id);
        ledger.gaps += 1;
        assert!(
            ledger.allows_gaps,
            "channel {}: told of a gap up to {id} after {:?} although all is kept",
            self.channel, self.last
        );
        assert!(self.last.is_none_or(|last| offset > last), "a gap that is none");
        self.last = Some(offset);
        self.gap = true;
    }

    /// A publication came, without its place.
    pub(crate) fn without_id(&mut self, ledger: &mut Ledger, message: Message) {
        ledger.delivered += 1;
        self.sequence.push(message);
        self.newest = Some(message);
    }

    /// It is over.
    pub(crate) fn end(&mut self, ledger: &mut Ledger) {
        let sequence = std::mem::take(&mut self.sequence);
        if !sequence.is_empty() {
            ledger.sequences.push((self.channel, self.own, sequence));
        }
    }

    /// Whether it was told `message` or something after it.
    pub(crate) fn has(&self, ledger: &Ledger, message: Message) -> bool {
        if self.own == Some(message.0) || self.newest == Some(message) {
            return true;
        }
        let places = &ledger.channels[self.channel].by_message;
        let place = |message: &Message| places.get(message).copied();
        let told = self.newest.as_ref().and_then(place).or(self.last);
        place(&message).zip(told).is_some_and(|(asked, told)| told >= asked)
    }
}
