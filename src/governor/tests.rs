//! Tests of the governor: who gives up what, and that the sum stays within the budget.

use super::*;
use crate::limits::{CONNECTION_USER_BYTES, SLOW_READER_GRACE_MS};
use crate::memory::Key;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

fn plan(budget_mib: u64) -> Plan {
    Plan { budget_bytes: budget_mib * MIB, shares: Shares::default() }
}

fn report(connections: u64, bytes: &[(Kind, u64)]) -> Report {
    let mut report = Report { connections, ..Report::default() };
    report.bytes[Kind::Connections as usize] = connections * CONNECTION_USER_BYTES;
    for (kind, bytes) in bytes {
        report.bytes[*kind as usize] = *bytes;
    }
    report
}

#[test]
fn shares_are_of_what_is_left_when_others_took_more_than_the_rest() {
    let plan = plan(1000);
    assert_eq!(plan.guaranteed(0).connections, 550 * MIB);
    assert_eq!(plan.guaranteed(100 * MIB), plan.guaranteed(0));
    let squeezed = plan.guaranteed(550 * MIB);
    assert_eq!((squeezed.connections, squeezed.media), (275 * MIB, 50 * MIB));
    assert_eq!(plan.guaranteed(2000 * MIB).connections, 0);
}

#[test]
fn history_borrows_what_is_free_and_gives_it_back_first() {
    let plan = plan(1000);
    let alone = Used { history: 300 * MIB, ..Used::default() };
    assert_eq!(plan.limits(&alone).history, 350 * MIB, "all but the share of connections");
    let beside = Used { slow_readers: 150 * MIB, media: 50 * MIB, ..alone };
    assert_eq!(plan.limits(&beside).history, 150 * MIB);
    // Slow readers may stay beyond their share only as long as history and media leave it.
    assert_eq!(plan.limits(&beside).slow_readers, 150 * MIB);
    let full = Used { media: 100 * MIB, ..beside };
    assert_eq!(plan.limits(&full).slow_readers, 100 * MIB);
    // Connections are not ended for anybody, and nobody borrows from them.
    assert_eq!(plan.limits(&full).connections, 550 * MIB);
}

#[test]
fn connections_are_refused_when_nothing_else_can_give() {
    let plan = plan(1000);
    let stuck = Used { media: 500 * MIB, ..Used::default() };
    assert_eq!(plan.limits(&stuck).connections, 400 * MIB);
    let governor = Governor::new(1, Plan { budget_bytes: 0, ..plan });
    assert_eq!(governor.tick(0, &Report::default()).connections, 0);
    assert!(governor.is_full() && !governor.takes_publishers());
}

#[test]
fn the_last_connection_goes_to_who_asks_first() {
    // Room for three.
    let budget_bytes = (3 * CONNECTION_BYTES * 100).div_ceil(55) + 10;
    let governor = Governor::new(2, Plan { budget_bytes, shares: Shares::default() });
    assert_eq!(governor.tick(0, &report(0, &[])).connections, 1);
    assert_eq!(governor.tick(1, &report(0, &[])).connections, 1);
    assert_eq!(governor.tick(0, &report(1, &[])).connections, 1);
    assert_eq!(governor.tick(1, &report(1, &[])).connections, 0);
    assert_eq!(governor.tick(0, &report(2, &[])).connections, 0);
    assert!(governor.is_full());
    assert_eq!(governor.tick(1, &report(0, &[])).connections, 1, "one left");
    assert!(!governor.is_full());
}

#[test]
fn what_the_kernel_queues_counts_for_who_is_slow() {
    let governor = Governor::new(2, plan(1000));
    governor.measure(0, 400 * MIB);
    assert_eq!(governor.kernel_queued_bytes(), 0, "nobody is slow: it is somebody else's");
    let slow =
        |count, bytes| Report { slow_readers: count, ..report(0, &[(Kind::SlowReaders, bytes)]) };
    governor.tick(0, &slow(300, 60 * MIB));
    let orders = governor.tick(1, &slow(100, 0));
    // 460 of which at most 350 may stay; a quarter of the queues is here.
    assert_eq!(governor.used().slow_readers, 460 * MIB);
    assert_eq!(orders.slow_readers_bytes / MIB, 110 * 100 / 460);
    assert_eq!(governor.tick(0, &slow(300, 60 * MIB)).slow_readers_bytes / MIB, 110 * 360 / 460);
}

#[test]
fn memory_that_nobody_told_of_takes_from_all() {
    let governor = Governor::new(1, plan(1000));
    governor.tick(0, &report(0, &[(Kind::History, 300 * MIB)]));
    governor.measure(900 * MIB, 0);
    assert_eq!(governor.unaccounted_bytes(), 600 * MIB);
    let orders = governor.tick(0, &report(0, &[(Kind::History, 300 * MIB)]));
    // 400 are left, of which connections keep 244.
    let part = orders.history.expect("too much");
    assert_eq!((part.allowed / MIB, part.used / MIB), (155, 300));
    assert_eq!(part.of(30 * MIB) / MIB, 15);
}

