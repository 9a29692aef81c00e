//! The frontier against a toy store: counts of ready jobs, a real gate, a clock that stands.

mod aging;
mod random;
mod weights;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::*;
use crate::job::{ArtifactId, Epoch, JobRow, Key, Kind, LeaseToken, WallMs};
use crate::limit::{KeyLimits, Limits, Rate, Told};

/// Ready jobs by priority and lane, the lanes, and what runs.
pub(super) struct Toy {
    pub(super) frontier: Frontier,
    pub(super) gate: Gate,
    freed: Receiver<LimitKey>,
    pub(super) now: Mono,
    pub(super) lanes: Vec<Arc<Lane>>,
    /// Rows that are ready, by level and lane.
    pub(super) ready: BTreeMap<(usize, LaneId), BTreeSet<i64>>,
    pub(super) running: Vec<(Arc<Leased>, Permit)>,
    pub(super) workers: usize,
    last_row: i64,
    /// When each row was enqueued.
    pub(super) enqueued: BTreeMap<i64, WallMs>,
    /// How far the wall clock was stepped, in milliseconds.
    pub(super) stepped_ms: i64,
    /// Lanes in the order their jobs started.
    pub(super) started: Vec<LaneId>,
    /// Jobs that were asked for, by lane.
    pub(super) asked: BTreeMap<LaneId, usize>,
}

fn lane(id: i64, resolver: Option<&str>, host: Option<&str>) -> Arc<Lane> {
    let (kind, key) = (Kind::new("test").unwrap(), Key::new(resolver, host).unwrap());
    Arc::new(Lane { id: LaneId(id), kind, key, tag: None })
}

fn tagged(lane: &Arc<Lane>, tag: &str) -> Arc<Lane> {
    Arc::new(Lane { tag: Some(tag.into()), ..Lane::clone(lane) })
}

fn weights(weights: &[(&str, u32)]) -> Schedule {
    let weights = weights.iter().map(|(tag, weight)| ((*tag).into(), *weight)).collect();
    Schedule { aging: None, weights }
}

impl Toy {
    pub(super) fn new(limits: Limits, lanes: Vec<Arc<Lane>>, workers: usize) -> Toy {
        let gate = Gate::new(limits);
        let (send, freed) = channel();
        let send = std::sync::Mutex::new(send);
        gate.on_release(move |key| _ = send.lock().unwrap().send(key.clone()));
        Toy {
            frontier: Frontier::new(Schedule::default(), workers),
            gate,
            freed,
            now: Mono::default(),
            lanes,
            ready: BTreeMap::new(),
            running: Vec::new(),
            workers,
            last_row: 0,
            enqueued: BTreeMap::new(),
            stepped_ms: 0,
            started: Vec::new(),
            asked: BTreeMap::new(),
        }
    }

    /// The same with a frontier that goes by this schedule.
    pub(super) fn scheduled(self, schedule: Schedule) -> Toy {
        let mut toy = Toy { frontier: Frontier::new(schedule, self.workers), ..self };
        toy.hear();
        toy
    }

    pub(super) fn wall(&self) -> WallMs {
        let since = i64::try_from(self.now.0.as_millis()).unwrap();
        WallMs(1_700_000_000_000 + since + self.stepped_ms)
    }

    /// Makes jobs ready and offers their lane; with none, it is as if another process had been faster.
    pub(super) fn add(&mut self, lane: usize, at: usize, count: usize) -> bool {
        let lane = Arc::clone(&self.lanes[lane]);
        for _ in 0..count {
            self.last_row += 1;
            self.ready.entry((at, lane.id)).or_default().insert(self.last_row);
            self.enqueued.insert(self.last_row, self.wall());
        }
        self.frontier.offer(&ReadyLane {
            priority: Priority::ALL[at],
            lane,
            head_enqueued_at: None,
        })
    }

    /// Offers what is ready as a page of the store has it.
    pub(super) fn offer_all(&mut self) {
        for ((at, id), rows) in &self.ready {
            let Some(head) = rows.first() else { continue };
            let lane = self.lanes.iter().find(|lane| lane.id == *id).unwrap();
            self.frontier.offer(&ReadyLane {
                priority: Priority::ALL[*at],
                lane: Arc::clone(lane),
                head_enqueued_at: self.enqueued.get(head).copied(),
            });
        }
    }

    pub(super) fn room(&self) -> usize {
        self.workers - self.running.len()
    }

