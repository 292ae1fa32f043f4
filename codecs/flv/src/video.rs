//! The header of a video tag (FLV 10.1 E.4.3; E-RTMP v2 "Enhanced Video").
//!
//! In: the first bytes of a video message. Out: frame type, codec, packet type, composition time,
//! track.
//!
//! What senders do: OBS writes track 0 of H.264 classic and everything else enhanced, without
//! having negotiated it; some CDNs number HEVC 12 in the classic form.

use crate::enhanced::{self, Reader, Stop, Track};
use crate::{Error, Form, FourCc};

/// What stands in front of the video bitstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoTagHeader {
    /// How it was written.
    pub form: Form,
    /// Key frame or not. Means nothing when the packet is metadata.
    pub frame_type: FrameType,
    /// The codec.
    pub codec: VideoCodec,
    /// What follows the header.
    pub packet_type: VideoPacketType,
    /// Presentation time minus decoding time (the tag's timestamp), in milliseconds; may be
    /// negative.
    pub composition_time_ms: i32,
    /// To be added to the presentation time: 0..=999,999 (E-RTMP ModEx).
    pub timestamp_offset_nanos: u32,
    /// The track, if the message is multitrack.
    pub track: Option<u8>,
}

/// FLV 10.1 E.4.3.1, FrameType.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameType {
    /// 1: can be decoded on its own.
    Key,
    /// 2.
    Inter,
    /// 3: H.263 only.
    DisposableInter,
    /// 4: made by a server.
    GeneratedKey,
    /// 5: no picture; see [`VideoPacketType::Command`].
    Command,
    /// 0, 6, 7: reserved.
    Reserved(u8),
}

/// The codec of a video tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoCodec {
    /// H.264: classic 7 or `avc1`.
    Avc,
    /// H.265: classic 12 (seen in the wild) or `hvc1`.
    Hevc,
    /// H.266: `vvc1`.
    Vvc,
    /// `av01`.
    Av1,
    /// `vp08`.
    Vp8,
    /// `vp09`.
    Vp9,
    /// Another number of the classic form: a codec of the Flash player.
    OtherClassic(u8),
    /// Another FourCC.
    Other(FourCc),
    /// An enhanced command frame names no codec.
    Unnamed,
}

/// What follows the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoPacketType {
    /// The decoder configuration record.
    SequenceStart,
    /// Coded pictures, with a composition time where the codec has one.
    CodedFrames,
    /// No more pictures.
    SequenceEnd,
    /// Coded pictures whose composition time is zero and not sent (enhanced).
    CodedFramesX,
    /// AMF0 metadata such as `colorInfo` (enhanced).
    Metadata,
    /// An MPEG-2 TS descriptor as sequence start (enhanced, AV1).
    Mpeg2TsSequenceStart,
    /// Not data: 0 = client-side seek begins, 1 = it ends. The header is the whole message.
    Command(u8),
}

impl VideoTagHeader {
    /// Reads the header at the start of `bytes`; also gives its length. `None`: more bytes are
    /// needed, or, if that is the whole message, it was cut short.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Error> {
        let mut reader = Reader::new(bytes);
        let header = read(&mut reader).map(|header| (header, reader.at));
        enhanced::outcome(header, bytes.len())
    }

    /// Whether pictures follow.
    pub const fn is_coded(&self) -> bool {
        matches!(self.packet_type, VideoPacketType::CodedFrames | VideoPacketType::CodedFramesX)
    }

    /// Whether a picture that can be decoded on its own follows.
    pub const fn is_key(&self) -> bool {
        self.is_coded() && matches!(self.frame_type, FrameType::Key | FrameType::GeneratedKey)
    }

    /// Appends the header. What its form cannot carry is left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self.form {
            Form::Classic => self.encode_classic(out),
            Form::Enhanced => self.encode_enhanced(out),
        }
    }

    fn encode_classic(&self, out: &mut Vec<u8>) {
        out.push(self.frame_type.number() << 4 | self.codec.classic());
        if let VideoPacketType::Command(command) = self.packet_type {
            out.push(command);
        } else if has_avc_packet(self.codec.classic()) {
            out.push(match self.packet_type {
                VideoPacketType::SequenceStart => 0,
                VideoPacketType::SequenceEnd => 2,
                _ => 1,
            });
            out.extend_from_slice(&self.composition_time_ms.to_be_bytes()[1..]);
        }
    }

    fn encode_enhanced(&self, out: &mut Vec<u8>) {
        let first = EX_HEADER | self.frame_type.number() << 4;
        if let VideoPacketType::Command(command) = self.packet_type {
            out.extend_from_slice(&[first, command]);
            return;
        }
        let track = Track {
            packet_type: self.packet_type.number(),
            four_cc: self.codec.four_cc(),
            track: self.track,
        };
        enhanced::encode(out, first, self.timestamp_offset_nanos, MULTITRACK, &track);
        if self.packet_type == VideoPacketType::CodedFrames && self.codec.has_composition_time() {
            out.extend_from_slice(&self.composition_time_ms.to_be_bytes()[1..]);
        }
    }
}

impl FrameType {
    const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Key,
            2 => Self::Inter,
            3 => Self::DisposableInter,
            4 => Self::GeneratedKey,
            5 => Self::Command,
            number => Self::Reserved(number),
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Key => 1,
            Self::Inter => 2,
            Self::DisposableInter => 3,
            Self::GeneratedKey => 4,
            Self::Command => 5,
            Self::Reserved(number) => number & 7,
        }
    }
}

