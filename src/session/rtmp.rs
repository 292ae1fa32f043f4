//! RTMP: takes publishers of H.264, AV1 and AAC and hands their access units to the stream's home.
//!
//! A media message is copied once, fragment by fragment, from the receive lease into its track's
//! block, where its bytes stay until the last reader is done. Only configurations and what is larger
//! than a block are collected beside it.

use super::{Context, Progress};
use crate::connection::Hold;
use crate::governor::Step;
use crate::limits::{RTMP_IDLE_MS, RTMP_SETUP_MS};
use crate::live::{AccessUnit, PublisherId, StreamName, TrackConfig, TrackKind};
use crate::memory::{BlockPool, Payload};
use crate::session::{
    Connection, Protocol, Publishing, RtmpState, TagHeader, TrackWriter, Unit, UnitBody,
};
use flv::{
    AudioCodec, AudioPacketType, AudioTagHeader, VideoCodec, VideoPacketType, VideoTagHeader,
};
use rtmp::{ConnectRejection, Event, MediaKind, MessageStreamId, PublishRejection};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Bytes of a block of a track.
const TRACK_BLOCK_BYTES: usize = 256 * 1024;
/// Blocks that a track keeps for use again.
const TRACK_BLOCKS_MAX: usize = 256;

pub(super) fn receive(
    connection: &mut Connection,
    input: &[u8],
    context: &mut Context<'_>,
) -> Progress {
    let Protocol::Rtmp(state) = &mut connection.protocol else { return Progress::INCOMPLETE };
    if let Some(publishing) = &state.publishing
        && context.live.is_congested(&publishing.stream)
    {
        connection.hold = Hold::Congestion;
        return Progress::INCOMPLETE;
    }
    let entropy = context.entropy;
    let mut machine = state.machine.take().unwrap_or_else(|| {
        rtmp::Connection::new(rtmp::Options { entropy, ..rtmp::Options::default() })
    });
    context.scratch.clear();
    let mut out = std::mem::take(context.scratch);
    let now_ms = context.now.monotonic.as_millis() as u32;
    let result = machine.receive(now_ms, input, &mut out);
    let progress = match result {
        Ok(received) => {
            let again = received.consumed > 0 || received.event.is_some();
            if let Some(event) = received.event {
                on_event(connection, &mut machine, event, &mut out, context);
            }
            Progress { consumed: received.consumed, again }
        }
        Err(error) => {
            tracing::info!(connection = ?context.token, %error, "RTMP peer broke the protocol");
            context.counters.protocol_errors.add(1);
            machine.close(&error.to_string(), &mut out);
            Progress { consumed: input.len(), again: false }
        }
    };
    let closed = machine.is_closed();
    put_back(connection, machine, &out, context);
    *context.scratch = out;
    if closed {
        connection.close();
    }
    progress
}

/// Returns the machine to its place and what it wrote to the outbox.
fn put_back(
    connection: &mut Connection,
    machine: rtmp::Connection,
    out: &[u8],
    context: &mut Context<'_>,
) {
    if !out.is_empty() {
        connection.outbox.push(context.arena.append(&[out]));
    }
    if let Protocol::Rtmp(state) = &mut connection.protocol {
        state.machine = Some(machine);
    }
}

