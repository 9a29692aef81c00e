//! How SQLite goes about every statement there is: none may slow down as the queue grows.
//!
//! Statements are taken from the text of `sql.rs` and what is below it, so none can be forgotten here; and no other file may hold any.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::sql;
use super::Place;

/// Scans that stay short, however many jobs there are: what the plan says, and why.
const SHORT_SCANS: [(&str, &str); 9] = [
    ("SCAN CONSTANT ROW", "no table"),
    ("SCAN owner", "a row for each process that lives"),
    ("SCAN o", "the same"),
    ("SCAN lease", "what is being done right now"),
    ("SCAN lane_tag", "at most MAX_TAG_LANES rows"),
    ("SCAN seen_newest", "at most MAX_NEWEST rows"),
    ("SCAN yield", "at most MAX_YIELDS rows, and one for each resolver"),
    ("SCAN sharing", "one row"),
    ("SCAN (subquery", "what a bounded subquery found"),
];

/// Statements that may do what others may not, and why.
const ALLOWED: [(&str, &str, &str); 5] = [
    ("ANY_SEEN", "SCAN seen", "stops at the first row, of either table"),
    ("ANY_PRUNED", "SCAN pruned", "stops at the first row"),
    ("ANY_READY", "SCAN ready", "stops at the first row"),
    ("PLACE_NEW", "USE TEMP B-TREE FOR ORDER BY", "sorts the rows of one insert"),
    ("LEASES_BY_LANE", "USE TEMP B-TREE FOR GROUP BY", "groups the leases, which are few"),
];

/// Where statements may be: here, and where a file is looked at that may be no queue at all.
const MAY_HOLD_SQL: [&str; 2] = ["sql.rs", "open.rs"];

fn source(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/queue/sqlite").join(below)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|ext| ext == "rs")).collect()
}

/// All that stands between quotes in some code, comment lines aside.
fn literals(code: &str) -> Vec<String> {
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let text = lines.collect::<Vec<_>>().join("\n").replace("\\\"", "'").replace("'\"'", "''");
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Every statement by its name.
fn statements() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for file in [source("sql.rs")].into_iter().chain(files(&source("sql"))) {
        let text = fs::read_to_string(file).unwrap();
        for part in text.split("const ").skip(1) {
            let name = part.split(':').next().unwrap().to_owned();
            let found = literals(part.split(';').next().unwrap());
            assert_eq!(found.len(), 1, "{name} is one statement, and nothing but text");
            all.push((name, found[0].clone()));
        }
    }
    all
}

fn is_sql(text: &str) -> bool {
    const FIRST: [&str; 15] = [
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "REPLACE",
        "WITH",
        "PRAGMA",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "CREATE",
        "DROP",
        "ALTER",
        "VACUUM",
        "SAVEPOINT",
    ];
    let first = text.split_whitespace().next().unwrap_or_default();
    FIRST.contains(&first) || text.contains(" FROM ") || text.contains(" WHERE ")
}

/// The plan of a statement, line by line.
fn plan(conn: &rusqlite::Connection, statement: &str) -> Vec<String> {
    let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
    let arguments = vec![rusqlite::types::Value::Integer(1); explain.parameter_count()];
    let lines = explain
        .query_map(rusqlite::params_from_iter(arguments), |row| row.get::<_, String>(3))
        .unwrap();
    lines.map(Result::unwrap).collect()
}

/// The lines of a plan that grow with the queue.
fn growing(name: &str, plan: &[String]) -> Vec<String> {
    let is_short = |line: &str| {
        let is_table = |scan: &str| {
            line == scan
                || line.starts_with(&format!("{scan} "))
                || scan.contains('(') && line.starts_with(scan)
        };
        SHORT_SCANS.iter().any(|(scan, _)| is_table(scan))
            || ALLOWED.iter().any(|(of, part, _)| *of == name && line.starts_with(part))
    };
    let grows = |line: &&String| line.starts_with("SCAN") || line.contains("TEMP B-TREE");
    plan.iter().filter(grows).filter(|line| !is_short(line)).cloned().collect()
}