impl VideoCodec {
    fn from_four_cc(four_cc: FourCc) -> Self {
        match &four_cc.0 {
            b"avc1" => Self::Avc,
            b"hvc1" => Self::Hevc,
            b"vvc1" => Self::Vvc,
            b"av01" => Self::Av1,
            b"vp08" => Self::Vp8,
            b"vp09" => Self::Vp9,
            _ => Self::Other(four_cc),
        }
    }

    const fn four_cc(self) -> FourCc {
        match self {
            Self::Avc => FourCc(*b"avc1"),
            Self::Hevc => FourCc(*b"hvc1"),
            Self::Vvc => FourCc(*b"vvc1"),
            Self::Av1 => FourCc(*b"av01"),
            Self::Vp8 => FourCc(*b"vp08"),
            Self::Vp9 => FourCc(*b"vp09"),
            Self::Other(four_cc) => four_cc,
            Self::OtherClassic(_) | Self::Unnamed => FourCc([0; 4]),
        }
    }

    const fn classic(self) -> u8 {
        match self {
            Self::Avc => AVC,
            Self::Hevc => HEVC_UNOFFICIAL,
            Self::OtherClassic(number) => number & 0x0f,
            _ => 0,
        }
    }

    /// E-RTMP sends a composition time only for codecs that reorder.
    const fn has_composition_time(self) -> bool {
        matches!(self, Self::Avc | Self::Hevc | Self::Vvc)
    }
}

impl VideoPacketType {
    const fn number(self) -> u8 {
        match self {
            Self::SequenceStart => 0,
            Self::CodedFrames | Self::Command(_) => 1,
            Self::SequenceEnd => 2,
            Self::CodedFramesX => 3,
            Self::Metadata => METADATA,
            Self::Mpeg2TsSequenceStart => 5,
        }
    }
}

fn read(reader: &mut Reader<'_>) -> Result<VideoTagHeader, Stop> {
    let first = reader.byte()?;
    let frame_type = FrameType::from_number(first >> 4 & 7);
    if first & EX_HEADER == 0 {
        read_classic(reader, frame_type, first & 0x0f)
    } else {
        read_enhanced(reader, frame_type, first & 0x0f)
    }
}

fn read_classic(
    reader: &mut Reader<'_>,
    frame_type: FrameType,
    codec: u8,
) -> Result<VideoTagHeader, Stop> {
    let mut header = VideoTagHeader {
        form: Form::Classic,
        frame_type,
        codec: match codec {
            AVC => VideoCodec::Avc,
            HEVC_UNOFFICIAL => VideoCodec::Hevc,
            codec => VideoCodec::OtherClassic(codec),
        },
        packet_type: VideoPacketType::CodedFrames,
        composition_time_ms: 0,
        timestamp_offset_nanos: 0,
        track: None,
    };
    if frame_type == FrameType::Command {
        header.packet_type = VideoPacketType::Command(reader.byte()?);
    } else if has_avc_packet(codec) {
        let at = reader.at;
        header.packet_type = match reader.byte()? {
            0 => VideoPacketType::SequenceStart,
            1 => VideoPacketType::CodedFrames,
            2 => VideoPacketType::SequenceEnd,
            packet_type => return Err(Error::PacketType { at, packet_type }.into()),
        };
        // Present in all three, meaningful only with pictures.
        let composition_time_ms = reader.signed_24()?;
        if header.is_coded() {
            header.composition_time_ms = composition_time_ms;
        }
    }
    Ok(header)
}

fn read_enhanced(
    reader: &mut Reader<'_>,
    frame_type: FrameType,
    packet_type: u8,
) -> Result<VideoTagHeader, Stop> {
    let extended = enhanced::modifier_extensions(reader, packet_type)?;
    let mut header = VideoTagHeader {
        form: Form::Enhanced,
        frame_type,
        codec: VideoCodec::Unnamed,
        packet_type: VideoPacketType::CodedFrames,
        composition_time_ms: 0,
        timestamp_offset_nanos: extended.timestamp_offset_nanos,
        track: None,
    };
    // A command frame ends here, except that metadata ignores the frame type.
    if frame_type == FrameType::Command && extended.packet_type != METADATA {
        header.packet_type = VideoPacketType::Command(reader.byte()?);
        return Ok(header);
    }
    let at = reader.at - 1;
    let track = enhanced::track(reader, extended.packet_type, MULTITRACK)?;
    header.codec = VideoCodec::from_four_cc(track.four_cc);
    header.track = track.track;
    header.packet_type = match track.packet_type {
        0 => VideoPacketType::SequenceStart,
        1 => VideoPacketType::CodedFrames,
        2 => VideoPacketType::SequenceEnd,
        3 => VideoPacketType::CodedFramesX,
        METADATA => VideoPacketType::Metadata,
        5 => VideoPacketType::Mpeg2TsSequenceStart,
        packet_type => return Err(Error::PacketType { at, packet_type }.into()),
    };
    if header.packet_type == VideoPacketType::CodedFrames && header.codec.has_composition_time() {
        header.composition_time_ms = reader.signed_24()?;
    }
    Ok(header)
}

const fn has_avc_packet(codec: u8) -> bool {
    matches!(codec, AVC | HEVC_UNOFFICIAL)
}

const EX_HEADER: u8 = 0x80;
const AVC: u8 = 7;
const HEVC_UNOFFICIAL: u8 = 12;
const METADATA: u8 = 4;
const MULTITRACK: u8 = 6;
