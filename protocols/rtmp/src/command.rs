//! Commands (RTMP 7.2): what a peer's command says, and the bytes of ours.

use amf0::{Value, encode};

use crate::chunk_write::{Outgoing, write_message};
use crate::error::Reason;
use crate::message::{self, chunk_stream};

/// A command as received.
#[derive(Debug)]
pub(crate) struct Command<'a> {
    pub(crate) name: String,
    /// 0 = no reply wanted.
    pub(crate) transaction: f64,
    /// The command object, then the arguments. Clients send null or undefined where there is none.
    values: Vec<Value<'a>>,
}

impl<'a> Command<'a> {
    /// Parses the payload of a message of type 17 or 20.
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, Reason> {
        let mut decoder = amf0::Decoder::new(amf0_part(payload));
        let mut next = || decoder.decode().map_err(Reason::Command);
        let Some(Value::String(name)) = next()? else { return Err(Reason::CommandWithoutName) };
        let transaction = next()?.and_then(|value| value.as_number()).unwrap_or(0.0);
        let mut values = Vec::new();
        while let Some(value) = next()? {
            values.push(value);
        }
        Ok(Self { name: name.into_owned(), transaction, values })
    }

    /// A member of the command object.
    pub(crate) fn property(&self, name: &str) -> Option<&Value<'a>> {
        self.values.first()?.property(name)
    }

    /// A member of the command object that is text.
    pub(crate) fn text_property(&self, name: &str) -> Option<String> {
        self.property(name)?.as_str().map(str::to_owned)
    }

    /// An argument behind the command object.
    pub(crate) fn argument(&self, index: usize) -> Option<&Value<'a>> {
        self.values.get(index + 1)
    }
}

/// AMF3 messages (types 15 and 17) hold AMF0 behind a zero byte; a value of ours never begins with
/// one, since the first is a string.
pub(crate) fn amf0_part(payload: &[u8]) -> &[u8] {
    payload.strip_prefix(&[0]).unwrap_or(payload)
}

/// A stream name as it stands in `publish` and `play`, split at the first `?` and without a
/// file-type prefix.
pub(crate) fn split_name(text: &str) -> (String, Option<String>) {
    let (name, query) = split_query(text);
    let prefixes = ["mp4:", "flv:", "mp3:"];
    let bare = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    (bare.to_owned(), query)
}

/// What stands in front of the first `?`, and what behind it.
pub(crate) fn split_query(text: &str) -> (&str, Option<String>) {
    match text.split_once('?') {
        Some((name, query)) => (name, Some(query.to_owned())),
        None => (text, None),
    }
}

/// A number that names something (a message stream): whole, and in range.
pub(crate) fn whole_number(value: &Value<'_>) -> Option<u32> {
    let number = value.as_number()?;
    let whole = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    whole.then_some(number as u32)
}

/// Writes commands and control messages as the server sends them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replies {
    pub(crate) chunk_bytes: u32,
}

/// The members of an information object (RTMP 7.2.1.1, 7.2.2).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Status<'a> {
    pub(crate) level: &'a str,
    pub(crate) code: &'a str,
    pub(crate) description: &'a str,
}

impl Replies {
    /// A control message: chunk stream 2, message stream 0 (RTMP 5.4).
    pub(crate) fn control(self, out: &mut Vec<u8>, message_type: u8, payload: &[u8]) {
        let message = Outgoing {
            chunk_stream: chunk_stream::CONTROL,
            timestamp: 0,
            message_type,
            message_stream: 0,
            payload,
        };
        write_message(out, self.chunk_bytes, &message);
    }

    /// A user control event with four bytes of data (RTMP 7.1.7).
    pub(crate) fn user_control(self, out: &mut Vec<u8>, event: u16, data: u32) {
        let mut payload = event.to_be_bytes().to_vec();
        payload.extend_from_slice(&data.to_be_bytes());
        self.control(out, message::USER_CONTROL, &payload);
    }

    /// A command: name, transaction, then `values`.
    pub(crate) fn command(
        self,
        out: &mut Vec<u8>,
        message_stream: u32,
        name: &str,
        transaction: f64,
        values: &[Value<'_>],
    ) {
        let mut payload = Vec::new();
        encode::string(&mut payload, name);
        encode::number(&mut payload, transaction);
        for value in values {
            value.encode(&mut payload);
        }
        let on_stream = message_stream != 0;
        let message = Outgoing {
            chunk_stream: if on_stream { chunk_stream::STREAM } else { chunk_stream::CONNECTION },
            timestamp: 0,
            message_type: message::COMMAND_AMF0,
            message_stream,
            payload: &payload,
        };
        write_message(out, self.chunk_bytes, &message);
    }

    /// `onStatus` (RTMP 7.2.2).
    pub(crate) fn status(self, out: &mut Vec<u8>, message_stream: u32, status: Status<'_>) {
        let values = [Value::Null, status.value()];
        self.command(out, message_stream, "onStatus", 0.0, &values);
    }

    /// `_result` with one value, unless no reply was wanted.
    pub(crate) fn result(self, out: &mut Vec<u8>, transaction: f64, value: Value<'_>) {
        if transaction != 0.0 {
            self.command(out, 0, "_result", transaction, &[Value::Null, value]);
        }
    }

    /// `_error`, unless no reply was wanted.
    pub(crate) fn error(self, out: &mut Vec<u8>, transaction: f64, status: Status<'_>) {
        if transaction != 0.0 {
            self.command(out, 0, "_error", transaction, &[Value::Null, status.value()]);
        }
    }
}

impl Status<'_> {
    pub(crate) fn value(&self) -> Value<'_> {
        Value::Object(vec![
            ("level".into(), self.level.into()),
            ("code".into(), self.code.into()),
            ("description".into(), self.description.into()),
        ])
    }
}
