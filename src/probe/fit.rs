//! How many connections fit on a machine, what ends it, and what to set for more.
//!
//! In: [`Facts`], and a number of connections that is aimed at, if there is one. Out: [`Bound`]s, the
//! lowest first, and [`Advice`] with the exact lines. Pure judgement.

use super::facts::{Facts, Limit};
use super::{Advice, size};
use crate::limits::{
    CELLS_MAX, CONNECTION_BYTES, CONNECTION_USER_BYTES, CONNECTIONS_PER_SHARD_MAX,
    CONNECTIONS_PERCENT, KERNEL_BYTES_PER_CONNECTION, SLOTS_PER_CELL_MAX,
};

/// Something that ends the number of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// How many it allows.
    pub connections: u64,
    /// What it is, and how that number comes about.
    pub what: String,
}

/// Every bound that is known here, the lowest first.
pub(super) fn bounds(facts: &Facts) -> Vec<Bound> {
    let mut bounds = Vec::new();
    let mut add = |connections: u64, what: String| bounds.push(Bound { connections, what });
    if let Some(budget) = facts.memory_budget {
        let each = format!(
            "{KERNEL_BYTES_PER_CONNECTION} B of kernel and {CONNECTION_USER_BYTES} B of user memory each"
        );
        add(
            of_budget(budget) / CONNECTION_BYTES,
            format!(
                "memory: {CONNECTIONS_PERCENT} % of a budget of {}, {each}; memory.budget_mib and \
                 memory.connections_percent change it",
                size(budget)
            ),
        );
    }
    if let Some(free) = facts.memory_available {
        add(
            free / 8 * 7 / CONNECTION_BYTES,
            format!("free memory now: seven eighths of {}", size(free)),
        );
    }
    let (cores, slots) = (facts.cores.max(1) as u64, slots(facts));
    add(
        cores * u64::from(CELLS_MAX) * slots,
        format!(
            "slots: {cores} shard(s) with up to {CELLS_MAX} rings of {slots} slots (RLIMIT_NOFILE)"
        ),
    );
    add(
        cores * CONNECTIONS_PER_SHARD_MAX as u64,
        format!("tables: {CONNECTIONS_PER_SHARD_MAX} per shard"),
    );
    if let Some(files) = facts.file_max {
        add(files, "files of the whole machine (fs.file-max)".to_owned());
    }
    if let Some(flows) = facts.tracked_max() {
        add(flows, "connection tracking (net.netfilter.nf_conntrack_max)".to_owned());
    }
    bounds.sort_by_key(|bound| bound.connections);
    bounds
}

/// What would have to be set for `target` connections; nothing when they fit.
pub(super) fn advise_target(facts: &Facts, target: u64, advice: &mut Vec<Advice>) {
    advise_memory(facts, target, advice);
    advise_slots(facts, target, advice);
    if facts.cores.max(1) as u64 * (CONNECTIONS_PER_SHARD_MAX as u64) < target {
        advice.push(Advice::new(
            format!("a shard's tables end at {CONNECTIONS_PER_SHARD_MAX} connections"),
            &format!(
                "shards = {}    # in the configuration",
                target.div_ceil(CONNECTIONS_PER_SHARD_MAX as u64)
            ),
        ));
    }
    let roomy = target + target / 4;
    if facts.file_max.is_some_and(|files| files < target) {
        advice.push(Advice::new(
            "each connection is an open file of the machine",
            &format!("sysctl -w fs.file-max={roomy}"),
        ));
    }
    if facts.tracked_max().is_some_and(|flows| flows < target) {
        advice.push(Advice::new(
            "connection tracking refuses what is beyond its table",
            &format!(
                "sysctl -w net.netfilter.nf_conntrack_max={roomy}    # or do not track the server's ports"
            ),
        ));
    }
    advise_queues(facts, target, advice);
    if let Some((low, high)) = facts.port_range {
        let ports = u64::from(high.saturating_sub(low)) + 1;
        if ports < target {
            advice.push(Advice::new(
                format!(
                    "clients that share one address, as behind a proxy, have {ports} ports towards one address and \
                     port of the server: for all of them {} such pairs are needed",
                    target.div_ceil(ports)
                ),
                "http.addr with several addresses, or http.unix with one path per shard    # in the configuration\n\
                 sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"                       # where the clients are",
            ));
        }
    }
}

