//! Headers of the PROXY protocol.

use std::net::{IpAddr, SocketAddr};

use proxy::{Limits, Source, Step, V1_BYTES_MAX, receive};

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

/// A header of either version as a proxy writes it says what it was written for; whatever follows it is not its.
pub fn roundtrip(data: &[u8]) {
    let mut rest = data;
    let mut take = |count: usize| {
        let (taken, behind) = rest.split_at(count.min(rest.len()));
        rest = behind;
        let mut bytes = taken.to_vec();
        bytes.resize(count, 0);
        bytes
    };
    let choice = take(1)[0];
    let mut end = |is_v6: bool| {
        let mut address = [0; 16];
        address.copy_from_slice(&take(16));
        let [port_high, port_low] = *take(2) else { unreachable!("two were taken") };
        let v4: IpAddr = [address[0], address[1], address[2], address[3]].into();
        let address = if is_v6 { address.into() } else { v4 };
        SocketAddr::new(address, u16::from_be_bytes([port_high, port_low]))
    };
    let is_v6 = choice & 1 != 0;
    let (client, server) = (end(is_v6), end(is_v6));
    let (header, source) = match choice >> 1 & 7 {
        0 | 1 => {
            let line = format!(
                "PROXY TCP{} {} {} {} {}\r\n",
                if is_v6 { 6 } else { 4 },
                client.ip(),
                server.ip(),
                client.port(),
                server.port()
            );
            (line.into_bytes(), Source::Internet { client, server })
        }
        2 => (b"PROXY UNKNOWN\r\n".to_vec(), Source::Unknown),
        3 => (version_2(0x20, 0, &[], rest, choice), Source::Proxy),
        4 => (version_2(0x21, 0, &[], rest, choice), Source::Unknown),
        5 => (version_2(0x21, 0x31, &[b'x'; 216], rest, choice), Source::Unix),
        _ => {
            let octets = |address: IpAddr| match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            let ports = [client.port().to_be_bytes(), server.port().to_be_bytes()].concat();
            let addresses = [octets(client.ip()), octets(server.ip()), ports].concat();
            let family = if is_v6 { 0x21 } else { 0x11 } + (choice >> 4 & 1);
            (version_2(0x21, family, &addresses, rest, choice), Source::Internet { client, server })
        }
    };
    assert!(header.starts_with(b"\r") || header.len() <= V1_BYTES_MAX);
    let stream = [&header[..], rest].concat();
    let limits = Limits::default();
    assert_eq!(receive(&stream, &limits), Ok(Step::Header { consumed: header.len(), source }));
    assert_eq!(receive(&header[..header.len() - 1], &limits), Ok(Step::Incomplete));
    let limits = Limits { header_bytes_max: header.len() - 1 };
    assert!(header[0] == b'P' || receive(&stream, &limits).is_err(), "one byte too long");
}

/// A header of version 2 with a TLV of these bytes, cut to what a header may have, and perhaps the checksum.
fn version_2(command: u8, family: u8, addresses: &[u8], value: &[u8], choice: u8) -> Vec<u8> {
    let mut header = [b"\r\n\r\n\0\r\nQUIT\n", &[command, family, 0, 0][..], addresses].concat();
    if choice & 0x20 != 0 {
        let value = &value[..value.len().min(1_000)];
        // PP2_TYPE_NOOP.
        header.push(4);
        header.extend_from_slice(&u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
        header.extend_from_slice(value);
    }
    let is_checked = choice & 0x40 != 0;
    if is_checked {
        header.extend_from_slice(&[3, 0, 4, 0, 0, 0, 0]);
    }
    let length = u16::try_from(header.len() - 16).unwrap_or(0).to_be_bytes();
    header[14..16].copy_from_slice(&length);
    if is_checked {
        let (at, sum) = (header.len() - 4, crc32c(&header));
        header[at..].copy_from_slice(&sum.to_be_bytes());
    }
    header
}

/// Every kind of header for [`roundtrip`].
#[must_use]
pub fn written_seeds() -> Vec<Seed> {
    let seed = |name, choice: u8| {
        let rest: Vec<u8> = (1..60).collect();
        (name, [&[choice], &rest[..]].concat())
    };
    vec![
        seed("v1-tcp4", 0),
        seed("v1-tcp6", 1),
        seed("v1-unknown", 4),
        seed("v2-local", 6 | 0x20),
        seed("v2-unspecified", 8 | 0x60),
        seed("v2-unix", 10 | 0x40),
        seed("v2-tcp4", 12 | 0x60),
        seed("v2-udp6", 13 | 0x30),
        ("v2-empty", vec![14]),
    ]
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
        ("v1-cut", b"PROX".to_vec()),
        ("v1-family", b"PROXY TCP5 192.0.2.1 203.0.113.9 12345 80\r\n".to_vec()),
        ("v1-fields", b"PROXY TCP4 192.0.2.1 203.0.113.9 12345 80 \r\n".to_vec()),
        ("v1-two-spaces", b"PROXY TCP4  192.0.2.1 203.0.113.9 12345 80\r\n".to_vec()),
        ("v1-port-zero", b"PROXY TCP4 192.0.2.1 203.0.113.9 012 80\r\n".to_vec()),
        ("v1-port-large", b"PROXY TCP4 192.0.2.1 203.0.113.9 65536 80\r\n".to_vec()),
        ("v1-port-sign", b"PROXY TCP4 192.0.2.1 203.0.113.9 +1 80\r\n".to_vec()),
        ("v1-port-none", b"PROXY TCP4 192.0.2.1 203.0.113.9\r\n".to_vec()),
        ("v1-control", b"PROXY UNKNOWN \t\r\n".to_vec()),
        ("v1-other-address", b"PROXY TCP6 192.0.2.1 203.0.113.9 1 80\r\n".to_vec()),
        ("v2-cut", b"\r\n\r\n".to_vec()),
        ("v2-cut-version", v2([0x21, 0x11], b"")[..12].to_vec()),
        ("v2-cut-family", v2([0x21, 0x11], b"")[..13].to_vec()),
        ("v2-cut-length", v2([0x21, 0x11], b"")[..15].to_vec()),
        ("v2-cut-addresses", v2([0x21, 0x11], &v4)[..20].to_vec()),
        ("v2-version", v2([0x31, 0x11], &v4)),
        ("v2-command", v2([0x22, 0x11], &v4)),
        ("v2-transport", v2([0x21, 0x13], &v4)),
        ("v2-short", v2([0x21, 0x21], &v4)),
        ("v2-long", v2([0x21, 0x11], &[0; 300])),
        ("v2-cut-tlv", v2([0x21, 0x11], &[&v4[..], &[4, 0]].concat())),
        ("v2-long-checksum", v2([0x21, 0x11], &[&v4[..], &[3, 0, 5, 0, 0, 0, 0, 0]].concat())),
        (
            "v2-two-checksums",
            v2([0x21, 0x11], &[&v4[..], &[3, 0, 4, 0, 0, 0, 0].repeat(2)].concat()),
        ),
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
