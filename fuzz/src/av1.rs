//! AV1 configuration records and temporal units.

use av1::{Av1CodecConfigurationRecord, is_random_access, obus, sample, sequence_header_obu};

use crate::{Seed, cut};

/// Neither a record nor a temporal unit panics; OBUs lie behind one another and fill the data.
pub fn never_panics(data: &[u8]) {
    if let Ok(record) = Av1CodecConfigurationRecord::parse(data) {
        assert_eq!(record.bytes(), data);
        assert!(record.codec_string().starts_with("av01."));
    }
    let mut end = 0;
    let mut whole = true;
    for obu in obus(data) {
        let Ok(obu) = obu else {
            whole = false;
            break;
        };
        assert_eq!(obu.offset, end);
        assert!(obu.bytes.ends_with(obu.payload) && !obu.bytes.is_empty());
        end += obu.bytes.len();
    }
    assert!(!whole || end == data.len());
    let _ = is_random_access(data);
    let _ = sequence_header_obu(data);
    if let Ok(sample) = sample(data) {
        assert!(data.ends_with(sample));
    }
}

/// The record made of a temporal unit is a record, with the same sequence header.
pub fn roundtrip(data: &[u8]) {
    let Ok(Some(record)) = Av1CodecConfigurationRecord::of_temporal_unit(data) else { return };
    if record.bytes().len() <= av1::RECORD_BYTES_MAX {
        let again = Av1CodecConfigurationRecord::parse(record.bytes()).expect("our own bytes");
        assert_eq!(again, record);
    }
}

/// A prefix gives the OBUs that are whole in it; only one without a size may reach to the cut.
pub fn split(data: &[u8]) {
    let (whole, prefix) = cut::prefix(data);
    let mut expected = obus(whole);
    for obu in obus(prefix) {
        let (Ok(obu), Some(Ok(whole_obu))) = (obu, expected.next()) else { break };
        assert_eq!(
            (obu.kind, obu.offset, obu.layer),
            (whole_obu.kind, whole_obu.offset, whole_obu.layer)
        );
        assert!(!obu.has_size || obu == whole_obu);
    }
}

/// A record and the start of a temporal unit of rav1e.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let record = vec![
        0x81, 0x1f, 0x0c, 0x00, 0x0a, 0x0e, 0x00, 0x00, 0x00, 0xfa, 0x1e, 0x7f, 0x66, 0x21, 0x0a,
        0x88, 0x10, 0x10, 0x10, 0xa0,
    ];
    let key = vec![
        0x12, 0x00, 0x0a, 0x0d, 0x00, 0x00, 0x00, 0xf9, 0x57, 0xff, 0xc4, 0x21, 0x51, 0x02, 0x02,
        0x02, 0x14, 0x32, 0x0c, 0x10, 0x03, 0xd3, 0x27, 0xf6, 0xd7, 0xe0, 0xc5, 0x60, 0x00, 0x10,
        0xa8,
    ];
    let hdr = vec![
        0x81, 0x00, 0x4c, 0x00, 0x0a, 0x0d, 0x00, 0x00, 0x00, 0x02, 0xaf, 0xff, 0x9b, 0x5f, 0x2a,
        0x12, 0x20, 0x12, 0x08,
    ];
    let cut = |at: u8| [vec![at], key.clone()].concat();
    vec![
        ("record", record),
        ("record-hdr", hdr),
        ("unit", key.clone()),
        ("unit-cut-at-end", cut(255)),
        ("unit-cut-inside", cut(9)),
    ]
}
