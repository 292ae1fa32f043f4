//! Slow and many attackers, in virtual time: heads, bodies and PROXY headers that drip in, readers that take a
//! byte a second, and silence. No faults: what ends these connections is the server's own patience.
//!
//! Each attacker comes a hundredfold and more, beside the others; what is asserted is when each was sent away, with which word,
//! and that nothing of them is left.

use crate::core::{Core, MILLISECOND, SECOND, Trace};
use crate::fake_ring::{FakeRing, RingState};
use crate::faults::Faults;
use crate::net::{ConnId, Read};
use crate::oracle::Ledger;
use crate::peers::{Client, Io, NEVER, Peers};
use crate::random::Random;
use crate::world::World;
use headwater::config::Config;
use headwater::connection::{Role, Transport};
use headwater::limits::{
    BLOCK_BYTES, HTTP_BODY_MS, HTTP_HEAD_MS, HTTP_IDLE_MS, LINGER_MS, NEWCOMERS_WAITING_MAX,
    OUTBOX_BYTES_HIGH, OUTBOX_SPANS_LOOSE_MAX, SEND_STALL_MS, TIMER_TICK_MS, WEBSOCKET_CLOSE_MS,
};
use headwater::mailbox::mesh;
use headwater::observe::Board;
use headwater::session::Settings;
use headwater::shard::{ListenerInfo, Shard, ShardOptions};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// How an attacker behaves.
#[derive(Clone, Copy, Debug)]
struct Attack {
    listener: usize,
    /// Written at once.
    first: &'static [u8],
    /// Then written over and over, so many bytes each so often.
    drip: &'static [u8],
    drip_most: usize,
    drip_every: u64,
    /// Bytes read at a time, and how often.
    read_most: usize,
    read_every: u64,
    /// After this time it goes by itself.
    stays: u64,
    /// Within which time all of them come.
    come_within: u64,
}

impl Attack {
    const SILENCE: Self = Self {
        listener: HTTP,
        first: b"",
        drip: b"",
        drip_most: 1,
        drip_every: SECOND,
        read_most: 1 << 20,
        read_every: 20 * MILLISECOND,
        stays: NEVER,
        come_within: SECOND,
    };
}

const HTTP: usize = 0;
const PROXIED: usize = 1;

/// What came of it.
#[derive(Debug, Default)]
struct Report {
    /// How long the connection lasted, in milliseconds, once it is over.
    lasted_ms: Option<u64>,
    /// When the first byte of an answer was read, in milliseconds after the connection was opened.
    answered_ms: Option<u64>,
    answer: Vec<u8>,
}

type Reports = Vec<Rc<RefCell<Report>>>;

#[derive(Debug)]
struct Attacker {
    attack: Attack,
    report: Rc<RefCell<Report>>,
    conn: Option<ConnId>,
    opened_at: u64,
    dripped: usize,
    drip_at: u64,
    read_at: u64,
}

impl Client for Attacker {
    fn step(&mut self, io: &mut Io<'_>) -> u64 {
        if self.report.borrow().lasted_ms.is_some() {
            return NEVER;
        }
        let now = io.core.now;
        let conn = *self.conn.get_or_insert_with(|| {
            let conn = io.core.connect(io.id, 0, self.attack.listener);
            assert_eq!(io.core.client_write(conn, self.attack.first), self.attack.first.len());
            (self.opened_at, self.drip_at, self.read_at) = (now, now, now);
            conn
        });
        if now >= self.drip_at && !self.attack.drip.is_empty() {
            let rest = &self.attack.drip[self.dripped % self.attack.drip.len()..];
            let some = &rest[..rest.len().min(self.attack.drip_most)];
            self.dripped += io.core.client_write(conn, some);
            self.drip_at = now + self.attack.drip_every;
        }
        if now >= self.read_at {
            self.read_at = now + self.attack.read_every;
            let mut report = self.report.borrow_mut();
            match io.core.client_read(conn, self.attack.read_most, &mut report.answer) {
                Read::Bytes => {
                    report.answered_ms.get_or_insert((now - self.opened_at) / MILLISECOND);
                }
                Read::Nothing => {}
                Read::End | Read::Reset => {
                    report.lasted_ms = Some((now - self.opened_at) / MILLISECOND);
                    io.core.client_close(conn);
                    return NEVER;
                }
            }
        }
        let leave_at = self.opened_at.saturating_add(self.attack.stays);
        if now >= leave_at {
            self.report.borrow_mut().lasted_ms = Some((now - self.opened_at) / MILLISECOND);
            io.core.client_close(conn);
            return NEVER;
        }
        let drip_at = if self.attack.drip.is_empty() { NEVER } else { self.drip_at };
        drip_at.min(self.read_at).min(leave_at)
    }
}

