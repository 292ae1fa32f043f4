//! One run: a server of two or three shards, at least fifty connections, and the phases they go
//! through: traffic, calm with probes, leaving, draining.

use crate::core::{Core, MILLISECOND, SECOND, Trace};
use crate::fake_ring::{FakeRing, RingState};
use crate::faults::{Counts, Fault, Faults};
use crate::oracle::Ledger;
use crate::peers::{
    EchoClient, EventStreamReader, Habit, HlsReader, Peers, Poster, Rogue, RtmpPublisher,
    WebSocketClient,
};
use crate::random::Random;
use crate::world::World;
use headwater::config::Config;
use headwater::connection::{Role, Transport};
use headwater::limits::{OUTBOUND_MESSAGES_HIGH, OUTBOUND_REFUSES_FACTOR, SINKS_PER_TURN};
use headwater::mailbox::mesh;
use headwater::observe::Board;
use headwater::session::Settings;
use headwater::shard::{ListenerInfo, Shard, ShardOptions};
use std::rc::Rc;
use std::sync::Arc;

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) faults: Counts,
    /// Together with the sends that took everything, which have none.
    pub(crate) completions: u64,
    pub(crate) connections: u64,
    pub(crate) turns: u64,
    /// Messages from shard to shard, doorbells rung for them, turns that held a publisher back.
    pub(crate) mail: u64,
    pub(crate) doorbells: u64,
    pub(crate) congested: u64,
    /// Publications that were refused because too many waited.
    pub(crate) refused: u64,
    pub(crate) delivered: u64,
    pub(crate) resumed: u64,
    pub(crate) inflated: u64,
    pub(crate) gaps: u64,
    pub(crate) echoed: u64,
    /// Receives that were answered where they lay.
    pub(crate) answered: u64,
    /// Times sends of a cell waited for others.
    pub(crate) gathered: u64,
    pub(crate) segments: u64,
    pub(crate) cells: u64,
    pub(crate) trace: u64,
}

/// Completions (with the sends that took everything) and connections that every run has at least.
pub(crate) const COMPLETIONS_MIN: u64 = 10_000;
pub(crate) const CONNECTIONS_MIN: u64 = 50;

/// What is decided before anything happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Whether the shards have nothing to do but flood each other.
    pub(crate) floods: bool,
    /// Whether nothing goes wrong.
    pub(crate) calm: bool,
    pub(crate) shards: usize,
    pub(crate) slots: u32,
    pub(crate) leases: u16,
    pub(crate) mailbox: usize,
    pub(crate) channels: usize,
    pub(crate) short_history: bool,
    pub(crate) key: u8,
    pub(crate) leaves_first: bool,
    pub(crate) live: bool,
    pub(crate) takeover: bool,
    /// How long publications gather.
    pub(crate) batch_window_ms: u32,
    /// With few, a fan-out takes several turns.
    pub(crate) sinks_per_turn: usize,
}

impl Plan {
    fn new(random: &mut Random) -> Self {
        Self {
            floods: false,
            calm: false,
            shards: random.between(2, 3) as usize,
            // So many take a whole backlog at once; with fewer, connections are accepted one by one.
            slots: [24, 64, 64, 10_000][random.index(4)],
            leases: if random.chance(1, 2) { 6 } else { 32 },
            mailbox: [1, 3, 16, 4096][random.index(4)],
            channels: random.between(1, 4) as usize,
            short_history: random.chance(1, 5),
            key: if random.chance(1, 2) { random.next() as u8 | 1 } else { 0 },
            leaves_first: random.chance(1, 2),
            live: random.chance(1, 2),
            takeover: random.chance(1, 2),
            batch_window_ms: [0, 0, 7, 200][random.index(4)],
            sinks_per_turn: [SINKS_PER_TURN, SINKS_PER_TURN, 7, 2][random.index(4)],
        }
    }
}

/// Runs one seed. Panics when something does not hold.
pub(crate) fn run(seed: u64, shown: bool) -> Outcome {
    let mut random = Random::new(seed);
    let plan = Plan::new(&mut random);
    run_plan(&plan, &mut random, shown)
}

/// Runs what was planned. Panics when something does not hold.
pub(crate) fn run_plan(plan: &Plan, random: &mut Random, shown: bool) -> Outcome {
    if shown {
        eprintln!("{plan:?}");
    }
    let world = build(plan, random, shown);
    let outcome = phases(&world, plan);
    world.dissolve();
    outcome
}