fn on_event(
    connection: &mut Connection,
    machine: &mut rtmp::Connection,
    event: Event<'_>,
    out: &mut Vec<u8>,
    context: &mut Context<'_>,
) {
    let is_local = connection.is_local;
    let Protocol::Rtmp(state) = &mut connection.protocol else { return };
    match event {
        Event::Connect(request) => {
            if state.refused {
                let text = "the server is full: its memory budget is used up; come back later";
                machine.reject_connect(ConnectRejection::Rejected, text, out);
            } else if context.settings.config.apps.iter().any(|app| app.as_str() == request.app) {
                state.app = request.app;
                machine.accept_connect(out);
            } else {
                let text = format!("there is no application {:?} here", request.app);
                machine.reject_connect(ConnectRejection::InvalidApp, &text, out);
            }
        }
        Event::Publish { stream, name, query, .. } => {
            let asked = Asked { message_stream: stream, name: &name, query: query.as_deref() };
            on_publish(state, machine, &asked, is_local, out, context);
        }
        Event::Play { stream, .. } => {
            machine.reject_play(stream, "playing over RTMP is not offered; use HLS or DASH", out);
        }
        Event::Media { kind, chunk_stream, timestamp, length, offset, data, .. } => {
            let fragment = Fragment { kind, chunk_stream, timestamp, length, offset, data };
            if let Err(refusal) = on_fragment(state, &fragment, context) {
                refuse_media(state, machine, &refusal, out, context);
            }
        }
        Event::MediaAborted { kind, chunk_stream, .. } => {
            if let Some(unit) = take_unit(state, kind, chunk_stream) {
                give_back(&mut state.tracks, unit);
            }
        }
        Event::Unpublish { stream } => {
            if state.publishing.as_ref().is_some_and(|open| open.message_stream == stream) {
                end_publication(state, context);
            }
        }
        // Hints only: encoders write wrong codec ids, sizes and rates.
        Event::Metadata { .. } | Event::Data { .. } => {}
    }
}

struct Asked<'a> {
    message_stream: MessageStreamId,
    name: &'a str,
    query: Option<&'a str>,
}

fn on_publish(
    state: &mut RtmpState,
    machine: &mut rtmp::Connection,
    asked: &Asked<'_>,
    is_local: bool,
    out: &mut Vec<u8>,
    context: &mut Context<'_>,
) {
    let stream = match StreamName::from_parts(&state.app, asked.name) {
        Ok(stream) => stream,
        Err(error) => {
            let text = error.to_string();
            machine.reject_publish(asked.message_stream, PublishRejection::BadName, &text, out);
            return;
        }
    };
    // The address of a peer that came by a listener outside the loopback is not looked at: it is
    // not this machine's, which is all the rule asks.
    let peer = IpAddr::V4(if is_local { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED });
    let key = asked.query.and_then(|query| {
        http1::target::query_pairs(query).find(|(name, _)| *name == "key").map(|(_, value)| value)
    });
    if !context.settings.config.auth.may_publish(peer, stream.app(), stream.name(), key) {
        tracing::info!(%stream, peer = ?context.peer(), "RTMP publisher without a fitting key refused");
        let text = "this stream needs a key: publish to NAME?key=KEY";
        machine.reject_publish(asked.message_stream, PublishRejection::Denied, text, out);
        return;
    }
    if state.publishing.is_some() {
        let text = "one publication per connection";
        machine.reject_publish(asked.message_stream, PublishRejection::Rejected, text, out);
        return;
    }
    if !context.board.governor().takes_publishers() {
        context.count_shed(Step::MediaPublishers);
        let peer = context.peer();
        tracing::warn!(%stream, ?peer, "publisher refused: live media has its share of the memory budget");
        let text = "the server's memory for live media is full; publish later";
        machine.reject_publish(asked.message_stream, PublishRejection::Rejected, text, out);
        return;
    }
    context.live.open(&stream, PublisherId(context.sender), context.token, context.now);
    state.publishing =
        Some(Publishing { stream, message_stream: asked.message_stream, accepted: false });
}

/// The home answered whether this connection may publish.
pub(super) fn on_answer(
    connection: &mut Connection,
    stream: &StreamName,
    accepted: bool,
    context: &mut Context<'_>,
) {
    let Protocol::Rtmp(state) = &mut connection.protocol else {
        if accepted {
            context.live.close(stream, PublisherId(context.sender), context.now);
        }
        return;
    };
    let Some(mut machine) = state.machine.take() else { return };
    let mut out = Vec::new();
    if let Some(publishing) = &mut state.publishing
        && publishing.stream == *stream
    {
        if accepted {
            publishing.accepted = true;
            let peer = context.peer();
            tracing::info!(%stream, connection = ?context.token, ?peer, "publisher came");
            machine.accept_publish(publishing.message_stream, &mut out);
        } else {
            let text = "someone publishes this stream already";
            let message_stream = publishing.message_stream;
            machine.reject_publish(message_stream, PublishRejection::BadName, text, &mut out);
            state.publishing = None;
        }
    }
    put_back(connection, machine, &out, context);
}

