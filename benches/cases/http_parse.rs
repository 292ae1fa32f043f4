//! The HTTP/1.1 decoder on a request as a browser sends it, and on a small POST with its body.

use std::hint::black_box;

use http1::{Decoder, HeaderStorage, Limits, Step};

use super::{Call, Case};

/// A page's request for a playlist: as many headers, and as long ones, as current browsers send.
const GET: &str = "GET /live/cam/v/index.m3u8?_HLS_msn=1042&_HLS_part=3 HTTP/1.1\r\n\
    Host: live.example.com\r\n\
    Connection: keep-alive\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/140.0.0.0 Safari/537.36\r\n\
    sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\", \"Google Chrome\";v=\"140\"\r\n\
    sec-ch-ua-mobile: ?0\r\n\
    Accept: */*\r\n\
    Origin: https://live.example.com\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: cors\r\n\
    Sec-Fetch-Dest: empty\r\n\
    Referer: https://live.example.com/watch/cam\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    \r\n";

/// A backend's publication.
const POST: &str = "POST /pub/chat HTTP/1.1\r\n\
    Host: localhost:8080\r\n\
    User-Agent: backend/2.1\r\n\
    Accept: */*\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 44\r\n\
    \r\n\
    {\"user\":\"ada\",\"text\":\"a line of chat\",\"n\":1}";

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("http_parse/get", || prepare(GET)).bytes(GET.len()),
        Case::new("http_parse/post", || prepare(POST)).bytes(POST.len()),
    ]
}

fn prepare(bytes: &'static str) -> Call {
    let mut decoder = Decoder::new();
    let limits = Limits::default();
    // Shards keep one for all their connections.
    let mut storage = Box::new(HeaderStorage::new());
    Box::new(move || {
        let mut rest = black_box(bytes.as_bytes());
        while !rest.is_empty() || !decoder.is_between_requests() {
            let step = decoder.receive(rest, &mut storage, &limits).expect("a valid request");
            rest = &rest[consumed(black_box(&step))..];
        }
    })
}

fn consumed(step: &Step<'_>) -> usize {
    match step {
        Step::Incomplete => panic!("the request is whole"),
        Step::Request { consumed, .. } | Step::Body { consumed, .. } | Step::End { consumed } => {
            *consumed
        }
    }
}