fn advise_memory(facts: &Facts, target: u64, advice: &mut Vec<Advice>) {
    let Some(budget) = facts.memory_budget else { return };
    let needed = target * CONNECTION_BYTES;
    if needed <= of_budget(budget) {
        return;
    }
    // A hundred bytes of the budget for so many of connections.
    let percent = (needed * 100).div_ceil(budget.max(1));
    if percent <= PERCENT_MOST {
        // The others share what is left, with a little for what nobody counts.
        let other = (95 - percent) / 3;
        advice.push(Advice::new(
            format!("{} of memory for connections is more than their share of the budget", size(needed)),
            &format!(
                "[memory]    # in the configuration\nconnections_percent = {percent}\nhistory_percent = {other}\n\
                 slow_readers_percent = {other}\nmedia_percent = {other}"
            ),
        ));
        return;
    }
    let machine = needed * 100 / PERCENT_MOST / 4 * 5;
    advice.push(Advice::new(
        format!(
            "connections need {}, which is more than {PERCENT_MOST} % of the budget of {}: no setting gives that \
             here; a machine (or memory.max) of about {} would",
            size(needed),
            size(budget),
            size(machine)
        ),
        &format!("{} connections fit here with connections_percent = {PERCENT_MOST}", budget / 100 * PERCENT_MOST / CONNECTION_BYTES),
    ));
}

fn advise_slots(facts: &Facts, target: u64, advice: &mut Vec<Advice>) {
    let (cores, slots) = (facts.cores.max(1) as u64, slots(facts).max(1));
    let rings = target.div_ceil(cores).div_ceil(slots);
    if rings <= u64::from(CELLS_MAX) {
        if rings > 1 && slots < u64::from(SLOTS_PER_CELL_MAX) {
            advice.push(Advice::new(
                format!(
                    "a ring has {slots} slots (RLIMIT_NOFILE), so each of {cores} shard(s) opens {rings} rings by \
                     itself: where the hard limit cannot be raised, nothing has to be done"
                ),
                &limit_lines(target.div_ceil(cores), facts),
            ));
        }
        return;
    }
    let needed = target.div_ceil(cores * u64::from(CELLS_MAX));
    advice.push(Advice::new(
        format!(
            "{cores} shard(s) with {CELLS_MAX} rings of {slots} slots each are not enough: a ring needs {needed} slots"
        ),
        &limit_lines(needed, facts),
    ));
}

/// The lines that give a ring so many slots.
fn limit_lines(slots: u64, facts: &Facts) -> String {
    let wanted = slots.next_power_of_two().clamp(1024, u64::from(SLOTS_PER_CELL_MAX));
    let mut lines = String::new();
    if facts.nr_open.is_some_and(|most| most < wanted) {
        lines += &format!("sysctl -w fs.nr_open={wanted}    # LimitNOFILE cannot be above it\n");
    }
    let Limit { soft, hard } = facts.nofile;
    if hard.is_some_and(|hard| hard < wanted) {
        lines += &format!("systemd: LimitNOFILE={wanted}\n");
        if facts.may_raise {
            lines += &format!("ulimit -Hn {wanted}; ulimit -n {wanted}\n");
        }
    } else if soft.is_some_and(|soft| soft < wanted) {
        lines += &format!("ulimit -n {wanted}\n");
    }
    lines
}

