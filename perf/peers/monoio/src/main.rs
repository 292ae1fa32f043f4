//! monoio 0.2.4: an echo without a protocol, a task per connection.
//!
//! In: bytes. Out: `--reply` bytes for every `--recv`. Written like the crate's own example of a TCP
//! echo: read into an owned buffer, `write_all` a slice of it. One thread on the io_uring driver,
//! without the timer and without the cross-thread features, which its authors advise to leave out
//! where they are not used.

use std::{error, io};

use monoio::buf::IoBuf as _;
use monoio::io::{AsyncReadRent as _, AsyncWriteRentExt as _};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};
use peer::{Arguments, Count};

fn main() -> Result<(), Box<dyn error::Error>> {
    let arguments = Arguments::from_command_line();
    let listener = peer::listen(&arguments)?;
    let mut uring = io_uring::IoUring::builder();
    uring.setup_cqsize(COMPLETIONS);
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
        .uring_builder(uring)
        .with_entries(SUBMISSIONS)
        .build()?;
    runtime.block_on(async move {
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        peer::announce(address);
        let count = Count::new(&arguments);
        loop {
            let (stream, _) = listener.accept().await?;
            monoio::spawn(async move {
                // A connection that ended is the lab's to notice.
                let _ = echo(stream, count).await;
            });
        }
    })
}

async fn echo(mut stream: TcpStream, mut count: Count) -> io::Result<()> {
    let mut buffer = vec![0; count.buffer_bytes()];
    loop {
        let (received, whole) = stream.read(buffer).await;
        buffer = whole;
        let received = received?;
        if received == 0 {
            return Ok(());
        }
        let mut answer = count.answer(received);
        if answer > buffer.len() {
            // A read shortens the vector to what came, here the last piece of a message.
            buffer.resize(buffer.capacity(), 0);
        }
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
