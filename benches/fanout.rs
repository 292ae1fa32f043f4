//! One publication to all its subscribers, per delivery.

mod cases;
mod wall_clock;

fn main() {
    wall_clock::measure("fanout");
}
