//! The header of an audio tag (FLV 10.1 E.4.2; E-RTMP v2 "Enhanced Audio").
//!
//! In: the first bytes of an audio message. Out: codec, packet type, track. A message of zero
//! length has no header and means silence.

use crate::enhanced::{self, Reader, Stop, Track};
use crate::{Error, Form, FourCc};

/// What stands in front of the audio bitstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioTagHeader {
    /// The codec.
    pub codec: AudioCodec,
    /// What follows the header.
    pub packet_type: AudioPacketType,
    /// What only the classic form says; `None` in the enhanced form.
    pub classic: Option<ClassicAudio>,
    /// To be added to the timestamp: 0..=999,999 (E-RTMP ModEx).
    pub timestamp_offset_nanos: u32,
    /// The track, if the message is multitrack.
    pub track: Option<u8>,
}

/// The low half of a classic header's first byte. AAC senders must write 44 kHz stereo 16 bit
/// whatever they send (E.4.2.1), so it means nothing for AAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassicAudio {
    /// SoundRate: 5.5, 11, 22, 44 kHz for 0..=3.
    pub sound_rate: u8,
    /// SoundSize: 8, 16 bit for 0, 1.
    pub sound_size: u8,
    /// SoundType: mono, stereo for 0, 1.
    pub sound_type: u8,
}

/// The codec of an audio tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioCodec {
    /// Classic 10 or `mp4a`.
    Aac,
    /// `Opus`.
    Opus,
    /// `fLaC`.
    Flac,
    /// `ac-3`.
    Ac3,
    /// `ec-3`.
    Eac3,
    /// Classic 2 or 14, or `.mp3`.
    Mp3,
    /// Another number of the classic form: a codec of the Flash player.
    OtherClassic(u8),
    /// Another FourCC.
    Other(FourCc),
}

/// What follows the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioPacketType {
    /// The decoder configuration, such as an AudioSpecificConfig. May be empty for Opus.
    SequenceStart,
    /// Coded audio.
    CodedFrames,
    /// No more audio (enhanced).
    SequenceEnd,
    /// A channel layout (enhanced).
    MultichannelConfig,
}

impl AudioTagHeader {
    /// Reads the header at the start of `bytes`; also gives its length. `None`: more bytes are
    /// needed, or, if that is the whole message, it was cut short.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Error> {
        let mut reader = Reader::new(bytes);
        let header = read(&mut reader).map(|header| (header, reader.at));
        enhanced::outcome(header, bytes.len())
    }

    /// How it was written.
    pub const fn form(&self) -> Form {
        if self.classic.is_some() { Form::Classic } else { Form::Enhanced }
    }

    /// Appends the header. What its form cannot carry is left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if let Some(classic) = self.classic {
            let format = self.codec.classic();
            let low = (classic.sound_rate & 3) << 2
                | (classic.sound_size & 1) << 1
                | classic.sound_type & 1;
            out.push(format << 4 | low);
            if format == AAC {
                out.push(u8::from(self.packet_type != AudioPacketType::SequenceStart));
            }
            return;
        }
        let track = Track {
            packet_type: self.packet_type.number(),
            four_cc: self.codec.four_cc(),
            track: self.track,
        };
        let first = EX_HEADER << 4;
        enhanced::encode(out, first, self.timestamp_offset_nanos, MULTITRACK, &track);
    }
}

impl AudioCodec {
    const fn from_classic(format: u8) -> Self {
        match format {
            AAC => Self::Aac,
            MP3 | MP3_8_KHZ => Self::Mp3,
            format => Self::OtherClassic(format),
        }
    }

    fn from_four_cc(four_cc: FourCc) -> Self {
        match &four_cc.0 {
            b"mp4a" => Self::Aac,
            b"Opus" => Self::Opus,
            b"fLaC" => Self::Flac,
            b"ac-3" => Self::Ac3,
            b"ec-3" => Self::Eac3,
            b".mp3" => Self::Mp3,
            _ => Self::Other(four_cc),
        }
    }

    const fn classic(self) -> u8 {
        match self {
            Self::Aac => AAC,
            Self::Mp3 => MP3,
            Self::OtherClassic(format) => format & 0x0f,
            _ => 0,
        }
    }

    const fn four_cc(self) -> FourCc {
        match self {
            Self::Aac => FourCc(*b"mp4a"),
            Self::Opus => FourCc(*b"Opus"),
            Self::Flac => FourCc(*b"fLaC"),
            Self::Ac3 => FourCc(*b"ac-3"),
            Self::Eac3 => FourCc(*b"ec-3"),
            Self::Mp3 => FourCc(*b".mp3"),
            Self::Other(four_cc) => four_cc,
            Self::OtherClassic(_) => FourCc([0; 4]),
        }
    }
}

impl AudioPacketType {
    const fn number(self) -> u8 {
        match self {
            Self::SequenceStart => 0,
            Self::CodedFrames => 1,
            Self::SequenceEnd => 2,
            Self::MultichannelConfig => 4,
        }
    }
}

fn read(reader: &mut Reader<'_>) -> Result<AudioTagHeader, Stop> {
    let first = reader.byte()?;
    if first >> 4 == EX_HEADER {
        return read_enhanced(reader, first & 0x0f);
    }
    let codec = AudioCodec::from_classic(first >> 4);
    let at = reader.at;
    let packet_type = match codec {
        AudioCodec::Aac => match reader.byte()? {
            0 => AudioPacketType::SequenceStart,
            1 => AudioPacketType::CodedFrames,
            packet_type => return Err(Error::PacketType { at, packet_type }.into()),
        },
        _ => AudioPacketType::CodedFrames,
    };
    let classic = ClassicAudio {
        sound_rate: first >> 2 & 3,
        sound_size: first >> 1 & 1,
        sound_type: first & 1,
    };
    Ok(AudioTagHeader {
        codec,
        packet_type,
        classic: Some(classic),
        timestamp_offset_nanos: 0,
        track: None,
    })
}

fn read_enhanced(reader: &mut Reader<'_>, packet_type: u8) -> Result<AudioTagHeader, Stop> {
    let extended = enhanced::modifier_extensions(reader, packet_type)?;
    let at = reader.at - 1;
    let track = enhanced::track(reader, extended.packet_type, MULTITRACK)?;
    let packet_type = match track.packet_type {
        0 => AudioPacketType::SequenceStart,
        1 => AudioPacketType::CodedFrames,
        2 => AudioPacketType::SequenceEnd,
        4 => AudioPacketType::MultichannelConfig,
        packet_type => return Err(Error::PacketType { at, packet_type }.into()),
    };
    Ok(AudioTagHeader {
        codec: AudioCodec::from_four_cc(track.four_cc),
        packet_type,
        classic: None,
        timestamp_offset_nanos: extended.timestamp_offset_nanos,
        track: track.track,
    })
}

const EX_HEADER: u8 = 9;
const AAC: u8 = 10;
const MP3: u8 = 2;
const MP3_8_KHZ: u8 = 14;
const MULTITRACK: u8 = 5;
