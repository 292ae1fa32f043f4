//! Which offers are accepted and how, and which answers a client accepts.

use crate::deflate::negotiate::check_answer;
use crate::deflate::{
    Agreement, AnswerError, ClientWindow, Offer, Settings, WindowBits, WindowClass, negotiate,
};

fn window(bits: u8) -> WindowBits {
    WindowBits::new(bits).unwrap()
}

fn answer_to(fields: &[&str], settings: &Settings) -> Option<String> {
    let headers = fields.iter().map(|value| ("sec-websocket-EXTENSIONS", value.as_bytes()));
    negotiate(headers, settings).map(|agreement| agreement.to_string())
}

fn takeover() -> Settings {
    Settings { server_context_takeover: true, client_context_takeover: true, ..Settings::default() }
}

/// RFC 7692 7.1, offers as clients send them, with takeover left to the client.
#[test]
fn offers_and_their_answers() {
    let deflate = |rest: &str| Some(format!("permessage-deflate{rest}"));
    for (offer, answer) in [
        ("permessage-deflate", deflate("")),
        // The examples of RFC 7692 7.1.3.
        (
            "permessage-deflate; client_max_window_bits; server_max_window_bits=10",
            deflate("; server_max_window_bits=10"),
        ),
        (
            "permessage-deflate; client_max_window_bits; server_max_window_bits=10, permessage-deflate; client_max_window_bits",
            deflate("; server_max_window_bits=10"),
        ),
        ("permessage-deflate; server_no_context_takeover", deflate("; server_no_context_takeover")),
        ("permessage-deflate; client_no_context_takeover", deflate("; client_no_context_takeover")),
        ("permessage-deflate; server_max_window_bits=9", deflate("; server_max_window_bits=9")),
        ("permessage-deflate; server_max_window_bits=15", deflate("; server_max_window_bits=15")),
        (
            "permessage-deflate; server_max_window_bits=\"1\\2\"",
            deflate("; server_max_window_bits=12"),
        ),
        ("permessage-deflate; client_max_window_bits=8", deflate("")),
        // Extensions we do not know are passed over; names compare with case.
        ("x-webkit-deflate-frame, permessage-deflate", deflate("")),
        ("Permessage-Deflate", None),
        ("permessage-bzip2; client_max_compress_level=9", None),
        ("mux; max-channels=4", None),
        // 8 is not to be had; where the client has a second choice, it gets that.
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", deflate("")),
        // The first acceptable offer, not the best.
        (
            "permessage-deflate; server_max_window_bits=9, permessage-deflate",
            deflate("; server_max_window_bits=9"),
        ),
        // RFC 7692 7.1: unknown, twice, invalid.
        ("permessage-deflate; unknown", None),
        ("permessage-deflate; unknown=1, permessage-deflate", deflate("")),
        ("permessage-deflate; Server_no_context_takeover", None),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
        ("permessage-deflate; server_max_window_bits=10; server_max_window_bits=10", None),
        ("permessage-deflate; client_max_window_bits; client_max_window_bits", None),
        ("permessage-deflate; client_max_window_bits; client_max_window_bits=10", None),
        // A broken rest of the field offers nothing.
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate;", None),
    ] {
        assert_eq!(answer_to(&[offer], &takeover()), answer, "{offer}");
    }
    let fields = ["foo", "permessage-deflate; x", "permessage-deflate; client_no_context_takeover"];
    assert_eq!(answer_to(&fields, &takeover()), deflate("; client_no_context_takeover"));
    assert_eq!(answer_to(&[], &takeover()), None);
    let off = Settings { enabled: false, ..takeover() };
    assert_eq!(answer_to(&["permessage-deflate"], &off), None);
}

#[test]
fn without_settings_nothing_is_taken_over() {
    assert_eq!(
        answer_to(&["permessage-deflate; client_max_window_bits"], &Settings::default()).as_deref(),
        Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
    );
}

#[test]
fn small_windows_are_asked_for_only_where_they_may_be() {
    let settings = Settings {
        server_max_window_bits: window(11),
        client_max_window_bits: window(12),
        ..takeover()
    };
    for (offer, answer) in [
        // Nothing needs to be said for a smaller window of ours; the client's may not be limited.
        ("permessage-deflate", "permessage-deflate"),
        (
            "permessage-deflate; server_max_window_bits=15",
            "permessage-deflate; server_max_window_bits=11",
        ),
        (
            "permessage-deflate; server_max_window_bits=10",
            "permessage-deflate; server_max_window_bits=10",
        ),
        (
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=12",
        ),
        (
            "permessage-deflate; client_max_window_bits=15",
            "permessage-deflate; client_max_window_bits=12",
        ),
        ("permessage-deflate; client_max_window_bits=12", "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits=8", "permessage-deflate"),
    ] {
        assert_eq!(answer_to(&[offer], &settings).as_deref(), Some(answer), "{offer}");
    }
}

/// A parameter as it may be written: whether that is legal in an offer, and its window.
const NO_CONTEXT: [(&str, bool); 4] =
    [("", true), ("; NAME", true), ("; NAME=1", false), ("; NAME=\"true\"", false)];
