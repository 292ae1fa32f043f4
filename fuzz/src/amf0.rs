//! AMF0 values.

use amf0::{Decoder, Error, Value, decode_all};

use crate::{Seed, cut};

/// No message panics, and there are at most as many values as bytes: nothing is made from a declared count.
pub fn never_panics(data: &[u8]) {
    let Ok(values) = decode_all(data) else { return };
    let count: usize = values.iter().map(count).sum();
    assert!(count <= data.len(), "{count} values from {} bytes", data.len());
    let owned: Vec<Value<'static>> = values.into_iter().map(Value::into_owned).collect();
    for value in &owned {
        let _ = (value.as_str(), value.as_number(), value.property("app"));
    }
}

/// What is decoded is encoded to bytes that decode to the same. Compared as bytes, since a number may be NaN.
pub fn roundtrip(data: &[u8]) {
    let Ok(values) = decode_all(data) else { return };
    let once = encode(&values);
    let again = decode_all(&once).expect("our own bytes");
    assert_eq!(encode(&again), once);
    assert_eq!(again.len(), values.len());
}

/// A prefix gives the values that are whole in it, and then an error that says it is cut.
pub fn split(data: &[u8]) {
    let (whole, prefix) = cut::prefix(data);
    let (mut of_whole, mut of_prefix) = (Decoder::new(whole), Decoder::new(prefix));
    loop {
        let expected = of_whole.decode();
        match of_prefix.decode() {
            Ok(None) => break,
            Ok(Some(value)) => {
                let expected =
                    expected.expect("the prefix had a value").expect("the prefix had a value");
                assert_eq!(encode(&[value]), encode(&[expected]));
                assert_eq!(of_prefix.position(), of_whole.position());
            }
            // An array that claims more items than there are bytes left is a cut that is seen at once.
            Err(Error::Truncated { .. } | Error::TooManyItems { .. }) => break,
            Err(error) => {
                assert_eq!(Err(error), expected.map(|_| ()));
                break;
            }
        }
    }
}

/// `connect`, `onMetaData`, one of each kind, and a nest at the limit.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let object = Value::Object(vec![
        ("app".into(), "live".into()),
        ("tcUrl".into(), "rtmp://localhost/live".into()),
        ("fpad".into(), false.into()),
        ("capabilities".into(), 15.0.into()),
    ]);
    let metadata = Value::EcmaArray(vec![
        ("width".into(), 1280.0.into()),
        ("encoder".into(), "Lavf".into()),
        ("stereo".into(), true.into()),
    ]);
    let kinds = [
        Value::Null,
        Value::Undefined,
        Value::Unsupported,
        Value::StrictArray(vec![1.0.into(), Value::Null]),
        Value::Date { unix_ms: 1.5e12, time_zone: 60 },
        Value::LongString("long".into()),
        Value::XmlDocument("<a/>".into()),
        Value::TypedObject { class: "c".into(), properties: vec![("k".into(), f64::NAN.into())] },
        Value::Reference(0),
    ];
    let nest =
        (0..amf0::DEPTH_MAX - 1).fold(Value::Null, |inner, _| Value::StrictArray(vec![inner]));
    let cut = |bytes: Vec<u8>| [vec![255], bytes].concat();
    let connect = encode(&["connect".into(), 1.0.into(), object]);
    vec![
        // For `split` the first byte is the cut; for the others it is a marker, so both forms are kept.
        ("connect", connect.clone()),
        ("connect-cut", cut(connect)),
        ("metadata", encode(&["@setDataFrame".into(), "onMetaData".into(), metadata])),
        ("kinds", encode(&kinds)),
        ("kinds-cut", cut(encode(&kinds))),
        ("nest", encode(&[nest])),
    ]
}

fn count(value: &Value<'_>) -> usize {
    let inner: usize = match value {
        Value::StrictArray(items) => items.iter().map(count).sum(),
        value => value.properties().unwrap_or_default().iter().map(|(_, value)| count(value)).sum(),
    };
    1 + inner
}

fn encode(values: &[Value<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        value.encode(&mut out);
    }
    out
}
