//! The transition tables of the decoder and of the close handshake, whole, against what is written
//! down in `transitions.txt`: every state, every first byte of a frame that differs in meaning.
//!
//! The decoder is asked from outside, so the table holds for whatever it is inside: after a frame it
//! is seen whether it is closed, whether it is between messages, and of which kind the message is
//! that a continuation ends.

use headwater_websocket::{CloseState, Decoder, Event, Limits, Role, Step};

/// The second byte of an empty frame and its key.
const EMPTY: [u8; 5] = [0x80, 0, 0, 0, 0];

fn frame(first: u8) -> Vec<u8> {
    [&[first][..], &EMPTY].concat()
}

fn take(decoder: &mut Decoder, first: u8) -> Result<String, String> {
    match decoder.receive(&mut frame(first), &Limits::default()) {
        Ok(Step::Incomplete) => Ok("ignored".into()),
        Ok(Step::Event { event, .. }) => Ok(match event {
            Event::Message { kind, compressed, .. } => format!("{kind:?} {compressed}"),
            Event::Fragment { kind, compressed, .. } => format!("{kind:?} {compressed}"),
            Event::Ping(_) | Event::Pong(_) | Event::Close { .. } => "control".into(),
        }),
        Err(error) => Err(format!("{:?}", error.kind)),
    }
}

/// The name of the state a decoder is in.
fn state(decoder: &Decoder) -> &'static str {
    if decoder.is_closed() {
        return "Closed";
    }
    if decoder.is_between_messages() {
        return "Idle";
    }
    match take(&mut decoder.clone(), 0x80).as_deref() {
        Ok("Text false") => "Text",
        Ok("Text true") => "Text compressed",
        Ok("Binary false") => "Binary",
        Ok("Binary true") => "Binary compressed",
        other => panic!("a message that cannot be ended: {other:?}"),
    }
}

const STATES: [(&str, Option<u8>); 6] = [
    ("Idle", None),
    ("Text", Some(0x01)),
    ("Binary", Some(0x02)),
    ("Text compressed", Some(0x41)),
    ("Binary compressed", Some(0x42)),
    ("Closed", Some(0x88)),
];

const OPCODES: [(&str, u8); 7] = [
    ("continuation", 0),
    ("text", 1),
    ("binary", 2),
    ("reserved", 3),
    ("close", 8),
    ("ping", 9),
    ("pong", 10),
];

/// RSV2 and RSV3 never have a meaning, RSV1 only where permessage-deflate was negotiated.
const RESERVED: [(&str, u8); 4] = [("", 0), (" RSV1", 0x40), (" RSV2", 0x20), (" RSV3", 0x10)];

/// A row per kind of frame, a column per state; what is in it is the state after or the error.
fn decoder_table(new: fn(Role) -> Decoder) -> String {
    let opened: Vec<(&str, Decoder)> = STATES
        .iter()
        .filter_map(|(name, open)| {
            let mut decoder = new(Role::Server);
            let reached = open.is_none_or(|first| take(&mut decoder, first).is_ok());
            reached.then_some((*name, decoder))
        })
        .collect();
    let mut table = String::from("                        ");
    for (name, decoder) in &opened {
        assert_eq!(state(decoder), *name);
        table += &format!("{name:<27}");
    }
    table.truncate(table.trim_end().len());
    table.push('\n');
    for (opcode_name, opcode) in OPCODES {
        for (reserved_name, reserved) in RESERVED {
            for (fin_name, fin) in [("more", 0), ("last", 0x80)] {
                let row = format!("{opcode_name}{reserved_name} {fin_name}");
                table += &format!("{row:<24}");
                for (_, before) in &opened {
                    let mut decoder = before.clone();
                    let after = match take(&mut decoder, fin | reserved | opcode) {
                        Ok(_) => state(&decoder).to_owned(),
                        Err(error) => error,
                    };
                    table += &format!("{after:<27}");
                }
                table.truncate(table.trim_end().len());
                table.push('\n');
            }
        }
    }
    table
}

fn close_table() -> String {
    let mut table = String::new();
    let states = [
        CloseState::Open,
        CloseState::Sent,
        CloseState::Received,
        CloseState::Closed,
        CloseState::Abnormal,
    ];
    type Input = fn(&mut CloseState);
    let inputs: [(&str, Input); 3] = [
        ("we send", CloseState::on_sent),
        ("they send", CloseState::on_received),
        ("their bytes end", CloseState::on_end),
    ];
    for before in states {
        for (name, input) in inputs {
            let mut state = before;
            input(&mut state);
            table += &format!("{before:?} + {name} = {state:?}\n");
        }
        let says = [
            ("free to send", before.may_send()),
            ("owing an answer", before.owes_answer()),
            ("closed", before.is_closed()),
            ("over", before.is_over()),
        ];
        let says: Vec<&str> = says.iter().filter(|(_, yes)| *yes).map(|(name, _)| *name).collect();
        table += &format!("{before:?} is: {says:?}\n");
    }
    table
}

#[test]
fn every_transition_is_the_one_written_down() {
    let table = format!(
        "# Without extensions\n{}\n# With permessage-deflate\n{}\n# The close handshake\n{}",
        decoder_table(Decoder::new),
        decoder_table(Decoder::with_deflate),
        close_table()
    );
    let written = include_str!("transitions.txt");
    if let Some((at, (now, then))) =
        table.lines().zip(written.lines()).enumerate().find(|(_, (now, then))| now != then)
    {
        panic!(
            "line {}: it is `{now}`, written down is `{then}`; the whole table:\n{table}",
            at + 1
        );
    }
    assert_eq!(table.lines().count(), written.lines().count(), "the whole table:\n{table}");
}
