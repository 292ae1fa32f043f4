//! Publications to the bytes of each wire format, per publication.

mod cases;
mod wall_clock;

fn main() {
    wall_clock::measure("frame_encode");
}
