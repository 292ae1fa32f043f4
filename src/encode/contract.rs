//! The contract of [`Encoder`], checked the same way against every backend.

use std::task::{Context, Poll, Waker};

use super::{
    Encoder, EncoderOptions, Handle, Packet, Picture, Planes, Probe, SubmitError, SubmitOptions,
};
use crate::encode::fake::{FakeEncoder, Faults};
use crate::time::Wall;

/// Small, because debug builds encode slowly; the key frame interval is out of the way.
pub(super) const OPTIONS: EncoderOptions = EncoderOptions {
    width: 64,
    height: 48,
    pictures_per_second: 20,
    bits_per_second: 200_000,
    key_frame_interval: 1_000,
    threads: 1,
};

pub(super) fn picture(number: u64) -> Picture {
    let mut planes = Planes::black(OPTIONS.width, OPTIONS.height).unwrap();
    super::picture::draw(&mut planes, number, Wall::from_unix_millis(number as i64 * 50));
    Picture::Planes(planes)
}

fn options(number: u64) -> SubmitOptions {
    SubmitOptions { pts: number as i64 * 4_500, force_key_frame: false }
}

/// Every packet there is; `true` when the encoder is flushed and empty.
fn take(encoder: &mut dyn Encoder, packets: &mut Vec<Packet>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    let mut idle_polls = 0;
    loop {
        match encoder.poll_packet(&mut context) {
            Poll::Ready(Ok(Some(packet))) => packets.push(packet),
            Poll::Ready(Ok(None)) => return true,
            Poll::Ready(Err(error)) => panic!("{error}"),
            // A backend that counts time in polls moves on meanwhile.
            Poll::Pending if idle_polls == 8 => return false,
            Poll::Pending => idle_polls += 1,
        }
    }
}

/// Submits these pictures, forcing a key frame at `force`, and takes everything out.
pub(super) fn encode(encoder: &mut dyn Encoder, count: u64, force: &[u64]) -> Vec<Packet> {
    let mut packets = Vec::new();
    for number in 0..count {
        let force_key_frame = force.contains(&number);
        encoder
            .submit(picture(number), SubmitOptions { force_key_frame, ..options(number) })
            .unwrap();
        assert!(!take(encoder, &mut packets), "not flushed yet");
    }
    encoder.flush();
    while !take(encoder, &mut packets) {}
    packets
}

fn key_frames(packets: &[Packet]) -> Vec<usize> {
    let keys = packets.iter().enumerate().filter(|(_, packet)| packet.key_frame);
    keys.map(|(index, _)| index).collect()
}

/// The suite. `make` gives a fresh encoder for the options.
fn contract<E: Encoder>(make: impl Fn(EncoderOptions) -> E) {
    assert!(matches!(E::probe(), Probe::Available(text) if !text.is_empty()));
    every_picture_comes_out_once_in_order(&mut make(OPTIONS));
    key_frames_come_where_asked(&make);
    refusals_hand_the_picture_back(&mut make(OPTIONS));
    full_is_bounded_and_recovers(&mut make(OPTIONS));
    rate_changes(&mut make(OPTIONS));
    an_empty_run_ends(&mut make(OPTIONS));
}

fn every_picture_comes_out_once_in_order(encoder: &mut dyn Encoder) {
    let description = encoder.description();
    assert_eq!((description.width, description.height), (OPTIONS.width, OPTIONS.height));
    assert_eq!(description.configuration[0], 0x81, "av1C: marker and version");
    let packets = encode(encoder, 12, &[]);
    let times: Vec<i64> = packets.iter().map(|packet| packet.pts).collect();
    assert_eq!(times, (0..12).map(|number| number * 4_500).collect::<Vec<i64>>());
    assert!(packets.iter().all(|packet| packet.dts <= packet.pts && !packet.data.is_empty()));
    assert!(packets.windows(2).all(|pair| pair[0].dts < pair[1].dts));
    assert_eq!(key_frames(&packets), [0]);
    assert!(matches!(encoder.submit(picture(0), options(12)), Err(SubmitError::Closed(_))));
}

