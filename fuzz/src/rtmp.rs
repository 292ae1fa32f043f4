//! The server half of RTMP, from its first byte, behind a handshake, and behind an accepted `publish`.

use std::sync::OnceLock;

use rtmp::client::{self, Handshake, Publisher, State};
use rtmp::{ConnectRejection, Connection, Event, Limits, MediaKind, Options, PublishRejection};

use crate::{Seed, cut};

/// What the session was told, media fragments of one message joined. As text, since AMF0 numbers may be NaN.
#[derive(Debug, PartialEq)]
enum Seen {
    Told(String),
    Media { key: (u32, MediaKind, u32), timestamp: i64, length: u32, bytes: Vec<u8> },
}

/// No bytes make the connection panic or keep more than it may; fragments lie within their message and in order; what is
/// answered is in proportion to what was sent.
pub fn never_panics(data: &[u8]) {
    let Some((&choice, stream)) = data.split_first() else { return };
    let mut server = Server::new();
    let prelude = prelude(choice);
    server.feed(prelude).expect("a valid session");
    server.policy = Policy::of(choice);
    let answered = server.out.len();
    let _ = server.feed(stream);
    let growth = server.out.len() - answered;
    assert!(growth <= 16 * 1024 + 16 * stream.len(), "{growth} bytes for {}", stream.len());
    let mut out = Vec::new();
    server.connection.ping(0, &mut out);
    server.connection.close("the end", &mut out);
    assert!(server.connection.is_closed());
}

/// Any cut of the bytes gives the same events and the same error.
pub fn split(data: &[u8]) {
    let (stream, pieces) = cut::pieces(data);
    let prelude = prelude(data.first().copied().unwrap_or(0));
    let mut whole = Server::new();
    let mut cut = Server::new();
    whole.feed(prelude).expect("a valid session");
    cut.feed(prelude).expect("a valid session");
    whole.policy = Policy::of(data.first().copied().unwrap_or(0));
    cut.policy = whole.policy;
    let expected = whole.feed(stream);
    let result = pieces.iter().try_for_each(|piece| cut.feed(piece));
    assert_eq!(result, expected);
    assert_eq!(whole.seen, cut.seen);
}

/// Sessions from the first byte, and what follows a handshake or a `publish`, behind a byte that chooses.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let Preludes { handshake, publishing, after_publish } = preludes();
    let seed = |choice: u8, bytes: &[u8]| [&[choice], bytes].concat();
    let commands = &publishing[handshake.len()..];
    let digest = session(client::Options {
        handshake: Handshake::Digest { schema: 1 },
        ..client::Options::default()
    });
    let long_timestamp: &[u8] = &[
        0x06, 0xff, 0xff, 0xff, 0, 0, 3, 9, 1, 0, 0, 0, 1, 0, 0, 0, 0x27, 1, 0, 0xc6, 1, 0, 0, 0,
        0x17, 1, 0,
    ];
    vec![
        ("from-the-start", seed(0, &[handshake.as_slice(), commands].concat())),
        ("digest", seed(3, &digest.publishing)),
        ("commands", seed(7, commands)),
        ("commands-cut", seed(6, commands)),
        ("media", seed(15, after_publish)),
        ("media-cut", seed(12, after_publish)),
        ("extended-timestamp", seed(13, long_timestamp)),
        ("reject-publish", seed(24, commands)),
        ("reject-connect", seed(42, commands)),
        ("unpublish", seed(66, after_publish)),
        ("abort", seed(12, &[2, 0, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 0, 0, 0, 6])),
        ("chunk-size-zero", seed(12, &[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("aggregate", seed(14, AGGREGATE)),
        ("large-chunk-stream-ids", seed(12, &[0, 5, 0, 0, 0, 0, 0, 0, 8, 1, 0, 0, 0, 1, 5, 5])),
    ]
}

/// One aggregate of an audio and a video tag on message stream 1.
const AGGREGATE: &[u8] = &[
    6, 0, 0, 10, 0, 0, 34, 22, 1, 0, 0, 0, // header: 34 bytes, type 22
    8, 0, 0, 2, 0, 0, 10, 0, 0, 0, 0, 0xaf, 1, 0, 0, 0, 13, // audio
    9, 0, 0, 2, 0, 0, 20, 0, 0, 0, 0, 0x27, 1, 0, 0, 0, 13, // video
];

struct Server {
    connection: Connection,
    out: Vec<u8>,
    inbox: Vec<u8>,
    seen: Vec<Seen>,
    policy: Policy,
}

/// What the session answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    /// Yes to everything.
    Accept,
    /// No to `publish`, in each of the ways.
    RejectPublish,
    /// No to `connect`.
    RejectConnect,
    /// Yes, and an end to the publication at its first metadata.
    Unpublish,
}

impl Policy {
    fn of(choice: u8) -> Self {
        [Self::Accept, Self::RejectPublish, Self::RejectConnect, Self::Unpublish]
            [usize::from(choice / 18) % 4]
    }
}

impl Server {
    fn new() -> Self {
        let options = Options { limits: LIMITS, ..Options::default() };
        Self {
            connection: Connection::new(options),
            out: Vec::new(),
            inbox: Vec::new(),
            seen: Vec::new(),
            policy: Policy::Accept,
        }
    }

    /// Presents what is left of before and the new bytes, and answers every question with yes.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.inbox.extend_from_slice(bytes);
        let inbox = std::mem::take(&mut self.inbox);
        let mut start = 0;
        loop {
            let received = self.connection.receive(7, &inbox[start..], &mut self.out);
            let received = received.map_err(|error| format!("{:?}", error.reason))?;
            start += received.consumed;
            let Some(event) = received.event else {
                if received.consumed == 0 {
                    break;
                }
                continue;
            };
            self.take(event);
        }
        assert!(inbox.len() - start <= 1_536, "a longer tail than the connection promises");
        self.inbox = inbox[start..].to_vec();
        Ok(())
    }

    fn take(&mut self, event: Event<'_>) {
        let Event::Media { stream, kind, chunk_stream, timestamp, length, offset, data } = event
        else {
            self.seen.push(Seen::Told(format!("{event:?}")));
            match event {
                Event::Connect(request) if self.policy == Policy::RejectConnect => {
                    let unknown = request.app.is_empty();
                    let why = if unknown {
                        ConnectRejection::InvalidApp
                    } else {
                        ConnectRejection::Rejected
                    };
                    self.connection.reject_connect(why, "no", &mut self.out);
                }
                Event::Publish { stream, name, .. } if self.policy == Policy::RejectPublish => {
                    use PublishRejection::{BadName, Denied, Rejected};
                    let why = [BadName, Denied, Rejected][name.len() % 3];
                    self.connection.reject_publish(stream, why, "no", &mut self.out);
                }
                Event::Metadata { stream, .. } if self.policy == Policy::Unpublish => {
                    self.connection.unpublish(stream, &mut self.out);
                }
                Event::Connect(_) => self.connection.accept_connect(&mut self.out),
                Event::Publish { stream, .. } => {
                    self.connection.accept_publish(stream, &mut self.out)
                }
                Event::Play { stream, .. } => {
                    self.connection.reject_play(stream, "no", &mut self.out)
                }
                _ => {}
            }
            return;
        };
        let end = u64::from(offset) + data.len() as u64;
        assert!(end <= u64::from(length), "a fragment beyond its message");
        let key = (stream.0, kind, chunk_stream);
        // Adjacent fragments of one message are one thing; where it was cut is the network's business.
        if offset > 0
            && let Some(Seen::Media { key: last, bytes, .. }) = self.seen.last_mut()
            && *last == key
        {
            bytes.extend_from_slice(data);
            return;
        }
        self.seen.push(Seen::Media { key, timestamp, length, bytes: data.to_vec() });
    }
}

