//! `orch demo`, as a person sees it who pipes it.

use crate::support::Place;

#[test]
fn the_demo_goes_the_whole_way_in_a_pipe() {
    let place = Place::new();
    let demo = place.start("demo --dir shown").end().code(0);
    let mut rest = demo.out.as_str();
    for step in [
        "1. import the list",
        "$ orch queue import",
        "2. drain it",
        "$ orch queue run --workers 8 --drain",
        "3. what came of it",
        "$ orch queue stats",
        "4. the story of one that failed",
        "$ orch queue show",
        "5. where the files lie",
        "The files lie under",
    ] {
        let at =
            rest.find(step).unwrap_or_else(|| panic!("no {step:?} in its place:\n{}", demo.out));
        rest = &rest[at..];
    }
    for text in [&demo.out, &demo.err] {
        assert!(!text.contains(['\u{1b}', '\r']), "{text:?}");
    }
    assert!(place.path("shown/workqueue.sqlite").is_file());
    let counts = place.ok("--queue shown/workqueue.sqlite queue stats --format json").json();
    assert_eq!((&counts["total"], &counts["queued"]), (&300.into(), &0.into()), "{counts}");
    assert!(counts["done"].as_u64() >= Some(200), "{counts}");
}

#[test]
fn the_demo_does_not_take_a_directory_that_is_there() {
    let place = Place::new();
    place.write("mine/file", "mine");
    place.run("demo --dir mine").code(1).says(&["error: ", "mine", "hint: "]);
    assert_eq!(place.read("mine/file"), "mine");
}
