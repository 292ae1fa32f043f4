//! Messages compressed by permessage-deflate (RFC 7692), as far as a checking client needs them.
//!
//! In: payloads of frames with RSV1, in order. Out: the texts. The window is kept from message to
//! message, which is right whether the server takes over its context or not: without takeover no
//! message refers to bytes before its own.

use flate2::{Decompress, FlushDecompress, Status};

/// The receiving end of one direction of a connection.
#[derive(Debug)]
pub(crate) struct Inflate {
    state: Decompress,
}

impl Inflate {
    pub(crate) fn new() -> Self {
        Self { state: Decompress::new(false) }
    }

    /// The text of one message; RFC 7692 7.2.2: four bytes that were taken off are put back.
    pub(crate) fn message(&mut self, payload: &[u8]) -> Result<Vec<u8>, String> {
        let mut input = payload.to_vec();
        input.extend_from_slice(&[0, 0, 0xff, 0xff]);
        let mut text = Vec::with_capacity(MESSAGE_BYTES_MAX);
        let status = self.state.decompress_vec(&input, &mut text, FlushDecompress::Sync);
        match status {
            Ok(Status::Ok | Status::BufError) if text.len() < MESSAGE_BYTES_MAX => Ok(text),
            // A final block ends the stream (7.2.3.5); the next message begins a new one.
            Ok(Status::StreamEnd) => {
                self.state.reset(false);
                Ok(text)
            }
            Ok(_) => Err("inflates to more than any message of the lab".into()),
            Err(error) => Err(format!("does not inflate: {error}")),
        }
    }
}

const MESSAGE_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::Inflate;

    /// The examples of RFC 7692 7.2.3.
    #[test]
    fn hello() {
        let first = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        let with_the_same_window = [0xf2, 0x00, 0x11, 0x00, 0x00];
        let mut inflate = Inflate::new();
        assert_eq!(inflate.message(&first).unwrap(), b"Hello");
        assert_eq!(inflate.message(&with_the_same_window).unwrap(), b"Hello");
        let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
        assert_eq!(Inflate::new().message(&stored).unwrap(), b"Hello");
        let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
        let mut inflate = Inflate::new();
        assert_eq!(inflate.message(&last).unwrap(), b"Hello");
        assert_eq!(inflate.message(&first).unwrap(), b"Hello");
        assert!(Inflate::new().message(&[0xff; 16]).is_err());
    }
}
