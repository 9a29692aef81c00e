//! Which tokens are in force, and the end of their leases: the fence that a stale worker meets.
//!
//! A batch of settlements is looked up in the order of the rows, beside a cursor over `lease`. Leases that lie
//! next to each other, as those of one turn do, are read and deleted as one run; a seek is made only where there is a
//! gap. A batch of one is one seek, whatever the number of leases.

use super::batch::Batch;
use super::fault::Worked;
use super::sql;
use crate::job::{Epoch, JobRow, LaneId, LeaseToken};
use crate::queue::store::{Owner, Settlement};

/// A gap of more leases than this is cheaper to seek over than to step through.
const MAX_STEPS: usize = 8;

/// Leases that are next to each other in the table: first and last row, and how many.
type Run = (JobRow, JobRow, usize);

/// Ends the leases of those tokens that are in force for `owner`. For each settlement, in order, the lane its job was
/// leased from; `None` when its token is stale.
pub(super) fn release(
    batch: &Batch<'_>,
    owner: &Owner,
    settlements: &[Settlement],
) -> Worked<Vec<Option<LaneId>>> {
    let mut order: Vec<usize> = (0..settlements.len()).collect();
    order.sort_unstable_by_key(|at| settlements[*at].token);
    let tokens = order.iter().map(|at| settlements[*at].token);
    let mut lanes = vec![None; settlements.len()];
    let mut runs: Vec<Run> = Vec::new();
    find(batch, owner, tokens, &mut runs, |at, lane| lanes[order[at]] = Some(lane))?;
    let mut delete = batch.conn.prepare_cached(sql::RELEASE_RUN)?;
    for (first, last, count) in runs {
        let gone = delete.execute((first.0, last.0))?;
        batch.changed_one(usize::from(gone == count), first)?;
    }
    Ok(lanes)
}

/// Walks sorted tokens beside the lease table, and reports those in force by their place among the tokens.
fn find(
    batch: &Batch<'_>,
    owner: &Owner,
    tokens: impl Iterator<Item = LeaseToken>,
    runs: &mut Vec<Run>,
    mut held: impl FnMut(usize, LaneId),
) -> Worked<()> {
    let mut statement = batch.conn.prepare_cached(sql::LEASES_FROM)?;
    let mut tokens = tokens.enumerate().peekable();
    while let Some((_, token)) = tokens.peek() {
        let mut rows = statement.query([token.job.0])?;
        let mut run: Option<Run> = None;
        let mut steps = 0;
        while tokens.peek().is_some() && steps <= MAX_STEPS {
            let Some(row) = rows.next()? else {
                // No lease beyond: what tokens are left are stale.
                runs.extend(run);
                return Ok(());
            };
            let lease = LeaseToken { job: JobRow(row.get(0)?), epoch: Epoch(row.get(1)?) };
            let is_ours = row.get::<_, i64>(2)? == owner.row;
            let mut is_settled = false;
            while let Some((at, token)) = tokens.next_if(|(_, token)| token.job <= lease.job) {
                if token == lease && is_ours && !is_settled {
                    held(at, LaneId(row.get(3)?));
                    is_settled = true;
                }
            }
            if is_settled {
                let (first, _, count) = run.unwrap_or((lease.job, lease.job, 0));
                run = Some((first, lease.job, count + 1));
                steps = 0;
            } else {
                runs.extend(run.take());
                steps += 1;
            }
        }
        runs.extend(run);
    }
    Ok(())
}
