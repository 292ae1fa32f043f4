//! RTMP 7.2 by hand: what encoders send, and what they must hear.

use super::*;
use crate::{ConnectRejection, PublishRejection, Reason};

fn reply(stream: u32, name: &str, transaction: f64, detail: &str) -> (u32, String, f64, String) {
    (stream, name.into(), transaction, detail.into())
}

#[test]
fn connect_is_answered_with_window_bandwidth_chunk_size_and_result() {
    let mut server = Server::shaken(Options::default());
    server
        .feed(&connect(&[
            ("app", "live/?vhost=a?b".into()),
            ("tcUrl", "rtmp://[::1]/live".into()),
            ("flashVer", "FMLE/3.0".into()),
            ("objectEncoding", 3.0.into()),
        ]))
        .unwrap();
    let expected = ConnectRequest {
        app: "live".into(),
        query: Some("vhost=a?b".into()),
        tc_url: Some("rtmp://[::1]/live".into()),
        flash_ver: Some("FMLE/3.0".into()),
        object_encoding: 3,
        ..ConnectRequest::default()
    };
    assert_eq!(server.seen, [Seen::Connect(expected)]);
    let sent = messages(&server.out);
    let types: Vec<u8> = sent.iter().map(|(message_type, ..)| *message_type).collect();
    assert_eq!(types, [5, 6, 1, 20]);
    assert_eq!(sent[1].2, [&2_500_000u32.to_be_bytes()[..], &[2]].concat());
    let result = Command::parse(&sent[3].2).unwrap();
    assert_eq!((result.name.as_str(), result.transaction), ("_result", 1.0));
    assert_eq!(result.property("capabilities"), Some(&Value::Number(31.0)));
    let information = result.argument(0).unwrap();
    assert_eq!(information.property("code"), Some(&"NetConnection.Connect.Success".into()));
    assert_eq!(information.property("objectEncoding"), Some(&Value::Number(3.0)));
    assert_eq!(information.property("capsEx"), None, "only for those who asked");
}

#[test]
fn enhanced_capabilities_are_answered_in_kind() {
    let mut server = Server::shaken(Options::default());
    let codecs = Value::StrictArray(vec!["av01".into(), "hvc1".into()]);
    server
        .feed(&connect(&[("app", "live".into()), ("fourCcList", codecs), ("capsEx", 5.0.into())]))
        .unwrap();
    assert!(matches!(&server.seen[0], Seen::Connect(request)
        if request.four_cc_list == ["av01", "hvc1"] && request.caps_ex == 5));
    let sent = messages(&server.out);
    let result = Command::parse(&sent[3].2).unwrap();
    let map = result.argument(0).unwrap().property("videoFourCcInfoMap").unwrap();
    assert_eq!(map.property("av01"), Some(&Value::Number(4.0)));
}

#[test]
fn a_refused_connection_hears_why_and_is_closed() {
    for (rejection, code) in [
        (ConnectRejection::Rejected, "NetConnection.Connect.Rejected"),
        (ConnectRejection::InvalidApp, "NetConnection.Connect.InvalidApp"),
    ] {
        let mut connection = Connection::new(Options::default());
        let bytes = [handshake_bytes(), connect(&[("app", "x".into())])].concat();
        let mut out = Vec::new();
        let received = connection.receive(0, &bytes, &mut out).unwrap();
        assert!(matches!(received.event, Some(Event::Connect(_))));
        assert!(connection.awaits_answer());
        out.clear();
        connection.reject_connect(rejection, "no such app", &mut out);
        assert!(connection.is_closed());
        let sent = messages(&out);
        let error = Command::parse(&sent[0].2).unwrap();
        assert_eq!(error.name, "_error");
        assert_eq!(error.argument(0).unwrap().property("code"), Some(&code.into()));
    }
}

#[test]
fn nothing_is_consumed_while_the_session_ponders() {
    let mut connection = Connection::new(Options::default());
    let first = [handshake_bytes(), connect(&[("app", "live".into())])].concat();
    // Pipelined behind connect.
    let bytes = [first.clone(), command(0, "createStream", 2.0, &[Value::Null])].concat();
    let mut out = Vec::new();
    let received = connection.receive(0, &bytes, &mut out).unwrap();
    assert_eq!(received.consumed, first.len());
    let waiting = connection.receive(0, &bytes[first.len()..], &mut out).unwrap();
    assert!(waiting.consumed == 0 && waiting.event.is_none());
    connection.accept_connect(&mut out);
    assert!(!connection.awaits_answer() && connection.is_connected());
    let received = connection.receive(0, &bytes[first.len()..], &mut out).unwrap();
    assert_eq!(received.consumed, bytes.len() - first.len());
}

