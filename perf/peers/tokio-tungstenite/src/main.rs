//! tokio-tungstenite: WebSocket echo, broadcast, channels and pings on tokio's current-thread runtime.
//!
//! In: HTTP upgrades on any path, then messages. Out: each message to its sender, to all others, or to
//! a channel (see [`channels`]); or pings.
//! The echo is one task per connection that reads and sends; the broadcast is the crate's own
//! example of a server: a channel per connection, a message cloned (by reference) into each, and
//! what has piled up for a connection is flushed in one write. Configuration is the crate's default
//! except for the size of the read buffer, see [`config`].

mod channels;

use std::cell::RefCell;
use std::collections::HashMap;
use std::error;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use channels::Channels;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use peer::{Arguments, Role};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

fn main() -> Result<(), Box<dyn error::Error>> {
    let arguments = Rc::new(Arguments::from_command_line());
    let listener = peer::listen(&arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async move {
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        peer::announce(address);
        let (hub, channels) = (Rc::new(Hub::default()), Rc::new(Channels::default()));
        let config = config(&arguments);
        loop {
            let (stream, _) = listener.accept().await?;
            let (hub, channels) = (Rc::clone(&hub), Rc::clone(&channels));
            let arguments = Rc::clone(&arguments);
            tokio::task::spawn_local(async move {
                // A connection that ended is the lab's to notice.
                let _ = serve(stream, &arguments, config, &hub, &channels).await;
            });
        }
    })
}

/// The read buffer holds one message. The default of 128 KiB would be held by each connection, and
/// the crate zeroes what is free of it before every read. The write buffer only grows when it is not
/// flushed, and is left alone.
fn config(arguments: &Arguments) -> WebSocketConfig {
    let bytes = (arguments.recv as usize).max(READ_BUFFER_BYTES_MIN);
    WebSocketConfig::default().read_buffer_size(bytes)
}

async fn serve(
    stream: TcpStream,
    arguments: &Arguments,
    config: WebSocketConfig,
    hub: &Hub,
    channels: &Channels,
) -> Result<(), Error> {
    if arguments.role == Role::Channels {
        return channels::serve(stream, config, channels).await;
    }
    let socket = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await?;
    match arguments.role {
        Role::Echo => echo(socket).await,
        Role::Broadcast => broadcast(socket, hub).await,
        // Served above.
        Role::Channels => Ok(()),
        Role::Pings => pings(socket, Duration::from_millis(arguments.ping_ms.into())).await,
    }
}

type Socket = WebSocketStream<TcpStream>;

async fn echo(mut socket: Socket) -> Result<(), Error> {
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

/// A timer per connection, as in the examples of tokio. Whoever answered nothing since the last ping is gone.
async fn pings(mut socket: Socket, every: Duration) -> Result<(), Error> {
    let mut due = interval_at(Instant::now() + every, every);
    // Two in a row would leave no time to answer.
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_alive = true;
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(message) => drop(message?),
                None => return Ok(()),
            },
            _ = due.tick() => {
                if !is_alive {
                    return Ok(());
                }
                is_alive = false;
                socket.send(Message::Ping(Bytes::new())).await?;
                continue;
            }
        }
        is_alive = true;
    }
}

async fn broadcast(socket: Socket, hub: &Hub) -> Result<(), Error> {
    let (sink, stream) = socket.split();
    let (id, messages) = hub.join();
    let writer = tokio::task::spawn_local(write(sink, messages));
    let result = read(stream, hub, id).await;
    hub.leave(id);
    // Its channel is closed, so the writer ends; whether well or not is no news by now.
    let _ = writer.await;
    result
}

async fn read(mut stream: SplitStream<Socket>, hub: &Hub, id: u64) -> Result<(), Error> {
    while let Some(message) = stream.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            hub.publish(id, &message);
        }
    }
    Ok(())
}

async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut messages: mpsc::UnboundedReceiver<Message>,
) -> Result<(), Error> {
    while let Some(message) = messages.recv().await {
        sink.feed(message).await?;
        while let Ok(message) = messages.try_recv() {
            sink.feed(message).await?;
        }
        sink.flush().await?;
    }
    Ok(())
}

/// Who is there; one thread, so no lock.
#[derive(Default)]
struct Hub {
    members: RefCell<HashMap<u64, mpsc::UnboundedSender<Message>>>,
    joined: RefCell<u64>,
}

impl Hub {
    fn join(&self) -> (u64, mpsc::UnboundedReceiver<Message>) {
        let mut joined = self.joined.borrow_mut();
        *joined += 1;
        let (sender, receiver) = mpsc::unbounded_channel();
        self.members.borrow_mut().insert(*joined, sender);
        (*joined, receiver)
    }

    fn leave(&self, id: u64) {
        self.members.borrow_mut().remove(&id);
    }

    fn publish(&self, from: u64, message: &Message) {
        for (id, member) in self.members.borrow().iter() {
            if *id != from {
                // Fails when its writer has ended; its reader will take it off the list.
                let _ = member.send(message.clone());
            }
        }
    }
}

const READ_BUFFER_BYTES_MIN: usize = 4096;
