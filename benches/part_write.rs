//! Headers of fMP4 parts, per part, with the `mp4` crate's sample table as a peer.

mod cases;
mod wall_clock;

fn main() {
    wall_clock::measure("part_write");
}