#[test]
fn the_commands_of_fmle_pipelined() {
    let mut server = Server::connected();
    let name = || [Value::Null, "cam".into()];
    let bytes = [
        command(0, "releaseStream", 2.0, &name()),
        command(0, "FCPublish", 3.0, &name()),
        command(0, "createStream", 4.0, &[Value::Undefined]),
        command(0, "_checkbw", 5.0, &[Value::Null]),
        command(0, "getStreamLength", 6.0, &name()),
        command(0, "FCSubscribe", 7.0, &name()),
        command(1, "publish", 8.0, &[Value::Null, "cam".into(), "record".into()]),
    ]
    .concat();
    server.feed(&bytes).unwrap();
    assert_eq!(server.seen, [Seen::Publish(1, "cam".into(), None, PublishKind::Record)]);
    assert_eq!(
        server.replies(),
        [
            reply(0, "_result", 2.0, "Undefined"),
            reply(0, "onFCPublish", 0.0, "NetStream.Publish.Start"),
            reply(0, "_result", 3.0, "Undefined"),
            reply(0, "_result", 4.0, "1"),
            reply(0, "_result", 5.0, "0"),
            reply(0, "_result", 6.0, "0"),
            reply(0, "onFCSubscribe", 0.0, "NetStream.Play.Start"),
            reply(0, "_result", 7.0, "Undefined"),
            reply(1, "onStatus", 0.0, "NetStream.Publish.Start"),
        ]
    );
}

#[test]
fn unknown_commands_get_an_error_unless_no_reply_is_wanted() {
    let mut server = Server::connected();
    server.feed(&command(0, "launch", 2.0, &[Value::Null])).unwrap();
    server.feed(&command(0, "launch", 0.0, &[Value::Null])).unwrap();
    server.feed(&command(0, "createStream", 0.0, &[Value::Null])).unwrap();
    server.feed(&command(0, "releaseStream", 0.0, &[Value::Null])).unwrap();
    for name in ["pause", "seek", "receiveAudio", "_result", "onStatus"] {
        server.feed(&command(0, name, 3.0, &[Value::Null])).unwrap();
    }
    assert_eq!(server.replies(), [reply(0, "_error", 2.0, "NetConnection.Call.Failed")]);
}

#[test]
fn commands_in_amf3_messages_are_amf0_behind_a_zero() {
    let mut server = Server::connected();
    let payload = [&[0][..], &amf("createStream", 2.0, &[Value::Null])].concat();
    server.feed(&message(3, 17, 0, 0, &payload)).unwrap();
    assert_eq!(server.replies(), [reply(0, "_result", 2.0, "1")]);
}

#[test]
fn stream_names_lose_query_and_prefix() {
    for (text, name, query) in [
        ("cam", "cam", None),
        ("cam?key=a?b", "cam", Some("key=a?b")),
        ("mp4:cam", "cam", None),
        ("flv:cam?", "cam", Some("")),
    ] {
        let mut server = Server::connected();
        server.feed(&command(0, "createStream", 2.0, &[Value::Null])).unwrap();
        server.feed(&command(1, "publish", 3.0, &[Value::Null, text.into()])).unwrap();
        let query = query.map(str::to_owned);
        assert_eq!(server.seen, [Seen::Publish(1, name.into(), query, PublishKind::Live)]);
    }
}

#[test]
fn impossible_publications_are_refused_without_asking() {
    let mut server = Server::connected();
    server.feed(&command(0, "createStream", 2.0, &[Value::Null])).unwrap();
    server.replies();
    let long = "x".repeat(257);
    let bad = "NetStream.Publish.BadName";
    for (stream, name) in [(0, "cam"), (2, "cam"), (1, ""), (1, "?key"), (1, long.as_str())] {
        server.feed(&command(stream, "publish", 3.0, &[Value::Null, name.into()])).unwrap();
        assert_eq!(server.replies(), [reply(stream, "onStatus", 0.0, bad)]);
    }
    server.feed(&command(1, "publish", 3.0, &[Value::Null, Value::Null])).unwrap();
    assert_eq!(server.replies(), [reply(1, "onStatus", 0.0, bad)]);
    // Twice on one stream.
    let cam = command(1, "publish", 3.0, &[Value::Null, "cam".into()]);
    server.feed(&cam).unwrap();
    server.replies();
    server.feed(&cam).unwrap();
    assert_eq!(server.replies(), [reply(1, "onStatus", 0.0, bad)]);
    assert_eq!(server.seen.len(), 1);
}

