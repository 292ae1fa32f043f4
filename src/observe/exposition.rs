//! `GET /metrics`: the counters in the Prometheus text format 0.0.4.

use super::board::Board;
use super::counters::Kind;
use std::fmt::Write as _;

/// Every counter of every shard.
#[must_use]
pub fn render(board: &Board) -> String {
    let shards: Vec<_> = board.shards().iter().map(|shard| shard.counters.all()).collect();
    let mut text = String::new();
    let Some(first) = shards.first() else { return text };
    for (row, (name, help, kind, _)) in first.iter().enumerate() {
        let kind = match kind {
            Kind::Total => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", help.trim());
        for (shard, counters) in shards.iter().enumerate() {
            let _ = writeln!(text, "{name}{{shard=\"{shard}\"}} {}", counters[row].3);
        }
    }
    for (name, help, value) in board.side_counts() {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
    }
    let _ = writeln!(
        text,
        "# HELP headwater_allocations_total Allocations of the whole process.\n\
         # TYPE headwater_allocations_total counter\n\
         headwater_allocations_total {}",
        crate::memory::allocations()
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_has_help_a_type_and_a_line_per_shard() {
        let board = Board::new(2);
        board.shards()[1].counters.accepted.add(3);
        let text = render(&board);
        assert!(text.contains("# TYPE headwater_connections_accepted_total counter\n"));
        assert!(text.contains("headwater_connections_accepted_total{shard=\"1\"} 3\n"));
        let helps = text.lines().filter(|line| line.starts_with("# HELP")).count();
        let values = text.lines().filter(|line| !line.starts_with('#')).count();
        // One metric is the process's, not a shard's.
        assert_eq!(values, 2 * (helps - 1) + 1);
    }
}