struct Preludes {
    /// C0, C1 and C2.
    handshake: Vec<u8>,
    /// The same and all commands up to `publish`.
    publishing: Vec<u8>,
    /// Metadata, media and the end of the publication.
    after_publish: Vec<u8>,
}

/// What the server has read before the input begins, by a byte whose rest modulo 6 chooses the cuts.
fn prelude(choice: u8) -> &'static [u8] {
    match choice / 6 % 3 {
        0 => &[],
        1 => &preludes().handshake,
        _ => &preludes().publishing,
    }
}

fn preludes() -> &'static Preludes {
    static PRELUDES: OnceLock<Preludes> = OnceLock::new();
    PRELUDES.get_or_init(|| session(client::Options::default()))
}

/// A session of our own publisher, as the bytes it sent.
fn session(options: client::Options) -> Preludes {
    let mut publisher = Publisher::with_options("live", "cam?key=1", options);
    let mut server = Server::new();
    let mut publishing = Vec::new();
    let mut out = Vec::new();
    publisher.start(&mut out);
    while !out.is_empty() {
        server.feed(&out).expect("our own session");
        publishing.append(&mut out);
        let answer = std::mem::take(&mut server.out);
        publisher.receive(&answer, &mut out).expect("our own session");
    }
    assert_eq!(publisher.state(), &State::Publishing);
    let mut after_publish = Vec::new();
    publisher.metadata(&[("width", 640.0.into())], &mut after_publish);
    publisher.video(0, &[0x17, 0, 0, 0, 0, 1, 100, 0, 13], &mut after_publish);
    publisher.audio(0, &[0xaf, 0, 0x12, 0x10], &mut after_publish);
    publisher.video(40, &[0x27; 5_000], &mut after_publish);
    publisher.audio(17_000_000, &[0xaf, 1, 0x21], &mut after_publish);
    publisher.ping(9, &mut after_publish);
    publisher.stop(&mut after_publish);
    let handshake = publishing[..1 + 2 * 1_536].to_vec();
    Preludes { handshake, publishing, after_publish }
}

/// Small, so that inputs reach them.
const LIMITS: Limits = Limits {
    message_bytes_max: 16 << 10,
    command_bytes_max: 2 << 10,
    assembled_bytes_max: 3 << 10,
    chunk_streams_max: 8,
    message_streams_max: 4,
    name_bytes_max: 64,
    acknowledgement_window_bytes_min: 1 << 10,
};
