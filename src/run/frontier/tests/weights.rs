//! Tags with a weight: who passes whom, and that nobody is left behind.

use super::*;

/// Starts of the lanes among the next `count`, one worker after the other becoming free.
fn of_the_next(toy: &mut Toy, count: usize) -> BTreeMap<i64, usize> {
    let before = toy.started.len();
    while toy.started.len() < before + count {
        let running = toy.running.len();
        if running > 0 {
            toy.finish(0);
        }
        assert!(toy.settle() > 0 || running > 0, "it stands still");
    }
    let mut starts = BTreeMap::new();
    for lane in &toy.started[before..before + count] {
        *starts.entry(lane.0).or_default() += 1;
    }
    starts
}

/// A backlog, and an import of another tag, at hosts with so many slots.
fn backlog_and_import(hosts: [&str; 2], slots: Option<u32>, schedule: Schedule) -> Toy {
    let [backlog, import] = hosts;
    let lanes = vec![lane(1, None, Some(backlog)), tagged(&lane(2, None, Some(import)), "now")];
    let limits = Limits { max_per_host: slots, ..Limits::default() };
    Toy::new(limits, lanes, 4).scheduled(schedule)
}

#[test]
fn a_small_import_passes_a_large_backlog() {
    for (hosts, slots) in
        [(["a", "a"], Some(1)), (["a", "a"], Some(4)), (["a", "b"], Some(4)), (["a", "b"], None)]
    {
        let mut toy = backlog_and_import(hosts, slots, weights(&[("now", 50)]));
        toy.add(0, 2, 10_000);
        of_the_next(&mut toy, 500);
        toy.add(1, 2, 10);
        let starts = of_the_next(&mut toy, 14);
        assert_eq!(starts[&2], 10, "at {hosts:?} with {slots:?}: {starts:?}");
    }
}

#[test]
fn lanes_have_turns_by_their_weights() {
    for (weight, imported) in [(1, 250..=250), (4, 390..=410), (50, 485..=495)] {
        for (hosts, slots) in [(["a", "a"], Some(1)), (["a", "a"], Some(3)), (["a", "b"], None)] {
            let mut toy = backlog_and_import(hosts, slots, weights(&[("now", weight)]));
            toy.add(0, 2, 1_000);
            toy.add(1, 2, 1_000);
            of_the_next(&mut toy, 10);
            let starts = of_the_next(&mut toy, 500);
            let slack = 6;
            let range = imported.start() - slack..=imported.end() + slack;
            assert!(range.contains(&starts[&2]), "{weight} at {hosts:?}: {starts:?}");
        }
    }
}

/// Many become free at once, so that there is room for all to claim a place.
#[test]
fn weights_divide_the_room_there_is() {
    let mut toy = backlog_and_import(["a", "b"], None, weights(&[("now", 3)]));
    toy.workers = 16;
    toy.add(0, 2, 1_000);
    toy.add(1, 2, 1_000);
    for _ in 0..50 {
        toy.settle();
        assert_eq!(toy.running.len(), 16);
        (0..16).for_each(|_| _ = toy.finish(0));
    }
    let imported = toy.started.iter().filter(|lane| lane.0 == 2).count();
    assert!((570..=630).contains(&imported), "{imported} of 800");
}

#[test]
fn a_weight_is_shared_by_the_lanes_of_its_tag() {
    let hosts = ["a", "b", "c", "d"];
    let lanes: Vec<_> =
        hosts.iter().zip(1..).map(|(host, id)| lane(id, None, Some(host))).collect();
    let lanes = vec![
        lanes[0].clone(),
        tagged(&lanes[1], "x"),
        tagged(&lanes[2], "x"),
        tagged(&lanes[3], "y"),
    ];
    let mut toy = Toy::new(Limits::default(), lanes, 1).scheduled(weights(&[("x", 4)]));
    (0..4).for_each(|lane| _ = toy.add(lane, 2, 1_000));
    let starts = of_the_next(&mut toy, 600);
    // One turn of six is for the lane without a tag and that of a tag without a weight.
    for (lane, expected) in [(1, 60), (2, 240), (3, 240), (4, 60)] {
        assert!(starts[&lane].abs_diff(expected) <= 2, "{starts:?}");
    }
}

#[test]
fn a_tag_that_was_away_has_saved_nothing_up() {
    let mut toy = backlog_and_import(["a", "b"], None, weights(&[("now", 2)]));
    toy.add(0, 2, 5_000);
    toy.add(1, 2, 1);
    of_the_next(&mut toy, 2_000);
    toy.add(1, 2, 1_000);
    let starts = of_the_next(&mut toy, 60);
    assert!((18..=24).contains(&starts[&1]), "{starts:?}");
}

#[test]
fn a_more_urgent_job_goes_before_any_weight() {
    let mut toy = backlog_and_import(["a", "a"], Some(1), weights(&[("now", 1_000)]));
    toy.add(1, 2, 100);
    of_the_next(&mut toy, 10);
    toy.add(0, 1, 5);
    assert_eq!(of_the_next(&mut toy, 5).get(&1), Some(&5));
}