/// How the shard was in one second of a run.
#[derive(Clone, Copy, Debug)]
struct Second {
    connections: u64,
    stalled_closes: u64,
    slow_closes: u64,
    /// Tables, logs and pools, by the shard's own count.
    user_bytes: u64,
    /// Blocks that replies are written into and that somebody still needs.
    blocks: usize,
    /// Of this whole process, what was allocated and never touched included.
    address_space: u64,
}

/// Runs a hundred of each attack for two minutes of virtual time.
fn run(attacks: &[Attack]) -> Vec<Reports> {
    let crowds: Vec<(Attack, usize)> = attacks.iter().map(|attack| (*attack, 100)).collect();
    run_crowds(&crowds).0
}

/// Runs so many of each attack for two minutes of virtual time, after which nothing is left of any of them; with the
/// server's state in each of these seconds.
fn run_crowds(crowds: &[(Attack, usize)]) -> (Vec<Reports>, Vec<Second>) {
    run_crowds_with(crowds, |_| ())
}

/// As [`run_crowds`], on a server with other settings.
fn run_crowds_with(
    crowds: &[(Attack, usize)],
    set: impl FnOnce(&mut Settings),
) -> (Vec<Reports>, Vec<Second>) {
    let mut random = Random::new(1);
    let mut peers = Peers::new(random.fork(), Ledger::new(1, false), 0);
    let reports: Vec<Reports> = crowds
        .iter()
        .map(|(attack, count)| {
            let one = |_| {
                let report: Rc<RefCell<Report>> = Rc::default();
                let attacker = Attacker {
                    attack: *attack,
                    report: Rc::clone(&report),
                    conn: None,
                    opened_at: 0,
                    dripped: 0,
                    drip_at: 0,
                    read_at: 0,
                };
                peers.add(Box::new(attacker), SECOND + random.below(attack.come_within));
                report
            };
            (0..*count).map(one).collect()
        })
        .collect();
    let core = Core {
        now: SECOND,
        random: random.fork(),
        faults: Faults::none(random.fork()),
        conns: Vec::new(),
        // Four cells of so many are more than any crowd.
        rings: vec![RingState::new(0, 2, 30_000, 32)],
        touched: Vec::new(),
        draining: false,
        jumped_at: None,
        trace: Trace::new(false),
    };
    let world = Rc::new(World::new(core, peers));
    let mut config = Config::default();
    config.http.proxies = vec!["192.0.2.0/24".to_owned().try_into().expect("a range")];
    let proxied = ListenerInfo {
        is_local: false,
        asks_address: true,
        proxy_protocol: true,
        ..ListenerInfo::local(Role::Http)
    };
    let board = Arc::new(Board::new(1));
    let mut settings = Settings::new(&config, random.next(), 1_700_000_000);
    set(&mut settings);
    let options = ShardOptions {
        listeners: vec![ListenerInfo::local(Role::Http), proxied],
        settings: Arc::new(settings),
        board: Arc::clone(&board),
        transport: Transport::Plain,
        entropy: random.next(),
        sinks_per_turn: headwater::limits::SINKS_PER_TURN,
    };
    let post = mesh(1, 16).remove(0);
    world.add_shard(Shard::new(FakeRing::new(Rc::clone(&world), 0), post, options));
    let mut seconds = Vec::new();
    for _ in 0..120 {
        world.run_for(SECOND);
        let counters = &board.shards()[0].counters;
        let mut blocks = 0;
        world.each_shard(|_, shard| blocks = shard.arena_blocks_in_use());
        seconds.push(Second {
            connections: counters.connections.value(),
            stalled_closes: counters.stalled_closes.value(),
            slow_closes: counters.slow_closes.value(),
            user_bytes: counters.user_bytes.value(),
            blocks,
            address_space: address_space(),
        });
    }
    world.each_shard(|_, shard| {
        assert_eq!(shard.connection_count(), 0, "attackers are still there");
        assert_eq!(shard.arena_blocks_in_use(), 0, "something of them is kept");
    });
    world.dissolve();
    (reports, seconds)
}

/// Of this process (proc_pid_status(5)).
fn address_space() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("a size");
    let kib: u64 = line.trim_end_matches("kB").trim().parse().expect("a number");
    kib << 10
}

