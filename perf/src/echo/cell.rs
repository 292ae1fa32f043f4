//! One cell of the matrix: who runs when, and what is concluded.
//!
//! In: connections and a size. Out: all runs of the cell, and its claims. Order: the raw ring's
//! variants choose the limit; pairs of Headwater and limit; rounds of everybody; rounds at half the
//! rate of the slowest.

use anyhow::{Context as _, Result, ensure};

use super::{Cell, Field, Open, Options, pairs};
use crate::claims::{Claim, Verdict};
use crate::frames;
use crate::load::Pattern;
use crate::measure::{Costs, Times};
use crate::pairs::{CPU, Pairs, Series, Setting, Which, once, ratios, rounds};
use crate::peers::{Kind, Role};
use crate::servers::{Message, Program};
use crate::statistics::Summary;

pub(super) fn run(
    options: &Options,
    setting: &Setting<'_>,
    field: &Field,
    connections: u32,
    payload: u32,
) -> Result<Cell> {
    let message = Message::new(frames::payload(payload as usize));
    let job = message.job(Role::Echo, connections);
    let closed = |times: &Times, program: &Program| {
        let costs = once(&Setting { times, ..*setting }, program, &job, Pattern::Echo)?;
        eprintln!("    {:24} {costs}", program.name());
        Ok(costs)
    };
    let unjudged = Times { judge: 0.0, ..options.times.clone() };
    eprintln!("{connections} connections, {payload} B: the limit");
    let candidates: Vec<&Program> = field.limits.iter().collect();
    let mut qualifying = Vec::new();
    let mut failed = Vec::new();
    if candidates.len() > 1 {
        let one = |program: &Program| closed(&unjudged, program);
        qualifying = rounds(options.qualifying_rounds, setting, &candidates, &mut failed, one)?;
    }
    let limit = match qualifying.get(cheapest(setting, &qualifying)) {
        Some(Series { name, .. }) => candidates.iter().find(|program| program.name() == name),
        None => candidates.first(),
    };
    let limit = *limit.context("no variant of the raw ring works")?;
    let compared = if options.null { limit } else { &field.headwater };

    eprintln!("  pairs: {} and {}", compared.name(), limit.name());
    let count = pairs(options, connections, payload);
    let pairs = Pairs::run(count, setting, |which, times| {
        closed(times, if which == Which::A { compared } else { limit })
    })?;
    let mut cell = Cell {
        connections,
        payload,
        request_bytes: message.request.len(),
        reply_bytes: message.reply.len(),
        qualifying,
        failed,
        limit: limit.name().to_owned(),
        compared: compared.name().to_owned(),
        ratio: pairs.ratio(CPU),
        pairs,
        rounds: Vec::new(),
        websockets: websockets(&field.others),
        open: None,
    };
    if options.null || options.peer_rounds == 0 || field.others.is_empty() {
        return Ok(cell);
    }

    eprintln!("  rounds of all");
    let mut everybody = vec![&field.headwater, limit];
    everybody.extend(&field.others);
    let one = |program: &Program| closed(&options.times, program);
    let rounds_of =
        |failed: &mut Vec<_>| rounds(options.peer_rounds, setting, &everybody, failed, one);
    cell.rounds = rounds_of(&mut cell.failed)?;
    ensure_first(&cell.rounds)?;
    let Some((slowest, rate)) = slowest(&everybody, &cell.rounds) else { return Ok(cell) };
    if options.no_open_loop {
        return Ok(cell);
    }
    let rate = rate / 2.0;
    eprintln!("  rounds at {rate:.0} messages/s, half of what {slowest} did");
    everybody.retain(|program| {
        let works = cell.rounds.iter().any(|series| series.name == program.name());
        works && (program.kind() == Kind::Websocket || program.name() == cell.limit)
    });
    let rounds = rounds(options.peer_rounds, setting, &everybody, &mut cell.failed, |program| {
        let setting = Setting { times: &unjudged, ..*setting };
        let costs = once(&setting, program, &job, Pattern::Paced { rate })?;
        eprintln!("    {:24} {costs}", program.name());
        Ok(costs)
    })?;
    ensure_first(&rounds)?;
    cell.open = Some(Open { rate, slowest, rounds });
    Ok(cell)
}

