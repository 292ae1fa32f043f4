//! HTTP/1.1 heads and bodies, per request.

mod cases;
mod wall_clock;

fn main() {
    wall_clock::measure("http_parse");
}
