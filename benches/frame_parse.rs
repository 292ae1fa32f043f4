//! WebSocket frames to messages, per masked message of three lengths.

mod cases;
mod wall_clock;

fn main() {
    wall_clock::measure("frame_parse");
}
