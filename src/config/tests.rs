use std::time::Duration;

use crate::job::LimitKey;

use super::*;

/// A configuration of a file's text, variables and flags.
fn load(text: &str, environment: &[(&str, &str)], flags: Vec<Flag>) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    if !text.is_empty() {
        std::fs::write(directory.path().join("orch.toml"), text).unwrap();
    }
    let environment = environment.iter().map(|(k, v)| (k.into(), v.into())).collect();
    Config::load(&Sources {
        file: None,
        environment,
        directory: directory.path().to_owned(),
        flags,
    })
}

fn file(text: &str) -> Result<Config, ConfigError> {
    load(text, &[], Vec::new())
}

fn message(result: Result<Config, ConfigError>) -> String {
    result.expect_err("should be refused").to_string()
}

fn origin_of(config: &Config, key: &str) -> String {
    let entry = config.entries().iter().find(|entry| entry.key == key);
    entry.unwrap_or_else(|| panic!("no {key}")).origin.to_string()
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let Settings { queue, orchestrator, fetch, exec, breaker, schedule, .. } =
        file("").unwrap().settings;
    assert_eq!(
        queue,
        Queue {
            backend: "sqlite".into(),
            path: "state/workqueue.sqlite".into(),
            wal_mode: true,
            timeout_sec: 10,
            durability: Durability::Full,
        }
    );
    assert_eq!(
        orchestrator,
        Orchestrator {
            max_workers: 8,
            max_per_resolver: BTreeMap::new(),
            max_per_host: 4,
            lease_ttl_seconds: 600,
            heartbeat_seconds: 30,
            max_job_attempts: 3,
            max_job_losses: 5,
            job_timeout_seconds: 3600,
            retry: None,
            retry_backoff_seconds: 60,
            retry_backoff_max_seconds: 3600,
            jitter_seconds: 15,
            shutdown_seconds: 30,
        }
    );
    assert_eq!(fetch.accept, [Accept::Pdf]);
    assert_eq!(fetch.resolvers, RESOLVERS);
    assert_eq!(fetch.min_bytes_per_second.map(u32::from), Some(1_024));
    assert!(fetch.obey_robots);
    assert!(!fetch.allow_private_addresses && !fetch.dedup && fetch.order == Order::Fixed);
    assert!(!exec.allow);
    assert_eq!((breaker.failures, breaker.open_seconds), (5, 60));
    assert_eq!((breaker.successes, breaker.give_up_seconds), (3, 900));
    assert_eq!(schedule.aging_seconds, 0);
}

/// default.toml is documentation too: each key stands in it, live or as a commented example, with a comment.
#[test]
fn every_key_is_in_default_toml_with_a_comment() {
    for key in KEYS {
        let name = key.segments().last().unwrap();
        let wanted = |line: &&str| {
            let line = line.trim_start_matches("# ");
            if name.starts_with('<') {
                return line.contains(&format!("[{}]", key.table_of_names().unwrap()));
            }
            line.split_once(" = ").is_some_and(|(found, _)| found == name)
        };
        let line = DEFAULT_TOML.lines().find(wanted).unwrap_or_else(|| panic!("{}", key.pattern));
        let comment = line.trim_start_matches("# ").split_once("# ").map_or("", |(_, c)| c);
        assert!(!comment.is_empty(), "{}: no comment", key.pattern);
    }
}

#[test]
fn default_toml_with_its_commented_examples_is_valid() {
    let is_example = |line: &str| {
        line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
    };
    let uncommented = DEFAULT_TOML.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if is_example(rest) => format!("{rest}\n"),
        _ => format!("{line}\n"),
    });
    let settings = file(&uncommented.collect::<String>()).unwrap().settings;
    assert_eq!(settings.orchestrator.max_per_resolver["arxiv"], 1);
    assert_eq!(settings.limits.host["repository.example"].burst, Some(10));
    assert_eq!(settings.limits.resolver["crossref"].max_concurrent, Some(2));
    assert_eq!(settings.schedule.weights["thesis"], 2);
    assert_eq!(settings.resolvers["line"].enabled, Some(true));
    for name in RESOLVERS.into_iter().filter(|name| *name != "line") {
        assert!(settings.resolvers[name].base_url.is_some(), "{name}: no base_url");
    }
}