#[test]
fn a_refused_publisher_may_try_another_name() {
    for (rejection, code) in [
        (PublishRejection::BadName, "NetStream.Publish.BadName"),
        (PublishRejection::Denied, "NetStream.Publish.Denied"),
        (PublishRejection::Rejected, "NetStream.Publish.Rejected"),
    ] {
        let mut server = Server::connected();
        server.feed(&command(0, "createStream", 2.0, &[Value::Null])).unwrap();
        server.out.clear();
        let bytes = command(1, "publish", 3.0, &[Value::Null, "cam".into()]);
        let received = server.connection.receive(0, &bytes, &mut server.out).unwrap();
        assert!(matches!(received.event, Some(Event::Publish { .. })));
        server.connection.reject_publish(MessageStreamId(1), rejection, "why", &mut server.out);
        assert_eq!(server.replies(), [reply(1, "onStatus", 0.0, code)]);
        // Media of a refused publication goes nowhere.
        server.feed(&message(6, 9, 1, 0, &[1; 200])).unwrap();
        assert_eq!(server.seen, []);
        server.feed(&bytes).unwrap();
        server.feed(&message(6, 9, 1, 0, &[1; 200])).unwrap();
        assert_eq!(server.seen.len(), 2);
    }
}

#[test]
fn players_are_told_that_there_is_nothing() {
    let mut server = Server::connected();
    server.feed(&command(0, "createStream", 2.0, &[Value::Null])).unwrap();
    server.out.clear();
    server.feed(&command(1, "play", 3.0, &[Value::Null, "cam?x".into(), (-2.0).into()])).unwrap();
    assert_eq!(server.seen, [Seen::Play(1, "cam".into())]);
    let refusal = reply(1, "onStatus", 0.0, "NetStream.Play.StreamNotFound");
    assert_eq!(server.replies(), [refusal]);
    server.feed(&command(5, "play", 3.0, &[Value::Null, "cam".into()])).unwrap();
    assert_eq!(server.replies(), [reply(5, "onStatus", 0.0, "NetStream.Play.StreamNotFound")]);
    assert_eq!(server.seen.len(), 1);
}

#[test]
fn connect_comes_first_and_once() {
    let mut server = Server::shaken(Options::default());
    let error = server.feed(&command(0, "createStream", 2.0, &[Value::Null])).unwrap_err();
    assert_eq!(error.reason, Reason::CommandBeforeConnect);
    let mut server = Server::connected();
    let error = server.feed(&connect(&[("app", "live".into())])).unwrap_err();
    assert_eq!(error.reason, Reason::ConnectTwice);
}

#[test]
fn each_way_to_stop_is_told_once() {
    let stops: [&[Vec<u8>]; 5] = [
        &[command(0, "deleteStream", 9.0, &[Value::Null, 1.0.into()])],
        &[command(1, "deleteStream", 9.0, &[Value::Null])],
        &[command(1, "closeStream", 0.0, &[Value::Null])],
        &[command(0, "FCUnpublish", 8.0, &[Value::Null, "cam?key".into()])],
        &[
            command(0, "FCUnpublish", 8.0, &[Value::Null, "cam".into()]),
            command(0, "deleteStream", 9.0, &[Value::Null, 1.0.into()]),
        ],
    ];
    for stop in stops {
        let mut server = Server::publishing();
        // In the middle of a message, whose rest still comes.
        server.feed(&chunk(0, 6, &full_header(0, 200, 9), &[1; 128])).unwrap();
        server.feed(&stop.concat()).unwrap();
        server.feed(&chunk(3, 6, &[], &[1; 72])).unwrap();
        server.feed(&message(6, 9, 1, 0, &[1; 200])).unwrap();
        assert_eq!(server.seen, [Seen::Unpublish(1)]);
        let success = "NetStream.Unpublish.Success";
        let told = reply(1, "onStatus", 0.0, success);
        assert_eq!(server.replies().iter().filter(|sent| **sent == told).count(), 1);
    }
    let mut server = Server::publishing();
    server.feed(&command(0, "FCUnpublish", 8.0, &[Value::Null, "other".into()])).unwrap();
    assert_eq!(server.seen, []);
}

