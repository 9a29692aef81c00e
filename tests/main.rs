//! One test binary, by what it proves: one link, and one list of topics.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

// `limits` compiles sources of the library, which call it so.
use orch::{job, share};

mod cli;
mod conformance;
mod crash;
mod limits;
mod locks;
mod run;
mod support;
mod tidy;

/// A file nobody declares is a test nobody runs.
#[test]
fn no_forgotten_test_files() {
    let declared = include_str!("main.rs");
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        // The fuzz targets are a crate of their own.
        let is_crate = path.join("Cargo.toml").is_file();
        let is_topic =
            (path.is_dir() && !is_crate) || path.extension().is_some_and(|ext| ext == "rs");
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let line = format!("\nmod {name};\n");
        assert!(
            !is_topic || name == "main" || declared.contains(&line),
            "tests/{name} is not declared"
        );
    }
}
