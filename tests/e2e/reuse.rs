//! A connection's end touches no other: the slot of one that has gone is used again at once.
//!
//! In: connections one after the other, each ended by the client as soon as it has the server's Close frame, while the
//! server ends its side too. Out: every one of them echoes.

use crate::client::{Received, WebSocket};
use crate::server::Server;
use crate::tools::{exclusive, scratch};
use websocket::encode::Opcode;

/// Once in two thousand ends, a late shutdown met the next connection in the slot.
const CONNECTIONS: usize = 20_000;

#[test]
fn a_late_shutdown_does_not_end_the_next_connection() {
    let _alone = exclusive();
    let file = scratch("e2e").join("reuse.toml");
    let text = "shards = 1\n[http]\naddr = [\"127.0.0.1:0\"]\necho = true\n[rtmp]\naddr = [\"127.0.0.1:0\"]\n";
    std::fs::write(&file, text).expect("the target directory is writable");
    let server = Server::from_file(&file);
    for number in 0..CONNECTIONS {
        let mut client = WebSocket::open(server.http, "/echo");
        client.send(Opcode::Text, b"a");
        assert_eq!(client.receive(), Received::Message(b"a".to_vec()), "connection {number}");
        client.send(Opcode::Close, &1000_u16.to_be_bytes());
        assert_eq!(client.receive(), Received::Close(Some(1000)), "connection {number}");
    }
    server.stop();
}