/// The others are compared with Headwater: without it there is nothing to say.
fn ensure_first(series: &[Series]) -> Result<()> {
    let first = series.first().map(|series| series.name.as_str());
    ensure!(first == Some("headwater"), "Headwater failed in a round");
    Ok(())
}

fn websockets(programs: &[Program]) -> Vec<String> {
    let websockets = programs.iter().filter(|program| program.kind() == Kind::Websocket);
    websockets.map(|program| program.name().to_owned()).collect()
}

/// Which of the variants costs least, by the median of its ratio to the first.
fn cheapest(setting: &Setting<'_>, series: &[Series]) -> usize {
    let Some(base) = series.first() else { return 0 };
    let cost = |other: &Series| {
        Summary::of(ratios(setting, other, base, CPU)).map_or(f64::INFINITY, |ratio| ratio.median)
    };
    let costs = series.iter().map(cost).enumerate();
    costs.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(index, _)| index)
}

/// The WebSocket server that answered least in the closed loop, and how much that was.
fn slowest(programs: &[&Program], series: &[Series]) -> Option<(String, f64)> {
    let rate = |series: &Series| {
        let program = programs.iter().find(|program| program.name() == series.name)?;
        let websocket = program.kind() == Kind::Websocket;
        let rates = series.runs.iter().map(|costs| costs.messages_per_second);
        let median = Summary::of(rates)?.median;
        websocket.then(|| (series.name.clone(), median))
    };
    let rates = series.iter().filter_map(rate);
    rates.min_by(|a, b| a.1.total_cmp(&b.1))
}

/// Where the ratio to the limit is promised.
pub(super) fn is_promised(connections: u32, payload: u32) -> bool {
    matches!(connections, 64 | 1_000) && matches!(payload, 20 | 512)
}

pub(super) fn claims(setting: &Setting<'_>, cell: &Cell, null: bool) -> Vec<Claim> {
    let name = cell.name();
    let mut claims = Vec::new();
    let ratio = cell.ratio.as_ref();
    let what = format!("{} / {}, CPU per message", cell.compared, cell.limit);
    claims.push(if is_promised(cell.connections, cell.payload) && !null {
        Claim::bounded(&what, &name, ratio, RATIO_MAX)
    } else {
        let measured = ratio.map_or_else(|| "nothing was measured".into(), Summary::short);
        Claim::new(&what, &name, Verdict::NotAsked, measured)
    });
    // With one connection everything is the waking of a sleeping core: printed only.
    let asked = cell.connections > 1;
    let Some((headwater, others)) = cell.rounds.split_first() else { return claims };
    for other in others.iter().filter(|other| cell.websockets.contains(&other.name)) {
        let Some(ratio) = Summary::of(ratios(setting, headwater, other, CPU)) else { continue };
        let what = format!("less CPU than {}", other.name);
        let mut claim = Claim::below(&what, &name, &ratio);
        if !asked {
            claim.verdict = Verdict::NotAsked;
        }
        claims.push(claim);
    }
    claims.extend(latency_claim(setting, cell, &name, asked));
    claims
}

/// p99 at the rate, against the peer whose p99 is best.
fn latency_claim(setting: &Setting<'_>, cell: &Cell, name: &str, asked: bool) -> Option<Claim> {
    let open = cell.open.as_ref()?;
    let (headwater, others) = open.rounds.split_first()?;
    let median = |series: &Series| {
        Summary::of(series.runs.iter().map(p99)).map_or(f64::INFINITY, |p99| p99.median)
    };
    let peers = others.iter().filter(|other| cell.websockets.contains(&other.name));
    let best = peers.min_by(|a, b| median(a).total_cmp(&median(b)))?;
    let ratio = Summary::of(ratios(setting, headwater, best, |costs| Some(p99(costs))))?;
    let what = format!("p99 at {:.0}/s no worse than {}'s", open.rate, best.name);
    let mut claim = Claim::not_above(&what, name, &ratio);
    if !asked {
        claim.verdict = Verdict::NotAsked;
    }
    Some(claim)
}

fn p99(costs: &Costs) -> f64 {
    costs.latency_us.p99
}

/// Median, and upper end of the interval, of the CPU per message against the limit.
const RATIO_MAX: (f64, f64) = (1.05, 1.10);