/// That every one of them was sent away after about so long, with an answer that begins so.
#[track_caller]
fn ended(reports: &[Rc<RefCell<Report>>], after_ms: u64, answer: &str) {
    // The timer's fineness, the close's own patience, and the second between two reads.
    let latest_ms = after_ms + 4 * TIMER_TICK_MS + LINGER_MS + 1000;
    for report in reports {
        let report = report.borrow();
        let text = String::from_utf8_lossy(&report.answer);
        assert!(text.starts_with(answer), "{text:.80}");
        assert!(!answer.is_empty() || text.is_empty(), "{text:.80}");
        let lasted_ms = report.lasted_ms.expect("it was sent away");
        let fits = (after_ms - TIMER_TICK_MS..=latest_ms).contains(&lasted_ms);
        assert!(fits, "{lasted_ms} ms and not {after_ms} ms");
    }
}

/// Bug class "Idle / slow attacks": slowloris.
#[test]
fn slow_attacks_heads_that_drip_in() {
    let head = Attack {
        first: b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n",
        drip: b"X: yyyyyyyyyyyyyyyyy\r\n",
        drip_every: SECOND / 4,
        ..Attack::SILENCE
    };
    let line = Attack { first: b"G", drip: b"E", ..head };
    let empty = Attack { first: b"\r\n", drip: b"", ..head };
    // After a request that was answered, as before one.
    let second = Attack {
        first: b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET",
        drip: b" ",
        ..head
    };
    let reports = run(&[head, line, empty, second]);
    for reports in &reports[..3] {
        ended(reports, HTTP_HEAD_MS, "HTTP/1.1 408 ");
    }
    ended(&reports[3], HTTP_HEAD_MS, "HTTP/1.1 200 ");
    for report in &reports[3] {
        assert!(String::from_utf8_lossy(&report.borrow().answer).contains("HTTP/1.1 408 "));
    }
}

/// Bug class "Idle / slow attacks": slow bodies.
#[test]
fn slow_attacks_bodies_that_drip_in() {
    let length = Attack {
        first: b"POST /pub/c HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n",
        drip: b"x",
        ..Attack::SILENCE
    };
    let chunked = Attack {
        first: b"POST /pub/c HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        drip: b"1\r\nx\r\n",
        drip_every: SECOND / 10,
        ..length
    };
    let reports = run(&[length, chunked]);
    ended(&reports[0], HTTP_BODY_MS, "HTTP/1.1 408 ");
    ended(&reports[1], HTTP_BODY_MS, "HTTP/1.1 408 ");
}

/// Bug class "Idle / slow attacks": slow readers. What is sent is large enough that no buffer of the network holds it. The fastest of them takes 500 bytes a second,
/// less than the least that counts as progress (`SEND_PROGRESS_BYTES_MIN` in `SEND_STALL_MS`).
#[test]
fn slow_attacks_readers_of_a_byte_a_second() {
    let one = Attack {
        first: b"GET /vendor/hls.min.js HTTP/1.1\r\nHost: localhost\r\n\r\n",
        read_most: 1,
        read_every: SECOND,
        ..Attack::SILENCE
    };
    // As often as it takes for the network to have a little room all the time.
    let some = Attack { read_most: 50, read_every: SECOND / 10, ..one };
    let none = Attack { read_every: NEVER / 2, ..one };
    let reports = run(&[one, some, none]);
    for report in reports.iter().flatten() {
        // It reads the end only behind everything that is in the network's buffers, so its own end is not waited for.
        assert!(report.borrow().answer.len() < 70_000);
    }
}

/// Bug class "Idle / slow attacks": connections that say nothing.
#[test]
fn slow_attacks_silence() {
    let proxied = Attack { listener: PROXIED, ..Attack::SILENCE };
    let dripped = Attack { first: b"PROXY UNKNOWN", drip: b" ", ..proxied };
    let behind = Attack { first: b"PROXY UNKNOWN\r\nGET / HT", ..proxied };
    let answered =
        Attack { first: b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", ..Attack::SILENCE };
    let reports = run(&[Attack::SILENCE, proxied, dripped, behind, answered]);
    ended(&reports[0], HTTP_IDLE_MS, "");
    ended(&reports[1], HTTP_HEAD_MS, "");
    ended(&reports[2], HTTP_HEAD_MS, "");
    ended(&reports[3], HTTP_HEAD_MS, "HTTP/1.1 408 ");
    ended(&reports[4], HTTP_IDLE_MS, "HTTP/1.1 200 ");
}

const UPGRADE: &[u8] = b"GET /ws/c HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \
    dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// An upgrade and then these bytes, for as long as the process lives.
fn upgraded(frames: &[u8]) -> &'static [u8] {
    Box::leak([UPGRADE, frames].concat().into_boxed_slice())
}

