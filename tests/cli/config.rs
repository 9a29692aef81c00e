//! `orch config`, and what every command does with settings.

use super::{Place, Ran};

#[test]
fn default_is_the_file_that_is_compiled_in_and_is_valid() {
    let place = Place::new();
    let default = place.ok("config default").out;
    assert_eq!(default, include_str!("../../config/default.toml"));
    place.write("orch.toml", default);
    assert_eq!(place.ok("config check").out, "ok: orch.toml\n");
}

#[test]
fn show_says_where_each_value_came_from() {
    let place = Place::new();
    place
        .write("orch.toml", "[queue]\npath = \"q.sqlite\"\n[resolvers.core]\napi_key = \"hush\"\n");
    let mut command = place.command("config show --log-level debug");
    command.env("ORCH_ORCHESTRATOR__MAX_WORKERS", "16").env("ORCH_ARTIFACT_ID", "x");
    let text = Ran::of(&mut command).code(0).out;
    let line = |key: &str| {
        let found = text.lines().find(|line| line.starts_with(&format!("{key} = ")));
        found
            .unwrap_or_else(|| panic!("no {key}: {text}"))
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(line("queue.path"), "queue.path = \"q.sqlite\" # orch.toml:2:8");
    let workers = "orchestrator.max_workers = 16 # ORCH_ORCHESTRATOR__MAX_WORKERS";
    assert_eq!(line("orchestrator.max_workers"), workers);
    assert_eq!(line("log.level"), "log.level = \"debug\" # --log-level");
    assert_eq!(line("queue.timeout_sec"), "queue.timeout_sec = 10 # default");
    assert_eq!(
        line("resolvers.core.api_key"),
        "resolvers.core.api_key = \"(set)\" # orch.toml:4:11"
    );
    assert!(!text.contains("hush"));

    let json = place.ok("config show --format json").json();
    assert_eq!(json["queue.path"]["value"], "q.sqlite");
    assert_eq!(json["queue.path"]["origin"]["line"], 2);
    assert_eq!(json["resolvers.core.api_key"]["value"], "(set)");
}

#[test]
fn what_show_prints_is_a_configuration() {
    let place = Place::new();
    let base = "base_url = \"https://me:hush@core.example/v3\"\n";
    let host = "[limits.host.\"arxiv.org\"]\nrate = \"1/3s\"\nburst = 2\n";
    place.write("orch.toml", format!("{host}[resolvers.core]\n{base}"));
    let shown = place.ok("config show").out;
    assert!(shown.contains("https://***@core.example/v3") && !shown.contains("hush"), "{shown}");
    place.write("again.toml", &shown);
    let again = place.ok("config show --config again.toml").out;
    let settings = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  # ").next().unwrap().trim().to_owned()).collect()
    };
    assert_eq!(settings(&again), settings(&shown));
}

#[test]
fn check_tells_every_problem_and_ends_with_2() {
    let place = Place::new();
    place.write("orch.toml", "[queue]\ntimeout_sec = 0\nwal_mod = true\n");
    let mut command = place.command("config check");
    command.env("ORCH_EXEC__ALLOW", "maybe");
    Ran::of(&mut command).code(2).says(&[
        "error: orch.toml:2:15: queue.timeout_sec is 0: expected a whole number from 1 to 86400",
        "error: orch.toml:3:1: there is no key queue.wal_mod: did you mean queue.wal_mode?",
        "error: ORCH_EXEC__ALLOW: exec.allow is \"maybe\": expected true or false",
        "hint: ",
    ]);
    place.write("orch.toml", "[queue\n");
    place.run("config check").code(2).says(&["error: orch.toml:1:"]);
    place.run("config check --config none.toml").code(2).says(&["none.toml", "--config"]);
}

#[test]
fn check_says_which_resolvers_are_off_and_why() {
    let place = Place::new();
    let said = place.ok("config check").says(&[
        "note: resolver unpaywall is off: it needs an e-mail address: set fetch.contact_email",
        "note: resolver openalex is off: it needs a key",
        "note: resolver core is off: it needs a key",
        "note: resolver semantic_scholar is off: it needs a key",
    ]);
    assert!(!said.err.contains("resolver crossref"), "{}", said.err);
    place.write(
        "orch.toml",
        "[fetch]\ncontact_email = \"harvest@orch-demo.dev\"\nresolvers = [\"unpaywall\", \"core\", \"doaj\"]\n\
         [resolvers.core]\nenabled = true\n[resolvers.doaj]\nenabled = false\n",
    );
    let said = place.ok("config check").says(&[
        "note: resolver doaj is off: it is switched off",
        "note: resolver crossref is off: it is not in fetch.resolvers",
    ]);
    for on in ["unpaywall", "core"] {
        assert!(!said.err.contains(&format!("resolver {on} ")), "{}", said.err);
    }
    place.ok("config check -q").says(&[]);
}

#[test]
fn a_placeholder_or_a_resolver_that_is_none_is_refused_before_anything_is_done() {
    let place = Place::new();
    place.write(
        "orch.toml",
        "[fetch]\ncontact_email = \"you@example.org\"\nresolvers = [\"arxiv\", \"unpaywal\"]\n",
    );
    for line in ["queue run --drain", "config check", "config show"] {
        place.run(line).code(2).says(&[
            "orch.toml:2:17: fetch.contact_email is \"you@example.org\": expected an e-mail address at which you are reached",
            "orch.toml:3:13: fetch.resolvers is ",
            "did you mean \"unpaywall\"?",
        ]);
    }
    assert!(!place.path("state").exists());
}

#[test]
fn a_bad_key_stops_every_command_that_reads_settings() {
    let place = Place::new();
    place.write("orch.toml", "max_workers = 3\n");
    for line in ["queue stats", "queue enqueue a", "config show", "config check"] {
        place.run(line).code(2).says(&["orch.toml:1:1", "did you mean orchestrator.max_workers?"]);
    }
    place.ok("config default");
    assert!(!place.path("state").exists());
}

#[test]
fn the_queue_is_where_flag_environment_and_file_say_in_this_order() {
    let place = Place::new();
    place.write("orch.toml", "[queue]\npath = \"file.sqlite\"\n");
    let enqueue = |line: &str, variable: Option<&str>| {
        let mut command = place.command(line);
        command.envs(variable.map(|path| ("ORCH_QUEUE__PATH", path)));
        Ran::of(&mut command).code(0);
    };
    enqueue("queue enqueue a", None);
    enqueue("queue enqueue a", Some("environment.sqlite"));
    enqueue("--queue flag.sqlite queue enqueue a", Some("environment.sqlite"));
    for name in ["file.sqlite", "environment.sqlite", "flag.sqlite"] {
        assert!(place.path(name).is_file(), "{name}");
    }
}