#[test]
fn message_streams_are_bounded_and_reused() {
    let mut server = Server::connected();
    for _ in 0..17 {
        server.feed(&command(0, "createStream", 2.0, &[Value::Null])).unwrap();
    }
    let replies = server.replies();
    assert_eq!(replies[15], reply(0, "_result", 2.0, "16"));
    assert_eq!(replies[16], reply(0, "_error", 2.0, "NetConnection.Call.Failed"));
    server.feed(&command(0, "deleteStream", 0.0, &[Value::Null, 3.0.into()])).unwrap();
    server.feed(&command(0, "createStream", 2.0, &[Value::Null])).unwrap();
    assert_eq!(server.replies(), [reply(0, "_result", 2.0, "3")]);
}

#[test]
fn data_messages_are_hints() {
    let mut server = Server::publishing();
    let mut payload = Vec::new();
    amf0::encode::string(&mut payload, "@setDataFrame");
    amf0::encode::string(&mut payload, "onMetaData");
    // As DJI: codec ids that are no numbers.
    amf0::encode::object(&mut payload, &[("videocodecid", "h264?".into())]);
    server.feed(&message(5, 18, 1, 0, &payload)).unwrap();
    server.feed(&message(5, 15, 1, 0, &[&[0][..], &payload].concat())).unwrap();
    let mut text = Vec::new();
    amf0::encode::string(&mut text, "onTextData");
    amf0::encode::null(&mut text);
    server.feed(&message(5, 18, 1, 40, &text)).unwrap();
    let metadata =
        Seen::Metadata(1, vec![Value::Object(vec![("videocodecid".into(), "h264?".into())])]);
    let data = Seen::Data("onTextData".into(), 40, vec![Value::Null]);
    assert_eq!(server.seen, [metadata.clone(), metadata, data]);
    // Malformed, nested without end, too long, nameless, on another stream: ignored.
    server.feed(&message(5, 18, 1, 0, &payload[..20])).unwrap();
    server.feed(&message(5, 18, 1, 0, &b"\x03\0\x01a".repeat(10_000))).unwrap();
    server.feed(&message(5, 18, 1, 0, &vec![0; 70_000])).unwrap();
    server.feed(&message(5, 18, 1, 0, &[5])).unwrap();
    server.feed(&message(5, 18, 2, 0, &payload)).unwrap();
    assert_eq!(server.seen.len(), 3);
}

#[test]
fn malformed_commands_are_errors() {
    type Check = fn(Reason) -> bool;
    let nested = [amf("x", 2.0, &[]), b"\x03\0\x01a".repeat(10_000)].concat();
    let cases: [(Vec<u8>, Check); 4] = [
        (nested, |reason| matches!(reason, Reason::Command(amf0::Error::TooDeep { .. }))),
        (vec![2, 0, 9, b'a'], |reason| {
            matches!(reason, Reason::Command(amf0::Error::Truncated { .. }))
        }),
        (vec![5], |reason| reason == Reason::CommandWithoutName),
        (vec![], |reason| reason == Reason::CommandWithoutName),
    ];
    for (payload, expected) in cases {
        let mut server = Server::connected();
        let error = server.feed(&message(3, 20, 0, 0, &payload)).unwrap_err();
        assert!(expected(error.reason), "{error}");
    }
}

#[test]
fn we_ping_and_swallow_the_pong() {
    let mut server = Server::publishing();
    server.connection.ping(0x0102_0304, &mut server.out);
    assert_eq!(messages(&server.out), [(4, 0, vec![0, 6, 1, 2, 3, 4])]);
    server.out.clear();
    server.feed(&message(2, 4, 0, 0, &[0, 7, 1, 2, 3, 4])).unwrap();
    assert_eq!((server.out.len(), server.seen.len()), (0, 0));
}

#[test]
fn closing_before_connect_says_nothing_the_peer_cannot_read() {
    let mut connection = Connection::new(Options::default());
    let mut out = Vec::new();
    connection.close("going away", &mut out);
    assert!(out.is_empty() && connection.is_closed());
}
