//! Echo (RFC 862): every byte back, to measure the path of data without a protocol.

use super::{Context, Progress};
use crate::limits::HTTP_IDLE_MS;
use crate::session::Connection;

pub(super) fn receive(
    connection: &mut Connection,
    input: &[u8],
    context: &mut Context<'_>,
) -> Progress {
    connection.outbox.push(context.arena.append(&[input]));
    Progress { consumed: input.len(), again: false }
}

pub(super) fn on_timer(connection: &mut Connection, context: &mut Context<'_>) -> u64 {
    let silent_ms = u64::from(connection.silent_ms(context.now.monotonic));
    if silent_ms >= HTTP_IDLE_MS {
        connection.close();
    }
    HTTP_IDLE_MS.saturating_sub(silent_ms)
}
