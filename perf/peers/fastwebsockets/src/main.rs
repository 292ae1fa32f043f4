//! fastwebsockets: WebSocket echo and broadcast on tokio's current-thread runtime.
//!
//! In: HTTP upgrades on any path, then messages. Out: each message to its sender, or to all others.
//! As in the crate's example of an echo server: hyper does the upgrade, a `FragmentCollector` with
//! the defaults (pongs and closes by itself, UTF-8 checked, vectored writes) reads and writes in an
//! unconstrained task. One thing is better than in the example: after the upgrade the socket is
//! taken out of hyper, as there is nothing left for its wrapper to do. The broadcast splits the
//! socket and has a channel per connection.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::error;
use std::rc::Rc;

use bytes::Bytes;
use fastwebsockets::upgrade::UpgradeFut;
use fastwebsockets::{
    FragmentCollector, FragmentCollectorRead, Frame, OpCode, Payload, Role as Side, WebSocket,
    WebSocketError, WebSocketWrite,
};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use peer::{Arguments, Role};
use tokio::io::{AsyncWrite, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local, unconstrained};

fn main() -> Result<(), Box<dyn error::Error>> {
    let arguments = Arguments::from_command_line();
    if !matches!(arguments.role, Role::Echo | Role::Broadcast) {
        return Err("only --role echo and --role broadcast".into());
    }
    let listener = peer::listen(&arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, async move {
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        peer::announce(address);
        let hub = Rc::new(Hub::default());
        loop {
            let (stream, _) = listener.accept().await?;
            let hub = Rc::clone(&hub);
            spawn_local(async move {
                let service =
                    service_fn(|request| upgrade(request, arguments.role, Rc::clone(&hub)));
                let http = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                // A connection that ended is the lab's to notice.
                let _ = http.with_upgrades().await;
            });
        }
    })
}

async fn upgrade(
    mut request: Request<Incoming>,
    role: Role,
    hub: Rc<Hub>,
) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, upgraded) = fastwebsockets::upgrade::upgrade(&mut request)?;
    match role {
        Role::Echo => {
            // As above.
            spawn_local(unconstrained(async move { drop(echo(upgraded).await) }));
        }
        _ => {
            // Before the answer: whoever has it misses nothing.
            let member = hub.join();
            spawn_local(unconstrained(
                async move { drop(broadcast(upgraded, &hub, member).await) },
            ));
        }
    }
    Ok(response)
}

/// The bare socket; a client that sent bytes before it had the answer is refused.
async fn socket(upgraded: UpgradeFut) -> Result<WebSocket<TcpStream>, WebSocketError> {
    let upgraded = upgraded.await?.into_inner().into_inner();
    let parts = upgraded
        .downcast::<TokioIo<TcpStream>>()
        .ok()
        .filter(|parts| parts.read_buf.is_empty())
        .ok_or(WebSocketError::ConnectionClosed)?;
    Ok(WebSocket::after_handshake(parts.io.into_inner(), Side::Server))
}

async fn echo(upgraded: UpgradeFut) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(socket(upgraded).await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}

async fn broadcast(
    upgraded: UpgradeFut,
    hub: &Hub,
    (id, frames): (u64, mpsc::UnboundedReceiver<Owned>),
) -> Result<(), WebSocketError> {
    let result = match socket(upgraded).await {
        Ok(socket) => spread(socket, hub, id, frames).await,
        Err(error) => Err(error),
    };
    hub.leave(id);
    result
}

async fn spread(
    socket: WebSocket<TcpStream>,
    hub: &Hub,
    id: u64,
    mut frames: mpsc::UnboundedReceiver<Owned>,
) -> Result<(), WebSocketError> {
    let (read, write) = socket.split(tokio::io::split);
    let writer = spawn_local(unconstrained(async move { write_all(write, &mut frames).await }));
    let mut read = FragmentCollectorRead::new(read);
    let result = loop {
        // Pongs and the answer to a close go the way of all frames.
        let mut answer = async |frame: Frame<'_>| {
            hub.send(id, Owned::from(frame));
            Ok::<_, Infallible>(())
        };
        match read.read_frame(&mut answer).await {
            Ok(frame) if frame.opcode == OpCode::Close => break Ok(()),
            Ok(frame) if matches!(frame.opcode, OpCode::Text | OpCode::Binary) => {
                hub.publish(id, &Owned::from(frame));
            }
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    hub.leave(id);
    // Its channel is closed, so the writer ends; whether well or not is no news by now.
    let _ = writer.await;
    result
}

async fn write_all<S: AsyncWrite + Unpin>(
    mut socket: WebSocketWrite<WriteHalf<S>>,
    frames: &mut mpsc::UnboundedReceiver<Owned>,
) -> Result<(), WebSocketError> {
    while let Some(Owned { opcode, payload }) = frames.recv().await {
        let frame = Frame::new(true, opcode, None, Payload::Borrowed(&payload));
        socket.write_frame(frame).await?;
    }
    Ok(())
}

/// A frame whose payload many can share.
#[derive(Clone)]
struct Owned {
    opcode: OpCode,
    payload: Bytes,
}

impl From<Frame<'_>> for Owned {
    fn from(frame: Frame<'_>) -> Self {
        let payload = match frame.payload {
            Payload::Owned(bytes) => bytes.into(),
            Payload::Bytes(bytes) => bytes.freeze(),
            borrowed => Bytes::copy_from_slice(&borrowed),
        };
        Self { opcode: frame.opcode, payload }
    }
}

/// Who is there; one thread, so no lock.
#[derive(Default)]
struct Hub {
    members: RefCell<HashMap<u64, mpsc::UnboundedSender<Owned>>>,
    joined: RefCell<u64>,
}

impl Hub {
    fn join(&self) -> (u64, mpsc::UnboundedReceiver<Owned>) {
        let mut joined = self.joined.borrow_mut();
        *joined += 1;
        let (sender, receiver) = mpsc::unbounded_channel();
        self.members.borrow_mut().insert(*joined, sender);
        (*joined, receiver)
    }

    fn leave(&self, id: u64) {
        self.members.borrow_mut().remove(&id);
    }

    fn send(&self, to: u64, frame: Owned) {
        if let Some(member) = self.members.borrow().get(&to) {
            // Fails when its writer has ended; its reader will take it off the list.
            let _ = member.send(frame);
        }
    }

    fn publish(&self, from: u64, frame: &Owned) {
        for (id, member) in self.members.borrow().iter() {
            if *id != from {
                // As above.
                let _ = member.send(frame.clone());
            }
        }
    }
}
