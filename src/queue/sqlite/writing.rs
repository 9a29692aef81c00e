//! A write transaction, and how the write lock is waited for.
//!
//! SQLite has no event for a lock that comes free, and its own waiting goes up to a tenth of a second between two looks: where
//! several processes take turns of a millisecond, whoever waits so loses to those who come by, and hears of what others say much too
//! late. Here it is looked at every millisecond. Must never wait for longer than it was told, nor leave a transaction open.

use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::fault::Worked;
use crate::clock::{Clock, System};

/// The first wait between two looks; it doubles up to [`LONGEST_STEP`].
const FIRST_STEP: Duration = Duration::from_micros(100);
const LONGEST_STEP: Duration = Duration::from_millis(1);

/// An open write transaction: rolled back when dropped.
pub(super) struct Writing<'c> {
    conn: &'c Connection,
}

impl<'c> Writing<'c> {
    /// Takes the write lock, within `patience`.
    pub(super) fn begin(conn: &'c Connection, patience: Duration) -> Worked<Writing<'c>> {
        conn.busy_timeout(Duration::ZERO)?;
        let begun = begin(conn, patience);
        conn.busy_timeout(patience)?;
        begun?;
        Ok(Writing { conn })
    }

    /// Makes it last.
    pub(super) fn commit(self) -> Worked<()> {
        // On an error it is still open, and the drop rolls it back.
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if !self.conn.is_autocommit() {
            // Some errors have rolled it back already; if this fails, the connection is of no more use and says so next time.
            let _ = self.conn.execute_batch("ROLLBACK");
        }
    }
}

fn begin(conn: &Connection, patience: Duration) -> rusqlite::Result<()> {
    let clock = System::new();
    let mut statement = conn.prepare_cached("BEGIN IMMEDIATE")?;
    let mut since = None;
    let mut step = FIRST_STEP;
    loop {
        let Err(error) = statement.execute([]) else { return Ok(()) };
        let now = clock.mono();
        let waited = now.since(*since.get_or_insert(now));
        if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) || waited >= patience {
            return Err(error);
        }
        clock.pause(step);
        step = (step * 2).min(LONGEST_STEP);
    }
}