/// A piece of a media message.
struct Fragment<'a> {
    kind: MediaKind,
    chunk_stream: u32,
    timestamp: i64,
    length: u32,
    offset: u32,
    data: &'a [u8],
}

/// Why a publisher's media cannot be taken.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the header of a media tag is broken: {0}")]
    Tag(#[from] flv::Error),
    #[error("the H.264 configuration is broken: {0}")]
    H264(h264::Error),
    #[error("the AV1 configuration is broken: {0}")]
    Av1(av1::Error),
    #[error("the AAC configuration is broken: {0}")]
    Aac(aac::Error),
    #[error("{0} is not taken; send H.264 or AV1, and AAC")]
    Codec(String),
}

fn on_fragment(
    state: &mut RtmpState,
    fragment: &Fragment<'_>,
    context: &mut Context<'_>,
) -> Result<(), Refusal> {
    let mut unit = match take_unit(state, fragment.kind, fragment.chunk_stream) {
        Some(unit) if fragment.offset > 0 => unit,
        former => {
            if let Some(unit) = former {
                give_back(&mut state.tracks, unit);
            }
            Unit {
                chunk_stream: fragment.chunk_stream,
                kind: fragment.kind,
                head: Vec::new(),
                header: None,
                body: UnitBody::Beside(Vec::new()),
            }
        }
    };
    let mut data = fragment.data;
    if unit.header.is_none() {
        data = read_header(&mut state.tracks, &mut unit, fragment, data, context)?;
    }
    if unit.header.is_some() {
        match &mut unit.body {
            UnitBody::Block(writer) => writer.push(data),
            UnitBody::Beside(bytes) => bytes.extend_from_slice(data),
        }
    }
    let is_complete = fragment.offset as usize + fragment.data.len() == fragment.length as usize;
    if is_complete {
        on_unit(state, unit, fragment.timestamp, context)
    } else {
        state.units.push(unit);
        Ok(())
    }
}

/// Reads the tag's header from the first bytes of a message; what is left of `data` is its body.
fn read_header<'a>(
    tracks: &mut [TrackWriter; 2],
    unit: &mut Unit,
    fragment: &Fragment<'_>,
    data: &'a [u8],
    context: &Context<'_>,
) -> Result<&'a [u8], Refusal> {
    let before = unit.head.len();
    // Most headers come whole in the first fragment; staging bounds what is copied twice.
    let staged = data.len().min(flv::HEADER_BYTES_MAX - before.min(flv::HEADER_BYTES_MAX));
    unit.head.extend_from_slice(&data[..staged]);
    let parsed = match unit.kind {
        MediaKind::Video => VideoTagHeader::parse(&unit.head)?
            .map(|(header, length)| (TagHeader::Video(header), length)),
        MediaKind::Audio => AudioTagHeader::parse(&unit.head)?
            .map(|(header, length)| (TagHeader::Audio(header), length)),
    };
    let Some((header, length)) = parsed else { return Ok(&[]) };
    let is_coded = match &header {
        TagHeader::Video(header) => header.is_coded(),
        TagHeader::Audio(header) => header.packet_type == AudioPacketType::CodedFrames,
    };
    let body_bytes = (fragment.length as usize).saturating_sub(length);
    if is_coded && body_bytes <= TRACK_BLOCK_BYTES {
        let track = &mut tracks[unit.kind as usize];
        let writer = track.writer.take().filter(|writer| writer.room() >= body_bytes);
        let pool = track.pool.get_or_insert_with(|| {
            let meter = Arc::clone(context.live.meter());
            BlockPool::metered(TRACK_BLOCK_BYTES, TRACK_BLOCKS_MAX, meter)
        });
        unit.body = UnitBody::Block(writer.unwrap_or_else(|| {
            let taken = pool.take();
            // Once per block: what windows gave up since then is not kept for later.
            if !context.board.governor().takes_publishers() {
                pool.give_back(0);
            }
            taken
        }));
    }
    unit.header = Some(header);
    unit.head = Vec::new();
    Ok(&data[length - before..])
}

