//! A publication's bytes as its readers get them: made once per publication, shard and format.

use std::hint::black_box;

use headwater::fanout::{Format, Position, Publication, PublicationKind};
use headwater::memory::Payload;

use super::{Call, Case, MESSAGE_BYTES, text};

pub(super) fn cases() -> Vec<Case> {
    let case = |name: &str, format: Format, length: usize| {
        let name = format!("frame_encode/{name}-{length}");
        Case::new(name, move || prepare(format, length)).bytes(length)
    };
    let mut cases: Vec<Case> =
        MESSAGE_BYTES.iter().map(|length| case("websocket", Format::WebSocket, *length)).collect();
    cases.push(case("json", Format::WebSocketJson, MESSAGE_BYTES[1]));
    cases.push(case("event-stream", Format::EventStream, MESSAGE_BYTES[1]));
    cases
}

fn prepare(format: Format, length: usize) -> Call {
    let publication = Publication {
        payload: Payload::copied_from(&text(length)),
        kind: PublicationKind::Text,
        sender: 0,
        event: None,
        key: None,
    };
    let position = Position { epoch: 0x5eed_5eed_5eed_5eed, offset: 1_234_567 };
    // Callers encode into a buffer they keep.
    let mut out = Vec::with_capacity(2 * length + 256);
    Box::new(move || {
        out.clear();
        format.encode(black_box(&publication), position, &mut out);
        black_box(&out);
    })
}