#[test]
fn no_statement_scans_or_sorts_what_grows_with_the_queue() {
    let place = Place::new();
    let store = place.open();
    let all = statements();
    assert!(all.len() > 100, "the statements were not found");
    let transaction = [sql::BEGIN, sql::COMMIT, sql::ROLLBACK];
    let mut wrong = Vec::new();
    for (name, statement) in &all {
        if statement.starts_with("PRAGMA") || transaction.contains(&statement.as_str()) {
            continue;
        }
        let plan = plan(&store.conn, statement);
        if !growing(name, &plan).is_empty() {
            wrong.push(format!("{name}: {statement}\n    {}", plan.join("\n    ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_statement_that_scans_jobs_would_be_found() {
    let place = Place::new();
    let store = place.open();
    for statement in [
        "SELECT count(*) FROM job",
        "SELECT 1 FROM progress WHERE reason = ?1",
        "SELECT job FROM ready ORDER BY job LIMIT 1",
        "SELECT lane, count(*) FROM progress WHERE job > ?1 GROUP BY lane",
        "DELETE FROM seen WHERE job = ?1",
        "SELECT 1 FROM tally ORDER BY queued",
    ] {
        assert!(!growing("NEW", &plan(&store.conn, statement)).is_empty(), "{statement}");
    }
}

#[test]
fn there_are_no_statements_but_those_of_sql_rs() {
    let mut wrong = Vec::new();
    for file in files(&source("")) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if MAY_HOLD_SQL.contains(&name.as_str()) || name == "tests.rs" {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let found = literals(code).into_iter().filter(|literal| is_sql(literal));
        wrong.extend(found.map(|sql| format!("{name}: {sql}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(is_sql("SELECT 1") && is_sql("\n    DELETE FROM x") && !is_sql("job"));
}

#[test]
fn each_walk_uses_its_index() {
    let place = Place::new();
    let store = place.open();
    for (statement, index) in [
        (sql::HEAD, "r USING PRIMARY KEY (priority=? AND lane=?)"),
        (
            sql::NEXT_LANE,
            "r USING PRIMARY KEY (priority=? AND lane>?); SEARCH j USING INTEGER PRIMARY KEY (rowid=?)",
        ),
        (sql::COUNT_BEFORE, "ready USING PRIMARY KEY (priority=? AND lane=? AND job<?)"),
        (sql::COUNT_AFTER, "ready USING PRIMARY KEY (priority=? AND lane=? AND job>?)"),
        (sql::SOME_LANES_OF_RESOLVER, "lane USING COVERING INDEX lane_resolver (resolver=?)"),
        (sql::SOME_LANES_OF_HOST, "(host=?)"),
        (sql::LANE_BY_NAMES, "(host=? AND resolver=? AND kind=? AND tag=?)"),
        (sql::DUE, "delayed USING PRIMARY KEY (class=? AND at_ms<?)"),
        (sql::DELETE_DELAYED_UP_TO, "delayed USING PRIMARY KEY (class=? AND (at_ms,job)<(?,?))"),
        (sql::DELETE_READY_UP_TO, "ready USING PRIMARY KEY (priority=? AND lane=? AND job<?)"),
        (sql::WALK_FAILED, "progress USING INDEX progress_failed (state=? AND rowid>?)"),
        (sql::SEEN, "seen USING INTEGER PRIMARY KEY (rowid=?)"),
        (sql::TALLIES, "tally USING PRIMARY KEY (dimension=? AND key>?)"),
        (sql::PLACE_NEW, "job USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (sql::keys::MEMBER, "owner USING COVERING INDEX owner_sole (sole=?)"),
        (sql::keys::CHANGED, "key_record USING INDEX key_record_version (version>?)"),
        (sql::keys::SLOTS_AWAITED, "w USING INDEX share_waiting (asked_at_ns>?)"),
        (sql::keys::SLOTS_AWAITED, "USING PRIMARY KEY (dimension=? AND name=? AND owner=?)"),
        (sql::keys::TOKENS_AWAITED, "INDEX share_tokens (owner=?)"),
        (sql::keys::TOKENS_AWAITED, "USING PRIMARY KEY (dimension=? AND name=?)"),
        (sql::keys::KEYS_OF, "share USING COVERING INDEX share_owner (owner=?)"),
        (sql::keys::DECLARED, "declared USING PRIMARY KEY (dimension=? AND name=?)"),
    ] {
        let plan = plan(&store.conn, statement).join("; ");
        assert!(plan.contains(index), "{statement}\n{plan}");
    }
}