const WINDOW: [(&str, Option<u8>); 15] = [
    ("; NAME=8", Some(8)),
    ("; NAME=9", Some(9)),
    ("; NAME=10", Some(10)),
    ("; NAME=11", Some(11)),
    ("; NAME=12", Some(12)),
    ("; NAME=13", Some(13)),
    ("; NAME=14", Some(14)),
    ("; NAME=15", Some(15)),
    ("; NAME=\"9\"", Some(9)),
    ("; NAME=7", None),
    ("; NAME=16", None),
    ("; NAME=0", None),
    ("; NAME=09", None),
    ("; NAME=1.0", None),
    ("; NAME=x", None),
];

/// Every combination of the four parameters, every order of their halves, under settings of every
/// kind, against the rules said once more in one place; and the answer must satisfy a client that
/// offered the same.
#[test]
fn every_combination() {
    let mut accepted = 0;
    let windows = |name: &str| {
        let mut all: Vec<(String, Option<Option<u8>>)> = WINDOW
            .iter()
            .map(|(text, bits)| (text.replace("NAME", name), bits.map(Some)))
            .collect();
        all.push((String::new(), Some(None)));
        all
    };
    let mut client_windows = windows("client_max_window_bits");
    client_windows.push(("; client_max_window_bits".into(), Some(Some(0))));
    let mut server_windows = windows("server_max_window_bits");
    server_windows.push(("; server_max_window_bits".into(), None));
    for settings in [
        Settings::default(),
        takeover(),
        Settings {
            server_max_window_bits: window(11),
            client_max_window_bits: window(10),
            ..takeover()
        },
    ] {
        for (server_no, server_no_legal) in NO_CONTEXT {
            let server_no = server_no.replace("NAME", "server_no_context_takeover");
            for (client_no, client_no_legal) in NO_CONTEXT {
                let client_no = client_no.replace("NAME", "client_no_context_takeover");
                for (server_bits_text, server_bits) in &server_windows {
                    for (client_bits_text, client_bits) in &client_windows {
                        let offers = [
                            format!(
                                "permessage-deflate{server_no}{client_no}{server_bits_text}{client_bits_text}"
                            ),
                            format!(
                                "permessage-deflate{client_bits_text}{server_bits_text}{client_no}{server_no}"
                            ),
                        ];
                        let legal =
                            server_no_legal && client_no_legal && *server_bits != Some(Some(8));
                        let expected = match (legal, *server_bits, *client_bits) {
                            (true, Some(server_bits), Some(client_bits)) => Some(Agreement {
                                server_no_context_takeover: !server_no.is_empty()
                                    || !settings.server_context_takeover,
                                client_no_context_takeover: !client_no.is_empty()
                                    || !settings.client_context_takeover,
                                server_max_window_bits: server_bits
                                    .map(|bits| window(bits).min(settings.server_max_window_bits)),
                                client_max_window_bits: client_bits
                                    .map(|bits| if bits == 0 { 15 } else { bits })
                                    .filter(|bits| *bits > settings.client_max_window_bits.bits())
                                    .map(|_| settings.client_max_window_bits),
                            }),
                            _ => None,
                        };
                        for offer in offers {
                            let headers = [("Sec-WebSocket-Extensions", offer.as_bytes())];
                            let agreement = negotiate(headers, &settings);
                            assert_eq!(agreement, expected, "{offer}");
                            let Some(agreement) = agreement else { continue };
                            accepted += 1;
                            let offered = Offer {
                                server_no_context_takeover: !server_no.is_empty(),
                                client_no_context_takeover: !client_no.is_empty(),
                                server_max_window_bits: server_bits.unwrap().map(window),
                                client_max_window_bits: match client_bits.unwrap() {
                                    None => ClientWindow::Unsaid,
                                    Some(0) => ClientWindow::Limitable,
                                    Some(bits) => ClientWindow::AtMost(window(bits.max(9))),
                                },
                            };
                            let answer = agreement.to_string();
                            let checked =
                                check_answer([answer.as_bytes()].into_iter(), Some(&offered));
                            assert_eq!(checked, Ok(Some(agreement)), "{offer} answered {answer}");
                            if let Some(asked) = server_bits.unwrap() {
                                assert!(agreement.server_window(&settings).bits() <= asked);
                            }
                        }
                    }
                }
            }
        }
    }
    // 3 settings, 2 x 2 takeovers, 9 windows of the server, 11 of the client, 2 orders.
    assert_eq!(accepted, 3 * 4 * 9 * 11 * 2);
}