/// A masked frame, for as long as the process lives; the mask is 0.
fn masked(first: u8, payload: &[u8]) -> &'static [u8] {
    let length = u16::try_from(payload.len()).expect("a short frame");
    let header = match length {
        0..126 => vec![first, 0x80 | length as u8],
        _ => [&[first, 0xfe], &length.to_be_bytes()[..]].concat(),
    };
    Box::leak([&header, &[0; 4][..], payload].concat().into_boxed_slice())
}

/// What comes after the head of an answer.
fn behind_head(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    &answer[end + 4..]
}

/// Bug class "Handshake DoS": a hundred thousand upgrades stop in the middle of a line. Each is told so when its time is
/// over; others are answered at once meanwhile; what a connection costs is its place in the tables.
#[test]
fn a_hundred_thousand_half_open_upgrades() {
    const HALVES: usize = 100_000;
    let half = Attack {
        first: &UPGRADE[..70],
        read_every: (HTTP_HEAD_MS + 1_000) * MILLISECOND,
        ..Attack::SILENCE
    };
    let asks = Attack {
        first: b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        read_every: MILLISECOND,
        stays: SECOND,
        ..Attack::SILENCE
    };
    let (reports, seconds) = run_crowds(&[(half, HALVES), (asks, 200)]);
    for report in &reports[0] {
        let report = report.borrow();
        assert!(report.answer.starts_with(b"HTTP/1.1 408 "), "not told");
    }
    for report in &reports[1] {
        let report = report.borrow();
        assert!(report.answer.starts_with(b"HTTP/1.1 200 "), "not answered");
        assert!(report.answered_ms.is_some_and(|after| after < 500), "{:?}", report.answered_ms);
    }
    let most = seconds.iter().map(|second| second.connections).max();
    assert!(most.is_some_and(|most| most >= HALVES as u64), "{most:?} at a time");
    let user_bytes = seconds.iter().map(|second| second.user_bytes).max().unwrap_or_default();
    assert!(user_bytes / (HALVES as u64) < 600, "{user_bytes} bytes in tables and pools");
    let latest = HTTP_HEAD_MS / 1_000 + 5;
    assert_eq!(seconds[latest as usize].connections, 0, "after {latest} seconds");
}

/// Bug class "Handshake DoS": more connect at one time than can be served in their time. Some are told to come back, at
/// once and by name; who was here before is answered as if nobody came.
#[test]
fn a_storm_of_newcomers() {
    const COMING: usize = 25_000;
    let comes = Attack {
        first: b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        come_within: 1,
        ..Attack::SILENCE
    };
    // One ping at a time, its pong read before the next.
    let here = Attack {
        first: UPGRADE,
        drip: masked(0x89, b"here"),
        drip_most: 1 << 10,
        drip_every: MILLISECOND,
        read_every: MILLISECOND,
        stays: 10 * SECOND,
        ..Attack::SILENCE
    };
    let (reports, seconds) = run_crowds(&[(here, 20), (comes, COMING)]);
    let answers = |status: &str| {
        let begins = |report: &&Rc<RefCell<Report>>| {
            report.borrow().answer.starts_with(format!("HTTP/1.1 {status} ").as_bytes())
        };
        reports[1].iter().filter(begins).count()
    };
    let (served, told) = (answers("200"), answers("503"));
    assert_eq!(served + told, COMING, "each is answered");
    assert!(served >= NEWCOMERS_WAITING_MAX && told > 0, "{served} served, {told} told");
    for report in &reports[1] {
        let report = report.borrow();
        let text = String::from_utf8_lossy(&report.answer);
        assert!(!text.contains(" 503 ") || text.contains("Retry-After: "), "{text}");
    }
    for report in &reports[0] {
        let report = report.borrow();
        assert!(behind_head(&report.answer).len() > 1_000, "pongs while the others came");
    }
    let most = seconds.iter().map(|second| second.user_bytes).max().unwrap_or_default();
    assert!(most < 64 << 20, "{most} bytes in tables and pools");
}

