//! Our publisher against our server, whole sessions, in every cut.

use proptest::prelude::*;

use super::*;
use crate::client::{self, ExtendedTimestamps, Publisher, State};

/// Exchanges bytes until both are quiet; gives what the client sent.
fn exchange(publisher: &mut Publisher, server: &mut Server, mut to_server: Vec<u8>) -> Vec<u8> {
    let mut sent = Vec::new();
    while !to_server.is_empty() {
        server.feed(&to_server).unwrap();
        sent.append(&mut to_server);
        let to_client = std::mem::take(&mut server.out);
        publisher.receive(&to_client, &mut to_server).unwrap();
    }
    sent
}

/// A whole session: its events, and the bytes of the client.
fn session(options: client::Options) -> (Vec<Seen>, Vec<u8>) {
    let mut publisher = Publisher::with_options("live", "cam?key=1", options);
    let mut server = Server::new(Options::default());
    let mut out = Vec::new();
    publisher.start(&mut out);
    let mut sent = exchange(&mut publisher, &mut server, out);
    assert_eq!(publisher.state(), &State::Publishing);
    let mut out = Vec::new();
    publisher.metadata(&[("width", 640.0.into())], &mut out);
    for (at, bytes) in
        [(0, 300), (40, 10), (80, 10), (120, 10), (17_000_000, 300), (17_000_040, 300)]
    {
        let payload: Vec<u8> = (0..=250).cycle().take(bytes).collect();
        publisher.video(at, &payload, &mut out);
        publisher.audio(at + 3, &payload[..7], &mut out);
    }
    publisher.audio(u32::MAX, &[1], &mut out);
    publisher.audio(5, &[], &mut out);
    publisher.ping(7, &mut out);
    publisher.stop(&mut out);
    sent.extend(exchange(&mut publisher, &mut server, out));
    assert_eq!(publisher.state(), &State::Unpublished);
    (server.seen, sent)
}

/// What the server made of it, as text, since NaN differs from itself.
fn replay(bytes: &[u8], cuts: &[usize]) -> (Result<(), Error>, String, Vec<u8>) {
    let mut server = Server::new(Options::default());
    let mut from = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        if let Err(error) = server.feed(&bytes[from..cut]) {
            return (Err(error), format!("{:?}", server.seen), server.out);
        }
        from = cut;
    }
    (Ok(()), format!("{:?}", server.seen), server.out)
}

#[test]
fn a_session_arrives_as_it_was_sent() {
    let (seen, _) = session(client::Options::default());
    assert!(matches!(&seen[0], Seen::Connect(request) if request.app == "live"));
    assert!(matches!(&seen[1], Seen::Publish(1, name, Some(query), PublishKind::Live)
        if name == "cam" && query == "key=1"));
    assert!(matches!(&seen[2], Seen::Metadata(1, values)
        if values[0].property("width") == Some(&Value::Number(640.0))));
    let times: Vec<i64> = seen
        .iter()
        .filter_map(|seen| match seen {
            Seen::Media { timestamp, .. } => Some(*timestamp),
            _ => None,
        })
        .collect();
    let expected = [0, 3, 40, 43, 80, 83, 120, 123, 17_000_000, 17_000_003, 17_000_040, 17_000_043];
    assert_eq!(times[..12], expected);
    // 2^32 - 1 is nearer behind 17,000,043 than before it; 5 follows six milliseconds later.
    assert_eq!(times[12..], [-1, 5]);
    assert_eq!(seen.last(), Some(&Seen::Unpublish(1)));
    assert_eq!(seen.len(), 3 + 14 + 1);
}

#[test]
fn every_habit_of_a_client_gives_the_same_events() {
    let (expected, _) = session(client::Options::default());
    for chunk_bytes in [1, 2, 127, 128, 129, 65_536, 0x7fff_ffff] {
        for extended_timestamps in [ExtendedTimestamps::Repeated, ExtendedTimestamps::Omitted] {
            for handshake in [Handshake::Simple, Handshake::Digest { schema: 0 }] {
                let entropy = u64::from(chunk_bytes);
                let options =
                    client::Options { handshake, chunk_bytes, extended_timestamps, entropy };
                assert!(session(options).0 == expected, "{options:?}");
            }
        }
    }
}

#[test]
fn every_cut_in_two_gives_the_same_events_and_replies() {
    let (_, bytes) = session(client::Options { chunk_bytes: 100, ..client::Options::default() });
    let whole = replay(&bytes, &[]);
    assert!(whole.0.is_ok());
    for cut in 0..bytes.len() {
        assert!(replay(&bytes, &[cut]) == whole, "cut at {cut}");
    }
}

#[test]
fn single_bytes_give_the_same_events_and_replies() {
    for chunk_bytes in [1, 5, 100, 65_536] {
        let (_, bytes) = session(client::Options { chunk_bytes, ..client::Options::default() });
        let cuts: Vec<usize> = (1..bytes.len()).collect();
        assert!(replay(&bytes, &cuts) == replay(&bytes, &[]), "chunks of {chunk_bytes}");
    }
}

