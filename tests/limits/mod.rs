//! Every order in which threads can meet in `src/limit`, or many of them: shuttle runs the same sources on locks of its
//! own and chooses who goes next. A failing schedule is printed and replays with `shuttle::replay`.

mod model;
#[expect(clippy::unwrap_used, reason = "what a test calls is a test")]
mod scenarios;
mod sync;
