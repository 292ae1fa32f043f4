//! Every bound of a connection, in one place.

/// What one peer may make us keep or do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest message, media included (nothing is allocated from it).
    pub message_bytes_max: u32,
    /// The longest command or data message; a longer command is an error, longer data is skipped.
    pub command_bytes_max: u32,
    /// Partly received commands, data and control messages, over all chunk streams.
    pub assembled_bytes_max: usize,
    /// Chunk streams in use; each costs about 150 bytes.
    pub chunk_streams_max: usize,
    /// Message streams that exist at a time.
    pub message_streams_max: usize,
    /// The longest stream name, without its query.
    pub name_bytes_max: usize,
    /// A peer that asks to be acknowledged more often is acknowledged this often: an
    /// acknowledgement of 16 bytes per byte received would be an amplifier.
    pub acknowledgement_window_bytes_min: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 10 << 20,
            command_bytes_max: 64 << 10,
            assembled_bytes_max: 128 << 10,
            chunk_streams_max: 64,
            message_streams_max: 16,
            name_bytes_max: 256,
            acknowledgement_window_bytes_min: 4 << 10,
        }
    }
}

/// Protocol control messages are 4 to 10 bytes; the slack is for peers that pad.
pub(crate) const CONTROL_BYTES_MAX: u32 = 64;

/// An assembly buffer that grew beyond this is given back after its message.
pub(crate) const ASSEMBLY_KEPT_BYTES_MAX: usize = 256;

const _: () = assert!(CONTROL_BYTES_MAX as usize <= ASSEMBLY_KEPT_BYTES_MAX);