/// A section for each, so that every service's terms stand where people look for them; its own key and e-mail are theirs to give.
#[test]
fn every_resolver_has_a_section_and_whoever_has_a_server_of_its_own_a_limit() {
    let settings = file("").unwrap().settings;
    let no_server = ["line", "landing_page"];
    for name in RESOLVERS {
        assert!(DEFAULT_TOML.contains(&format!("\n[resolvers.{name}]")), "{name}");
        let limited = settings
            .resolvers
            .get(name)
            .is_some_and(|it| it.rate.is_some() && it.max_concurrent.is_some());
        assert_eq!(limited, !no_server.contains(&name), "{name}");
        let set = settings.resolvers.get(name);
        assert!(set.is_none_or(|it| it.enabled.is_none() && it.api_key.is_none()), "{name}");
    }
    for host in ["arxiv.org", "export.arxiv.org"] {
        let limit = settings.limits.host[host];
        assert_eq!(limit.max_concurrent, Some(1));
        assert_eq!(limit.rate.unwrap().to_string(), "1/3s");
    }
}

#[test]
fn later_layers_win_and_each_value_knows_its_origin() {
    let text =
        "[queue]\npath = \"file.sqlite\"\n\n[orchestrator]\n  max_workers = 2\nmax_per_host = 3\n";
    let environment =
        [("ORCH_ORCHESTRATOR__MAX_WORKERS", "16"), ("ORCH_ORCHESTRATOR__MAX_PER_HOST", "7")];
    let flags = vec![Flag::new("--workers", &["orchestrator", "max_workers"], 32)];
    let config = load(text, &environment, flags).unwrap();
    assert_eq!(config.settings.queue.path, PathBuf::from("file.sqlite"));
    assert_eq!(config.settings.orchestrator.max_workers, 32);
    assert_eq!(config.settings.orchestrator.max_per_host, 7);
    assert_eq!(origin_of(&config, "queue.path"), "orch.toml:2:8");
    assert_eq!(origin_of(&config, "orchestrator.max_per_host"), "ORCH_ORCHESTRATOR__MAX_PER_HOST");
    assert_eq!(origin_of(&config, "orchestrator.max_workers"), "--workers");
    assert_eq!(origin_of(&config, "queue.timeout_sec"), "default");
}