    /// What the dispatcher does between two waits: hears, starts, makes one turn, starts. Whether some lane was wanted
    /// in vain.
    pub(super) fn turn(&mut self) -> bool {
        let mut in_vain = false;
        self.hear();
        self.start();
        let appetite = Appetite { room: self.room(), lease_ahead: true, max_losses: 0 };
        let wants = self.frontier.wants(&self.gate, self.now, appetite);
        self.frontier.end_wants();
        for want in &wants {
            let rows = self.ready.entry((level(want.priority), want.lane)).or_default();
            let taken: Vec<i64> = rows.iter().copied().take(want.count).collect();
            taken.iter().for_each(|row| _ = rows.remove(row));
            *self.asked.entry(want.lane).or_default() += want.count;
            let (got, dry) = (taken.len(), rows.is_empty());
            in_vain |= dry && taken.is_empty();
            let lane = self.lanes.iter().find(|lane| lane.id == want.lane).unwrap();
            for row in taken {
                let enqueued_at = self.enqueued[&row];
                let job = leased(row, lane, want.priority);
                self.frontier.hold(Arc::new(Leased { enqueued_at, ..job }));
            }
            self.frontier.answered(want, got, dry);
        }
        self.start();
        in_vain
    }

    /// Turns until nothing more comes of it; how many jobs started.
    pub(super) fn settle(&mut self) -> usize {
        let before = self.started.len();
        for _ in 0..1_000 {
            let known = (self.started.len(), self.frontier.held());
            let again = self.turn() | self.hear();
            if (self.started.len(), self.frontier.held()) == known && !again {
                return self.started.len() - before;
            }
        }
        panic!("it never settles");
    }

    pub(super) fn start(&mut self) {
        while let Some((job, permit)) = self.next() {
            self.started.push(job.lane.id);
            self.running.push((job, permit));
            assert!(self.running.len() <= self.workers, "no room for that");
        }
    }

    fn next(&mut self) -> Option<(Arc<Leased>, Permit)> {
        self.frontier.next(&self.gate, self.now, self.room(), self.room())
    }

    fn hear(&mut self) -> bool {
        let freed: Vec<LimitKey> = self.freed.try_iter().collect();
        freed.iter().for_each(|key| self.frontier.freed(key));
        self.frontier.tick(self.now, self.wall());
        !freed.is_empty()
    }

    pub(super) fn finish(&mut self, which: usize) -> Arc<Leased> {
        let (job, permit) = self.running.remove(which);
        drop(permit);
        self.frontier.finished(job.lane.id);
        job
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.now = self.now.plus(by);
        self.frontier.tick(self.now, self.wall());
    }
}

fn leased(row: i64, lane: &Arc<Lane>, priority: Priority) -> Leased {
    Leased {
        token: LeaseToken { job: JobRow(row), epoch: Epoch(1) },
        artifact_id: ArtifactId::new(&format!("job-{row}")).unwrap(),
        enqueued_at: WallMs(0),
        lane: Arc::clone(lane),
        priority,
        attempt: 1,
        attempts_total: 1,
        losses: 0,
        max_attempts: None,
        timeout_seconds: None,
        retry: None,
        payload: String::new(),
        checkpoint: None,
        previous: None,
    }
}

fn resolver(name: &str, most: Option<u32>, rate: Option<&str>) -> Limits {
    let mut limits = Limits::default();
    let rate = rate.map(|rate| rate.parse::<Rate>().unwrap());
    let terms = KeyLimits { max_concurrent: most, rate };
    limits.by_key.insert(LimitKey::Resolver(name.into()), terms);
    limits
}

/// Starts and ends jobs one after the other, letting `pause` pass before each; which lanes they were of.
fn one_by_one(toy: &mut Toy, jobs: usize, pause: Duration) -> Vec<i64> {
    for _ in 0..jobs {
        toy.advance(pause);
        toy.settle();
        if !toy.running.is_empty() {
            toy.finish(0);
        }
    }
    toy.started.iter().map(|id| id.0).collect()
}

/// Three hosts asked through one resolver.
fn behind_one_resolver(limits: Limits, workers: usize) -> Toy {
    let lanes = ["a", "b", "c"];
    let lanes = lanes.iter().zip(1..).map(|(host, id)| lane(id, Some("r"), Some(host)));
    Toy::new(limits, lanes.collect(), workers)
}