fn take_unit(state: &mut RtmpState, kind: MediaKind, chunk_stream: u32) -> Option<Unit> {
    let at = state
        .units
        .iter()
        .position(|unit| unit.kind == kind && unit.chunk_stream == chunk_stream)?;
    Some(state.units.swap_remove(at))
}

/// Gives up an unfinished unit; its block is filled on behind what it wrote.
fn give_back(tracks: &mut [TrackWriter; 2], unit: Unit) {
    if let UnitBody::Block(mut writer) = unit.body {
        writer.abandon();
        tracks[unit.kind as usize].writer = Some(writer);
    }
}

/// A media message is complete.
fn on_unit(
    state: &mut RtmpState,
    unit: Unit,
    timestamp: i64,
    context: &mut Context<'_>,
) -> Result<(), Refusal> {
    let Unit { kind, header, body, .. } = unit;
    let payload = match body {
        UnitBody::Block(mut writer) => {
            let payload = writer.finish();
            state.tracks[kind as usize].writer = Some(writer);
            payload
        }
        UnitBody::Beside(bytes) => Payload::copied_metered(&bytes, context.live.meter()),
    };
    match header {
        Some(TagHeader::Video(header)) => on_video(state, &header, payload, timestamp, context),
        Some(TagHeader::Audio(header)) => on_audio(state, &header, payload, timestamp, context),
        // An empty message, or one cut short inside its header: silence.
        None => Ok(()),
    }
}

fn on_video(
    state: &mut RtmpState,
    header: &VideoTagHeader,
    payload: Payload,
    timestamp: i64,
    context: &mut Context<'_>,
) -> Result<(), Refusal> {
    match header.packet_type {
        VideoPacketType::SequenceStart => {
            let config = match header.codec {
                VideoCodec::Avc => match h264::AvcDecoderConfigurationRecord::parse(&payload) {
                    // Some encoders send an empty record first.
                    Err(h264::Error::NoParameterSets) => return Ok(()),
                    result => TrackConfig::H264(result.map_err(Refusal::H264)?),
                },
                VideoCodec::Av1 => TrackConfig::Av1(
                    av1::Av1CodecConfigurationRecord::parse(&payload).map_err(Refusal::Av1)?,
                ),
                other => return Err(Refusal::Codec(format!("{other:?} video"))),
            };
            configure(state, MediaKind::Video, config, context);
        }
        VideoPacketType::CodedFrames | VideoPacketType::CodedFramesX => {
            let track = &state.tracks[MediaKind::Video as usize];
            let (random_access, payload) = match &track.config {
                Some(TrackConfig::H264(config)) => {
                    let length_size = config.nal_length_size();
                    (h264::is_random_access(&payload, length_size).unwrap_or(false), payload)
                }
                Some(TrackConfig::Av1(_)) => {
                    (av1::is_random_access(&payload).unwrap_or(false), without_delimiter(payload))
                }
                _ => (header.is_key(), payload),
            };
            let unit = AccessUnit {
                dts: timestamp.saturating_mul(90),
                composition_offset: header.composition_time_ms.saturating_mul(90),
                random_access,
                payload,
            };
            push(state, TrackKind::Video, unit, context);
        }
        VideoPacketType::SequenceEnd
        | VideoPacketType::Metadata
        | VideoPacketType::Mpeg2TsSequenceStart
        | VideoPacketType::Command(_) => {}
    }
    Ok(())
}

/// A temporal unit as it lies in `mdat`: without its delimiter (AV1 in ISOBMFF 2.4).
pub(super) fn without_delimiter(payload: Payload) -> Payload {
    let Ok(sample) = av1::sample(&payload) else { return payload };
    let start = payload.len() - sample.len();
    debug_assert!(payload.ends_with(sample), "only the front is left out");
    payload.slice(start..payload.len())
}

