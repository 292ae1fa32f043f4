//! Round trips, every prefix, and the bounds.

use proptest::prelude::*;

use super::*;

fn encoded(value: &Value<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode(&mut out);
    out
}

fn sample() -> Value<'static> {
    let members: Properties<'static> = vec![
        ("number".into(), Value::Number(-1.5)),
        ("".into(), Value::Boolean(true)),
        ("text".into(), "h\u{e9}".into()),
        ("null".into(), Value::Null),
        ("undefined".into(), Value::Undefined),
        ("date".into(), Value::Date { unix_ms: 1e12, time_zone: -60 }),
        ("long".into(), Value::LongString("short all the same".into())),
        ("unsupported".into(), Value::Unsupported),
        ("xml".into(), Value::XmlDocument("<a/>".into())),
        ("back".into(), Value::Reference(0)),
        ("array".into(), Value::StrictArray(vec![1.0.into(), Value::StrictArray(vec![])])),
        ("ecma".into(), Value::EcmaArray(vec![("a".into(), false.into())])),
    ];
    Value::Object(vec![(
        "typed".into(),
        Value::TypedObject { class: "some.Class".into(), properties: members },
    )])
}

#[test]
fn every_kind_round_trips() {
    let value = sample();
    assert_eq!(decode_all(&encoded(&value)).unwrap(), [value]);
}

#[test]
fn every_prefix_is_truncated_and_says_where() {
    let bytes = encoded(&sample());
    for end in 1..bytes.len() {
        match decode_all(&bytes[..end]) {
            Err(Error::Truncated { at }) => assert!(at <= end, "{at} > {end}"),
            // A shorter message may also make a count exceed what is left.
            Err(Error::TooManyItems { .. }) => {}
            other => panic!("prefix of {end} bytes gave {other:?}"),
        }
    }
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    let mut out = Vec::new();
    encode::string(&mut out, "on");
    encode::number(&mut out, 1.0);
    encode::null(&mut out);
    encode::boolean(&mut out, true);
    encode::object(&mut out, &[("a", Value::Null)]);
    let expected: &[u8] = b"\x02\0\x02on\0\x3f\xf0\0\0\0\0\0\0\x05\x01\x01\x03\0\x01a\x05\0\0\x09";
    assert_eq!(out, expected);
}

#[test]
fn an_ecma_array_with_a_wrong_count_is_read_to_its_end_marker() {
    for count in [[0, 0, 0, 0], [0xff; 4]] {
        let mut bytes = vec![8];
        bytes.extend_from_slice(&count);
        bytes.extend_from_slice(b"\0\x01a\x05\0\0\x09");
        let expected = Value::EcmaArray(vec![("a".into(), Value::Null)]);
        assert_eq!(decode_all(&bytes).unwrap(), [expected]);
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        let mut bytes = Vec::new();
        for _ in 0..depth {
            bytes.extend_from_slice(&[0x0A, 0, 0, 0, 1]);
        }
        bytes.push(5);
        bytes
    };
    assert!(decode_all(&nested(DEPTH_MAX)).is_ok());
    assert_eq!(decode_all(&nested(DEPTH_MAX + 1)), Err(Error::TooDeep { at: (DEPTH_MAX + 1) * 5 }));
    assert!(matches!(decode_all(&nested(70_000)), Err(Error::TooDeep { .. })));
    // The same with objects.
    let objects = b"\x03\0\x01a".repeat(70_000);
    assert!(matches!(decode_all(&objects), Err(Error::TooDeep { .. })));
}

#[test]
fn counts_lengths_and_references_are_checked() {
    assert_eq!(
        decode_all(&[0x0A, 0xff, 0xff, 0xff, 0xff, 5]),
        Err(Error::TooManyItems { at: 1, count: u32::MAX })
    );
    assert_eq!(decode_all(&[0x0C, 0xff, 0xff, 0xff, 0xff, b'a']), Err(Error::Truncated { at: 6 }));
    assert_eq!(decode_all(&[7, 0, 0]), Err(Error::Reference { at: 1, index: 0 }));
    for reserved in [4, 9, 0x0E, 0x11, 0xff] {
        assert_eq!(decode_all(&[reserved]), Err(Error::Marker { at: 0, marker: reserved }));
    }
}

#[test]
fn text_that_is_not_utf8_does_not_fail_the_message() {
    assert_eq!(decode_all(b"\x02\0\x02a\xff").unwrap(), [Value::String("a\u{fffd}".into())]);
}

#[test]
fn a_long_string_is_chosen_by_length() {
    let text = "x".repeat(65_536);
    let bytes = encoded(&text.as_str().into());
    assert_eq!(decode_all(&bytes).unwrap(), [Value::LongString(text.into())]);
}

#[test]
fn a_name_too_long_for_amf0_is_cut_at_a_character() {
    let name = "\u{e9}".repeat(40_000);
    let bytes = encoded(&Value::Object(vec![(name.into(), Value::Null)]));
    let values = decode_all(&bytes).unwrap();
    assert_eq!(values[0].properties().unwrap()[0].0.len(), 65_534);
}

#[test]
fn borrowed_text_is_not_copied() {
    let bytes = b"\x02\0\x01a";
    match &decode_all(bytes).unwrap()[0] {
        Value::String(Cow::Borrowed(text)) => assert_eq!(text.as_ptr(), bytes[3..].as_ptr()),
        other => panic!("{other:?}"),
    }
}

fn any_value() -> impl Strategy<Value = Value<'static>> {
    let leaf = prop_oneof![
        (-1e300..1e300_f64).prop_map(Value::Number),
        any::<bool>().prop_map(Value::Boolean),
        ".{0,12}".prop_map(|text| Value::String(text.into())),
        Just(Value::Null),
        Just(Value::Undefined),
        (0.0..1e15f64, any::<i16>())
            .prop_map(|(unix_ms, time_zone)| Value::Date { unix_ms, time_zone }),
        ".{0,12}".prop_map(|text| Value::LongString(text.into())),
        ".{0,12}".prop_map(|text| Value::XmlDocument(text.into())),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let name = ".{0,6}".prop_map(Cow::<'static, str>::Owned);
        let members = prop::collection::vec((name, inner.clone()), 0..6);
        prop_oneof![
            members.clone().prop_map(Value::Object),
            members.clone().prop_map(Value::EcmaArray),
            prop::collection::vec(inner, 0..6).prop_map(Value::StrictArray),
            ("[a-z.]{0,9}", members).prop_map(|(class, properties)| Value::TypedObject {
                class: class.into(),
                properties
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_values_round_trip(values in prop::collection::vec(any_value(), 0..4)) {
        let mut bytes = Vec::new();
        for value in &values {
            value.encode(&mut bytes);
        }
        prop_assert_eq!(decode_all(&bytes).unwrap(), values);
    }

    #[test]
    fn any_bytes_never_panic_and_what_decodes_round_trips(
        bytes in prop::collection::vec(prop_oneof![0..18u8, any::<u8>()], 0..200)
    ) {
        if let Ok(values) = decode_all(&bytes) {
            let mut again = Vec::new();
            for value in &values {
                value.encode(&mut again);
            }
            // Compared as text because NaN differs from itself.
            let text = |values: &[Value<'_>]| format!("{values:?}");
            prop_assert_eq!(text(&decode_all(&again).unwrap()), text(&values));
        }
    }
}