/// One row per bounded key: the section, the key, values that are taken, values that are not.
#[test]
fn every_bound_is_enforced() {
    #[rustfmt::skip]
    let table: &[(&str, &str, &[&str], &[&str])] = &[
        ("queue", "backend", &["'sqlite'"], &["'postgres'", "''", "1"]),
        ("queue", "path", &["'a'"], &["''", "'a\\u0000b'", "true"]),
        ("queue", "wal_mode", &["true", "false"], &["1", "'true'"]),
        ("queue", "timeout_sec", &["1", "86400"], &["0", "-1", "86401", "1.5", "'1'"]),
        ("queue", "durability", &["'full'", "'normal'"], &["'off'", "'FULL'"]),
        ("orchestrator", "max_workers", &["1", "256"], &["0", "257", "-1", "'8'"]),
        ("orchestrator", "max_per_host", &["1", "4294967295"], &["0", "4294967296"]),
        ("orchestrator", "max_per_resolver", &["{}", "{ a = 1 }"], &["{ a = 0 }", "3", "{ 'a b' = 1 }"]),
        ("orchestrator", "lease_ttl_seconds", &["90", "315360000"], &["29", "89", "315360001"]),
        ("orchestrator", "heartbeat_seconds", &["5", "200"], &["4", "201"]),
        ("orchestrator", "max_job_attempts", &["1"], &["0"]),
        ("orchestrator", "max_job_losses", &["1"], &["0"]),
        ("orchestrator", "job_timeout_seconds", &["1"], &["0"]),
        ("orchestrator", "retry", &["''", "'quick'", "'standard'"], &["'fast'", "3"]),
        ("orchestrator", "retry_backoff_seconds", &["1"], &["0"]),
        ("orchestrator", "retry_backoff_max_seconds", &["1"], &["0"]),
        ("orchestrator", "jitter_seconds", &["0"], &["-1"]),
        ("orchestrator", "shutdown_seconds", &["0"], &["-1"]),
        ("limits.host.'a.org'", "max_concurrent", &["1"], &["0", "'1'"]),
        ("limits.host.'a.org'", "rate", &["'20/s'", "'1/3s'", "'100000/day'"], &["'20'", "'0/s'", "'1/0s'", "'1/year'", "20"]),
        ("limits.host.'a b'", "max_concurrent", &[], &["1"]),
        ("limits.resolver.arxiv", "max_concurrent", &["1"], &["0"]),
        ("limits.resolver.arxiv", "rate", &["'1/3s'"], &["'x'"]),
        ("limits.resolver.mine", "burst", &[], &["0", "1"]),
        ("limits.resolver.osf", "burst", &["1"], &["0"]),
        ("fetch", "out", &["'a'"], &["''"]),
        ("fetch", "user_agent", &["''", "'orch (me)'"], &["'a\\nb'", "'é'"]),
        ("fetch", "contact_email", &["''", "'me@library.edu'"], &["'me'", "'a b@c.de'", "'@c.de'", "'me@example.org'"]),
        ("fetch", "resolvers", &["[]", "['arxiv', 'openalex_urls']"], &["'arxiv'", "['a b']", "[1]", "['arxiv', 'arXiv']"]),
        ("fetch", "connect_timeout_seconds", &["1"], &["0", "86401"]),
        ("fetch", "read_timeout_seconds", &["1"], &["0", "86401"]),
        ("fetch", "max_bytes", &["1", "9223372036854775807"], &["0", "9223372036854775808"]),
        ("fetch", "min_bytes_per_second", &["0", "1"], &["-1", "'1k'"]),
        ("fetch", "accept", &["['pdf']", "['xml', 'html']"], &["['doc']", "'pdf'", "[]", "['pdf', 'pdf']"]),
        ("fetch", "obey_robots", &["false"], &["0"]),
        ("fetch", "allow_private_addresses", &["true"], &["'yes'"]),
        ("fetch", "proxy", &["''", "'http://proxy:3128'"], &["'proxy:3128'", "'ftp://x'", "'https://x'"]),
        ("fetch", "ca_file", &["''", "'ca.pem'"], &["1"]),
        ("fetch", "dedup", &["true"], &["1"]),
        ("fetch", "order", &["'fixed'", "'learned'"], &["'random'"]),
        ("resolvers.core", "enabled", &["false"], &["0"]),
        ("resolvers.core", "base_url", &["''", "'https://core.ac.uk/v3'"], &["'core.ac.uk'", "'ftp://core.ac.uk'", "'https://core.ac.uk?q=1'"]),
        ("resolvers.core", "api_key", &["'k'"], &["1"]),
        ("resolvers.core", "max_concurrent", &["1"], &["0"]),
        ("resolvers.core", "rate", &["'10/min'"], &["'10'"]),
        ("resolvers.core", "burst", &["3"], &["0"]),
        ("resolvers.cora", "enabled", &[], &["true"]),
        ("exec", "allow", &["true"], &["1"]),
        ("breaker", "failures", &["1"], &["0"]),
        ("breaker", "open_seconds", &["1"], &["0"]),
        ("breaker", "successes", &["1"], &["0"]),
        ("breaker", "give_up_seconds", &["1"], &["0"]),
        ("schedule", "aging_seconds", &["0"], &["-1"]),
        ("schedule", "weights", &["{ thesis = 1 }"], &["{ thesis = 0 }", "[1]"]),
        ("log", "format", &["'text'", "'json'"], &["'xml'"]),
        ("log", "level", &["'off'", "'warn'", "'info,orch::run=debug'"], &["'loud'", "'orch=loud'", "''"]),
    ];
    for (section, key, good, bad) in table {
        for value in *good {
            let text = format!("[{section}]\n{key} = {}\n", toml_text(value));
            file(&text).unwrap_or_else(|e| panic!("{text}{e}"));
        }
        for value in *bad {
            let text = format!("[{section}]\n{key} = {}\n", toml_text(value));
            let said = message(file(&text));
            assert!(said.starts_with("orch.toml:"), "{text}{said}");
            assert!(
                ["expected", "is not a host name", "there is no resolver"]
                    .iter()
                    .any(|it| said.contains(it)),
                "{text}{said}"
            );
        }
    }
    let covered = |key: &keys::Key| {
        let name = |p: &str| p.rsplit('.').find(|s| !s.starts_with('<')).map(str::to_owned);
        table.iter().any(|(_, row, ..)| name(key.pattern).as_deref() == Some(*row))
    };
    let missing: Vec<_> = KEYS.iter().filter(|key| !covered(key)).map(|k| k.pattern).collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
}

/// Texts are written 'so' in the table and need escapes to work.
fn toml_text(value: &str) -> String {
    value.replace('\'', "\"")
}

