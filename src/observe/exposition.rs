//! `GET /metrics`: the counters in the Prometheus text format 0.0.4.

use super::board::Board;
use super::counters;
use crate::governor::{Kind, Limits, Step};
use crate::limits::KERNEL_BYTES_PER_CONNECTION;
use std::fmt::Write as _;

/// Every counter of every shard.
#[must_use]
pub fn render(board: &Board) -> String {
    let shards: Vec<_> = board.shards().iter().map(|shard| shard.counters.all()).collect();
    let mut text = String::new();
    let Some(first) = shards.first() else { return text };
    for (row, (name, help, kind, _)) in first.iter().enumerate() {
        let kind = match kind {
            counters::Kind::Total => "counter",
            counters::Kind::Gauge => "gauge",
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
    memory(board, &mut text);
    let _ = writeln!(
        text,
        "# HELP headwater_allocations_total Allocations of the whole process.\n\
         # TYPE headwater_allocations_total counter\n\
         headwater_allocations_total {}",
        crate::memory::allocations()
    );
    text
}

/// Who has what of the memory budget, and what was given up for it.
fn memory(board: &Board, text: &mut String) {
    let governor = board.governor();
    let mut family = |name: &str, kind: &str, help: &str, rows: &[(String, u64)]| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in rows {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let alone = |value: u64| vec![(String::new(), value)];
    let kinds = Kind::ALL.iter().flat_map(|(kind, word)| {
        (0..board.shards().len()).map(move |shard| {
            let labels = format!("{{kind=\"{word}\",shard=\"{shard}\"}}");
            (labels, governor.shard_bytes(shard, *kind))
        })
    });
    family(
        "headwater_memory_bytes",
        "gauge",
        "User memory by what it is for.",
        &kinds.collect::<Vec<_>>(),
    );
    family(
        "headwater_memory_unaccounted_bytes",
        "gauge",
        "Resident memory that is for none of these: the binary, stacks, the allocator.",
        &alone(governor.unaccounted_bytes()),
    );
    let kernel = [
        ("{kind=\"sockets\"}".to_owned(), governor.kernel_sockets_bytes()),
        ("{kind=\"queued\"}".to_owned(), governor.kernel_queued_bytes()),
    ];
    family(
        "headwater_memory_kernel_estimate_bytes",
        "gauge",
        "Kernel memory: of idle sockets by their number, and queued for slow readers.",
        &kernel,
    );
    let (plan, used) = (governor.plan(), governor.used());
    family(
        "headwater_memory_budget_bytes",
        "gauge",
        "What user and kernel memory together are kept below.",
        &alone(plan.budget_bytes),
    );
    family(
        "headwater_memory_used_bytes",
        "gauge",
        "What is used of the budget.",
        &alone(used.total()),
    );
    let (own, now) = (plan.guaranteed(used.other), plan.limits(&used));
    let by_kind = |limits: Limits| {
        [
            ("connections", limits.connections),
            ("history", limits.history),
            ("slow_readers", limits.slow_readers),
            ("media", limits.media),
        ]
        .map(|(kind, bytes)| (format!("{{kind=\"{kind}\"}}"), bytes))
    };
    family(
        "headwater_memory_share_bytes",
        "gauge",
        "What of the budget each is guaranteed, with the kernel's part.",
        &by_kind(own),
    );
    family(
        "headwater_memory_limit_bytes",
        "gauge",
        "What each may use now, with what it may borrow.",
        &by_kind(now),
    );
    let steps =
        Step::ALL.map(|(step, word)| (format!("{{step=\"{word}\"}}"), governor.shed_total(step)));
    family(
        "headwater_memory_shed_total",
        "counter",
        "What was given up or refused for want of memory, in the order in which that is done.",
        &steps,
    );
    family(
        "headwater_slow_readers",
        "gauge",
        "Connections that something waits for.",
        &alone(governor.slow_readers()),
    );
    let each = governor.bytes(Kind::Connections) / governor.connections().max(1);
    family(
        "headwater_memory_connection_bytes",
        "gauge",
        "User memory of a connection: its slot, timer and subscriptions.",
        &alone(each),
    );
    family(
        "headwater_memory_connection_kernel_estimate_bytes",
        "gauge",
        "Kernel memory that an idle connection is taken to need.",
        &alone(KERNEL_BYTES_PER_CONNECTION),
    );
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
        let (shards, whole) = text.split_once("# HELP headwater_memory_bytes").expect("memory");
        let count = |text: &str, is: fn(&str) -> bool| text.lines().filter(|line| is(line)).count();
        let helps = count(shards, |line| line.starts_with("# HELP"));
        let values = count(shards, |line| !line.starts_with('#'));
        assert_eq!(values, 2 * helps);
        assert!(whole.contains("headwater_memory_bytes{kind=\"media\",shard=\"1\"} 0\n"));
        let names = |line: &str| line.split([' ', '{']).next().map(str::to_owned);
        for line in whole.lines().filter(|line| !line.starts_with(['#', ' '])) {
            let name = names(line).expect("a name");
            assert!(text.contains(&format!("# HELP {name} ")), "{line}");
            assert!(
                line.rsplit(' ').next().is_some_and(|value| value.parse::<u64>().is_ok()),
                "{line}"
            );
        }
    }
}
