//! Messages to chunks (RTMP 5.3).
//!
//! In: whole messages. Out: chunks appended to a `Vec<u8>`. [`write_message`] uses full headers,
//! which is what the server sends; [`ChunkWriter`] compresses headers the way encoders do.

/// A message to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub(crate) chunk_stream: u32,
    pub(crate) timestamp: u32,
    pub(crate) message_type: u8,
    pub(crate) message_stream: u32,
    pub(crate) payload: &'a [u8],
}

/// Whether chunks of type 3 repeat the extended timestamp (RTMP 5.3.1.3 in its 2012 form) or leave
/// it out, as older senders do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtendedTimestamps {
    /// On every chunk.
    Repeated,
    /// On chunks of types 0 to 2 only.
    Omitted,
}

/// Appends a message whose first chunk has type 0.
pub(crate) fn write_message(out: &mut Vec<u8>, chunk_bytes: u32, message: &Outgoing<'_>) {
    ChunkWriter::new(chunk_bytes, ExtendedTimestamps::Repeated).write(out, message);
}

/// Remembers what it sent on each chunk stream, to send only what changed.
#[derive(Debug)]
pub(crate) struct ChunkWriter {
    pub(crate) chunk_bytes: u32,
    extended_timestamps: ExtendedTimestamps,
    last: Vec<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    chunk_stream: u32,
    timestamp: u32,
    /// The timestamp field: what type 3 repeats.
    field: u32,
    length: usize,
    message_type: u8,
    message_stream: u32,
}

impl ChunkWriter {
    pub(crate) const fn new(chunk_bytes: u32, extended_timestamps: ExtendedTimestamps) -> Self {
        Self { chunk_bytes, extended_timestamps, last: Vec::new() }
    }

    pub(crate) fn write(&mut self, out: &mut Vec<u8>, message: &Outgoing<'_>) {
        debug_assert!(message.payload.len() <= 0xff_ffff, "a message length has 24 bits");
        let (format, field) = self.header_form(message);
        let extended = (field >= 0xff_ffff).then_some(field);
        basic_header(out, format, message.chunk_stream);
        let header = message_header(message, field);
        out.extend_from_slice(&header[..[11, 7, 3, 0][usize::from(format)]]);
        let on_type_3 =
            extended.filter(|_| self.extended_timestamps == ExtendedTimestamps::Repeated);
        let first = if format == 3 { on_type_3 } else { extended };
        extend_timestamp(out, first);
        let chunk_bytes = usize::try_from(self.chunk_bytes.max(1)).unwrap_or(usize::MAX);
        for (index, chunk) in message.payload.chunks(chunk_bytes).enumerate() {
            if index > 0 {
                basic_header(out, 3, message.chunk_stream);
                extend_timestamp(out, on_type_3);
            }
            out.extend_from_slice(chunk);
        }
    }

    /// The smallest chunk type that says it, and its timestamp field; remembers the message.
    fn header_form(&mut self, message: &Outgoing<'_>) -> (u8, u32) {
        let mut now = Last {
            chunk_stream: message.chunk_stream,
            timestamp: message.timestamp,
            field: message.timestamp,
            length: message.payload.len(),
            message_type: message.message_type,
            message_stream: message.message_stream,
        };
        let known = self.last.iter_mut().find(|last| last.chunk_stream == message.chunk_stream);
        let Some(last) = known else {
            self.last.push(now);
            return (0, now.field);
        };
        let steps_back = message.timestamp < last.timestamp;
        if steps_back || last.message_stream != message.message_stream {
            *last = now;
            return (0, now.field);
        }
        now.field = message.timestamp - last.timestamp;
        let same_shape = (last.length, last.message_type) == (now.length, now.message_type);
        let format = match (same_shape, last.field == now.field) {
            (false, _) => 1,
            (true, false) => 2,
            (true, true) => 3,
        };
        *last = now;
        (format, now.field)
    }
}

fn basic_header(out: &mut Vec<u8>, format: u8, chunk_stream: u32) {
    let format = format << 6;
    match chunk_stream {
        // In range for the casts because of the patterns.
        2..64 => out.push(format | u8::try_from(chunk_stream).unwrap_or(0)),
        64..320 => out.extend_from_slice(&[format, u8::try_from(chunk_stream - 64).unwrap_or(0)]),
        _ => {
            let [low, high] = u16::try_from(chunk_stream - 64).unwrap_or(0).to_le_bytes();
            out.extend_from_slice(&[format | 1, low, high]);
        }
    }
}

fn message_header(message: &Outgoing<'_>, field: u32) -> [u8; 11] {
    let [_, t0, t1, t2] = field.min(0xff_ffff).to_be_bytes();
    let length = u32::try_from(message.payload.len()).unwrap_or(0);
    let [_, l0, l1, l2] = length.to_be_bytes();
    let [m0, m1, m2, m3] = message.message_stream.to_le_bytes();
    [t0, t1, t2, l0, l1, l2, message.message_type, m0, m1, m2, m3]
}

fn extend_timestamp(out: &mut Vec<u8>, extended: Option<u32>) {
    if let Some(extended) = extended {
        out.extend_from_slice(&extended.to_be_bytes());
    }
}