#[test]
fn an_error_names_file_line_column_key_value_and_what_was_expected() {
    let said = message(file("[orchestrator]\nmax_workers = 1000\n"));
    assert_eq!(
        said,
        "orch.toml:2:15: orchestrator.max_workers is 1000: expected a whole number from 1 to 256"
    );
    let said = message(load("", &[("ORCH_QUEUE__DURABILITY", "none")], Vec::new()));
    assert_eq!(
        said,
        "ORCH_QUEUE__DURABILITY: queue.durability is \"none\": expected \"full\" or \"normal\""
    );
    let flag = Flag::new("--workers", &["orchestrator", "max_workers"], 0);
    let said = message(load("", &[], vec![flag]));
    assert!(said.starts_with("--workers: orchestrator.max_workers is 0: expected"), "{said}");
}

#[test]
fn all_problems_are_told_at_once() {
    let said = message(load(
        "[queue]\ntimeout_sec = 0\nwal = true\n",
        &[("ORCH_EXEC__ALLOW", "maybe")],
        Vec::new(),
    ));
    assert_eq!(said.lines().count(), 3, "{said}");
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_name() {
    for (text, nearest) in [
        ("[orchestrator]\nmax_worker = 3\n", Some("orchestrator.max_workers")),
        ("[orchestrator]\nMax_Workers = 3\n", Some("orchestrator.max_workers")),
        ("max_workers = 3\n", Some("orchestrator.max_workers")),
        ("[orchestrater]\nmax_workers = 3\n", Some("orchestrator")),
        ("[queue]\nmax_workers = 3\n", Some("orchestrator.max_workers")),
        ("[limits.hosts.\"a.org\"]\nrate = \"1/s\"\n", Some("limits.host")),
        ("[limits.host.\"a.org\"]\nrates = \"1/s\"\n", Some("limits.host.\"a.org\".rate")),
        ("[queue]\nsomething_else = 3\n", None),
    ] {
        let Err(ConfigError::Problems(problems)) = file(text) else { panic!("{text}") };
        let [Problem { fault: Fault::UnknownKey { nearest: found }, .. }] = &problems[..] else {
            panic!("{text}{problems:?}")
        };
        assert_eq!(found.as_deref(), nearest, "{text}");
    }
}

#[test]
fn only_variables_with_a_double_underscore_are_configuration() {
    let others = [
        ("ORCH_ARTIFACT_ID", "x"),
        ("ORCH_QUEUE", "x"),
        ("ORCH", "x"),
        ("OTHER_QUEUE__PATH", "x"),
        ("ORCH_QUEUE__PATH", "5"),
        ("ORCH_ORCHESTRATOR__MAX_PER_RESOLVER", "{ arxiv = 1 }"),
        ("ORCH_ORCHESTRATOR__MAX_PER_RESOLVER__CROSSREF", "2"),
        ("ORCH_LIMITS__HOST", "{ \"ArXiv.org\" = { rate = \"1/3s\" } }"),
        ("ORCH_LIMITS__HOST__EXAMPLE.ORG__MAX_CONCURRENT", "3"),
        ("ORCH_FETCH__RESOLVERS", "ArXiv, core,openalex_urls"),
        ("ORCH_FETCH__ACCEPT", "[\"pdf\"]"),
        ("ORCH_EXEC__ALLOW", "true"),
    ];
    let settings = load("", &others, Vec::new()).unwrap().settings;
    assert_eq!(settings.queue.path, PathBuf::from("5"));
    let per_resolver: Vec<_> = settings.orchestrator.max_per_resolver.into_iter().collect();
    assert_eq!(per_resolver, [("arxiv".to_owned(), 1), ("crossref".to_owned(), 2)]);
    assert!(settings.limits.host["arxiv.org"].rate.is_some());
    assert_eq!(settings.limits.host["example.org"].max_concurrent, Some(3));
    assert_eq!(settings.fetch.resolvers, ["arxiv", "core", "line"]);
    assert!(settings.exec.allow);

    let said = message(load("", &[("ORCH_QUEU__PATH", "x")], Vec::new()));
    assert!(said.contains("ORCH_QUEU__PATH") && said.contains("queu.path"), "{said}");
}

#[test]
fn two_spellings_of_one_host_in_one_file_are_refused() {
    let said = message(file(
        "[limits.host]\n\"arxiv.org\" = { max_concurrent = 1 }\n\"ArXiv.org\" = { max_concurrent = 2 }\n",
    ));
    assert!(said.contains("given twice"), "{said}");
}

#[test]
fn a_secret_is_shown_nowhere() {
    let good = file("[resolvers.core]\napi_key = \"hush\"\n").unwrap();
    let entry = good.entries().iter().find(|e| e.key == "resolvers.core.api_key").unwrap();
    assert_eq!(entry.value, Value::String("(set)".into()));
    assert!(!format!("{good:?}").contains("hush"));
    assert_eq!(good.settings.resolvers["core"].api_key.as_ref().unwrap().reveal(), "hush");

    for text in [
        "[resolvers.core]\napi_key = [\"hush\"]\n",
        "[resolvers.core]\napi_key = \"hush\\u0001\"\n",
        "[resolvers.core]\napi_key = \"hush\n",
        "[resolvers.core]\napi_kee = \"hush\"\n",
        "[fetch]\nproxy = \"ftp://me:hush@proxy\"\n",
        "[fetch]\nproxy = \"me:hush@proxy\"\n",
    ] {
        let said = format!("{:?} {}", file(text).unwrap_err(), message(file(text)));
        assert!(!said.contains("hush"), "{said}");
    }
}

#[test]
fn the_file_is_the_first_that_is_named_or_found() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str, workers: u32| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("[orchestrator]\nmax_workers = {workers}\n")).unwrap();
        path
    };
    let (flag, variable) = (at("flag.toml", 11), at("variable.toml", 12));
    let here = at("orch.toml", 13);
    let xdg = at("xdg/orch/config.toml", 14);
    let home = at("home/.config/orch/config.toml", 15);
    let mut sources = Sources {
        file: Some(flag),
        environment: vec![
            ("ORCH_CONFIG".into(), variable.into()),
            ("XDG_CONFIG_HOME".into(), directory.path().join("xdg").into()),
            ("HOME".into(), directory.path().join("home").into()),
        ],
        directory: directory.path().to_owned(),
        flags: Vec::new(),
    };
    let workers =
        |sources: &Sources| Config::load(sources).unwrap().settings.orchestrator.max_workers;
    assert_eq!(workers(&sources), 11);
    sources.file = None;
    assert_eq!(workers(&sources), 12);
    sources.environment.remove(0);
    assert_eq!(workers(&sources), 13);
    std::fs::remove_file(here).unwrap();
    assert_eq!(workers(&sources), 14);
    std::fs::remove_file(xdg).unwrap();
    assert_eq!(workers(&sources), 8, "XDG_CONFIG_HOME stands in place of ~/.config");
    sources.environment[0].1 = "relative".into();
    assert_eq!(workers(&sources), 15, "a relative XDG_CONFIG_HOME is ignored");
    std::fs::remove_file(home).unwrap();
    assert_eq!(workers(&sources), 8);
    sources.file = Some("none.toml".into());
    let said = message(Config::load(&sources));
    assert!(said.contains("none.toml (--config)"), "{said}");
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_its_place() {
    let said = message(file("[queue]\npath = \n"));
    assert!(said.starts_with("orch.toml:2:"), "{said}");
}

