//! Hubs of two shards against each other, without a ring.

use super::*;
use crate::fanout::NO_SUBSCRIPTION;
use crate::memory::Spans;

const LIMITS: HistoryLimits =
    HistoryLimits { publications: 100, bytes: 1 << 20, age: std::time::Duration::from_secs(60) };
const NOW: Monotonic = Monotonic::from_millis(1);

fn hubs() -> [Hub; 2] {
    [
        Hub::new(0, 2, 7, 1, LIMITS, websocket::deflate::Settings::default()),
        Hub::new(1, 2, 7, 2, LIMITS, websocket::deflate::Settings::default()),
    ]
}

/// Carries mail until none is left.
fn settle(hubs: &mut [Hub; 2]) {
    loop {
        let mut quiet = true;
        for from in 0..2_u8 {
            let to = 1 - from;
            while let Some(mail) = hubs[usize::from(from)].outbound(to).pop_front() {
                hubs[usize::from(to)].receive(from, mail, NOW);
                quiet = false;
            }
        }
        if quiet {
            return;
        }
    }
}

fn subscribe(hub: &mut Hub, index: u32, head: &mut u32, after: Option<Position>, format: Format) {
    let sink = Sink { connection: Key { index, generation: 1 }, stream: 0 };
    let options = SubscribeOptions { format, after, skips_own: false };
    hub.subscribe("news", sink, head, options, NOW).expect("room");
}

fn publish(hub: &mut Hub, text: &str) {
    hub.publish(&Arc::from("news"), text.as_bytes(), Draft::of(PublicationKind::Text), NOW)
        .expect("small");
}

fn pulled(hub: &mut Hub, head: u32) -> Vec<String> {
    let mut spans = Spans::new();
    let pulled = hub.fanout().pull(head, &mut spans, 1 << 20);
    assert!(!pulled.fallen);
    let bytes: Vec<u8> = spans.iter().flat_map(|span| span.to_vec()).collect();
    let mut frames = &bytes[..];
    let mut texts = Vec::new();
    while let [_, length, rest @ ..] = frames {
        let (text, after) = rest.split_at(usize::from(*length));
        texts.push(String::from_utf8(text.to_vec()).expect("text"));
        frames = after;
    }
    texts
}

#[test]
fn readers_on_both_shards_get_one_order_wherever_the_home_is() {
    let mut hubs = hubs();
    let mut heads = [NO_SUBSCRIPTION; 2];
    for shard in 0..2 {
        subscribe(&mut hubs[shard], 1, &mut heads[shard], None, Format::WebSocket);
    }
    settle(&mut hubs);
    for number in 0..50 {
        publish(&mut hubs[number % 2], &number.to_string());
        if number % 7 == 0 {
            settle(&mut hubs);
        }
    }
    settle(&mut hubs);
    let [first, second] = &mut hubs;
    let orders = [pulled(first, heads[0]), pulled(second, heads[1])];
    assert_eq!(orders[0].len(), 50);
    assert_eq!(orders[0], orders[1]);
}

#[test]
fn a_subscriber_resumes_after_the_publication_it_had() {
    let mut hubs = hubs();
    let mut head = NO_SUBSCRIPTION;
    subscribe(&mut hubs[0], 1, &mut head, None, Format::WebSocket);
    settle(&mut hubs);
    let Some(HubEvent::Resolved(start)) = hubs[0].poll_event() else { panic!("resolved") };
    for number in 0..10 {
        publish(&mut hubs[1], &number.to_string());
    }
    settle(&mut hubs);
    // The other shard's first reader: everything comes from the home's history.
    let after = Position { offset: start.position.offset + 4, ..start.position };
    let mut late = NO_SUBSCRIPTION;
    subscribe(&mut hubs[1], 2, &mut late, Some(after), Format::WebSocket);
    settle(&mut hubs);
    let Some(HubEvent::Resolved(found)) = hubs[1].poll_event() else { panic!("resolved") };
    assert!(!found.gap);
    assert_eq!(found.catch_up.len(), 6 * 3);
    // A second one there finds the replica live and its log short.
    let mut later = NO_SUBSCRIPTION;
    subscribe(&mut hubs[1], 3, &mut later, Some(after), Format::EventStream);
    let Some(HubEvent::Resolved(found)) = hubs[1].poll_event() else { panic!("resolved") };
    assert!(!found.gap && !found.catch_up.is_empty());
    // One from another life of the channel is told of the gap.
    let foreign = Position { epoch: after.epoch + 1, ..after };
    subscribe(&mut hubs[1], 4, &mut later, Some(foreign), Format::WebSocket);
    let Some(HubEvent::Resolved(found)) = hubs[1].poll_event() else { panic!("resolved") };
    assert!(found.gap);
}

#[test]
fn a_shard_that_cannot_be_told_gets_the_range_later() {
    let mut hubs = hubs();
    let home = usize::from(hubs[0].home_of("news"));
    let other = 1 - home;
    let mut head = NO_SUBSCRIPTION;
    subscribe(&mut hubs[other], 1, &mut head, None, Format::WebSocket);
    settle(&mut hubs);
    // The mailbox stays full until it is emptied below; the newest stay in the history.
    for number in 0..OUTBOUND_MESSAGES_HIGH + 50 {
        publish(&mut hubs[home], &number.to_string());
    }
    assert_eq!(hubs[home].outbound(other as ShardId).len(), OUTBOUND_MESSAGES_HIGH);
    settle(&mut hubs);
    hubs[home].tell_behind();
    settle(&mut hubs);
    let mut all = Vec::new();
    loop {
        let texts = pulled(&mut hubs[other], head);
        if texts.is_empty() {
            break;
        }
        all.extend(texts);
    }
    let expected: Vec<String> =
        (0..OUTBOUND_MESSAGES_HIGH + 50).map(|number| number.to_string()).collect();
    assert_eq!(all, expected);
    assert_eq!(hubs[home].totals().skipped, 0);
}