#[test]
fn the_place_of_an_error_does_not_depend_on_the_cut() {
    let bad = [
        command(0, "launch", 1.0, &[]),
        message(2, 1, 0, 0, &[0; 4]),
        message(3, 20, 0, 0, &[2, 0, 9, b'a', b'b']),
        message(6, 9, 1, 0, &[1; 50])[..20].to_vec(),
    ];
    for bad in bad {
        let bytes = [handshake_bytes(), bad].concat();
        let whole = replay(&bytes, &[]);
        for cut in 3073..bytes.len() {
            assert!(replay(&bytes, &[cut]) == whole, "cut at {cut}");
        }
    }
    // The bound on unfinished commands is met at one byte, whatever the cut.
    let size = message(2, 1, 0, 0, &[0, 0, 0xff, 0xff]);
    let part = |id| chunk(0, id, &full_header(0, 65_536, 20), &[2; 65_535]);
    let bytes = [handshake_bytes(), size, part(10), part(11), part(12)].concat();
    let whole = replay(&bytes, &[]);
    let at = whole.0.unwrap_err().at;
    for cut in [at - 1, at, at + 1] {
        let cut = usize::try_from(cut).unwrap();
        assert!(replay(&bytes, &[cut]) == whole, "cut at {cut}");
    }
}

#[test]
fn the_client_takes_its_bytes_in_any_cut() {
    let mut publisher = Publisher::new("live", "cam");
    let mut server = Server::new(Options::default());
    let mut to_server = Vec::new();
    publisher.start(&mut to_server);
    while !to_server.is_empty() {
        server.feed(&to_server).unwrap();
        to_server.clear();
        for byte in std::mem::take(&mut server.out) {
            publisher.receive(&[byte], &mut to_server).unwrap();
        }
    }
    assert_eq!(publisher.state(), &State::Publishing);
}

#[test]
fn a_refused_client_learns_why() {
    let mut publisher = Publisher::new("live", "nobody");
    let mut server = Server::new(Options::default());
    let mut out = Vec::new();
    publisher.start(&mut out);
    exchange(&mut publisher, &mut server, out);
    assert_eq!(publisher.state(), &State::Refused("NetStream.Publish.Denied".into()));
}

#[test]
fn draining_tells_the_client_in_the_protocols_words() {
    let mut publisher = Publisher::new("live", "cam");
    let mut server = Server::new(Options::default());
    let mut out = Vec::new();
    publisher.start(&mut out);
    exchange(&mut publisher, &mut server, out);
    server.connection.close("going away", &mut server.out);
    assert!(server.connection.is_closed());
    let mut ignored = Vec::new();
    publisher.receive(&server.out, &mut ignored).unwrap();
    assert_eq!(publisher.state(), &State::Refused("NetConnection.Connect.Closed".into()));
    let codes: Vec<_> =
        server.replies().into_iter().map(|(stream, _, _, code)| (stream, code)).collect();
    assert_eq!(
        codes,
        [(1, "NetStream.Unpublish.Success".into()), (0, "NetConnection.Connect.Closed".into())]
    );
}

#[test]
fn acknowledgements_follow_the_window() {
    let mut publisher = Publisher::new("live", "cam");
    let window = 10_000;
    let mut server =
        Server::new(Options { acknowledgement_window_bytes: window, ..Options::default() });
    let mut out = Vec::new();
    publisher.start(&mut out);
    exchange(&mut publisher, &mut server, out);
    let mut out = Vec::new();
    for at in 0..100 {
        publisher.video(at, &[0; 1000], &mut out);
    }
    exchange(&mut publisher, &mut server, out);
    let received = u32::try_from(server.connection.received_bytes()).unwrap();
    assert!(received - publisher.acknowledged() < window);
    assert!(publisher.acknowledged() > 90_000);
}

proptest! {
    #[test]
    fn damaged_sessions_never_panic_and_do_not_depend_on_the_cut(
        damage in prop::collection::vec((0..2000usize, any::<u8>()), 0..6),
        cuts in prop::collection::btree_set(3073..4500usize, 0..5),
        chunk_bytes in 1..300u32,
    ) {
        let (_, mut bytes) = session(client::Options { chunk_bytes, ..client::Options::default() });
        for (at, byte) in damage {
            if let Some(place) = bytes.get_mut(3073 + at) {
                *place = byte;
            }
        }
        let cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < bytes.len()).collect();
        prop_assert!(replay(&bytes, &cuts) == replay(&bytes, &[]));
    }

    #[test]
    fn any_bytes_behind_the_handshake_never_panic(
        noise in prop::collection::vec(any::<u8>(), 0..3000), cut in 0..3000usize,
    ) {
        let bytes = [handshake_bytes(), connect(&[("app", "live".into())]), noise].concat();
        let cut = (3073 + cut).min(bytes.len());
        prop_assert!(replay(&bytes, &[cut]) == replay(&bytes, &[]));
    }
}
