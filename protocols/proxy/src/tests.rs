//! Both versions against their rules one by one, every cut, and random bytes.

use super::*;
use proptest::prelude::*;

fn read(bytes: impl AsRef<[u8]>) -> Result<Step, ErrorKind> {
    receive(bytes.as_ref(), &Limits::default()).map_err(|error| error.kind)
}

fn internet(client: &str, server: &str) -> Source {
    Source::Internet { client: client.parse().unwrap(), server: server.parse().unwrap() }
}

/// A header of version 2.
fn v2(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([version_and_command, family]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend(rest);
    header
}

const V4: &[u8] = &[192, 0, 2, 1, 203, 0, 113, 9, 0x30, 0x39, 0, 80];

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], &length[..], value].concat()
}

/// With a right checksum behind the addresses and before another TLV.
fn with_checksum() -> (Vec<u8>, usize) {
    let rest = [V4, &tlv(3, &[0; 4]), &tlv(4, b"noop")].concat();
    let mut header = v2(0x21, 0x11, &rest);
    let at = 16 + V4.len() + 3;
    let sum = crc32c::crc32c([&header[..]]);
    header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    (header, at)
}

#[test]
fn lines_of_version_1() {
    let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                   ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    let unknown = format!("PROXY UNKNOWN {}\r\n", "f".repeat(91));
    assert_eq!((longest.len(), unknown.len()), (104, V1_BYTES_MAX));
    let all = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
    for (line, source) in [
        (
            "PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n",
            internet("255.255.255.255:65535", "0.0.0.0:0"),
        ),
        ("PROXY TCP6 ::1 2001:db8::2 1 443\r\n", internet("[::1]:1", "[2001:db8::2]:443")),
        (longest, internet(all, all)),
        ("PROXY UNKNOWN\r\n", Source::Unknown),
        ("PROXY UNKNOWN whatever 1 2 3\r\n", Source::Unknown),
        (&unknown, Source::Unknown),
    ] {
        let consumed = line.len();
        assert_eq!(read(line), Ok(Step::Header { consumed, source }), "{line}");
        // What follows is the client's, whatever it is.
        for behind in ["GET / HTTP/1.1\r\n", "\n", "\0", "PROXY "] {
            let bytes = format!("{line}{behind}");
            assert_eq!(read(bytes), Ok(Step::Header { consumed, source }), "{line}");
        }
    }
}

#[test]
fn lines_that_are_refused() {
    use ErrorKind::*;
    for (line, kind) in [
        ("GET / HTTP/1.1\r\n", NotProxy),
        ("POST / HTTP/1.1\r\n", NotProxy),
        ("PROXX", NotProxy),
        ("proxy TCP4", NotProxy),
        ("PROXY\r\n", NotProxy),
        ("PROXY\tTCP4", NotProxy),
        (" PROXY TCP4", NotProxy),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", BadLineEnd),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1\r2 3\r\n", BadLineEnd),
        ("PROXY UNKNOWN \0\r\n", BadLineEnd),
        ("PROXY UNKNOWN a\rb\r\n", BadLineEnd),
        ("PROXY \r\n", BadFamily),
        ("PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n", BadFamily),
        ("PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", BadFamily),
        ("PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n", BadFamily),
        ("PROXY UNKNOWNS\r\n", BadFamily),
        ("PROXY TCP4\r\n", BadAddress),
        ("PROXY TCP4 1.2.3.4\r\n", BadAddress),
        ("PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n", BadAddress),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", BadAddress),
        ("PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n", BadAddress),
        ("PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n", BadAddress),
        ("PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n", BadAddress),
        ("PROXY TCP4 0x1.2.3.4 5.6.7.8 1 2\r\n", BadAddress),
        ("PROXY TCP6 [::1] ::1 1 2\r\n", BadAddress),
        ("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", BadAddress),
        ("PROXY TCP4 1.2.3.4 5.6.7.8\r\n", BadPort),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", BadPort),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n", BadPort),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n", BadPort),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", BadPort),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 00 2\r\n", BadPort),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n", BadPort),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 99999999999999999999\r\n", BadPort),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n", BadFields),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n", BadFields),
    ] {
        assert_eq!(read(line), Err(kind), "{line:?}");
    }
    let endless = format!("PROXY UNKNOWN {}", "f".repeat(1000));
    assert_eq!(read(&endless[..106]), Ok(Step::Incomplete));
    assert_eq!(read(&endless[..107]), Err(LineTooLong));
    let too_long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(92));
    assert_eq!(read(too_long), Err(LineTooLong));
}