fn build(plan: &Plan, random: &mut Random, shown: bool) -> Rc<World> {
    let core = Core {
        now: SECOND,
        random: random.fork(),
        faults: if plan.calm { Faults::none(random.fork()) } else { Faults::new(random.fork()) },
        conns: Vec::new(),
        rings: (0..plan.shards)
            .map(|shard| RingState::new(shard, 2, plan.slots, plan.leases))
            .collect(),
        touched: Vec::new(),
        draining: false,
        jumped_at: None,
        trace: Trace::new(shown),
    };
    let ledger = Ledger::new(plan.channels + 1, plan.short_history);
    let mut peers = Peers::new(random.fork(), ledger, plan.key);
    if plan.floods {
        crate::mesh::populate(&mut peers, plan, random);
    } else {
        populate(&mut peers, plan, random);
    }
    let world = Rc::new(World::new(core, peers));
    // Publications up to the bound, and for everyone an answer or a subscribe.
    let outbound_max = plan.mailbox.min(OUTBOUND_MESSAGES_HIGH) * OUTBOUND_REFUSES_FACTOR;
    world.outbound_max.set(outbound_max + OUTBOUND_OTHERS_MAX);
    let mut config = Config::default();
    if plan.short_history {
        config.channels.history_publications = 4;
    }
    config.channels.batch_window_ms = plan.batch_window_ms;
    config.http.echo = true;
    config.websocket.deflate_takeover = plan.takeover;
    config.media.segment_duration_ms = 1000;
    config.media.window_segments = 6;
    let settings = Arc::new(Settings::new(&config, random.next(), 1_700_000_000));
    let board = Arc::new(Board::new(plan.shards));
    let infos = [Role::Http, Role::Rtmp].map(ListenerInfo::local);
    for (number, post) in mesh(plan.shards as u8, plan.mailbox).into_iter().enumerate() {
        let options = ShardOptions {
            listeners: infos.to_vec(),
            settings: Arc::clone(&settings),
            board: Arc::clone(&board),
            transport: if plan.key == 0 {
                Transport::Plain
            } else {
                Transport::Rewriting(plan.key)
            },
            entropy: random.next(),
            sinks_per_turn: plan.sinks_per_turn,
        };
        let ring = FakeRing::new(Rc::clone(&world), number);
        world.add_shard(Shard::new(ring, post, options));
    }
    world
}

fn populate(peers: &mut Peers, plan: &Plan, random: &mut Random) {
    let at = |random: &mut Random| SECOND + random.below(SECOND);
    for channel in 0..plan.channels {
        // One that sees everything.
        peers.add(Box::new(EventStreamReader::new(channel, Habit::Stays)), SECOND);
    }
    for number in 0..26 {
        let channel = number % plan.channels;
        let json = random.chance(1, 2);
        let skips_own = random.chance(1, 5);
        let publications = if number < 12 { random.between(12, 28) as u32 } else { 0 };
        // Where publications gather they are fewer sends.
        let gathers = plan.batch_window_ms > 0;
        let publications = if gathers { publications * 5 / 4 } else { publications };
        let client = WebSocketClient::new(channel, json, skips_own, publications);
        peers.add(Box::new(client), at(random));
    }
    for number in 0..18 {
        let habit = [Habit::Stays, Habit::Leaves, Habit::Leaves, Habit::Hops][number % 4];
        let client = EventStreamReader::new(number % plan.channels, habit);
        peers.add(Box::new(client), at(random));
    }
    for number in 0..5 {
        let client = Poster::new(number % plan.channels, random.between(11, 23) as u32);
        peers.add(Box::new(client), at(random));
    }
    // One more channel, which shards often begin and cease to read.
    for _ in 0..random.between(1, 4) {
        peers.add(Box::new(EventStreamReader::new(plan.channels, Habit::Hops)), at(random));
    }
    for _ in 0..2 {
        peers.add(Box::new(Poster::new(plan.channels, random.between(20, 50) as u32)), at(random));
    }
    for _ in 0..2 {
        peers.add(Box::new(EchoClient::new(random.between(2, 4) as u32)), at(random));
    }
    for _ in 0..6 {
        peers.add(Box::new(Rogue::new(random.between(1, 4) as u32)), at(random));
    }
    if plan.live {
        peers.add(Box::new(RtmpPublisher::new("cam".to_string())), at(random));
        for _ in 0..2 {
            peers.add(Box::new(HlsReader::new("cam".to_string())), at(random));
        }
    }
}

