//! What an idle subscribed WebSocket costs the server in user memory, rings and buffers included.
//!
//! In: 3,000, then 10,000 sockets of this process on one channel, from several addresses of the loopback. Out: the
//! growth of RssAnon + RssFile + RssShmem of the server's process between the two, per socket. The first 3,000 pay for
//! what is there once. With and without permessage-deflate agreed. The gate is generous; how low the number can go is a
//! matter of the load scenarios.

use crate::client::{DEADLINE, Received, WebSocket};
use crate::server::{Configuration, Server, raise_file_limit};
use crate::tools::{exclusive, skip};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use websocket::deflate::{ClientWindow, Offer};
use websocket::encode::Opcode;

const FIRST: u16 = 3_000;
const ALL: u16 = 10_000;
const BYTES_PER_SOCKET_MAX: u64 = 256;

#[test]
fn idle_websockets_stay_small() {
    stay_small("idle_websockets_stay_small", None);
}

/// As browsers offer it; the server agrees to no context takeover, so that nothing is kept of it.
#[test]
fn idle_websockets_that_agreed_on_deflate_stay_small() {
    let offer = Offer { client_max_window_bits: ClientWindow::Limitable, ..Offer::default() };
    stay_small("idle_websockets_that_agreed_on_deflate_stay_small", Some(offer));
}

fn stay_small(test: &str, deflate: Option<Offer>) {
    let files = raise_file_limit();
    if files < u64::from(ALL) + 1_000 {
        skip(test, &format!("only {files} descriptors per process"));
        return;
    }
    let _alone = exclusive();
    let server = Server::start("idle", &Configuration::default());
    let open = |number| {
        let stream = from_address_of(number, server.http);
        WebSocket::over_with(stream, server.http, "/ws/idle", deflate)
    };
    let mut sockets: Vec<WebSocket> = (0..FIRST).map(open).collect();
    let before = server.resident_bytes();
    sockets.extend((FIRST..ALL).map(open));
    let after = server.resident_bytes();

    let each = after.saturating_sub(before) / u64::from(ALL - FIRST);
    eprintln!("{each} bytes each: {before} bytes at {FIRST}, {after} at {ALL}");
    assert!(each <= BYTES_PER_SOCKET_MAX, "{each} bytes per idle WebSocket");

    // They were subscribed all the time: one message reaches each of them.
    sockets[0].send(Opcode::Text, b"awake?");
    for socket in &mut sockets {
        assert_eq!(socket.receive(), Received::Message(b"awake?".to_vec()));
    }
    // With this many peers gone at once, the drain has nobody to wait for.
    drop(sockets);
    server.stop();
}

/// A connection from 127.0.1.1, 127.0.2.1 and so on, a thousand from each.
pub(crate) fn from_address_of(number: u16, server: SocketAddr) -> TcpStream {
    let host = u8::try_from(number / 1_000 + 1).expect("few addresses");
    let source = SocketAddrV4::new(Ipv4Addr::new(127, 0, host, 1), 0);
    let flags = SocketFlags::CLOEXEC;
    let socket =
        socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).expect("a socket");
    bind(&socket, &source).expect("every address of 127/8 is ours");
    connect(&socket, &server).expect("the server accepts");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket option");
    stream.set_write_timeout(Some(DEADLINE)).expect("a socket option");
    stream
}
