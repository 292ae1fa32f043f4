//! RTMP 5.2 and the digest form.

use super::*;
use crate::Reason;

fn answer(c1: &[u8], options: Options) -> Vec<u8> {
    let mut server = Server::new(options);
    server.feed(&[3]).unwrap();
    assert_eq!(server.out, []);
    server.feed(c1).unwrap();
    server.out
}

#[test]
fn simple_is_echoed_without_waiting_for_c2() {
    let c1 = handshake::hello(Handshake::Simple, 77, 5);
    let out = answer(&c1, Options { entropy: 9, ..Options::default() });
    assert_eq!(out.len(), 1 + 2 * PACKET_BYTES);
    let (s1, s2) = out[1..].split_at(PACKET_BYTES);
    assert_eq!(out[0], 3);
    assert_eq!(s1[4..8], [0; 4]);
    assert_eq!((&s2[..4], &s2[8..]), (&c1[..4], &c1[8..]));
    assert_ne!(s1[8..], answer(&c1, Options::default())[9..=PACKET_BYTES], "entropy is used");
}

#[test]
fn both_digest_schemas_are_answered_with_digests() {
    for schema in 0..2 {
        for entropy in 0..40 {
            let form = Handshake::Digest { schema };
            let c1 = handshake::hello(form, 0, entropy);
            let out = answer(&c1, Options { entropy, ..Options::default() });
            let s1 = out[1..].first_chunk().unwrap();
            let s2 = out[1 + PACKET_BYTES..].first_chunk().unwrap();
            assert_ne!(s1[4..8], [0; 4]);
            assert!(handshake::is_answer(&c1, form, s1, s2), "schema {schema}, {entropy}");
            let mut wrong = *s2;
            wrong[0] ^= 1;
            assert!(!handshake::is_answer(&c1, form, s1, &wrong));
        }
    }
}

#[test]
fn a_digest_that_does_not_verify_falls_back_to_simple() {
    for schema in 0..2 {
        let mut c1 = handshake::hello(Handshake::Digest { schema }, 0, 3);
        c1[100] ^= 1;
        let out = answer(&c1, Options::default());
        assert_eq!(out[5..9], [0; 4]);
        assert_eq!(out[1 + PACKET_BYTES + 8..], c1[8..]);
    }
}

#[test]
fn what_is_no_rtmp_is_refused_at_its_first_byte() {
    let mut server = Server::new(Options::default());
    let error = server.feed(b"GET / HTTP/1.1").unwrap_err();
    assert_eq!(error, Error { at: 0, reason: Reason::Version { version: b'G' } });
    assert!(server.connection.is_closed());
    // Behind an error everything is swallowed.
    server.feed(&[0; 100]).unwrap();
    // RTMPE is answered with plain RTMP.
    let mut server = Server::new(Options::default());
    server.feed(&[6]).unwrap();
    server.feed(&handshake_bytes()[1..]).unwrap();
    assert_eq!(server.out[0], 3);
}