fn key_frames_come_where_asked<E: Encoder>(make: impl Fn(EncoderOptions) -> E) {
    assert_eq!(key_frames(&encode(&mut make(OPTIONS), 12, &[5, 6])), [0, 5, 6]);
    let every_four = EncoderOptions { key_frame_interval: 4, ..OPTIONS };
    assert_eq!(key_frames(&encode(&mut make(every_four), 12, &[])), [0, 4, 8]);

    let mut encoder = make(OPTIONS);
    let mut packets = Vec::new();
    for number in 0..6 {
        if number == 3 {
            encoder.force_key_frame();
        }
        encoder.submit(picture(number), options(number)).unwrap();
        take(&mut encoder, &mut packets);
    }
    encoder.flush();
    while !take(&mut encoder, &mut packets) {}
    assert_eq!(key_frames(&packets), [0, 3]);
}

fn refusals_hand_the_picture_back(encoder: &mut dyn Encoder) {
    let other = Planes::black(32, 32).map(Picture::Planes).unwrap();
    let refused = encoder.submit(other, options(0)).unwrap_err();
    assert_eq!(refused.to_string(), "a picture of 32 x 32 for an encoder of 64 x 48");
    assert!(
        matches!(refused, SubmitError::WrongSize { picture, .. } if picture.size() == (32, 32))
    );

    let handle = || Handle::new(OPTIONS.width, OPTIONS.height, 7_u32);
    let dmabuf = encoder.submit(Picture::Dmabuf(handle()), options(0)).unwrap_err();
    assert!(dmabuf.to_string().contains("takes planes in memory, not a dmabuf"), "{dmabuf}");
    match encoder.submit(Picture::Device(handle()), options(0)) {
        Err(SubmitError::Unsupported { picture: Picture::Device(handle), .. }) => {
            assert_eq!(handle.inner::<u32>(), Some(&7));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(encode(encoder, 2, &[]).len(), 2, "refusals leave no trace");
}

fn full_is_bounded_and_recovers(encoder: &mut dyn Encoder) {
    let refused_at =
        (0..100).find(|number| match encoder.submit(picture(*number), options(*number)) {
            Ok(()) => false,
            Err(SubmitError::Full(picture)) => {
                assert_eq!(picture.size(), (OPTIONS.width, OPTIONS.height));
                true
            }
            Err(error) => panic!("{error}"),
        });
    let refused_at = refused_at.expect("full before a hundred pictures");
    let mut packets = Vec::new();
    take(encoder, &mut packets);
    assert!(!packets.is_empty(), "a full encoder has something to take");
    encoder.submit(picture(refused_at), options(refused_at)).unwrap();
    encoder.flush();
    while !take(encoder, &mut packets) {}
    assert_eq!(packets.len() as u64, refused_at + 1);
}

fn rate_changes(encoder: &mut dyn Encoder) {
    let refused = encoder.set_bit_rate(1).unwrap_err();
    assert!(refused.min > 1 && refused.max > refused.min);
    let mut packets = Vec::new();
    for number in 0..8 {
        if number == 6 {
            encoder.set_bit_rate(60_000).unwrap();
        }
        encoder.submit(picture(number), options(number)).unwrap();
        take(encoder, &mut packets);
    }
    encoder.flush();
    while !take(encoder, &mut packets) {}
    let times: Vec<i64> = packets.iter().map(|packet| packet.pts / 4_500).collect();
    assert_eq!(times, [0, 1, 2, 3, 4, 5, 6, 7], "a new rate loses nothing");
    assert!(key_frames(&packets).iter().all(|index| [0, 6].contains(index)));
}

fn an_empty_run_ends(encoder: &mut dyn Encoder) {
    encoder.flush();
    encoder.flush();
    assert!(take(encoder, &mut Vec::new()));
}

#[test]
fn fake_keeps_the_contract() {
    contract(|options| FakeEncoder::new(options, Faults::default()));
}

#[test]
fn fake_keeps_the_contract_when_it_is_slow() {
    contract(|options| FakeEncoder::new(options, Faults { delay_polls: 2, ..Faults::default() }));
}

#[cfg(feature = "av1")]
#[test]
fn rav1e_keeps_the_contract() {
    contract(|options| crate::encode::rav1e::Rav1eEncoder::new(options).unwrap());
}
