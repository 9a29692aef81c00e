//! The shape of the source: what may know what, and what may not be said where.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every module with what it may know of the crate, as docs/architecture.md says.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("job", &[]),
    ("clock", &["job"]),
    ("process", &[]),
    ("intake", &["job"]),
    ("share", &["job"]),
    ("limit", &["job", "share"]),
    ("queue", &["job", "share", "clock", "process"]),
    ("handler", &["job", "share", "clock", "process", "limit"]),
    ("run", &["job", "share", "clock", "process", "queue", "limit", "handler"]),
    ("bench", &["job", "clock", "queue", "handler", "run"]),
    ("telemetry", &["job", "share", "clock", "queue", "limit", "run"]),
    ("config", &["job", "share", "limit"]),
];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, into: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                into.push((path, text));
            }
        }
    }
    let mut all = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    assert!(all.len() > 20, "the sources were not found");
    all
}

/// The module a file belongs to: the first part of its path below `src`.
fn module_of(path: &Path) -> String {
    let below = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    below.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// A file's text without comments and without its tests.
fn code(path: &Path, text: &str) -> String {
    let is_test = path.file_stem().is_some_and(|stem| stem == "tests" || stem == "testing")
        || path.components().any(|part| part.as_os_str() == "tests");
    if is_test {
        return String::new();
    }
    let untested = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    untested
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn dependencies_point_one_way() {
    let may: BTreeMap<&str, &[&str]> = MAY_KNOW.iter().copied().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        let Some(allowed) = may.get(module.as_str()) else { continue };
        for part in code(&path, &text).split("crate::").skip(1) {
            let known: String =
                part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if known != module && !known.is_empty() && !allowed.contains(&known.as_str()) {
                wrong.push(format!("{} knows {known}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_the_clock_asks_the_time_or_sleeps() {
    let forbidden =
        ["Instant::now", "SystemTime::now", "thread::sleep", "Timestamp::now", "Zoned::now"];
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if module_of(&path) == "clock" {
            continue;
        }
        let code = code(&path, &text);
        wrong.extend(
            forbidden
                .iter()
                .filter(|word| code.contains(*word))
                .map(|word| format!("{} says {word}", path.display())),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_pure_core_does_no_io() {
    let forbidden = ["std::fs", "std::net", "std::thread", "rusqlite", "rand::", "Clock"];
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let pure = matches!(module_of(&path).as_str(), "job" | "share" | "limit")
            || path.ends_with("run/frontier/mod.rs");
        let code = code(&path, &text);
        wrong.extend(
            forbidden
                .iter()
                .filter(|word| pure && code.contains(*word))
                .map(|word| format!("{} says {word}", path.display())),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|(path, text)| !path.ends_with("tests.rs") && !text.starts_with("//!"))
        .map(|(path, _)| path)
        .collect();
    assert!(silent.is_empty(), "no //! at the top: {silent:#?}");
}

#[test]
fn no_file_needs_a_table_of_contents() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > 900)
        .collect();
    assert!(long.is_empty(), "two files each, please: {long:#?}");
}

/// What the store may open by itself: a database that nobody can have open yet, directories it made, and the lock files
/// and bells that are its own. Closing a descriptor of the database, its `-wal` or its `-shm` would drop the locks of SQLite (invariant 11).
const OPENED_BY_THE_STORE: &[(&str, &[&str])] = &[
    ("open.rs", &["File::options().write(true).create_new(true).mode(0o600).open(path)"]),
    ("open.rs", &["File::open(above)", "directory.sync_all()"]),
    (
        "open.rs",
        &["File::options().write(true).create(true).truncate(false).mode(0o600).open(path)"],
    ),
    ("owner.rs", &["File::open(&path)", "join(LOCK)"]),
    ("owner.rs", &["File::options().write(true)", "self.directory(id).join(BELL)"]),
    ("owner.rs", &["File::options().write(true).create_new(true).mode(0o600).open(&path)"]),
    ("owner.rs", &["File::options().read(true).write(true)", "open_bell"]),
    (
        "waiting.rs",
        &["File::options();options.write(true).create(true).truncate(false).mode(0o600)"],
    ),
    ("waiting.rs", &["File::options().write(true).open(&self.path)", "sibling(path,\"-waiting\")"]),
];

#[test]
fn only_sqlite_opens_the_database() {
    let forbidden = ["File::open(", "File::create(", "File::options()", "OpenOptions::new()"];
    let copies = ["fs::read(", "fs::write(", "fs::copy(", "fs::rename(", "fs::hard_link("];
    let mut opened = 0;
    for (path, text) in sources() {
        let code: String = code(&path, &text).split_whitespace().collect();
        if !path.components().any(|part| part.as_os_str() == "sqlite") || code.is_empty() {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let allowed: Vec<_> =
            OPENED_BY_THE_STORE.iter().filter(|(file, _)| *file == name).collect();
        let here: usize = forbidden.iter().map(|word| code.matches(word).count()).sum();
        assert_eq!(here, allowed.len(), "{} opens files: which, and why?", path.display());
        for part in allowed.iter().flat_map(|(_, parts)| *parts) {
            assert!(code.contains(part), "{} does not say {part}", path.display());
        }
        assert!(!copies.iter().any(|word| code.contains(word)), "{} copies files", path.display());
        opened += here;
    }
    assert_eq!(opened, OPENED_BY_THE_STORE.len());
}
