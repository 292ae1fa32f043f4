//! The real binary on the loopback, with real clients: ffmpeg, curl, Chromium, existing SDKs, and many sockets.
//!
//! In: the `headwater` that Cargo built. Out: what a user sees. Each test starts a server of its own on free ports and
//! ends it; nothing waits for a time to pass where it can wait for the event itself, nothing is tried twice. A program
//! that is missing is a named skip, and a failure where `CI` is set. Deliberately absent: what needs a fault (the
//! simulator has it) and what is a matter of speed (the load scenarios have it).

mod attacks;
mod browser;
mod budget;
mod client;
mod deflate;
mod drain;
mod http;
mod idle_memory;
mod media;
mod messages;
mod process;
mod proxies;
mod reuse;
mod rtmp_to_hls_and_dash;
mod sdks;
mod server;
mod smuggling;
mod tools;
mod violations;
