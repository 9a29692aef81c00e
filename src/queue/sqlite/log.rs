//! The write-ahead log: carried over into the database in good time, so that it does not grow.
//!
//! ```text
//!   frames  0 ────────── CARRY_AT ─────────────── PRESS_AT ──────────>
//!             nothing     beside the others         with the write lock, so that nobody adds to it meanwhile
//! ```
//!
//! SQLite begins its log anew only when all of it was carried over and nobody reads from it. Where several processes take turns of a
//! millisecond, somebody has always written something since, and a log that is carried over beside them would grow for as long as they
//! run. Under a reader of another program that does not end it grows all the same, and is cut back once that has ended. Must never be
//! done inside a transaction, nor keep others from writing for longer than [`LOOKS`] and what is left to carry take.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use super::sql;
use crate::clock::{Clock, System};

/// From so many pages on (16 MiB) the log is carried over: a page that is written by many commits goes to the database once.
const CARRY_AT: i32 = 4_096;

/// From so many on it is pressed.
const PRESS_AT: i32 = 2 * CARRY_AT;

/// When it did not begin anew, it is carried over again so many pages later.
const AGAIN_AFTER: i32 = CARRY_AT / 4;

/// So often the write lock, and then readers, are looked for when it is pressed, and so long after each other.
const LOOKS: i32 = 100;
const LOOK_EVERY: Duration = Duration::from_micros(100);

/// The log as one connection sees it.
#[derive(Debug)]
pub(super) struct Log {
    /// Pages in it when this connection last committed; 0 where there is no log.
    pages: Arc<AtomicI32>,
    /// Not to be carried over below so many.
    again_at: i32,
}

impl Log {
    /// Watches the log of a connection, and takes the carrying over from SQLite, which would do it at once: before the bells are rung.
    pub(super) fn of(conn: &mut Connection) -> rusqlite::Result<Log> {
        let pages = Arc::new(AtomicI32::new(0));
        let seen = Arc::clone(&pages);
        conn.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
            seen.store(pages, Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Log { pages, again_at: CARRY_AT })
    }

    /// Carries the log over if it is time, after a commit. `busy_timeout` is what the connection has, and has again afterwards. What goes
    /// wrong is no fault of the commit, which holds.
    pub(super) fn carry_over(&mut self, conn: &mut Connection, busy_timeout: Duration) {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < CARRY_AT {
            self.again_at = CARRY_AT;
        }
        if pages < self.again_at {
            return;
        }
        // That nothing is left says little: whoever began to write meanwhile goes on at the end of the log.
        let _ = carry(conn, sql::CARRY_OVER);
        if pages >= PRESS_AT {
            let _ = press(conn, busy_timeout);
        }
        self.again_at = pages.saturating_add(AGAIN_AFTER);
    }
}

/// Carries over with the write lock, if it is to be had soon. Whoever takes it next begins the log anew.
fn press(conn: &mut Connection, busy_timeout: Duration) -> rusqlite::Result<()> {
    // SQLite's own way of waiting looks too seldom to find the moment between two turns.
    conn.busy_handler(Some(|looks| {
        System::new().pause(LOOK_EVERY);
        looks < LOOKS
    }))?;
    let pressed = carry(conn, sql::PRESS);
    conn.busy_timeout(busy_timeout)?;
    pressed
}

fn carry(conn: &Connection, statement: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(statement)?.query_row([], |_| Ok(()))
}