#[test]
fn lanes_that_share_a_full_key_take_turns_even_if_one_has_jobs_leased_ahead() {
    let mut toy = behind_one_resolver(resolver("r", Some(1), None), 4);
    toy.add(0, 2, 30);
    // The first has its jobs leased ahead before the others come.
    one_by_one(&mut toy, 3, Duration::ZERO);
    toy.add(1, 2, 30);
    toy.add(2, 2, 30);
    let order = one_by_one(&mut toy, 30, Duration::ZERO);
    for lane in 1..=3 {
        let turns = order[3..].iter().filter(|id| **id == lane).count();
        assert!((9..=11).contains(&turns), "lane {lane}: {order:?}");
    }
}

#[test]
fn an_urgent_job_is_not_overtaken_for_ever_by_another_lane_of_its_key() {
    let mut toy = behind_one_resolver(resolver("r", Some(2), None), 8);
    toy.add(0, 2, 30);
    toy.settle();
    toy.add(1, 1, 3);
    toy.settle();
    let before = toy.started.len();
    let order = one_by_one(&mut toy, 5, Duration::ZERO);
    let urgent = order[before..].iter().filter(|id| **id == 2).count();
    assert_eq!(urgent, 3, "{order:?}");
}

/// Each level of one lane once got an even share of the room: urgent jobs waited behind less urgent ones.
#[test]
fn room_goes_to_the_more_urgent_first_even_when_there_is_much_of_it() {
    let mut toy = Toy::new(Limits::default(), vec![lane(1, None, None)], 6);
    for at in 0..5 {
        toy.add(0, at, 4);
    }
    toy.turn();
    let levels: Vec<usize> = toy.running.iter().map(|(job, _)| level(job.priority)).collect();
    assert_eq!(levels, [0, 0, 0, 0], "the next level comes with the next turn");
    toy.turn();
    let levels: Vec<usize> = toy.running.iter().map(|(job, _)| level(job.priority)).collect();
    assert_eq!(levels, [0, 0, 0, 0, 1, 1]);
}

#[test]
fn lanes_that_share_a_rate_take_turns() {
    let mut toy = behind_one_resolver(resolver("r", None, Some("1/s")), 8);
    (0..3).for_each(|lane| _ = toy.add(lane, 2, 30));
    let order = one_by_one(&mut toy, 12, Duration::from_secs(1));
    for lane in 1..=3 {
        assert_eq!(order.iter().filter(|id| **id == lane).count(), 4, "{order:?}");
    }
}

#[test]
fn a_token_that_was_given_back_does_not_wait_for_the_next_one() {
    let mut toy = behind_one_resolver(resolver("r", None, Some("1/day")), 8);
    let key = toy.lanes[0].key.clone();
    let taken = toy.gate.try_admit(&key, toy.now).unwrap();
    toy.add(1, 2, 1);
    assert_eq!(toy.settle(), 0);
    taken.refund();
    assert_eq!(toy.settle(), 1);
}

/// One lane's next job waits for the resolver's slot, the other's for the host's: both return at once, and neither goes
/// first each time.
#[test]
fn lanes_that_wait_for_different_parts_of_one_permit_take_turns() {
    let mut limits = resolver("r", Some(1), None);
    limits.max_per_host = Some(1);
    let lanes = vec![lane(1, None, Some("a")), lane(2, Some("r"), Some("a"))];
    let mut toy = Toy::new(limits, lanes, 4);
    toy.add(1, 2, 20);
    one_by_one(&mut toy, 3, Duration::ZERO);
    toy.add(0, 2, 20);
    let order = one_by_one(&mut toy, 20, Duration::ZERO);
    let of_the_first = order.iter().filter(|id| **id == 1).count();
    assert!((9..=11).contains(&of_the_first), "{order:?}");
}

/// A server's word at this moment: nobody asks for `seconds`.
fn hold(toy: &Toy, key: &LimitKey, seconds: u64) {
    let after = Some(Duration::from_secs(seconds));
    toy.gate.hold(key, Told { asked_at: toy.now, now: toy.now, after });
}

#[test]
fn a_held_lane_waits_for_the_end_of_the_hold_and_is_looked_at_once_for_each_end_it_was_told() {
    let mut toy = behind_one_resolver(resolver("r", Some(9), None), 8);
    let a = LimitKey::Host("a".into());
    hold(&toy, &a, 5);
    toy.add(0, 2, 4);
    toy.add(1, 2, 1);
    assert_eq!(toy.settle(), 1, "only the other host's");
    let parked = toy.frontier.parked(1).remove(0);
    assert_eq!((parked.on, parked.reason), (a.clone(), WaitReason::Held));
    assert_eq!(toy.frontier.next_tick(), Some(Mono::from_ms(5_000)));
    hold(&toy, &a, 30);
    let refusals = toy.frontier.refusals;
    toy.advance(Duration::from_secs(5));
    assert_eq!(toy.settle(), 0);
    assert_eq!(toy.frontier.refusals, refusals + 1, "refused again, and parked");
    assert_eq!(toy.frontier.next_tick(), Some(Mono::from_ms(30_000)));
    toy.finish(0);
    assert_eq!(toy.settle(), 0, "a slot that returns does not end a hold");
    toy.advance(Duration::from_secs(25));
    assert_eq!(toy.settle(), 4);
}

