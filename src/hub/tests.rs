//! Hubs of two shards against each other, without a ring.

use super::*;
use crate::fanout::NO_SUBSCRIPTION;
use crate::memory::Spans;
use std::time::Duration;

const LIMITS: HistoryLimits =
    HistoryLimits { publications: 100, bytes: 1 << 20, age: Duration::from_secs(60) };
const NOW: Monotonic = Monotonic::from_millis(1);

fn hubs() -> [Hub; 2] {
    hubs_that_keep(LIMITS)
}

fn hubs_that_keep(limits: HistoryLimits) -> [Hub; 2] {
    [
        Hub::new(0, 2, 7, 1, limits, websocket::deflate::Settings::default()),
        Hub::new(1, 2, 7, 2, limits, websocket::deflate::Settings::default()),
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

/// Everyone who is due, and what the sweep gives him.
fn swept(hub: &mut Hub) -> Vec<(u32, Vec<u8>)> {
    let mut told = Vec::new();
    while let Some(due) = hub.fanout().next_due() {
        let (span, _) = hub.fanout().pull_alone(&due).expect("all of it in one block");
        told.push((due.connection.index, span.to_vec()));
    }
    told
}

#[test]
fn a_sweep_gives_each_reader_what_he_has_not_had() {
    let mut hubs = hubs();
    let mut heads = [NO_SUBSCRIPTION; 40];
    let mut had = vec![Vec::new(); 40];
    for round in 0..30_usize {
        if let Some(head) = heads.get_mut(round) {
            // One more from now on, some of them in another format.
            let format = if round % 3 == 0 { Format::WebSocketJson } else { Format::WebSocket };
            subscribe(&mut hubs[0], round as u32, head, None, format);
            settle(&mut hubs);
        }
        for number in 0..round % 4 {
            publish(&mut hubs[0], &format!("{round}-{number}"));
        }
        settle(&mut hubs);
        let hub = &mut hubs[0];
        // Somebody else pulls for himself, as who had to wait for his socket does.
        let own = round / 2;
        let bytes = pull_bytes(hub, heads[own]);
        had[own].extend(bytes);
        for (reader, bytes) in swept(hub) {
            had[reader as usize].extend(bytes);
        }
        assert!(hub.fanout().next_due().is_none());
        for (reader, head) in heads.iter().enumerate().take(round + 1) {
            assert!(pull_bytes(hub, *head).is_empty(), "reader {reader} had everything");
        }
    }
    // Readers of one format that came one after the other: the later one's is the end of the earlier's.
    for (earlier, later) in [(1, 2), (4, 5), (0, 3), (7, 8)] {
        assert!(!had[later].is_empty() && had[earlier].ends_with(&had[later]));
    }
}

#[test]
fn publications_gather_for_the_window_and_no_longer() {
    let mut hubs = hubs();
    let mut head = NO_SUBSCRIPTION;
    subscribe(&mut hubs[0], 1, &mut head, None, Format::WebSocket);
    settle(&mut hubs);
    let window = Duration::from_millis(100);
    let at = Monotonic::from_millis;
    hubs[0].fanout().set_window(window);
    for number in 0..3 {
        hubs[0].fanout().set_now(at(1000 + 40 * number));
        publish(&mut hubs[0], "one of three");
        settle(&mut hubs);
        assert!(hubs[0].fanout().next_due().is_none(), "{number}");
    }
    assert_eq!(hubs[0].readers().due_after(), Some(Duration::from_millis(20)));
    hubs[0].fanout().set_now(at(1100));
    assert_eq!(swept(&mut hubs[0])[0].1.len(), 3 * (2 + "one of three".len()));
    assert_eq!(hubs[0].readers().due_after(), None);

    // As much as a send may take does not wait, and the window is then a new one.
    for number in 0..30 {
        let bytes = "x".repeat(10_000);
        publish(&mut hubs[0], &bytes);
        settle(&mut hubs);
        let hurries = 10_004 * (number + 1) > crate::limits::PULL_BYTES_MAX;
        assert_eq!(hubs[0].fanout().next_due().is_some(), hurries, "{number}");
        if hurries {
            break;
        }
    }
    assert!(!pull_bytes(&mut hubs[0], head).is_empty());
    while hubs[0].fanout().next_due().is_some() {}
    publish(&mut hubs[0], "the next window");
    settle(&mut hubs);
    assert_eq!(hubs[0].readers().due_after(), Some(window));
    hubs[0].fanout().set_now(at(1200));
    assert_eq!(swept(&mut hubs[0]).len(), 1);
}

fn pull_bytes(hub: &mut Hub, head: u32) -> Vec<u8> {
    let mut spans = Spans::new();
    hub.fanout().pull(head, &mut spans, 1 << 20);
    spans.iter().flat_map(|span| span.to_vec()).collect()
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

/// Hubs with a short history, the home of `news` among them, which lets one message wait, the
/// subscription of a reader on the other, and where it began.
fn a_home_that_forgets() -> ([Hub; 2], usize, u32, Position) {
    let mut hubs = hubs_that_keep(HistoryLimits { publications: 4, ..LIMITS });
    let home = usize::from(hubs[0].home_of("news"));
    hubs[home].bound_outbound(1);
    let mut head = NO_SUBSCRIPTION;
    subscribe(&mut hubs[1 - home], 1, &mut head, None, Format::WebSocket);
    settle(&mut hubs);
    let Some(HubEvent::Resolved(start)) = hubs[1 - home].poll_event() else { panic!("resolved") };
    (hubs, home, head, start.position)
}

#[test]
fn a_shard_that_is_behind_is_told_without_anything_else_to_mail() {
    let (mut hubs, home, head, _) = a_home_that_forgets();
    for number in 0..3 {
        publish(&mut hubs[home], &number.to_string());
    }
    settle(&mut hubs);
    let mut told = pulled(&mut hubs[1 - home], head);
    // What was mailed is gone; that more has to be must not be forgotten with it.
    while hubs[home].is_busy() {
        hubs[home].tell_behind();
        settle(&mut hubs);
        told.extend(pulled(&mut hubs[1 - home], head));
    }
    assert_eq!(told, ["0", "1", "2"]);
}

#[test]
fn only_who_missed_something_is_told_of_a_gap() {
    let (mut hubs, home, head, start) = a_home_that_forgets();
    for number in 1..=20 {
        publish(&mut hubs[home], &number.to_string());
    }
    settle(&mut hubs);
    assert_eq!(pulled(&mut hubs[1 - home], head), ["1"]);
    // This one had all but two on the home's shard, which is ahead.
    let (mut ahead, after) = (NO_SUBSCRIPTION, Position { offset: 18, ..start });
    subscribe(&mut hubs[1 - home], 2, &mut ahead, Some(after), Format::WebSocket);
    let Some(HubEvent::Resolved(found)) = hubs[1 - home].poll_event() else { panic!("resolved") };
    assert!(!found.gap && found.catch_up.is_empty());
    let (mut first, mut second) = (Vec::new(), Vec::new());
    while hubs[home].is_busy() {
        hubs[home].tell_behind();
        settle(&mut hubs);
        first.extend(pulled(&mut hubs[1 - home], head));
        second.extend(pulled(&mut hubs[1 - home], ahead));
    }
    let mut gaps = Vec::new();
    while let Some(event) = hubs[1 - home].poll_event() {
        let HubEvent::Gap { sink, position, .. } = event else { panic!("{event:?}") };
        gaps.push((sink.connection.index, position.offset));
    }
    assert_eq!(gaps, [(1, 16)]);
    assert_eq!(first, ["17", "18", "19", "20"]);
    assert_eq!(second, ["19", "20"]);
}

#[test]
fn a_gap_of_an_earlier_subscription_is_none_of_the_next_one() {
    let (mut hubs, home, mut head, _) = a_home_that_forgets();
    for number in 1..=20 {
        publish(&mut hubs[home], &number.to_string());
    }
    // The first publication is taken out, so that there is room for what follows: that some are lost.
    let other = (1 - home) as ShardId;
    let mut mail: Vec<HubMail> = hubs[home].outbound(other).drain(..).collect();
    hubs[home].tell_behind();
    mail.extend(hubs[home].outbound(other).drain(..));
    assert!(matches!(mail[..], [HubMail::Publication { .. }, HubMail::Skipped { next: 17, .. }]));
    // Meanwhile its only reader goes, and comes again.
    hubs[1 - home].unsubscribe_all(&mut head, NOW);
    subscribe(&mut hubs[1 - home], 3, &mut head, None, Format::WebSocket);
    for mail in mail {
        hubs[1 - home].receive(home as ShardId, mail, NOW);
    }
    assert!(hubs[1 - home].poll_event().is_none(), "it waits for the answer, and is told nothing");
    settle(&mut hubs);
    let Some(HubEvent::Resolved(found)) = hubs[1 - home].poll_event() else { panic!("resolved") };
    assert!(!found.gap && found.position.offset == 20);
}

#[test]
fn what_waits_for_a_full_mailbox_is_bounded() {
    let mut hubs = hubs();
    let home = usize::from(hubs[0].home_of("news"));
    let publisher = &mut hubs[1 - home];
    publisher.bound_outbound(8);
    let (name, draft) = (Arc::from("news"), || Draft::of(PublicationKind::Text));
    for number in 0..=8 * OUTBOUND_REFUSES_FACTOR {
        assert_eq!(publisher.is_congested("news"), number > 8, "{number} wait");
        publisher.publish(&name, b"x", draft(), NOW).expect("it may wait");
    }
    // Whoever cannot be held back is refused, and what is there arrives.
    assert_eq!(publisher.publish(&name, b"x", draft(), NOW), Err(PublishError::Congested));
    assert_eq!(publisher.outbound_messages(), 8 * OUTBOUND_REFUSES_FACTOR + 1);
    settle(&mut hubs);
    assert_eq!(hubs[home].totals().publications, 8 * OUTBOUND_REFUSES_FACTOR as u64 + 1);
    assert!(!hubs[1 - home].is_congested("news"));
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
        for _ in 0..5 {
            hub.begin_looks();
            hub.look_at_channels(usize::MAX, later);
        }
        assert_eq!((hub.channel_count(), hub.channels().count()), (0, 0));
    }
}

#[test]
fn channels_are_looked_at_a_few_at_a_time_and_all_in_a_lap() {
    let [mut hub, _] = hubs();
    let names: Vec<Arc<str>> = (0..2000).map(|number| Arc::from(format!("c{number}"))).collect();
    let at_home: Vec<_> = names.iter().filter(|name| hub.home_of(name) == 0).collect();
    for name in &at_home {
        let draft = Draft::of(PublicationKind::Text);
        hub.publish(name, b"some text", draft, NOW).expect("small");
    }
    let all = |hub: &Hub| hub.homes.values().map(Channel::list_bytes).sum::<usize>();
    assert_eq!((hub.channel_count(), hub.list_bytes), (at_home.len(), all(&hub)));
    let later = Monotonic::from_millis(10_000_000);
    for second in 1..=5 {
        hub.begin_looks();
        while hub.has_channels_to_look_at() {
            let before = hub.channel_count();
            hub.look_at_channels(10, later);
            assert!(before - hub.channel_count() <= 10);
            assert_eq!(hub.list_bytes, all(&hub));
        }
        let gone = at_home.len() - hub.channel_count();
        assert!(gone >= at_home.len() * second / 5, "a fifth each second");
        assert!(gone < at_home.len() * second / 5 + 10, "and no more");
    }
    assert_eq!((hub.channel_count(), hub.list_bytes, hub.looks.len()), (0, 0, 0));
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

#[test]
fn of_channels_with_a_shard_that_takes_nothing_a_turn_looks_at_some() {
    let [mut hub, _] = hubs();
    let names: Vec<Arc<str>> = (0..)
        .map(|number| Arc::from(format!("channel-{number}")))
        .filter(|name: &Arc<str>| hub.home_of(name) == 0)
        .take(OUTBOUND_MESSAGES_HIGH + 2 * CHANNELS_BEHIND_PER_TURN)
        .collect();
    for name in &names {
        hub.receive(1, HubMail::Subscribe { channel: Arc::clone(name) }, NOW);
    }
    hub.outbound(1).clear();
    for name in &names {
        hub.publish(name, b"text", Draft::of(PublicationKind::Text), NOW).expect("small");
    }
    let mut told = 0;
    assert!(hub.behind.len() >= 2 * CHANNELS_BEHIND_PER_TURN);
    let next = Arc::clone(&hub.behind[CHANNELS_BEHIND_PER_TURN]);
    hub.tell_behind();
    assert_eq!(hub.behind.front(), Some(&next), "the others are for the next turn");
    while hub.is_busy() {
        let taken = hub.outbound(1).drain(..).count();
        assert!(taken > 0, "{told} were told");
        told += taken;
        hub.tell_behind();
    }
    assert_eq!(told, names.len());
}

/// The shard where a channel is not at home, and the one where it is.
#[test]
fn who_subscribes_to_a_channel_without_room_is_told_and_may_come_back() {
    let mut hubs = hubs();
    let home = usize::from(hubs[0].home_of("news"));
    hubs[home].bound_channels(0);
    let mut heads = [[NO_SUBSCRIPTION; 2]; 2];
    for shard in 0..2 {
        // The second one comes before the first one has left.
        for (index, head) in heads[shard].iter_mut().enumerate() {
            subscribe(&mut hubs[shard], index as u32, head, None, Format::WebSocket);
            settle(&mut hubs);
            let event = hubs[shard].poll_event();
            let Some(HubEvent::Refused { sink }) = event else { panic!("{event:?}") };
            assert_eq!(sink.connection.index, index as u32);
        }
        assert!(hubs[shard].poll_event().is_none(), "each is told once");
    }
    // There is room again, and somebody comes while those who were refused are not gone.
    hubs[home].bound_channels(1);
    for shard in 0..2 {
        let mut head = NO_SUBSCRIPTION;
        subscribe(&mut hubs[shard], 7, &mut head, None, Format::WebSocket);
        settle(&mut hubs);
        assert!(matches!(hubs[shard].poll_event(), Some(HubEvent::Resolved(_))));
        for old in &mut heads[shard] {
            assert!(pulled(&mut hubs[shard], *old).is_empty());
            hubs[shard].unsubscribe_all(old, NOW);
        }
        settle(&mut hubs);
        publish(&mut hubs[1 - shard], "heard");
        settle(&mut hubs);
        assert_eq!(pulled(&mut hubs[shard], head), ["heard"], "shard {shard}");
        hubs[shard].unsubscribe_all(&mut head, NOW);
        assert_eq!(hubs[shard].readers().replica_count(), 0);
        assert_eq!(hubs[shard].readers().subscription_count(), 0);
    }
}

/// What `trim_some` drops is what was older than that part of the oldest publication's age when its channel was visited,
/// whatever is looked at, made and forgotten meanwhile.
#[test]
fn history_is_given_up_some_channels_at_a_time() {
    const AT_ONCE: usize = 50;
    let [mut hub, _] = hubs();
    let at = Monotonic::from_millis;
    let names: Vec<Arc<str>> = (0..2000).map(|number| Arc::from(format!("c{number}"))).collect();
    let at_home: Vec<_> = names.iter().filter(|name| hub.home_of(name) == 0).collect();
    let mut heads = vec![NO_SUBSCRIPTION; at_home.len()];
    for (index, (name, head)) in at_home.iter().zip(&mut heads).enumerate() {
        let sink = Sink { connection: Key { index: index as u32, generation: 1 }, stream: 0 };
        let options = SubscribeOptions { format: Format::WebSocket, after: None, skips_own: false };
        hub.subscribe(name, sink, head, options, at(0)).expect("room");
    }
    for second in 0..10 {
        for name in &at_home {
            let draft = Draft::of(PublicationKind::Text);
            hub.publish(name, b"some text", draft, at(1000 * second)).expect("small");
        }
    }
    let sizes = |hub: &Hub| -> Vec<usize> {
        at_home.iter().map(|name| hub.homes[&***name].list_bytes()).collect()
    };
    let kept = |hub: &mut Hub| {
        hub.fanout.look_at_logs(u32::MAX);
        hub.fanout.usage().logs
    };
    let window_bytes = kept(&mut hub);
    hub.begin_trim();
    let (mut turns, mut dropped) = (0, None);
    while dropped.is_none() {
        assert!(hub.is_trimming());
        hub.begin_trim();
        if turns % 3 == 0 {
            hub.begin_looks();
            hub.look_at_channels(10, at(10_000));
        }
        let before = sizes(&hub);
        dropped = hub.trim_some(AT_ONCE, |bytes| bytes / 2, at(10_000));
        let touched = before.iter().zip(sizes(&hub)).filter(|(before, size)| *before != size);
        assert!(touched.count() <= AT_ONCE);
        turns += 1;
    }
    assert!(!hub.is_trimming());
    assert_eq!(dropped, Some(5 * at_home.len()), "the older half");
    assert!(turns >= 2 * at_home.len() / (AT_ONCE + 10), "{turns} turns");
    for name in &at_home {
        let channel = &hub.homes[&***name];
        assert_eq!(channel.oldest(), Some(at(5_000)));
    }
    assert_eq!(hub.list_bytes, hub.homes.values().map(Channel::list_bytes).sum::<usize>());
    let given_back = window_bytes - kept(&mut hub);
    assert!(
        given_back >= at_home.len() * size_of::<Publication>(),
        "{given_back} bytes of windows"
    );
    assert_eq!(hub.trim_some(AT_ONCE, |bytes| bytes / 2, at(10_000)), None, "it is over");
}
