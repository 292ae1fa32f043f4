//! The scheduler: all shards and all peers on one thread, in virtual time.
//!
//! A shard that has nothing to do sleeps inside [`FakeRing`]'s `enter`, as on a kernel: its frame
//! stays on the stack with its mailbox's flag saying that it sleeps, and the others run on top of
//! it. When every shard sleeps, time goes on to the next thing that happens. What happens to a
//! sleeper further down lets those above it wake for nothing, which any ring may do.
//!
//! [`FakeRing`]: crate::fake_ring::FakeRing

use crate::core::{Core, MICROSECOND, SECOND};
use crate::fake_ring::FakeRing;
use crate::faults::Fault;
use crate::peers::Peers;
use headwater::ring::Wait;
use headwater::shard::{Shard, Status};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Everything of one run.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) core: RefCell<Core>,
    pub(crate) peers: RefCell<Peers>,
    shards: RefCell<Vec<Rc<RefCell<Shard<FakeRing>>>>>,
    finished: RefCell<Vec<bool>>,
    /// Who sleeps, the deepest frame first, and until when at most.
    sleepers: RefCell<Vec<(usize, u64)>>,
    /// When the present run ends.
    stop_at: Cell<u64>,
    turns: Cell<u64>,
    /// Messages that may wait for a full mailbox.
    pub(crate) outbound_max: Cell<usize>,
    /// Turns after which some publisher was held back.
    pub(crate) congested: Cell<u64>,
}

impl World {
    pub(crate) fn new(core: Core, peers: Peers) -> Self {
        Self {
            core: RefCell::new(core),
            peers: RefCell::new(peers),
            shards: RefCell::default(),
            finished: RefCell::default(),
            sleepers: RefCell::default(),
            stop_at: Cell::new(0),
            turns: Cell::new(0),
            outbound_max: Cell::new(usize::MAX),
            congested: Cell::new(0),
        }
    }

    pub(crate) fn add_shard(&self, shard: Shard<FakeRing>) {
        self.shards.borrow_mut().push(Rc::new(RefCell::new(shard)));
        self.finished.borrow_mut().push(false);
    }

    /// Lets go of the shards, which refer to this.
    pub(crate) fn dissolve(&self) {
        self.shards.borrow_mut().clear();
    }

    pub(crate) fn now(&self) -> u64 {
        self.core.borrow().now
    }

    pub(crate) fn turns(&self) -> u64 {
        self.turns.get()
    }

    pub(crate) fn all_finished(&self) -> bool {
        self.finished.borrow().iter().all(|finished| *finished)
    }

    /// Looks at each shard, none of which runs now.
    pub(crate) fn each_shard(&self, mut visit: impl FnMut(usize, &mut Shard<FakeRing>)) {
        for number in 0..self.shards.borrow().len() {
            let shard = Rc::clone(&self.shards.borrow()[number]);
            visit(number, &mut shard.borrow_mut());
        }
    }

    /// Runs for a while, or until every shard is finished.
    pub(crate) fn run_for(&self, nanoseconds: u64) {
        let stop_at = self.now() + nanoseconds;
        self.stop_at.set(stop_at);
        while self.now() < stop_at && !self.all_finished() {
            self.step_peers();
            let Some(shard) = self.pick() else { break };
            self.turn(shard);
        }
    }

    /// Runs until something is so, and says whether it became so in time.
    pub(crate) fn run_until(&self, nanoseconds: u64, is_so: impl Fn() -> bool) -> bool {
        let deadline = self.now() + nanoseconds;
        while !is_so() {
            if self.now() >= deadline || self.all_finished() {
                return is_so();
            }
            self.run_for((SECOND / 20).min(deadline - self.now()));
        }
        true
    }