/// A publication to everybody queues a page for each at least, until the network took it.
fn advise_queues(facts: &Facts, target: u64, advice: &mut Vec<Advice>) {
    let Some(pages) = facts.tcp_mem_pages.filter(|pages| *pages < target) else { return };
    let most = target + target / 4;
    let fits = facts.memory_budget.is_some_and(|budget| most * facts.page_bytes < budget / 2);
    let commands = if fits {
        format!("sysctl -w net.ipv4.tcp_mem=\"{} {} {most}\"", most / 2, most / 4 * 3)
    } else {
        "there is too little memory for that: expect broadcasts to take longer".to_owned()
    };
    advice.push(Advice::new(
        format!(
            "what is sent to all of them at once takes a page of the kernel for each until it is acknowledged; \
             tcp_mem allows {pages}, beyond that sends are held back"
        ),
        &commands,
    ));
}

pub(super) fn advise_descriptors(facts: &Facts, advice: &mut Vec<Advice>) {
    let Limit { soft, hard } = facts.nofile;
    if let Some(hard) = hard.filter(|hard| *hard < NOFILE_GOOD) {
        advice.push(Advice::new(
            format!(
                "RLIMIT_NOFILE is {hard} hard: a ring holds that many connections, so a shard opens up to {CELLS_MAX} \
                 rings by itself; fewer rings are a little cheaper. Where it cannot be raised, leave it"
            ),
            "systemd: LimitNOFILE=1048576\n\
             login shells: echo '* hard nofile 1048576' > /etc/security/limits.d/headwater.conf",
        ));
    }
    if let (Some(soft), hard) = (soft, hard)
        && hard.is_none_or(|hard| soft < hard)
    {
        advice.push(Advice::new(
            format!("RLIMIT_NOFILE is {soft} soft, less than the hard limit"),
            "ulimit -n \"$(ulimit -Hn)\"",
        ));
    }
    if let Some(max) = facts.tracked_max().filter(|max| *max < NOFILE_GOOD) {
        advice.push(Advice::new(
            format!("connection tracking stops new connections at {max}"),
            "sysctl -w net.netfilter.nf_conntrack_max=2097152    # or do not track the server's ports",
        ));
    }
    if facts.memlock.hard.is_some_and(|bytes| bytes < MEMLOCK_GOOD) {
        advice.push(Advice::new(
            "RLIMIT_MEMLOCK is small: registered buffers and, for users without CAP_IPC_LOCK, large rings count against it",
            "systemd: LimitMEMLOCK=infinity",
        ));
    }
}

pub(super) fn advise_network(facts: &Facts, advice: &mut Vec<Advice>) {
    for (name, value, good) in [
        ("net.core.somaxconn", facts.somaxconn, BACKLOG_GOOD),
        ("net.ipv4.tcp_max_syn_backlog", facts.syn_backlog, BACKLOG_GOOD),
    ] {
        if let Some(value) = value.filter(|value| *value < good) {
            advice.push(Advice::new(
                format!("{name} is {value}: a storm of reconnecting clients overflows it"),
                &format!("sysctl -w {name}={good}"),
            ));
        }
    }
    if !facts.congestion_available.is_empty()
        && !facts.congestion_available.iter().any(|name| name == "cubic")
    {
        advice.push(Advice::new(
            "cubic, the default of tcp.congestion, is not available; the system's choice stays in effect",
            "modprobe tcp_cubic",
        ));
    }
}

fn of_budget(budget: u64) -> u64 {
    budget / 100 * u64::from(CONNECTIONS_PERCENT)
}

/// Slots of a ring: the soft limit is what a server that is started now gets.
fn slots(facts: &Facts) -> u64 {
    let most = u64::from(SLOTS_PER_CELL_MAX);
    facts.nofile.soft.or(facts.nofile.hard).map_or(most, |files| files.min(most))
}

/// What connections may be given of a budget at most: rings, logs and pools need something.
const PERCENT_MOST: u64 = 85;
/// From here on one ring holds what one core serves.
const NOFILE_GOOD: u64 = 1 << 20;
const MEMLOCK_GOOD: u64 = 64 << 20;
const BACKLOG_GOOD: u64 = 4_096;
