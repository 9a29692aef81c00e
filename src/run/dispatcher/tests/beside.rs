//! Turns that somebody else makes, and what happens meanwhile.

use crossbeam_channel::{Receiver, bounded};

use super::*;
use crate::queue::store::Counts;
use crate::run::scribe::Errand;
use crate::run::stop::StopCause;

/// A rig whose turns wait for the test, and where they do.
fn beside(options: RunOptions, specs: &[JobSpec]) -> (Rig, Receiver<Errand>) {
    let mut rig = Rig::new(options, specs);
    let (scribe, orders) = bounded(1);
    rig.dispatcher.scribe = Some(scribe);
    (rig, orders)
}

/// The turn that is under way, made; taken in by the dispatcher with its next word.
#[track_caller]
fn make((store, order): Errand, rig: &mut Rig) -> usize {
    let made = order.make(store);
    let leased = match &made.report {
        Ok(Ok(report)) => report.leased.len(),
        _ => 0,
    };
    rig.dispatcher.take(Message::TurnMade(Box::new(made)));
    leased
}

fn counts(rig: &mut Rig) -> Counts {
    rig.store.counts().unwrap()
}

#[test]
fn a_lone_turn_is_made_by_the_dispatcher_itself() {
    let (mut rig, orders) = beside(options(1), &[job("a", None), job("b", None)]);
    rig.settle();
    assert!(orders.is_empty());
    let running = rig.begin(0);
    rig.end(0, running, Outcome::done());
    rig.settle();
    assert!(orders.is_empty(), "nothing ran: there was nobody to attend to");
    assert_eq!(counts(&mut rig).done, 1);
}

#[test]
fn a_permit_is_passed_on_while_a_turn_is_under_way() {
    let specs = [job("a", Some("h")), job("x", None), job("b", Some("h")), job("y", None)];
    let (mut rig, orders) = beside(RunOptions { limits: limits("h", 1), ..options(2) }, &specs);
    rig.settle();
    while let Ok(order) = orders.try_recv() {
        make(order, &mut rig);
        rig.settle();
    }
    let (first, second) = (rig.begin(0), rig.begin(1));
    let is_limited = |assigned: &Assigned| assigned.job.lane.key.host.is_some();
    let (limited, free) = if is_limited(&first) { (0, 1) } else { (1, 0) };
    let mut running = [Some(first), Some(second)];
    assert_eq!(rig.dispatcher.frontier.held(), 1, "the next for that host is leased");
    rig.end(free, running[free].take().unwrap(), Outcome::done());
    rig.settle();
    let under_way = orders.try_recv().expect("a turn");
    rig.end(limited, running[limited].take().unwrap(), Outcome::done());
    rig.settle();
    let next = rig.begin(limited);
    assert_eq!(next.job.artifact_id.as_str(), "b");
    assert_eq!(counts(&mut rig).done, 0, "that turn is not over");
    make(under_way, &mut rig);
    rig.settle();
    assert_eq!(counts(&mut rig).done, 1);
}

#[test]
fn what_was_leased_while_a_stop_came_is_handed_back() {
    let specs = [job("a", None), job("b", None), job("c", None), job("d", None)];
    let (mut rig, orders) = beside(options(2), &specs);
    rig.settle();
    let (first, _second) = (rig.begin(0), rig.begin(1));
    rig.end(0, first, Outcome::done());
    rig.settle();
    let under_way = orders.try_recv().expect("a turn");
    rig.dispatcher.take(Message::Stop(StopRequest { cause: StopCause::Asked, now: false }));
    rig.settle();
    assert!(make(under_way, &mut rig) > 0, "it leased for the free worker");
    rig.settle();
    make(orders.try_recv().expect("a turn that hands back"), &mut rig);
    rig.settle();
    let counts = counts(&mut rig);
    assert_eq!((counts.done, counts.in_progress, counts.queued), (1, 1, 2));
    assert!(rig.jobs.is_empty());
}

#[test]
fn a_turn_that_failed_is_made_again_with_all_that_ended_since() {
    let (mut rig, orders) = beside(options(3), &[job("a", None), job("b", None), job("c", None)]);
    rig.settle();
    let (first, second) = (rig.begin(0), rig.begin(1));
    let _third = rig.begin(2);
    rig.end(0, first, Outcome::done());
    rig.settle();
    let under_way = orders.try_recv().expect("a turn");
    rig.end(1, second, Outcome::done());
    rig.trouble.begin();
    make(under_way, &mut rig);
    rig.settle();
    assert_eq!(counts(&mut rig).done, 0);
    rig.trouble.end();
    rig.clock.advance(FIRST_TROUBLE_WAIT);
    rig.settle();
    let again = orders.try_recv().expect("the turn again");
    assert_eq!((again.1.settle.len(), again.1.origins.len()), (2, 2));
    assert!(again.1.settle[0].token < again.1.settle[1].token, "in the order of their ends");
    make(again, &mut rig);
    rig.settle();
    assert_eq!(counts(&mut rig).done, 2);
}
