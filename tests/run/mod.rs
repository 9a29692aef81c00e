//! `orch queue run` through the real binary: how it ends, stops, works, tells, and bears a full disk.

mod demo;
mod drain;
mod exec;
mod fetch;
mod full_disk;
pub(crate) mod origin;
mod output;
mod replay;
mod stop;
mod work;

use serde_json::{Value, json};

use crate::support::{Place, until};

/// A job that does nothing and is done.
fn noop(id: &str) -> Value {
    json!({"id": id, "kind": "noop"})
}

/// A job that runs a script.
fn exec(id: &str, script: &str) -> Value {
    json!({"id": id, "kind": "exec", "shell": script})
}

/// A job that marks its start with the file `started` and goes on until there is a file `go`, or its folder is gone.
fn held(id: &str) -> Value {
    exec(id, "touch started; while [ -e started ] && ! [ -e go ]; do sleep 0.02; done")
}

/// The line with some fields more.
fn with(mut line: Value, more: &Value) -> Value {
    let fields = more.as_object().unwrap().clone();
    line.as_object_mut().unwrap().extend(fields);
    line
}

fn until_there(place: &Place, name: &str) {
    until(name, || place.path(name).exists());
}

/// State, reason, and attempts of the present allowance.
fn in_short(job: &Value) -> (&str, &str, u64) {
    let attempts = job["attempts"].as_u64().unwrap();
    (job["state"].as_str().unwrap(), job["reason"].as_str().unwrap_or("-"), attempts)
}

/// It is queued as if it had never been started.
#[track_caller]
fn assert_untouched(job: &Value) {
    assert_eq!(in_short(job), ("queued", "-", 0), "{job:#}");
    assert_eq!(job["losses"], 0, "{job:#}");
}
