//! Reads ahead on a thread of its own, which puts each job in line, and hands over batches that are large enough or old enough.

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError, bounded};

use crate::cli::error::CliError;
use crate::clock::Clock;
use crate::intake::{Item, LineError, ReadError, Reader};
use crate::job::{JobSpec, Mono};

/// The most jobs handed over at once.
pub(super) const BATCH_JOBS: usize = 16_384;
/// The most bytes of payload handed over at once (the job that crosses the bound is among them).
const BATCH_BYTES: usize = 8 << 20;
/// The most bad lines reported at once.
const BATCH_BAD: usize = 1_024;
/// A batch that is not full waits no longer than this for more.
const BATCH_AGE: Duration = Duration::from_millis(200);
/// How far the reader may be ahead.
const AHEAD: usize = BATCH_JOBS;

/// What came in.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) jobs: Vec<JobSpec>,
    pub(super) bad: Vec<LineError>,
    /// Set on the last batch: the input is over, or cannot be read further.
    pub(super) end: Option<Result<(), ReadError>>,
}

/// A reader at work.
pub(super) struct Feed {
    items: Receiver<Result<Item, ReadError>>,
}

impl Feed {
    /// Starts reading, and has `place` see each job. The thread ends with its input, or when the feed is dropped.
    pub(super) fn start(
        reader: Reader,
        place: impl Fn(&mut JobSpec) + Send + 'static,
    ) -> Result<Feed, CliError> {
        let (sender, items) = bounded(AHEAD);
        let read = move || {
            for mut item in reader {
                if let Ok(Item::Job(spec)) = &mut item {
                    place(spec);
                }
                if sender.send(item).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new().name("import-reader".to_owned()).spawn(read).map_err(no_thread)?;
        Ok(Feed { items })
    }

    /// The next batch; may be empty when nothing came for a while.
    pub(super) fn next_batch(&mut self, clock: &dyn Clock) -> Batch {
        let mut batch = Batch::default();
        let mut bytes = 0;
        let mut began: Option<Mono> = None;
        while batch.jobs.len() < BATCH_JOBS && bytes < BATCH_BYTES && batch.bad.len() < BATCH_BAD {
            match self.next(clock, &mut began) {
                Next::Item(Item::Job(spec)) => {
                    bytes += spec.payload.len();
                    batch.jobs.push(spec);
                }
                Next::Item(Item::Bad(error)) => batch.bad.push(*error),
                Next::Waited => break,
                Next::End(end) => {
                    batch.end = Some(end);
                    break;
                }
            }
        }
        batch
    }

    fn next(&self, clock: &dyn Clock, began: &mut Option<Mono>) -> Next {
        let received = match self.items.try_recv() {
            Ok(item) => Ok(item),
            Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
            Err(TryRecvError::Empty) => {
                let now = clock.mono();
                let since = now.since(*began.get_or_insert(now));
                self.items.recv_timeout(BATCH_AGE.saturating_sub(since))
            }
        };
        match received {
            Ok(Ok(item)) => Next::Item(item),
            Ok(Err(error)) => Next::End(Err(error)),
            Err(RecvTimeoutError::Timeout) => Next::Waited,
            Err(RecvTimeoutError::Disconnected) => Next::End(Ok(())),
        }
    }
}

enum Next {
    Item(Item),
    Waited,
    End(Result<(), ReadError>),
}

fn no_thread(source: io::Error) -> CliError {
    CliError::File { action: "start a thread to read", path: PathBuf::from("the input"), source }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::clock::System;
    use crate::intake::{Format, Kinds};
    use crate::job::Kind;

    fn feed(input: impl io::Read + Send + 'static) -> Feed {
        let kinds = Kinds::new([Kind::fetch()], Kind::fetch());
        Feed::start(Reader::from_read("test", input, Format::Jsonl, &kinds).unwrap(), |_| {})
            .unwrap()
    }

    #[test]
    fn a_batch_is_bounded_and_nothing_is_lost() {
        let jobs = 2 * BATCH_JOBS + 7;
        let text: String = (0..jobs).map(|n| format!("{{\"id\":\"{n}\"}}\nbad\n")).collect();
        let mut feed = feed(io::Cursor::new(text));
        let clock = System::new();
        let (mut good, mut bad) = (0, 0);
        loop {
            let batch = feed.next_batch(&clock);
            assert!(batch.jobs.len() <= BATCH_JOBS && batch.bad.len() <= BATCH_BAD);
            good += batch.jobs.len();
            bad += batch.bad.len();
            if let Some(end) = batch.end {
                end.unwrap();
                break;
            }
        }
        assert_eq!((good, bad), (jobs, jobs));
    }

    #[test]
    fn jobs_of_a_slow_pipe_do_not_wait_for_its_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"{\"id\":\"first\"}\n").unwrap();
        // The writer stays open: what was written must come all the same.
        let mut feed = feed(reader);
        let clock = System::new();
        let batch = loop {
            let batch = feed.next_batch(&clock);
            if !batch.jobs.is_empty() {
                break batch;
            }
        };
        assert_eq!(batch.jobs[0].artifact_id.as_str(), "first");
        assert!(batch.end.is_none());
        drop(writer);
    }
}