/// What the gate holds a resolver to: requests at the same time, rate and burst.
fn gate_of(text: &str, name: &str) -> (Option<u32>, Option<(String, u32)>) {
    let limits = file(text).unwrap().settings.gate_limits().unwrap();
    let limit = limits.by_key[&LimitKey::Resolver(name.into())];
    (limit.max_concurrent, limit.rate.map(|rate| (rate.to_string(), rate.burst)))
}

#[test]
fn of_the_places_a_resolver_is_limited_in_the_more_particular_wins() {
    let rate = |text: &str, burst| Some((text.to_owned(), burst));
    let text = "[resolvers.core]\nmax_concurrent = 1\nrate = \"1/s\"\n[resolvers.doaj]\nmax_concurrent = 9\n\
                [orchestrator.max_per_resolver]\ncore = 2\nhal = 5\nmine = 6\n[limits.resolver.core]\nburst = 7\n\
                [limits.resolver.osf]\nrate = \"3/s\"\n[limits.host.\"a.org\"]\nmax_concurrent = 5\n[breaker]\ngive_up_seconds = 7\n";
    assert_eq!(gate_of(text, "core"), (Some(2), rate("1/s", 7)));
    assert_eq!(gate_of(text, "doaj"), (Some(9), rate("2/s", 2)), "the default rate stays");
    assert_eq!(gate_of(text, "hal"), (Some(5), rate("2/s", 2)), "before a default of its section");
    assert_eq!(gate_of(text, "mine"), (Some(6), None), "a name that only lines know");
    assert_eq!(
        gate_of(text, "osf"),
        (Some(1), rate("3/s", 3)),
        "without the burst of another rate"
    );
    let limits = file(text).unwrap().settings.gate_limits().unwrap();
    assert_eq!(limits.by_key[&LimitKey::Host("a.org".into())].max_concurrent, Some(5));
    assert_eq!(limits.by_key[&LimitKey::Host("arxiv.org".into())].max_concurrent, Some(1));
    assert_eq!(limits.max_per_host, Some(4));
    assert_eq!(limits.policy.give_up, Duration::from_secs(7));
}

