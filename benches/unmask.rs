//! Removal of the masking key, per message, at three lengths and on the portable path.

mod cases;
mod wall_clock;

fn main() {
    wall_clock::measure("unmask");
}
