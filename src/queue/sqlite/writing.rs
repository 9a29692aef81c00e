//! A write transaction, and how the write lock is waited for.
//!
//! SQLite has no event for a lock that comes free, and its own waiting goes up to a tenth of a second between two looks: where
//! several processes take turns of a millisecond, whoever waits so loses to those who come by, and hears of what others say much too
//! late. Here it is looked at every millisecond, and whoever waits is seen to wait (see `waiting.rs`). Must never wait for longer than it
//! was told, nor leave a transaction open.

use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::fault::Worked;
use super::sql;
use super::waiting::Waiting;
use crate::clock::{Clock, System};
use crate::job::Mono;
use crate::queue::store::LastWrite;

/// The first wait between two looks; it doubles up to the longest.
const FIRST_STEP: Duration = Duration::from_micros(100);

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// Somebody with little to write, who is waited for.
    Brief,
    /// Somebody with much to write, who gives way to the others: nobody need know that it waits.
    Bulk,
}

impl Writer {
    /// The longest wait between two looks. The others rest between their transactions for longer than a bulk writer waits for a look, and
    /// bulk writers do so among themselves for an instant only.
    fn longest_step(self) -> Duration {
        match self {
            Writer::Brief => Duration::from_millis(1),
            Writer::Bulk => FIRST_STEP,
        }
    }
}

/// An open write transaction: rolled back when dropped.
pub(super) struct Writing<'c> {
    conn: &'c Connection,
    began: Mono,
}

impl<'c> Writing<'c> {
    /// Takes the write lock, within `patience`.
    pub(super) fn begin(
        conn: &'c Connection,
        patience: Duration,
        writer: Writer,
        waiting: &mut Waiting,
    ) -> Worked<Writing<'c>> {
        conn.busy_timeout(Duration::ZERO)?;
        let begun = begin(conn, patience, writer, waiting);
        waiting.lower();
        conn.busy_timeout(patience)?;
        begun?;
        Ok(Writing { conn, began: System::new().mono() })
    }

    /// Makes it last.
    pub(super) fn commit(self, writer: Writer, waiting: &mut Waiting) -> Worked<LastWrite> {
        // Before the commit: whoever waits is no longer there to be seen as soon as the lock is free.
        let was_awaited = writer == Writer::Bulk && waiting.is_anybody();
        // On an error it is still open, and the drop rolls it back.
        self.conn.prepare_cached(sql::COMMIT)?.execute([])?;
        Ok(LastWrite { held: System::new().mono().since(self.began), was_awaited })
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if !self.conn.is_autocommit() {
            // Some errors have rolled it back already; if this fails, the connection is of no more use and says so next time.
            let _ = self.conn.execute_batch(sql::ROLLBACK);
        }
    }
}

fn begin(
    conn: &Connection,
    patience: Duration,
    writer: Writer,
    waiting: &mut Waiting,
) -> rusqlite::Result<()> {
    let clock = System::new();
    let mut statement = conn.prepare_cached(sql::BEGIN)?;
    let mut since = None;
    let mut step = FIRST_STEP;
    loop {
        let Err(error) = statement.execute([]) else { return Ok(()) };
        let now = clock.mono();
        let waited = now.since(*since.get_or_insert(now));
        if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) || waited >= patience {
            return Err(error);
        }
        if writer == Writer::Brief {
            waiting.raise();
        }
        clock.pause(step);
        step = (step * 2).min(writer.longest_step());
    }
}
