//! The bytes in front of a part's samples.
//!
//! The peer, the `mp4` crate, reads our header and writes only the sample table (`trun`) of it back,
//! from lists that are ready: less than we do, and the most it can write of a fragment.

use std::hint::black_box;
use std::io::Cursor;

use fmp4::fragment::{Fragment, Position, Sample, fragment_header_length, write_fragment_header};
use mp4::{MoofBox, ReadBox as _, WriteBox as _};

use super::{Call, Case};

/// Half a second of pictures at 30 a second, and a second at 60.
const SAMPLES: [usize; 2] = [15, 60];

pub(super) fn cases() -> Vec<Case> {
    let ours = |count: &usize| {
        let count = *count;
        Case::new(format!("part_write/{count}"), move || prepare(count))
    };
    let peer = |count: &usize| {
        let count = *count;
        let name = format!("part_write/mp4-crate-trun-only-{count}");
        Case::new(name, move || prepare_peer(count)).of_a_peer()
    };
    SAMPLES.iter().map(ours).chain(SAMPLES.iter().map(peer)).collect()
}

fn samples(count: usize) -> Vec<Sample> {
    let sizes = [64_000, 9_100, 14_700, 12_345];
    let sample = |(index, size): (usize, &u32)| Sample {
        size: *size,
        duration: 3000,
        composition_offset: if index % 2 == 0 { 3000 } else { -3000 },
        sync: index == 0,
    };
    sizes.iter().cycle().take(count).enumerate().map(sample).collect()
}

const FRAGMENT: Fragment =
    Fragment { position: Position::Later, sequence_number: 7, base_media_decode_time: 1 << 33 };

fn prepare(count: usize) -> Call {
    let samples = samples(count);
    let mut out = vec![0; fragment_header_length(count, FRAGMENT.position)];
    Box::new(move || {
        let written = write_fragment_header(&mut out, black_box(&FRAGMENT), black_box(&samples));
        assert_eq!(written, out.len());
        black_box(&out);
    })
}

fn prepare_peer(count: usize) -> Call {
    let mut header = vec![0; fragment_header_length(count, FRAGMENT.position)];
    write_fragment_header(&mut header, &FRAGMENT, &samples(count));
    let media_header = 8;
    let size = (header.len() - media_header) as u64;
    let mut cursor = Cursor::new(&header);
    // It begins behind the size and type of `moof`.
    cursor.set_position(8);
    let mut moof = MoofBox::read_box(&mut cursor, size).expect("our own header");
    let table = moof.trafs[0].trun.take().expect("a sample table");
    let mut out: Vec<u8> = Vec::with_capacity(header.len());
    table.write_box(&mut out).expect("a vector takes everything");
    assert!(header[..header.len() - media_header].ends_with(&out), "the same bytes as ours");
    Box::new(move || {
        out.clear();
        black_box(&table).write_box(&mut out).expect("a vector takes everything");
        black_box(&out);
    })
}
