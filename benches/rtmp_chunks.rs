//! RTMP chunks to media fragments, per second of a live stream, at two chunk sizes.

mod cases;
mod wall_clock;

fn main() {
    wall_clock::measure("rtmp_chunks");
}
