//! Shards that flood each other through mailboxes of two to four messages, all of them full both ways.
//!
//! Every channel has a publisher and a subscriber on every shard, so that most publications go to another shard for
//! their place and from there to all others. What has to hold: nobody waits for ever (the run ends), every publication
//! reaches every subscriber in the order of its channel, publishers are held back, and what waits is bounded. In every
//! second run nothing else goes wrong and the deliveries are counted to the last; in the others the usual faults strike.

use crate::core::{MILLISECOND, SECOND};
use crate::number;
use crate::peers::{EventStreamReader, Habit, Peers, Poster, WebSocketClient};
use crate::random::Random;
use crate::workload::{Outcome, Plan, run_plan};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Seeds when the environment names no other number.
const SEEDS: u64 = 40;
const SHARDS: usize = 3;
const CHANNELS: usize = 6;
/// Of each flooding publisher.
const PUBLICATIONS: u32 = 40;
/// When everyone has subscribed.
const START: u64 = 4 * SECOND;

fn run(seed: u64, shown: bool) -> Outcome {
    let mut random = Random::new(seed);
    let plan = Plan {
        floods: true,
        calm: seed.is_multiple_of(2),
        shards: SHARDS,
        slots: 10_000,
        leases: 32,
        mailbox: random.between(2, 4) as usize,
        channels: CHANNELS,
        short_history: false,
        key: 0,
        leaves_first: true,
        live: false,
        takeover: false,
        batch_window_ms: 0,
        sinks_per_turn: headwater::limits::SINKS_PER_TURN,
    };
    run_plan(&plan, &mut random, shown)
}

/// The clients: per channel one that sees everything, one that posts, and on each shard one that floods and reads.
pub(crate) fn populate(peers: &mut Peers, plan: &Plan, random: &mut Random) {
    for channel in 0..plan.channels {
        peers.add(Box::new(EventStreamReader::new(channel, Habit::Stays)), SECOND);
        for shard in 0..plan.shards {
            let start = START + random.below(MILLISECOND);
            let client = WebSocketClient::flood(channel, shard, PUBLICATIONS, start);
            peers.add(Box::new(client), SECOND + random.below(SECOND));
        }
        let poster = Poster::new(channel, random.between(5, 15) as u32);
        peers.add(Box::new(poster), START + random.below(SECOND / 100));
    }
}

/// How many see each publication.
pub(crate) const fn readers_of_each(plan: &Plan) -> u64 {
    1 + plan.shards as u64
}

#[test]
fn mailboxes_full_both_ways_stop_nobody() {
    if let Some(seed) = number("HEADWATER_SIM_SEED") {
        println!("{:?}", run(seed, true));
        return;
    }
    let seeds = number("HEADWATER_SIM_SEEDS").map_or(SEEDS, |seeds| seeds.div_ceil(25));
    let mut failures = Vec::new();
    let (mut mail, mut doorbells, mut congested) = (0, 0, 0);
    for seed in 1..=seeds {
        let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| run(seed, false))) else {
            println!(
                "replay: HEADWATER_SIM_SEED={seed} cargo test --profile ci -p headwater --test sim \
                 mailboxes_full -- --nocapture"
            );
            failures.push(seed);
            if failures.len() > 3 {
                break;
            }
            continue;
        };
        assert!(outcome.congested > 0, "seed {seed}: nobody was held back: {outcome:?}");
        mail += outcome.mail;
        doorbells += outcome.doorbells;
        congested += outcome.congested;
    }
    println!(
        "{seeds} seeds: {mail} messages between shards, {doorbells} doorbells, {congested} turns that held publishers back"
    );
    assert_eq!(failures, [0; 0], "seeds do not hold");
}