fn phases(world: &Rc<World>, plan: &Plan) -> Outcome {
    // Traffic: everyone publishes what they have to.
    let done = world.run_until(120 * SECOND, || world.peers.borrow().are_done());
    assert!(done, "the publishers came to no end: {:?}", world.peers.borrow().undone());
    // Calm: what is accepted is delivered soon; a doorbell that is lost shows as silence.
    world.core.borrow_mut().faults.harsh = false;
    world.run_for(50 * SECOND);
    let told: usize = (0..PROBES).map(|_| probe(world)).sum();
    assert!(told >= PROBES, "{told} readers heard {PROBES} publications");
    if plan.leaves_first {
        leave(world);
        check_baseline(world, plan);
    }
    drain(world, plan);
    let peers = world.peers.borrow();
    peers.ledger.check();
    if plan.floods && plan.calm {
        let published: u64 =
            (0..plan.channels).map(|channel| peers.ledger.published(channel)).sum();
        let each = crate::mesh::readers_of_each(plan);
        assert_eq!(peers.ledger.delivered, published * each, "everything reaches everybody");
    }
    let core = world.core.borrow();
    let cells = core.rings.iter().map(|ring| ring.cell_count() as u64);
    let (mut mail, mut doorbells) = (0, 0);
    world.each_shard(|_, shard| {
        mail += shard.mail_totals().messages;
        doorbells += shard.mail_totals().doorbells;
    });
    let heard: u64 = core.rings.iter().map(RingState::rung).sum();
    assert_eq!(doorbells, heard, "doorbells rung and heard");
    assert!(doorbells <= mail, "{doorbells} doorbells for {mail} messages");
    Outcome {
        faults: core.faults.counts,
        completions: core.rings.iter().map(|ring| ring.counters.completed + ring.whole_sends).sum(),
        connections: core.conns.len() as u64,
        turns: world.turns(),
        mail,
        doorbells,
        congested: world.congested.get(),
        refused: peers.ledger.refused,
        delivered: peers.ledger.delivered,
        resumed: peers.ledger.resumed,
        inflated: peers.ledger.inflated,
        gaps: peers.ledger.gaps,
        echoed: peers.ledger.echoed,
        gathered: core.rings.iter().map(|ring| ring.gathered).sum(),
        answered: core.rings.iter().map(|ring| ring.answered).sum(),
        segments: peers.ledger.segments,
        cells: cells.sum(),
        trace: core.trace.hash,
    }
}

/// Answers, confirmations and subscribes that may wait: of each client and of its last connection.
const OUTBOUND_OTHERS_MAX: usize = 200;
/// Publications into the calm.
const PROBES: usize = 24;
/// How long one may take to everyone, with every fault that does not end a connection.
const DELIVERY: u64 = 250 * MILLISECOND;

/// Publishes once and says how many readers were told.
fn probe(world: &World) -> usize {
    let since = world.now();
    // Long enough that everyone who is connected has its place.
    world.run_for(DELIVERY);
    let published = world.peers.borrow_mut().publish_one(&mut world.core.borrow_mut());
    let Some((channel, message)) = published else { return 0 };
    world.run_for(DELIVERY);
    world.peers.borrow().check_told(channel, message, since)
}

fn leave(world: &World) {
    world.peers.borrow_mut().leave(&mut world.core.borrow_mut());
    let all_gone = || {
        let mut count = 0;
        world.each_shard(|_, shard| count += shard.connection_count());
        count == 0
    };
    assert!(world.run_until(100 * SECOND, all_gone), "connections outlive their peers");
    world.run_for(SECOND);
}

/// After everyone left, everything is as it was.
fn check_baseline(world: &World, plan: &Plan) {
    world.each_shard(|number, shard| {
        assert_eq!(shard.connection_count(), 0, "shard {number}");
        assert_eq!(shard.hub().readers().subscription_count(), 0, "shard {number}");
        assert_eq!(shard.hub().readers().replica_count(), 0, "shard {number}");
        assert_eq!(shard.arena_blocks_in_use(), 0, "shard {number}: arena blocks");
    });
    check_rings(world, plan);
}

fn check_rings(world: &World, plan: &Plan) {
    for ring in &world.core.borrow().rings {
        ring.assert_leases_are_back(plan.leases);
        assert_eq!(ring.slots_in_use(), 0, "slots are in use");
    }
}

fn drain(world: &World, plan: &Plan) {
    world.core.borrow_mut().draining = true;
    if !plan.leaves_first {
        world.core.borrow_mut().faults.happened(Fault::DrainUnderLoad);
    }
    world.each_shard(|_, shard| shard.drain());
    let finished = world.run_until(12 * SECOND, || world.all_finished());
    assert!(finished, "the drain does not end");
    let mut left = 0;
    world.each_shard(|_, shard| left += shard.connection_count());
    assert_eq!(left, 0, "connections survive a drain of peers that obey");
    check_rings(world, plan);
}
