//! How SQLite goes about the statements that must not slow down as the queue grows.

use super::super::sql;
use super::Place;

/// The plan of a statement, its lines joined.
fn plan(conn: &rusqlite::Connection, statement: &str) -> String {
    let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
    let arguments = vec![rusqlite::types::Value::Integer(1); explain.parameter_count()];
    let lines = explain
        .query_map(rusqlite::params_from_iter(arguments), |row| row.get::<_, String>(3))
        .unwrap();
    lines.map(Result::unwrap).collect::<Vec<_>>().join("; ")
}

#[test]
fn no_hot_statement_scans_or_sorts() {
    let place = Place::new();
    let store = place.open();
    for statement in [
        sql::IS_SEEN,
        sql::SEEN,
        sql::COPY_SLICE,
        sql::DELETE_SLICE,
        sql::BEGIN_PROGRESS,
        sql::ARTIFACT_ID,
        sql::PRUNED,
        sql::PAST,
        sql::DELETE_READY,
        sql::DELETE_READY_UP_TO,
        sql::DELETE_DELAYED,
        sql::DELETE_DELAYED_UP_TO,
        sql::DUE,
        sql::NEXT_DUE,
        sql::HEAD,
        sql::ANY_IN_LANE,
        sql::LEFT_BEHIND,
        sql::LEASE_UP_TO,
        sql::LEASES_FROM,
        sql::RELEASE_RUN,
        sql::RELEASE,
        sql::FINISH,
        sql::AGAIN,
        sql::DEFER,
        sql::HAND_BACK,
        sql::LOSE,
        sql::REQUEUE,
        sql::TRIM_ATTEMPTS,
        sql::ATTEMPTS,
        sql::LANE_BY_NAMES,
        sql::LANE_BY_ID,
        sql::LANES_OF_HOST,
        sql::SOME_LANES_OF_HOST,
        sql::SOME_LANES_OF_RESOLVER,
        sql::QUEUED_UNDER,
        sql::PACE,
        sql::ENDS_OF_LANE,
        sql::IS_READY,
        sql::LEASED_BY,
        sql::NEXT_LANE,
        sql::TALLIES,
        sql::DROP_EMPTY_TALLY,
        sql::IS_YIELD,
        sql::ADD_YIELD,
        sql::VIEW,
        sql::WALK_ALL,
        sql::WALK_LEASED,
        sql::WALK_BEGUN,
        sql::WALK_FAILED,
        sql::keys::MEMBER,
        sql::keys::ANY_OTHER,
        sql::keys::RECORD,
        sql::keys::PUT_RECORD,
        sql::keys::CHANGED,
        sql::keys::WALK_RECORDS,
        sql::keys::DROP_RECORD,
        sql::keys::SHARES,
        sql::keys::HOLDERS,
        sql::keys::PUT_SHARE,
        sql::keys::DROP_SHARE,
        sql::keys::KEYS_OF,
        sql::keys::SHARES_OF,
        sql::keys::DROP_SHARES_OF,
        sql::keys::SLOTS_AWAITED,
        sql::keys::TOKENS_AWAITED,
        sql::keys::DECLARED,
        sql::keys::DROP_DECLARED_OF,
        sql::keys::KEY_NAMES,
        sql::keys::TALLY,
    ] {
        let plan = plan(&store.conn, statement);
        let bad = plan.replace("SCAN CONSTANT ROW", "");
        assert!(!bad.contains("SCAN") && !bad.contains("TEMP B-TREE"), "{statement}\n{plan}");
    }
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
        (sql::keys::MEMBER, "owner USING COVERING INDEX owner_sole (sole=?)"),
        (sql::keys::CHANGED, "key_record USING INDEX key_record_version (version>?)"),
        (sql::keys::SLOTS_AWAITED, "w USING INDEX share_waiting (asked_at_ns>?)"),
        (sql::keys::SLOTS_AWAITED, "USING PRIMARY KEY (dimension=? AND name=? AND owner=?)"),
        (sql::keys::TOKENS_AWAITED, "INDEX share_tokens (owner=?)"),
        (sql::keys::TOKENS_AWAITED, "USING PRIMARY KEY (dimension=? AND name=?)"),
        (sql::keys::KEYS_OF, "share USING COVERING INDEX share_owner (owner=?)"),
        (sql::keys::DECLARED, "declared USING PRIMARY KEY (dimension=? AND name=?)"),
    ] {
        let plan = plan(&store.conn, statement);
        assert!(plan.contains(index), "{statement}\n{plan}");
    }
}