#[test]
fn an_idempotency_key_publishes_once() {
    let mut hubs = hubs();
    let home = usize::from(hubs[0].home_of("news"));
    let draft = || Draft {
        confirm: Some(Confirm {
            connection: Key { index: 9, generation: 1 },
            idempotency_key: Some(Arc::from("k")),
        }),
        ..Draft::of(PublicationKind::Text)
    };
    let mut positions = Vec::new();
    for _ in 0..2 {
        hubs[home].publish(&Arc::from("news"), b"x", draft(), NOW).expect("small");
        let Some(HubEvent::Published { result, .. }) = hubs[home].poll_event() else {
            panic!("confirmed")
        };
        positions.push(result.expect("published"));
    }
    assert_eq!(positions[0], positions[1]);
    assert_eq!(hubs[home].totals().publications, 1);
}

#[test]
fn the_last_reader_to_leave_frees_the_replica_and_idle_channels_are_forgotten() {
    let mut hubs = hubs();
    let mut heads = [NO_SUBSCRIPTION; 20];
    for (index, head) in heads.iter_mut().enumerate() {
        subscribe(&mut hubs[0], index as u32, head, None, Format::WebSocket);
    }
    settle(&mut hubs);
    assert_eq!(hubs[0].readers().replica_count(), 1);
    for at in [3, 19, 0, 7] {
        hubs[0].unsubscribe_all(&mut heads[at], NOW);
    }
    publish(&mut hubs[1], "still");
    settle(&mut hubs);
    for head in heads {
        let got = pulled(&mut hubs[0], head);
        assert_eq!(got.len(), usize::from(head != NO_SUBSCRIPTION));
    }
    for head in &mut heads {
        hubs[0].unsubscribe_all(head, NOW);
    }
    settle(&mut hubs);
    assert_eq!((hubs[0].readers().replica_count(), hubs[0].readers().subscription_count()), (0, 0));
    let later = Monotonic::from_millis(10_000_000);
    for hub in &mut hubs {
        hub.tick(later);
        assert_eq!(hub.channels().count(), 0);
    }
}

#[test]
fn a_publication_is_compressed_once_on_a_shard_for_each_class_in_use() {
    use crate::fanout::window_class;
    use websocket::deflate::WindowBits;

    let mut hubs = hubs();
    let classes = [WindowBits::MAX, WindowBits::MIN].map(window_class);
    let formats = [
        Format::WebSocket,
        Format::WebSocket.compressed(classes[0]),
        Format::WebSocket.compressed(classes[1]),
    ];
    let mut heads = [[NO_SUBSCRIPTION; 30]; 2];
    for (hub, heads) in hubs.iter_mut().zip(&mut heads) {
        for (index, head) in heads.iter_mut().enumerate() {
            subscribe(hub, index as u32, head, None, formats[index % 3]);
        }
    }
    settle(&mut hubs);
    let text = "a text that says the same, and says the same again. ".repeat(8);
    for _ in 0..5 {
        publish(&mut hubs[0], &text);
    }
    settle(&mut hubs);
    for (hub, heads) in hubs.iter_mut().zip(&heads) {
        assert_eq!(hub.readers().deflate_totals().compressions, 2 * 5);
        for (index, head) in heads.iter().enumerate() {
            let mut spans = Spans::new();
            assert_eq!(hub.fanout().pull(*head, &mut spans, 1 << 20).publications, 5);
            let bytes: usize = spans.iter().map(|span| span.len()).sum();
            assert_eq!(bytes < 5 * text.len() / 2, index % 3 != 0);
        }
    }
    // A class whose readers left costs nothing.
    for (hub, heads) in hubs.iter_mut().zip(&mut heads) {
        for index in (2..30).step_by(3) {
            hub.unsubscribe_all(&mut heads[index], NOW);
        }
    }
    publish(&mut hubs[1], &text);
    settle(&mut hubs);
    for hub in &hubs {
        assert_eq!(hub.readers().deflate_totals().compressions, 2 * 5 + 1);
    }
}

/// A sweep of many subscribers would be several turns long, and whoever is published to behind it would
/// wait for all of them.
#[test]
fn a_channel_with_many_subscribers_does_not_hold_up_one_with_few() {
    let mut hub = Hub::new(0, 1, 7, 1, LIMITS, websocket::deflate::Settings::default());
    let few = u32::MAX - 1;
    for index in (0..10_000).chain([few]) {
        let options = SubscribeOptions { format: Format::WebSocket, after: None, skips_own: false };
        let channel = if index == few { "few" } else { "many" };
        let sink = Sink { connection: Key { index, generation: 1 }, stream: 0 };
        let mut head = NO_SUBSCRIPTION;
        hub.subscribe(channel, sink, &mut head, options, NOW).expect("room");
    }
    for channel in ["many", "few"] {
        let draft = Draft::of(PublicationKind::Text);
        hub.publish(&Arc::from(channel), b"text", draft, NOW).expect("small");
    }
    let visited: Vec<u32> =
        std::iter::from_fn(|| hub.fanout().next_due()).map(|sink| sink.connection.index).collect();
    let before = visited.iter().position(|index| *index == few);
    assert!(before.is_some_and(|before| before <= crate::limits::SINKS_IN_A_ROW), "{before:?}");
    assert_eq!(visited.len(), 10_001, "everybody is visited once");
}
