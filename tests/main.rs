//! Everything that is proven through the binary or across modules, in one test binary.

// `limits` compiles sources of the library, which call it so.
use orch::job;

mod limits;
