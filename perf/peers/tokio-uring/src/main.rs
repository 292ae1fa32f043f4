//! tokio-uring 0.5: an echo without a protocol, a task per connection.
//!
//! In: bytes. Out: `--reply` bytes for every `--recv`. Written like the crate's own example of a TCP
//! echo: read into an owned buffer, `write_all` a slice of it. The rings are large enough for the
//! connections; everything else is the crate's default (its driver waits in epoll for the ring, so
//! deferred task work is not for it).

use std::{error, io};

use peer::{Arguments, Count};
use tokio_uring::buf::BoundedBuf as _;
use tokio_uring::net::{TcpListener, TcpStream};

fn main() -> Result<(), Box<dyn error::Error>> {
    let arguments = Arguments::from_command_line();
    let listener = peer::listen(&arguments)?;
    let mut uring = tokio_uring::uring_builder();
    uring.setup_cqsize(COMPLETIONS);
    tokio_uring::builder().entries(SUBMISSIONS).uring_builder(&uring).start(async move {
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener);
        peer::announce(address);
        let count = Count::new(&arguments);
        loop {
            let (stream, _) = listener.accept().await?;
            tokio_uring::spawn(async move {
                // A connection that ended is the lab's to notice.
                let _ = echo(&stream, count).await;
            });
        }
    })
}

async fn echo(stream: &TcpStream, mut count: Count) -> io::Result<()> {
    let mut buffer = vec![0; count.buffer_bytes()];
    loop {
        let (received, whole) = stream.read(buffer).await;
        buffer = whole;
        let received = received?;
        if received == 0 {
            return Ok(());
        }
        let mut answer = count.answer(received);
        while answer > 0 {
            let length = answer.min(buffer.len());
            answer -= length;
            let (sent, slice) = stream.write_all(buffer.slice(..length)).await;
            buffer = slice.into_inner();
            sent?;
        }
    }
}

const SUBMISSIONS: u32 = 4096;
/// Above the connections the lab opens, as each has one operation in flight.
const COMPLETIONS: u32 = 32_768;