/// Bug class "Allocation from declared length": five thousand declare a gigabyte and send a byte, and are told that it is
/// too much; five thousand declare what is allowed, send a byte and stay until they have been silent for too long.
#[test]
fn ten_thousand_declare_more_than_they_send() {
    const EACH: usize = 5_000;
    let declared =
        |length: u64| upgraded(&[&[0x82, 0xff], &length.to_be_bytes()[..], &[0; 4], b"x"].concat());
    let too_much = Attack { first: declared(1_000_000_000), ..Attack::SILENCE };
    let allowed = Attack {
        // The server's default limit.
        first: upgraded(&[&[0x82, 0xff], &65_536_u64.to_be_bytes()[..], &[0; 4], b"x"].concat()),
        read_every: 10 * SECOND,
        ..Attack::SILENCE
    };
    let before = address_space();
    let (reports, seconds) = run_crowds(&[(too_much, EACH), (allowed, EACH)]);
    for report in &reports[0] {
        let report = report.borrow();
        // A close frame: its code comes first.
        assert_eq!(behind_head(&report.answer)[2..4], 1009_u16.to_be_bytes());
        assert!(report.lasted_ms.is_some_and(|lasted| lasted < LINGER_MS + 1_000));
    }
    for report in &reports[1] {
        let report = report.borrow();
        // A ping, and the farewell.
        assert_eq!(behind_head(&report.answer)[..2], [0x89, 0]);
        assert_eq!(behind_head(&report.answer)[4..6], 1001_u16.to_be_bytes());
    }
    assert!(seconds[30].connections >= EACH as u64, "they stay");
    // A gigabyte each would be terabytes; what is allowed would be 312 MiB, and the rest is the simulator's.
    let mapped = seconds.iter().map(|second| second.address_space).max().unwrap_or_default();
    assert!(mapped.saturating_sub(before) < 8 << 30, "{} MiB", mapped.saturating_sub(before) >> 20);
    let user_bytes = seconds.iter().map(|second| second.user_bytes).max().unwrap_or_default();
    assert!(user_bytes < 32 << 20, "{user_bytes} bytes in tables and pools");
}

/// Bug class "Unbounded outbound buffer": 400 KiB a second are broadcast for 50 seconds to a hundred that take a byte a
/// second, a hundred that take nothing, and ten that read. The slow ones are gone when they have stalled for as long as
/// that may last; until then the log is what is kept for all of them, and the ten get every byte.
#[test]
fn readers_of_a_byte_a_second_of_a_broadcast() {
    const BYTES: usize = 8 << 10;
    let broadcast = masked(0x82, &[b'b'; BYTES]);
    let publisher = Attack {
        first: UPGRADE,
        drip: broadcast,
        drip_most: BYTES,
        drip_every: 20 * MILLISECOND,
        stays: 50 * SECOND,
        ..Attack::SILENCE
    };
    let slow = Attack { first: UPGRADE, read_most: 1, read_every: SECOND, ..Attack::SILENCE };
    // Often enough for the smallest of the network's buffers.
    let good = Attack { read_most: 1 << 20, read_every: MILLISECOND, stays: 55 * SECOND, ..slow };
    let none = Attack { read_every: NEVER / 2, ..slow };
    let (reports, seconds) = run_crowds(&[(publisher, 1), (good, 10), (slow, 100), (none, 100)]);

    let frame = [&[0x82, 126][..], &(BYTES as u16).to_be_bytes(), &[b'b'; BYTES]].concat();
    for report in &reports[1] {
        let report = report.borrow();
        let mut rest = behind_head(&report.answer);
        let mut count = 0;
        while let Some(next) = rest.strip_prefix(&frame[..]) {
            (rest, count) = (next, count + 1);
            // It says nothing, so it is pinged.
            rest = rest.strip_prefix(&[0x89, 0]).unwrap_or(rest);
        }
        assert!(rest.is_empty(), "{:?}", &rest[..rest.len().min(8)]);
        assert!(count > 400, "{count} messages");
    }
    for report in reports[2..].iter().flatten() {
        assert!(report.borrow().answer.len() < 70_000);
    }
    // Filling the network's buffers takes a second, noticing it another.
    let gone = (SEND_STALL_MS / 1_000 + 5) as usize;
    assert_eq!(
        seconds[gone].stalled_closes + seconds[gone].slow_closes,
        200,
        "{:?}",
        seconds[gone]
    );
    let (user_bytes, blocks) = seconds
        .iter()
        .fold((0, 0), |most, second| (most.0.max(second.user_bytes), most.1.max(second.blocks)));
    // A log and a history of 4 MiB, and as much again for what sends still hold of blocks that left the log.
    assert!(user_bytes < 24 << 20, "{user_bytes} bytes in tables, logs and pools");
    assert!(blocks <= 220, "{blocks} blocks of replies");
}