fn on_audio(
    state: &mut RtmpState,
    header: &AudioTagHeader,
    payload: Payload,
    timestamp: i64,
    context: &mut Context<'_>,
) -> Result<(), Refusal> {
    if header.codec != AudioCodec::Aac {
        return Err(Refusal::Codec(format!("{:?} audio", header.codec)));
    }
    match header.packet_type {
        AudioPacketType::SequenceStart => {
            if payload.is_empty() {
                return Ok(());
            }
            let config = aac::AudioSpecificConfig::parse(&payload).map_err(Refusal::Aac)?;
            configure(state, MediaKind::Audio, TrackConfig::Aac(config), context);
        }
        AudioPacketType::CodedFrames => {
            let track = &state.tracks[MediaKind::Audio as usize];
            let timescale = track.config.as_ref().map_or(1000, TrackConfig::timescale);
            let ticks = (i128::from(timestamp) * i128::from(timescale) + 500).div_euclid(1000);
            let unit = AccessUnit {
                dts: i64::try_from(ticks).unwrap_or(i64::MAX),
                composition_offset: 0,
                random_access: true,
                payload,
            };
            push(state, TrackKind::Audio, unit, context);
        }
        AudioPacketType::SequenceEnd | AudioPacketType::MultichannelConfig => {}
    }
    Ok(())
}

fn configure(
    state: &mut RtmpState,
    kind: MediaKind,
    config: TrackConfig,
    context: &mut Context<'_>,
) {
    let Some(publishing) = &state.publishing else { return };
    let track = &mut state.tracks[kind as usize];
    if track.config.as_ref() != Some(&config) {
        let publisher = PublisherId(context.sender);
        context.live.configure(&publishing.stream, publisher, config.clone(), context.now);
        track.config = Some(config);
    }
}

fn push(state: &RtmpState, kind: TrackKind, unit: AccessUnit, context: &mut Context<'_>) {
    let Some(publishing) = &state.publishing else { return };
    context.counters.access_units.add(1);
    let publisher = PublisherId(context.sender);
    context.live.push(&publishing.stream, publisher, kind, unit, context.now);
}

/// Ends the publication because of what it sent; the publisher hears why.
fn refuse_media(
    state: &mut RtmpState,
    machine: &mut rtmp::Connection,
    refusal: &Refusal,
    out: &mut Vec<u8>,
    context: &mut Context<'_>,
) {
    context.counters.protocol_errors.add(1);
    if let Some(publishing) = &state.publishing {
        tracing::warn!(stream = %publishing.stream, %refusal, "publisher refused");
    }
    machine.close(&refusal.to_string(), out);
    end_publication(state, context);
}

fn end_publication(state: &mut RtmpState, context: &mut Context<'_>) {
    for unit in std::mem::take(&mut state.units) {
        give_back(&mut state.tracks, unit);
    }
    for track in &mut state.tracks {
        track.config = None;
    }
    if let Some(publishing) = state.publishing.take() {
        if publishing.accepted {
            tracing::info!(stream = %publishing.stream, "publisher left");
        }
        context.live.close(&publishing.stream, PublisherId(context.sender), context.now);
    }
}

/// The peer is gone, or is being closed.
pub(super) fn on_closed(connection: &mut Connection, context: &mut Context<'_>) {
    if let Protocol::Rtmp(state) = &mut connection.protocol {
        end_publication(state, context);
    }
}

/// Peers that do not get on, and publishers that fell silent, end.
pub(super) fn on_timer(connection: &mut Connection, context: &mut Context<'_>) -> u64 {
    let silent_ms = u64::from(connection.silent_ms(context.now.monotonic));
    let Protocol::Rtmp(state) = &connection.protocol else { return RTMP_SETUP_MS };
    let is_publishing = state.publishing.as_ref().is_some_and(|publishing| publishing.accepted);
    if is_publishing && silent_ms < RTMP_IDLE_MS {
        return RTMP_IDLE_MS - silent_ms;
    }
    let text = if is_publishing { "the publisher fell silent" } else { "publish sooner" };
    tell_and_close(connection, text, context);
    RTMP_SETUP_MS
}

/// The server goes away.
pub(super) fn on_drain(connection: &mut Connection, context: &mut Context<'_>) {
    tell_and_close(connection, "the server goes away", context);
}

fn tell_and_close(connection: &mut Connection, text: &str, context: &mut Context<'_>) {
    let Protocol::Rtmp(state) = &mut connection.protocol else { return };
    if let Some(mut machine) = state.machine.take() {
        let mut out = Vec::new();
        machine.close(text, &mut out);
        put_back(connection, machine, &out, context);
    }
    on_closed(connection, context);
    connection.close();
}