#[test]
fn a_rate_brings_its_own_burst() {
    let rate = |text: &str, burst| Some((text.to_owned(), burst));
    assert_eq!(gate_of("", "osf").1, rate("60/h", 30));
    assert_eq!(gate_of("[resolvers.osf]\nrate = \"1/day\"\n", "osf").1, rate("1/day", 1));
    assert_eq!(gate_of("[resolvers.osf]\nburst = 2\n", "osf").1, rate("60/h", 2));
    assert_eq!(gate_of("[resolvers.osf]\nrate = \"1/h\"\nburst = 3\n", "osf").1, rate("1/h", 3));
    let text = "[limits.host.\"a.org\"]\nrate = \"9/s\"\nburst = 50\n";
    let variable = [("ORCH_LIMITS__HOST__A.ORG__RATE", "1/s")];
    let limits = load(text, &variable, Vec::new()).unwrap().settings.gate_limits().unwrap();
    assert_eq!(limits.by_key[&LimitKey::Host("a.org".into())].rate.unwrap().burst, 1);
}

#[test]
fn without_a_contact_crossref_is_asked_as_its_public_pool_wants() {
    let rate = |text: &str, burst| Some((text.to_owned(), burst));
    let contact = "[fetch]\ncontact_email = \"me@library.edu\"\n";
    assert_eq!(gate_of("", "crossref"), (Some(1), rate("5/s", 5)));
    assert_eq!(gate_of(contact, "crossref"), (Some(3), rate("10/s", 10)));
    assert_eq!(gate_of(DEFAULT_TOML, "crossref"), (Some(1), rate("5/s", 5)), "a copied default");
    let own = "[resolvers.crossref]\nrate = \"7/s\"\n";
    assert_eq!(gate_of(own, "crossref"), (Some(1), rate("7/s", 7)));
    let config = file("").unwrap();
    let entry = config.entries().iter().find(|entry| entry.key == "resolvers.crossref.rate");
    assert_eq!(entry.unwrap().value, Value::String("5/s".into()), "what is shown is in force");
}

#[test]
fn a_resolver_that_is_none_is_refused_with_the_nearest_name() {
    let said = message(file("[fetch]\nresolvers = [\"arxiv\", \"unpaywal\"]\n"));
    assert_eq!(
        said,
        "orch.toml:2:13: fetch.resolvers is [\"arxiv\", \"unpaywal\"]: expected names of resolvers, and there is no \
         resolver \"unpaywal\": did you mean \"unpaywall\"?"
    );
    let said = message(load("", &[("ORCH_RESOLVERS__UNPAYWAL__API_KEY", "hush")], Vec::new()));
    assert_eq!(
        said,
        "ORCH_RESOLVERS__UNPAYWAL__API_KEY: resolvers.unpaywal.api_key: there is no resolver \"unpaywal\": did you mean \
         \"unpaywall\"?"
    );
}

#[test]
fn a_placeholder_is_no_contact() {
    let said = message(file("[fetch]\ncontact_email = \"you@example.org\"\n"));
    assert_eq!(
        said,
        "orch.toml:2:17: fetch.contact_email is \"you@example.org\": expected an e-mail address at which you are reached; \
         this one is a placeholder (no mail arrives at that domain)"
    );
}

#[test]
fn a_preset_brings_its_attempts_and_the_formula_takes_the_configured_ones() {
    let terms = |text| file(text).unwrap().settings.retry_terms();
    assert_eq!(terms("").max_attempts, 3);
    assert_eq!(terms("").policy.base_ms, 60_000);
    assert_eq!(terms("[orchestrator]\nretry = \"aggressive\"\n").max_attempts, 6);
}