/// Bug class "Unbounded outbound buffer": a hundred ping as fast as they can and read nothing. Each is read up to its
/// outbox's bound, and gone when it has stalled for as long as that may last.
#[test]
fn pings_without_reads() {
    let pings: Vec<u8> = (0..200).flat_map(|_| masked(0x89, &[b'p'; 125])).copied().collect();
    let flood = Attack {
        first: UPGRADE,
        drip: upgraded(&pings).strip_prefix(UPGRADE).expect("behind the upgrade"),
        drip_most: 1 << 20,
        drip_every: 5 * MILLISECOND,
        read_every: NEVER / 2,
        ..Attack::SILENCE
    };
    let (_, seconds) = run_crowds(&[(flood, 100)]);
    let gone = (SEND_STALL_MS / 1_000 + 5) as usize;
    assert_eq!(seconds[gone].stalled_closes, 100, "{:?}", seconds[gone]);
    let blocks = seconds.iter().map(|second| second.blocks).max().unwrap_or_default();
    // One outbox waits and one is on its way, each with the 64 KiB block it ends in.
    assert!(blocks <= 100 * 2 * (OUTBOX_BYTES_HIGH / BLOCK_BYTES + 1), "{blocks} blocks");
    assert!(blocks >= 100, "{blocks} blocks: nobody was answered");
}

/// Bug class "Unbounded outbound buffer": twenty ping now and then and read nothing, while four ping all the time and
/// read. What waits for the twenty is small; it must not hold whatever was written for the four beside it.
#[test]
fn rare_pings_without_reads_beside_busy_ones() {
    let one = masked(0x89, &[b'p'; 125]);
    let rare = Attack {
        first: UPGRADE,
        drip: one,
        drip_most: one.len(),
        drip_every: 60 * MILLISECOND,
        read_every: NEVER / 2,
        ..Attack::SILENCE
    };
    let busy = Attack {
        drip: Box::leak(one.repeat(200).into_boxed_slice()),
        drip_most: 1 << 20,
        drip_every: MILLISECOND,
        read_every: MILLISECOND,
        stays: 60 * SECOND,
        ..rare
    };
    let (_, seconds) = run_crowds(&[(rare, 20), (busy, 4)]);
    let blocks = seconds.iter().map(|second| second.blocks).max().unwrap_or_default();
    // What is loose in an outbox, and was when its send began; the busy ones hold some twenty.
    assert!(blocks <= 20 * 2 * OUTBOX_SPANS_LOOSE_MAX + 40, "{blocks} blocks");
}

/// No further channel has room at its home. Who asks for one is told that, in the words of his
/// protocol, and nobody stays who would hear nothing.
#[test]
fn subscribers_of_a_channel_that_has_no_room_are_told() {
    let ask = |first| Attack { first, ..Attack::SILENCE };
    let events = ask(b"GET /sse/c HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let several = ask(b"GET /sse?channel=c&channel=d HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let behind = ask(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n\
        GET /sse/c HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let crowds = [ask(UPGRADE), events, several, behind].map(|attack| (attack, 100));
    let (reports, seconds) = run_crowds_with(&crowds, |settings| settings.channels_max = 0);
    ended(&reports[0], WEBSOCKET_CLOSE_MS, "HTTP/1.1 101 ");
    for report in &reports[0] {
        assert_eq!(behind_head(&report.borrow().answer)[2..4], 1013_u16.to_be_bytes());
    }
    for reports in &reports[1..3] {
        ended(reports, TIMER_TICK_MS, "HTTP/1.1 503 ");
        for report in reports {
            let report = report.borrow();
            let text = String::from_utf8_lossy(&report.answer);
            assert!(text.contains("Retry-After: ") && text.contains("too_many_channels"), "{text}");
        }
    }
    // An earlier answer is not taken back, so the stream begins and ends.
    ended(&reports[3], TIMER_TICK_MS, "HTTP/1.1 200 ");
    for report in &reports[3] {
        let report = report.borrow();
        let text = String::from_utf8_lossy(&report.answer);
        assert!(text.contains("text/event-stream") && text.ends_with("0\r\n\r\n"), "{text}");
    }
    assert_eq!(seconds[10].connections, 0);
}
