//! permessage-deflate, both ways, per JSON message.

mod cases;
mod wall_clock;

fn main() {
    wall_clock::measure("deflate");
}
