//! The hot paths as closures: what `criterion` times and what `instructions` counts is the same code.
//!
//! In: nothing. Out: [`all`], each with a name `path/variant`. Preparing a case brings its state to
//! where it stays (tables grown, pools and histories filled, handshakes done), so that one call
//! costs what the thousandth costs. A call goes through a box, which is about five instructions of
//! every number. Not here: clocks, counters, and any variation of the input between calls.

mod deflate;
mod fanout;
mod frame_encode;
mod frame_parse;
mod http_parse;
mod part_write;
mod rtmp_chunks;
mod unmask;

/// One call of a prepared case.
pub(crate) type Call = Box<dyn FnMut()>;

/// Something to measure.
#[allow(dead_code, reason = "the clock needs the bytes, the counter the number of calls")]
pub(crate) struct Case {
    /// `path/variant`
    pub(crate) name: String,
    /// What one call amounts to, in operations: numbers are reported per operation.
    pub(crate) operations: u64,
    /// What throughput is reported of, per operation; 0 where that says nothing.
    pub(crate) bytes: usize,
    /// Calls that the instruction counter counts: whole periods of what happens only sometimes.
    pub(crate) calls: u64,
    /// Whether this is our code; a peer's is timed but not held to a baseline.
    pub(crate) ours: bool,
    /// Sets up and warms up.
    pub(crate) prepare: Box<dyn Fn() -> Call>,
}

impl Case {
    fn new(name: impl Into<String>, prepare: impl Fn() -> Call + 'static) -> Self {
        let (operations, bytes, calls, ours) = (1, 0, 1000, true);
        Self { name: name.into(), operations, bytes, calls, ours, prepare: Box::new(prepare) }
    }

    fn bytes(self, bytes: usize) -> Self {
        Self { bytes, ..self }
    }

    fn operations(self, operations: u64) -> Self {
        Self { operations, ..self }
    }

    fn calls(self, calls: u64) -> Self {
        Self { calls, ..self }
    }

    fn of_a_peer(self) -> Self {
        Self { ours: false, ..self }
    }
}

/// Every case.
pub(crate) fn all() -> Vec<Case> {
    [
        unmask::cases(),
        frame_parse::cases(),
        frame_encode::cases(),
        http_parse::cases(),
        rtmp_chunks::cases(),
        part_write::cases(),
        fanout::cases(),
        deflate::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A chat line, a page of JSON, and more than any buffer that is sent at once.
const MESSAGE_BYTES: [usize; 3] = [20, 512, 16 * 1024];

/// ASCII of some variety, so that it is valid as text and no run of equal bytes.
fn text(length: usize) -> Vec<u8> {
    (b' '..=b'~').cycle().step_by(7).take(length).collect()
}