#[test]
fn headers_of_version_2() {
    let (checked, _) = with_checksum();
    let v6 = [[0x20; 16], [0x30; 16]].concat();
    let v6 = [&v6[..], &[0, 1, 0, 2]].concat();
    let six = |byte: u8| SocketAddr::from(([byte; 16], u16::from(byte >> 4) - 1));
    let v4 = internet("192.0.2.1:12345", "203.0.113.9:80");
    for (bytes, source) in [
        (v2(0x21, 0x11, V4), v4),
        (v2(0x21, 0x12, V4), v4),
        (v2(0x21, 0x11, &[V4, &tlv(0x20, &[0; 300]), &tlv(4, b"")].concat()), v4),
        (checked, v4),
        (v2(0x21, 0x21, &v6), Source::Internet { client: six(0x20), server: six(0x30) }),
        (v2(0x21, 0x31, &[0; 216]), Source::Unix),
        (v2(0x21, 0x32, &[0; 216]), Source::Unix),
        (v2(0x21, 0x00, b""), Source::Unknown),
        (v2(0x21, 0x00, &tlv(1, b"h2")), Source::Unknown),
        // With LOCAL everything else is skipped, whatever it is.
        (v2(0x20, 0x00, b""), Source::Proxy),
        (v2(0x20, 0x11, b"xy"), Source::Proxy),
        (v2(0x20, 0xff, &[9; 100]), Source::Proxy),
    ] {
        let consumed = bytes.len();
        assert_eq!(read(&bytes), Ok(Step::Header { consumed, source }), "{bytes:?}");
        let behind = [&bytes[..], b"\r\n\r\n\0"].concat();
        assert_eq!(read(behind), Ok(Step::Header { consumed, source }));
    }
}

#[test]
fn headers_of_version_2_that_are_refused() {
    use ErrorKind::*;
    let with = |rest: &[u8]| v2(0x21, 0x11, &[V4, rest].concat());
    let twice = [tlv(3, &[0; 4]), tlv(3, &[0; 4])].concat();
    for (bytes, kind) in [
        (b"\r\n\r\nX".to_vec(), NotProxy),
        (b"\x16\x03\x01".to_vec(), NotProxy),
        (v2(0x11, 0x11, V4), BadVersion),
        (v2(0x31, 0x11, V4), BadVersion),
        (v2(0x22, 0x11, V4), BadCommand),
        (v2(0x2f, 0x11, V4), BadCommand),
        (v2(0x21, 0x01, V4), BadTransport),
        (v2(0x21, 0x10, V4), BadTransport),
        (v2(0x21, 0x13, V4), BadTransport),
        (v2(0x21, 0x41, V4), BadTransport),
        (v2(0x21, 0x11, &V4[1..]), TooShort),
        (v2(0x21, 0x21, &[0; 35]), TooShort),
        (v2(0x21, 0x31, &[0; 215]), TooShort),
        (v2(0x21, 0x00, &[0; 4081]), TooLong),
        (v2(0x20, 0x00, &[0; 4081]), TooLong),
        (with(&[4]), BadTlv),
        (with(&[4, 0]), BadTlv),
        (with(&[4, 0, 1]), BadTlv),
        (with(&[4, 0xff, 0xff]), BadTlv),
        (with(&tlv(3, &[0; 3])), BadChecksumField),
        (with(&twice), BadChecksumField),
        (with(&tlv(3, &[0; 4])), WrongChecksum),
    ] {
        assert_eq!(read(&bytes), Err(kind), "{bytes:?}");
    }
    // A length beyond the limit is refused before anything of it has come.
    let endless = v2(0x21, 0x11, &[0; 0xffff]);
    assert_eq!(read(&endless[..16]), Err(TooLong));
    // Any bit that changes is seen by the checksum, or by a rule before it.
    let (checked, at) = with_checksum();
    // (A TLV that is no longer a checksum is one of those that are skipped.)
    for bit in (0..checked.len() * 8).filter(|bit| bit / 8 != at - 3) {
        let mut wrong = checked.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let may_pass = matches!(
            read(&wrong),
            Ok(Step::Incomplete | Step::Header { source: Source::Proxy, .. })
        );
        assert!(may_pass || read(&wrong).is_err(), "bit {bit}");
    }
}

fn examples() -> Vec<Vec<u8>> {
    let (checked, at) = with_checksum();
    let mut wrong = checked.clone();
    wrong[at] ^= 1;
    vec![
        b"PROXY TCP4 192.0.2.1 203.0.113.9 12345 80\r\nGET /".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 203.0.113.9 12345 80\nGET /".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        format!("PROXY UNKNOWN {}", "f".repeat(200)).into_bytes(),
        [checked, b"GET /".to_vec()].concat(),
        wrong,
        v2(0x22, 0x11, V4),
        v2(0x21, 0x31, &[1; 216]),
    ]
}

/// The first answer other than `Incomplete` as bytes arrive one by one.
fn dripped(bytes: &[u8]) -> Result<Step, ErrorKind> {
    let mut last = Ok(Step::Incomplete);
    for end in 0..=bytes.len() {
        last = read(&bytes[..end]);
        if last != Ok(Step::Incomplete) {
            break;
        }
    }
    last
}

#[test]
fn every_cut_gives_the_same_answer() {
    for bytes in examples() {
        assert_eq!(dripped(&bytes), read(&bytes), "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_any_cut(index in 0..9_usize, bytes in prop::collection::vec(any::<u8>(), 0..60), keep in 0..60_usize) {
        let example = examples().swap_remove(index);
        let mixed = [&example[..keep.min(example.len())], &bytes].concat();
        prop_assert_eq!(dripped(&mixed), read(&mixed));
        prop_assert_eq!(dripped(&bytes), read(&bytes));
        if let Ok(Step::Header { consumed, .. }) = read(&mixed) {
            prop_assert!(consumed <= mixed.len());
        }
    }
}
