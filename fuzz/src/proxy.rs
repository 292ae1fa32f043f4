//! Headers of the PROXY protocol.

use proxy::{Limits, Source, Step, receive};

use crate::{Seed, cut};

/// No bytes make the reader panic; what it accepts is a header that ends inside the bytes and within the limits, and
/// ends there whatever follows.
pub fn never_panics(data: &[u8]) {
    match receive(data, &LIMITS) {
        Ok(Step::Header { consumed, source }) => {
            assert!(consumed > 0 && consumed <= data.len());
            assert!(consumed <= LIMITS.header_bytes_max.max(proxy::V1_BYTES_MAX));
            let alone = receive(&data[..consumed], &LIMITS);
            assert_eq!(alone, Ok(Step::Header { consumed, source }));
            if let Source::Internet { client, server } = source {
                assert_eq!(client.is_ipv4(), server.is_ipv4());
            }
            let behind = [&data[..consumed], b"\r\n\r\n\0PROXY "].concat();
            assert_eq!(receive(&behind, &LIMITS), alone);
        }
        Ok(Step::Incomplete) => {
            assert!(data.len() < LIMITS.header_bytes_max.max(proxy::V1_BYTES_MAX));
        }
        Err(error) => assert!(error.offset <= data.len().max(proxy::V1_BYTES_MAX)),
    }
}

/// Any cut of the bytes gives the same header or error.
pub fn split(data: &[u8]) {
    let (stream, pieces) = cut::pieces(data);
    let mut inbox = Vec::new();
    let mut dripped = Ok(Step::Incomplete);
    for piece in pieces {
        inbox.extend_from_slice(piece);
        dripped = receive(&inbox, &LIMITS);
        if dripped != Ok(Step::Incomplete) {
            break;
        }
    }
    assert_eq!(dripped, receive(stream, &LIMITS));
}

/// Headers as proxies send them and as liars do.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let v2 = |head: [u8; 2], rest: &[u8]| {
        let length = u16::try_from(rest.len()).unwrap_or(0).to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n", &head[..], &length, rest].concat()
    };
    let v4 = [192, 0, 2, 1, 203, 0, 113, 9, 0x30, 0x39, 0, 80];
    // The checksum is that of this header with zeros in its place.
    let mut checked = v2([0x21, 0x11], &[&v4[..], &[3, 0, 4, 0, 0, 0, 0]].concat());
    let sum = crc32c(&checked).to_be_bytes();
    let at = checked.len() - 4;
    checked[at..].copy_from_slice(&sum);
    vec![
        ("v1-tcp4", b"PROXY TCP4 192.0.2.1 203.0.113.9 12345 80\r\nGET / HTTP/1.1\r\n".to_vec()),
        ("v1-tcp6", b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n".to_vec()),
        ("v1-unknown", b"PROXY UNKNOWN anything at all\r\n".to_vec()),
        ("v1-bare-lf", b"PROXY TCP4 192.0.2.1 203.0.113.9 12345 80\n".to_vec()),
        ("v1-too-long", [b"PROXY UNKNOWN ".to_vec(), vec![b'f'; 100]].concat()),
        ("v2-tcp4", [v2([0x21, 0x11], &v4), b"GET /".to_vec()].concat()),
        ("v2-tcp6", v2([0x21, 0x21], &[9; 36])),
        ("v2-unix", v2([0x21, 0x31], &[b'x'; 216])),
        ("v2-local", v2([0x20, 0x00], b"")),
        ("v2-unspecified", v2([0x21, 0x00], &[1, 0, 2, b'h', b'2'])),
        ("v2-tlvs", v2([0x21, 0x11], &[&v4[..], &[4, 0, 1, 0], &[0x20, 0, 2, 1, 2]].concat())),
        ("v2-checksum", checked),
        ("v2-wrong-checksum", v2([0x21, 0x11], &[&v4[..], &[3, 0, 4, 1, 2, 3, 4]].concat())),
        ("v2-short-tlv", v2([0x21, 0x11], &[&v4[..], &[4, 0, 9, 0]].concat())),
        ("http", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
    ]
}

/// The same behind a byte that chooses the cuts.
#[must_use]
pub fn cut_seeds() -> Vec<Seed> {
    seeds().into_iter().map(|(name, bytes)| (name, [&[3], &bytes[..]].concat())).collect()
}

/// The sum a second time, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 }
        })
    })
}

/// Small, so that inputs reach it; addresses of UNIX sockets fit.
const LIMITS: Limits = Limits { header_bytes_max: 300 };