#[test]
fn shed_counts_add_up() {
    let governor = Governor::new(2, plan(1));
    governor.shed(0, Step::SlowReaders, 2);
    governor.shed(1, Step::SlowReaders, 3);
    assert_eq!(governor.shed_total(Step::SlowReaders), 5);
    assert_eq!(governor.shed_total(Step::History), 0);
}

fn key(index: u32) -> Key {
    Key { index, generation: 1 }
}

#[test]
fn the_largest_backlog_goes_first_and_has_its_time() {
    let mut slow = SlowReaders::default();
    for index in 0..10 {
        let backlog = u64::from(index * 7 % 10);
        slow.note(key(index), SlowReader { bytes: 100, backlog });
    }
    assert_eq!(slow.bytes(), 1000);
    // Backlogs 9, 8 and 7.
    assert_eq!(slow.choose(250, 0, 8, 5), [key(7), key(4), key(1)]);
    assert_eq!(slow.choose(250, 0, 8, 6), [], "they are on their way");
    assert_eq!(slow.choose(1000, 0, 2, 6), [key(8), key(5)], "two at a time");
    assert_eq!(slow.overdue(5 + SLOW_READER_GRACE_MS), [key(1), key(4), key(7)]);
    slow.look(100, |key| (key.index > 7).then_some(SlowReader { bytes: 1, backlog: 0 }));
    assert_eq!((slow.len(), slow.bytes()), (2, 2));
    slow.look(1, |_| None);
    slow.look(1, |_| None);
    assert!(slow.is_empty() && slow.bytes() == 0);
}

proptest! {
    #[test]
    fn slow_readers_agree_with_a_map(
        ops in proptest::collection::vec((0..20_u32, 0..100_u64, 0..3_u8), 1..300),
    ) {
        let mut slow = SlowReaders::default();
        let mut waits = std::collections::BTreeMap::new();
        for (index, bytes, op) in ops {
            match op {
                0 => { waits.remove(&index); }
                _ => {
                    waits.insert(index, bytes);
                    slow.note(key(index), SlowReader { bytes, backlog: bytes });
                }
            }
            slow.look(3, |key| waits.get(&key.index).map(|bytes| SlowReader { bytes: *bytes, backlog: 0 }));
        }
        slow.look(1000, |key| waits.get(&key.index).map(|bytes| SlowReader { bytes: *bytes, backlog: 0 }));
        slow.look(1000, |key| waits.get(&key.index).map(|bytes| SlowReader { bytes: *bytes, backlog: 0 }));
        prop_assert_eq!(slow.len(), waits.len());
        prop_assert_eq!(slow.bytes(), waits.values().sum::<u64>());
    }

    /// Shards that take all they may, add to the rest as they like, and do as they are told.
    #[test]
    fn the_sum_stays_within_the_budget_but_for_what_one_tick_adds(
        budget_mib in 1..200_u64,
        shards in 1..5_usize,
        rounds in proptest::collection::vec(
            (any::<bool>(), 0..2000_u64, 0..3 * MIB, 0..3 * MIB, 0..MIB),
            1..200,
        ),
    ) {
        let plan = plan(budget_mib);
        let governor = Governor::new(shards, plan);
        let mut all = vec![(0_u64, Report::default(), Orders::default()); shards];
        let mut before = 0;
        // At the end nobody adds any more.
        let quiet = [(false, 0, 0, 0, 0); 3];
        for (takes, leave, history, slow, media) in rounds.into_iter().chain(quiet) {
            for (number, (connections, told, orders)) in all.iter_mut().enumerate() {
                let [kept, waiting, live] = [Kind::History, Kind::SlowReaders, Kind::Media]
                    .map(|kind| told.bytes[kind as usize]);
                let kept = orders.history.map_or(kept, |part| part.of(kept)) + history;
                let waiting = waiting - orders.slow_readers_bytes.min(waiting) + slow;
                let live = orders.media.map_or(live, |part| part.of(live)) + media;
                *connections += if takes { orders.connections } else { 0 };
                *connections -= leave.min(*connections);
                let bytes =
                    [(Kind::History, kept), (Kind::SlowReaders, waiting), (Kind::Media, live)];
                *told = report(*connections, &bytes);
                *orders = governor.tick(number, told);
            }
            let sum: u64 = all.iter().map(|(count, ..)| count * CONNECTION_BYTES).sum();
            prop_assert!(sum <= plan.guaranteed(0).connections, "{sum} bytes of connections");
            let added = shards as u64 * (history + slow + media);
            let used = governor.used();
            // What the last shard added it hears of only in the next round.
            prop_assert!(used.total() <= plan.budget_bytes + added + before, "{used:?}");
            before = added;
        }
        prop_assert!(governor.used().total() <= plan.budget_bytes);
    }
}