/// RFC 7692 7.1, from the client's side: what an answer may hold, given what was offered.
#[test]
fn answers() {
    let any = Offer { client_max_window_bits: ClientWindow::Limitable, ..Offer::default() };
    let strict = Offer {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: WindowBits::new(10),
        client_max_window_bits: ClientWindow::Unsaid,
    };
    let parameters = Err(AnswerError::Parameters);
    let fails: [(&str, Offer, AnswerError); 19] = [
        ("permessage-deflate; unknown", any, AnswerError::Parameters),
        ("permessage-deflate; server_no_context_takeover=1", any, AnswerError::Parameters),
        ("permessage-deflate; client_no_context_takeover=1", any, AnswerError::Parameters),
        (
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            any,
            AnswerError::Parameters,
        ),
        ("permessage-deflate; server_max_window_bits", any, AnswerError::Parameters),
        ("permessage-deflate; server_max_window_bits=7", any, AnswerError::Parameters),
        ("permessage-deflate; server_max_window_bits=16", any, AnswerError::Parameters),
        ("permessage-deflate; client_max_window_bits", any, AnswerError::Parameters),
        ("permessage-deflate; client_max_window_bits=16", any, AnswerError::Parameters),
        // Legal, but we cannot compress with it.
        ("permessage-deflate; client_max_window_bits=8", any, AnswerError::Parameters),
        // Not offered.
        (
            "permessage-deflate; client_max_window_bits=10",
            Offer::default(),
            AnswerError::Parameters,
        ),
        // Offered and not answered.
        ("permessage-deflate", strict, AnswerError::Parameters),
        ("permessage-deflate; server_max_window_bits=10", strict, AnswerError::Parameters),
        ("permessage-deflate; server_no_context_takeover", strict, AnswerError::Parameters),
        // Larger than asked for.
        (
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=11",
            strict,
            AnswerError::Parameters,
        ),
        ("permessage-deflate, permessage-deflate", any, AnswerError::NotOffered),
        ("foo", any, AnswerError::NotOffered),
        ("permessage-deflate, foo", any, AnswerError::NotOffered),
        ("", any, AnswerError::Malformed),
    ];
    for (answer, offer, error) in fails {
        let checked = check_answer([answer.as_bytes()].into_iter(), Some(&offer));
        assert_eq!(checked, Err(error), "{answer}");
    }
    assert_eq!(check_answer([&b"permessage-deflate; x"[..]].into_iter(), Some(&any)), parameters);
    assert_eq!(check_answer([].into_iter(), Some(&any)), Ok(None));
    let unasked = check_answer([&b"permessage-deflate"[..]].into_iter(), None);
    assert_eq!(unasked, Err(AnswerError::NotOffered));
    // Two fields, each with an answer.
    let twice = [&b"permessage-deflate"[..], b"permessage-deflate"];
    assert_eq!(check_answer(twice.into_iter(), Some(&any)), Err(AnswerError::NotOffered));

    for (answer, offer, agreement) in [
        ("permessage-deflate", any, Agreement::default()),
        (
            "permessage-deflate; client_max_window_bits=9; server_max_window_bits=9; server_no_context_takeover; client_no_context_takeover",
            any,
            Agreement {
                server_no_context_takeover: true,
                client_no_context_takeover: true,
                server_max_window_bits: WindowBits::new(9),
                client_max_window_bits: WindowBits::new(9),
            },
        ),
        (
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=8",
            strict,
            Agreement {
                server_no_context_takeover: true,
                client_no_context_takeover: true,
                server_max_window_bits: Some(WindowBits::MIN),
                client_max_window_bits: None,
            },
        ),
    ] {
        let checked = check_answer([answer.as_bytes()].into_iter(), Some(&offer));
        assert_eq!(checked, Ok(Some(agreement)), "{answer}");
    }
}

#[test]
fn offers_are_written_field_for_field() {
    let offer = Offer {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: WindowBits::new(9),
        client_max_window_bits: ClientWindow::AtMost(window(15)),
    };
    assert_eq!(
        offer.to_string(),
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
         server_max_window_bits=9; client_max_window_bits=15"
    );
    let offer = Offer { client_max_window_bits: ClientWindow::Limitable, ..Offer::default() };
    assert_eq!(offer.to_string(), "permessage-deflate; client_max_window_bits");
    assert_eq!(Offer::default().to_string(), "permessage-deflate");
}

#[test]
fn who_shares_with_whom() {
    let settings = Settings { server_max_window_bits: window(12), ..Settings::default() };
    let agreed = |bits, no_takeover| Agreement {
        server_no_context_takeover: no_takeover,
        server_max_window_bits: bits,
        ..Agreement::default()
    };
    let class = |agreement: Agreement| agreement.window_class(&settings);
    // Nearly every client: no window asked for, or one that is larger than ours.
    assert_eq!(class(agreed(None, true)), Some(WindowClass::new(window(12))));
    assert_eq!(class(agreed(WindowBits::new(15), true)), class(agreed(None, true)));
    assert_eq!(class(agreed(WindowBits::new(9), true)), Some(WindowClass::new(window(9))));
    assert_eq!(class(agreed(None, false)), None);
    let indices: Vec<usize> = (9..=15).map(|bits| WindowClass::new(window(bits)).index()).collect();
    assert_eq!(indices, (0..WindowClass::COUNT).collect::<Vec<_>>());
    assert_eq!((WindowBits::new(8), WindowBits::new(16)), (None, None));
}