#[test]
fn jobs_of_a_key_that_is_given_up_come_up_a_slot_at_a_time() {
    let mut toy = behind_one_resolver(resolver("r", Some(2), Some("1/day")), 8);
    hold(&toy, &LimitKey::Resolver("r".into()), 100_000);
    (0..3).for_each(|lane| _ = toy.add(lane, 2, 10));
    let mut ended = 0;
    while toy.settle() > 0 {
        assert!(toy.running.len() <= 2, "beyond its slots");
        while !toy.running.is_empty() {
            toy.finish(0);
            ended += 1;
        }
    }
    assert_eq!((ended, toy.frontier.held(), toy.frontier.lanes()), (30, 0, 0));
}

#[test]
fn a_lane_that_waits_for_a_hold_comes_up_when_the_key_is_given_up() {
    let mut toy = behind_one_resolver(Limits::default(), 8);
    let a = LimitKey::Host("a".into());
    hold(&toy, &a, 800);
    toy.advance(Duration::from_secs(800));
    toy.advance(Duration::from_millis(1));
    hold(&toy, &a, 800);
    toy.add(0, 2, 1);
    assert_eq!(toy.settle(), 0);
    assert_eq!(toy.frontier.next_tick(), Some(Mono::from_ms(900_000)));
    toy.advance(Duration::from_secs(100));
    assert_eq!(toy.settle(), 1);
}

#[test]
fn lanes_are_bounded_and_forgotten_when_idle() {
    let lanes: Vec<_> = (0..5_000).map(|n| lane(n, None, Some(&format!("h{n}")))).collect();
    let mut toy = Toy::new(Limits::default(), lanes, 8);
    let most = MAX_LANES - 2 * LANES_RESERVED_PER_LEVEL;
    for lane in 0..5_000 {
        assert_eq!(toy.add(lane, 2, 1), lane < most);
    }
    assert_eq!(toy.frontier.lanes(), most);
    assert!(toy.add(4_999, 0, 1), "no lane is free for an urgent job");
    while toy.settle() > 0 {
        (0..toy.running.len()).for_each(|_| _ = toy.finish(0));
    }
    assert_eq!((toy.frontier.lanes(), toy.frontier.held()), (0, 0));
    assert!(toy.frontier.line.iter().all(Line::is_empty));
}

#[test]
fn what_is_held_is_given_up_with_its_permits() {
    let mut toy = behind_one_resolver(resolver("r", Some(1), None), 4);
    (0..3).for_each(|lane| _ = toy.add(lane, 2, 5));
    toy.settle();
    toy.finish(0);
    toy.hear();
    toy.start();
    let _ = toy.frontier.take_held();
    let running = u32::try_from(toy.running.len()).unwrap();
    assert_eq!(
        toy.gate.status(toy.now, 10).iter().map(|key| key.running).max(),
        Some(running).filter(|n| *n > 0)
    );
}

#[test]
fn a_full_host_is_asked_for_nothing_however_many_jobs_it_has() {
    let lanes = vec![lane(1, None, Some("full")), lane(2, None, Some("other"))];
    let limits = Limits { max_per_host: Some(2), ..Limits::default() };
    let mut toy = Toy::new(limits, lanes, 8);
    toy.add(0, 2, 1_000_000);
    toy.settle();
    let (asked, refusals) = (toy.asked.clone(), toy.frontier.refusals);
    assert_eq!(asked[&LaneId(1)], 4, "two that run and two for when they end");
    for _ in 0..200 {
        toy.add(1, 2, 1);
        toy.settle();
        let other = toy.running.iter().position(|(job, _)| job.lane.id == LaneId(2)).unwrap();
        toy.finish(other);
    }
    assert_eq!(toy.started.iter().filter(|lane| lane.0 == 2).count(), 200);
    assert_eq!(toy.asked[&LaneId(1)], 4, "nor is it leased from");
    assert_eq!(toy.frontier.refusals, refusals, "nor looked at");
    assert_eq!((toy.frontier.held(), toy.frontier.parked(9).len()), (2, 1));
}
