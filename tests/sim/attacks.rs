//! Bug class "idle / slow attacks", in virtual time: heads, bodies and PROXY headers that drip in, readers that take a
//! byte a second, and silence. No faults: what ends these connections is the server's own patience.
//!
//! Each attacker comes a hundredfold beside the others; what is asserted is when each was sent away, with which word,
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
use headwater::limits::{HTTP_BODY_MS, HTTP_HEAD_MS, HTTP_IDLE_MS, LINGER_MS, TIMER_TICK_MS};
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
    /// Then written one by one, over and over, one each so often.
    drip: &'static [u8],
    drip_every: u64,
    /// Bytes read at a time, and how often.
    read_most: usize,
    read_every: u64,
}

impl Attack {
    const SILENCE: Self = Self {
        listener: HTTP,
        first: b"",
        drip: b"",
        drip_every: SECOND,
        read_most: 1 << 20,
        read_every: 20 * MILLISECOND,
    };
}

const HTTP: usize = 0;
const PROXIED: usize = 1;

/// What came of it.
#[derive(Debug, Default)]
struct Report {
    /// How long the connection lasted, in milliseconds, once it is over.
    lasted_ms: Option<u64>,
    answer: Vec<u8>,
}

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
            let byte = self.attack.drip[self.dripped % self.attack.drip.len()];
            self.dripped += io.core.client_write(conn, &[byte]);
            self.drip_at = now + self.attack.drip_every;
        }
        if now >= self.read_at {
            self.read_at = now + self.attack.read_every;
            let mut report = self.report.borrow_mut();
            match io.core.client_read(conn, self.attack.read_most, &mut report.answer) {
                Read::Bytes | Read::Nothing => {}
                Read::End | Read::Reset => {
                    report.lasted_ms = Some((now - self.opened_at) / MILLISECOND);
                    io.core.client_close(conn);
                    return NEVER;
                }
            }
        }
        let drip_at = if self.attack.drip.is_empty() { NEVER } else { self.drip_at };
        drip_at.min(self.read_at)
    }
}

/// Runs a hundred of each attack for two minutes of virtual time.
fn run(attacks: &[Attack]) -> Vec<Vec<Rc<RefCell<Report>>>> {
    let mut random = Random::new(1);
    let mut peers = Peers::new(random.fork(), Ledger::new(1, false), 0);
    let reports: Vec<Vec<Rc<RefCell<Report>>>> = attacks
        .iter()
        .map(|attack| {
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
                peers.add(Box::new(attacker), SECOND + random.below(SECOND));
                report
            };
            (0..100).map(one).collect()
        })
        .collect();
    let core = Core {
        now: SECOND,
        random: random.fork(),
        faults: Faults::none(random.fork()),
        conns: Vec::new(),
        rings: vec![RingState::new(0, 2, 20_000, 32)],
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
    let options = ShardOptions {
        listeners: vec![ListenerInfo::local(Role::Http), proxied],
        settings: Arc::new(Settings::new(&config, random.next(), 1_700_000_000)),
        board: Arc::new(Board::new(1)),
        transport: Transport::Plain,
        entropy: random.next(),
    };
    let post = mesh(1, 16).remove(0);
    world.add_shard(Shard::new(FakeRing::new(Rc::clone(&world), 0), post, options));
    world.run_for(120 * SECOND);
    world.each_shard(|_, shard| {
        assert_eq!(shard.connection_count(), 0, "attackers are still there");
        assert_eq!(shard.arena_blocks_in_use(), 0, "something of them is kept");
    });
    world.dissolve();
    reports
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

/// What is sent is large enough that no buffer of the network holds it. The fastest of them takes 500 bytes a second,
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
