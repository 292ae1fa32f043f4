//! Channels: what comes on `/publish` as `NUMBER TEXT` brings the text to those of `/c/NUMBER`.
//!
//! In: a connection before its upgrade. Out: texts. Each channel is a `tokio::sync::broadcast`, which is made
//! for that, and each connection one task that waits for its socket and for its channel.

use std::cell::RefCell;
use std::collections::HashMap;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::Socket;

/// By number; one thread, so no lock.
#[derive(Default)]
pub(crate) struct Channels(RefCell<HashMap<String, broadcast::Sender<Message>>>);

/// Until the connection ends.
pub(crate) async fn serve(
    stream: TcpStream,
    config: WebSocketConfig,
    channels: &Channels,
) -> Result<(), Error> {
    let mut path = String::new();
    #[allow(clippy::result_large_err, reason = "the type of the error is the crate's")]
    let note = |request: &Request, response: Response| {
        request.uri().path().clone_into(&mut path);
        Ok(response)
    };
    let socket =
        tokio_tungstenite::accept_hdr_async_with_config(stream, note, Some(config)).await?;
    match path.strip_prefix("/c/") {
        Some(number) => subscribe(socket, channels.join(number)).await,
        None => publish(socket, channels).await,
    }
}

async fn publish(mut socket: Socket, channels: &Channels) -> Result<(), Error> {
    while let Some(message) = socket.next().await {
        if let Message::Text(text) = message? {
            channels.publish(&text);
        }
    }
    Ok(())
}

async fn subscribe(
    mut socket: Socket,
    mut texts: broadcast::Receiver<Message>,
) -> Result<(), Error> {
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(message) => drop(message?),
                None => return Ok(()),
            },
            text = texts.recv() => match text {
                Ok(text) => socket.send(text).await?,
                // The lab notices what is missing.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
        }
    }
}

impl Channels {
    fn join(&self, number: &str) -> broadcast::Receiver<Message> {
        let mut channels = self.0.borrow_mut();
        let channel = channels.entry(number.to_owned());
        channel.or_insert_with(|| broadcast::channel(WAITING_MAX).0).subscribe()
    }

    fn publish(&self, publication: &Utf8Bytes) {
        let Some((number, _)) = publication.split_once(' ') else { return };
        let channels = self.0.borrow();
        let Some(channel) = channels.get(number) else { return };
        let text = Bytes::from(publication.clone()).slice(number.len() + 1..);
        if let Ok(text) = Utf8Bytes::try_from(text) {
            // Fails when nobody is there.
            let _ = channel.send(Message::Text(text));
        }
    }
}

/// Of one channel.
const WAITING_MAX: usize = 64;