    /// A shard that is awake, if there is one.
    fn pick(&self) -> Option<usize> {
        let (finished, sleepers) = (self.finished.borrow(), self.sleepers.borrow());
        let awake: Vec<usize> = (0..finished.len())
            .filter(|shard| !finished[*shard] && sleepers.iter().all(|(other, _)| other != shard))
            .collect();
        match awake.len() {
            0 => None,
            1 => Some(awake[0]),
            count => Some(awake[self.core.borrow_mut().random.index(count)]),
        }
    }

    fn turn(&self, number: usize) {
        self.turns.set(self.turns.get() + 1);
        let shard = Rc::clone(&self.shards.borrow()[number]);
        let mut shard = shard.borrow_mut();
        let rung = shard.mail_totals().doorbells;
        let status = shard.turn().expect("this ring never fails");
        let rung = shard.mail_totals().doorbells - rung;
        let others = self.shards.borrow().len() as u64 - 1;
        assert!(rung <= others, "a turn rang {rung} doorbells of {others}");
        let waiting = shard.hub().outbound_messages();
        assert!(waiting <= self.outbound_max.get(), "{waiting} messages wait for a mailbox");
        self.congested.set(self.congested.get() + u64::from(shard.holds_publishers()));
        if shard.hub().is_busy() {
            self.core.borrow_mut().faults.happened(Fault::FullMailbox);
        }
        if status == Status::Finished {
            self.finished.borrow_mut()[number] = true;
        }
    }

    /// Lets the peers act whose time has come or to whom something happened.
    fn step_peers(&self) {
        let mut core = self.core.borrow_mut();
        self.peers.borrow_mut().step(&mut core);
    }

    /// A shard enters its ring.
    pub(crate) fn enter(&self, shard: usize, wait: Wait) {
        let mut core = self.core.borrow_mut();
        let spent = core.random.between(MICROSECOND, 12 * MICROSECOND);
        core.now += spent;
        core.trace.now = core.now;
        core.submit(shard, wait.gathers);
        core.collect(shard);
        if core.rings[shard].has_arrived() || wait.timeout.is_zero() {
            return;
        }
        let timeout = u64::try_from(wait.timeout.as_nanos()).unwrap_or(u64::MAX);
        let mut deadline = core.now + timeout;
        if core.faults.strikes(Fault::SpuriousWake) {
            deadline = core.now + core.faults.between(0, timeout);
        }
        drop(core);
        self.sleepers.borrow_mut().push((shard, deadline));
        self.sleep(shard, deadline);
        self.sleepers.borrow_mut().pop();
    }

    fn sleep(&self, shard: usize, deadline: u64) {
        loop {
            self.step_peers();
            if self.wakes(shard, deadline) || self.wakes_below() || self.now() >= self.stop_at.get()
            {
                return;
            }
            match self.pick() {
                Some(other) => self.turn(other),
                None => self.pass_time(),
            }
        }
    }

    fn wakes(&self, shard: usize, deadline: u64) -> bool {
        let mut core = self.core.borrow_mut();
        core.collect(shard);
        core.rings[shard].has_arrived() || core.now >= deadline
    }

    /// Whether a sleeper below the one on top has to wake.
    fn wakes_below(&self) -> bool {
        let sleepers = self.sleepers.borrow();
        let below = &sleepers[..sleepers.len() - 1];
        below.iter().any(|(shard, deadline)| self.wakes(*shard, *deadline))
    }

    /// Everyone sleeps: goes on to the next thing that happens.
    fn pass_time(&self) {
        let mut core = self.core.borrow_mut();
        let sleepers = self.sleepers.borrow();
        let deadlines = sleepers.iter().map(|(_, deadline)| *deadline);
        let late = sleepers.iter().filter_map(|(shard, _)| core.rings[*shard].next_late());
        let next = deadlines.chain(late).chain([self.stop_at.get()]).min().unwrap_or(core.now);
        let next = next.min(self.peers.borrow().next_due());
        core.now = core.now.max(next);
        if core.faults.strikes(Fault::ClockJump) {
            core.now += core.faults.between(SECOND / 10, 4 * SECOND);
            core.jumped_at = Some(core.now);
        }
        core.trace.now = core.now;
    }
}
