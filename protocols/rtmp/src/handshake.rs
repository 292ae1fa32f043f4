//! The handshake (RTMP 5.2), and the digest form that Flash players and ffmpeg use (not in the
//! specification).
//!
//! In: C1 whole. Out: S0, S1, S2. C2 is never checked nor waited for: clients send commands right
//! behind it.
//!
//! What clients do: GStreamer's rtmp2sink and others announce a version, as digest clients do, with
//! a digest that does not verify; they are answered in the simple form, as is everyone without a
//! digest.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The length of C1, S1, C2 and S2 (RTMP 5.2.3).
pub(crate) const PACKET_BYTES: usize = 1536;
/// C0 and S0 of plain RTMP.
pub(crate) const VERSION: u8 = 3;

pub(crate) type Packet = [u8; PACKET_BYTES];

/// Which form of handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// RTMP 5.2.
    Simple,
    /// With a digest in C1 and S1, at the place of schema 0 or 1.
    Digest {
        /// 0 or 1.
        schema: u8,
    },
}

/// Appends S0, S1 and S2 for this C1; says which form it was.
pub(crate) fn answer(c1: &Packet, now_ms: u32, entropy: u64, out: &mut Vec<u8>) -> Handshake {
    let mut random = SplitMix(entropy);
    out.push(VERSION);
    let mut s1 = random.packet();
    s1[..4].copy_from_slice(&now_ms.to_be_bytes());
    s1[4..8].fill(0);
    // A version of zero is how a client says that it knows no digest.
    let schemas: &[u8] = if c1[4..8] == [0; 4] { &[] } else { &[1, 0] };
    let digest = schemas
        .iter()
        .find_map(|&schema| find_digest(c1, schema, PLAYER_KEY).map(|digest| (schema, digest)));
    let Some((schema, c1_digest)) = digest else {
        out.extend_from_slice(&s1);
        // RTMP 5.2.4: their time, our time, their random bytes.
        let mut s2 = *c1;
        s2[4..8].copy_from_slice(&now_ms.to_be_bytes());
        out.extend_from_slice(&s2);
        return Handshake::Simple;
    };
    s1[4..8].copy_from_slice(&SERVER_VERSION);
    put_digest(&mut s1, schema, SERVER_KEY);
    out.extend_from_slice(&s1);
    let mut s2 = random.packet();
    let key = hmac_sha256(&[SERVER_KEY, &KEY_TAIL].concat(), &[&c1_digest]);
    let (body, place) = s2.split_at_mut(PACKET_BYTES - DIGEST_BYTES);
    place.copy_from_slice(&hmac_sha256(&key, &[body]));
    out.extend_from_slice(&s2);
    Handshake::Digest { schema }
}

/// C1 as a client of that form sends it.
pub(crate) fn hello(handshake: Handshake, now_ms: u32, entropy: u64) -> Packet {
    let mut c1 = SplitMix(entropy).packet();
    c1[..4].copy_from_slice(&now_ms.to_be_bytes());
    match handshake {
        Handshake::Simple => c1[4..8].fill(0),
        Handshake::Digest { schema } => {
            c1[4..8].copy_from_slice(&[128, 0, 7, 2]);
            put_digest(&mut c1, schema, PLAYER_KEY);
        }
    }
    c1
}

/// Whether S1 and S2 answer this C1 in its form. A digest client accepts the simple answer too.
pub(crate) fn is_answer(c1: &Packet, handshake: Handshake, s1: &Packet, s2: &Packet) -> bool {
    let simple = c1[8..] == s2[8..];
    let Handshake::Digest { schema } = handshake else { return simple };
    let Some(c1_digest) = find_digest(c1, schema, PLAYER_KEY) else { return simple };
    let key = hmac_sha256(&[SERVER_KEY, &KEY_TAIL].concat(), &[&c1_digest]);
    let (body, signature) = s2.split_at(PACKET_BYTES - DIGEST_BYTES);
    find_digest(s1, schema, SERVER_KEY).is_some() && hmac_sha256(&key, &[body]) == signature
}

/// The digest, if it stands where `schema` says and is right.
fn find_digest(packet: &Packet, schema: u8, key: &[u8]) -> Option<[u8; DIGEST_BYTES]> {
    let at = digest_offset(packet, schema);
    let digest = packet_digest(packet, at, key);
    (packet[at..at + DIGEST_BYTES] == digest).then_some(digest)
}

fn put_digest(packet: &mut Packet, schema: u8, key: &[u8]) {
    let at = digest_offset(packet, schema);
    let digest = packet_digest(packet, at, key);
    packet[at..at + DIGEST_BYTES].copy_from_slice(&digest);
}

/// At most 776 + 727, so that the digest ends within the packet.
fn digest_offset(packet: &Packet, schema: u8) -> usize {
    let sum_at = if schema == 1 { 8 } else { 772 };
    let sum: usize = packet[sum_at..sum_at + 4].iter().map(|byte| usize::from(*byte)).sum();
    sum % 728 + sum_at + 4
}

fn packet_digest(packet: &Packet, at: usize, key: &[u8]) -> [u8; DIGEST_BYTES] {
    hmac_sha256(key, &[&packet[..at], &packet[at + DIGEST_BYTES..]])
}

fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; DIGEST_BYTES] {
    // HMAC takes keys of any length (RFC 2104 2), so this cannot fail.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Fills the random parts. They protect nothing: RTMP has no use for them but to recognise an echo.
struct SplitMix(u64);

impl SplitMix {
    fn packet(&mut self) -> Packet {
        let mut packet = [0; PACKET_BYTES];
        for word in packet.chunks_exact_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            word.copy_from_slice(&(mixed ^ mixed >> 31).to_be_bytes());
        }
        packet
    }
}

const DIGEST_BYTES: usize = 32;
/// Any version from 3 on tells a client to look for our digest.
const SERVER_VERSION: [u8; 4] = [3, 5, 7, 9];
const PLAYER_KEY: &[u8] = b"Genuine Adobe Flash Player 001";
const SERVER_KEY: &[u8] = b"Genuine Adobe Flash Media Server 001";
/// Both keys in full end in these bytes.
const KEY_TAIL: [u8; 32] = [
    0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57,
    0x6e, 0xec, 0x5d, 0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
];
