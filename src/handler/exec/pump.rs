//! The wait for one command: its output read, its input fed, its end and the cancel flag watched, in one `poll`.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::AsFd;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use super::super::{CancelReason, Context};
use super::output::Tail;
use crate::job::Mono;
use crate::process::Group;

/// How long a cancelled command may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);
/// So much is read at a time, in bytes.
const CHUNK_BYTES: usize = 16 * 1024;

/// How far a command has been told to go.
#[derive(Clone, Copy)]
enum Stage {
    Running,
    /// It was asked to end, and is killed at that time.
    Asked(Mono),
    Killed,
}

/// What a command came to.
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    /// Why it was told to end, if it was.
    pub(super) cancelled: Option<CancelReason>,
    pub(super) output: Tail,
}

/// What a command is still to be given to read.
pub(super) struct Feed<'a> {
    /// Must not block when it is full.
    pub(super) pipe: PipeWriter,
    pub(super) rest: &'a [u8],
}

/// A running command, and our ends of its pipes.
pub(super) struct Pump<'a> {
    group: Group,
    /// `None` once everybody has closed it.
    output: Option<PipeReader>,
    /// `None` once all is written, or nobody reads any more.
    input: Option<Feed<'a>>,
    tail: Tail,
    stage: Stage,
}

/// What there is to do.
#[derive(Default)]
struct Ready {
    exited: bool,
    output: bool,
    input: bool,
    cancelled: bool,
    timed_out: bool,
}

impl<'a> Pump<'a> {
    /// The pipes of a command that has begun.
    pub(super) fn new(group: Group, output: PipeReader, input: Option<Feed<'a>>) -> Pump<'a> {
        Pump { group, output: Some(output), input, tail: Tail::default(), stage: Stage::Running }
    }

    /// Waits until the leader has exited. Who else holds its pipes does not count: the rest of the group is killed, and
    /// the output ends with what was written by then.
    ///
    /// # Errors
    /// When waiting itself fails; the group is ended.
    pub(super) fn finish(mut self, context: &Context<'_>) -> io::Result<Finished> {
        loop {
            let ready = self.wait(context)?;
            if ready.output {
                self.read(CHUNK_BYTES)?;
            }
            if ready.input {
                self.write();
            }
            // An end that came before the cancelling counts as its own.
            if ready.exited {
                break;
            }
            self.escalate(&ready, context);
        }
        let status = self.group.end()?;
        self.drain()?;
        let cancelled = match self.stage {
            Stage::Running => None,
            Stage::Asked(_) | Stage::Killed => context.cancel().reason(),
        };
        Ok(Finished { status, cancelled, output: self.tail })
    }

    fn wait(&self, context: &Context<'_>) -> io::Result<Ready> {
        let cancel = matches!(self.stage, Stage::Running).then(|| context.cancel().as_fd());
        let watched = [
            (Some(self.group.exited()), PollFlags::IN),
            (self.output.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (self.input.as_ref().map(|feed| feed.pipe.as_fd()), PollFlags::OUT),
            (cancel, PollFlags::IN),
        ];
        let mut fds: Vec<_> = watched
            .into_iter()
            .filter_map(|(fd, events)| Some(PollFd::from_borrowed_fd(fd?, events)))
            .collect();
        let events = match poll(&mut fds, self.timeout(context).as_ref()) {
            Err(Errno::INTR) => return Ok(Ready::default()),
            events => events?,
        };
        let mut answers = fds.iter().map(|fd| !fd.revents().is_empty());
        let [exited, output, input, cancelled] =
            watched.map(|(fd, _)| fd.is_some() && answers.next().unwrap_or(false));
        Ok(Ready { exited, output, input, cancelled, timed_out: events == 0 })
    }

    fn timeout(&self, context: &Context<'_>) -> Option<Timespec> {
        match self.stage {
            Stage::Asked(until) => {
                let left = until.since(context.mono());
                Some(Timespec::try_from(left).unwrap_or_default())
            }
            Stage::Running | Stage::Killed => None,
        }
    }

    fn escalate(&mut self, ready: &Ready, context: &Context<'_>) {
        match self.stage {
            Stage::Running if ready.cancelled => {
                self.group.signal(Signal::TERM);
                self.stage = Stage::Asked(context.mono().plus(GRACE));
            }
            Stage::Asked(until) if ready.timed_out || context.mono() >= until => {
                self.group.signal(Signal::KILL);
                self.stage = Stage::Killed;
            }
            _ => {}
        }
    }

    /// Reads once, at most that much: does not block when something is there. How much it was.
    fn read(&mut self, at_most_bytes: usize) -> io::Result<usize> {
        let Some(pipe) = &mut self.output else { return Ok(0) };
        let mut chunk = [0; CHUNK_BYTES];
        let room = &mut chunk[..at_most_bytes.min(CHUNK_BYTES)];
        let length = loop {
            match pipe.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        if length == 0 {
            self.output = None;
        }
        self.tail.push(&room[..length]);
        Ok(length)
    }

    fn write(&mut self) {
        let Some(Feed { pipe, rest }) = &mut self.input else { return };
        match rustix::io::write(&*pipe, rest) {
            Ok(length) if length < rest.len() => *rest = &rest[length..],
            Err(Errno::AGAIN | Errno::INTR) => {}
            // All is written; or nobody reads any more, which is the command's own affair.
            Ok(_) | Err(_) => self.input = None,
        }
    }

    /// Reads what was written until now. Not to the end: one that left the group may hold the pipe for ever.
    fn drain(&mut self) -> io::Result<()> {
        let Some(pipe) = &self.output else { return Ok(()) };
        let mut left = usize::try_from(rustix::io::ioctl_fionread(pipe)?).unwrap_or(usize::MAX);
        while left > 0 {
            match self.read(left)? {
                0 => break,
                length => left -= length,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::context::testing::run;
    use super::super::super::{Handler, Ran};
    use super::super::payload::Task;
    use super::*;
    use crate::job::Outcome;

    /// Looks at the command only when it has long exited; says how much it wrote.
    struct LateLooker;

    impl Handler for LateLooker {
        fn run(&self, context: &mut Context<'_>) -> Ran {
            let task = Task::of(context).unwrap();
            let pump = super::super::start(&task, context).unwrap();
            let exited = pump.group.exited();
            poll(&mut [PollFd::from_borrowed_fd(exited, PollFlags::IN)], None).unwrap();
            let finished = pump.finish(context).unwrap();
            let written = finished.output.total_bytes().to_string();
            Outcome::fail(crate::job::ErrorReason::Internal, written).into()
        }
    }

    #[test]
    fn what_a_command_left_in_the_pipe_is_read_after_its_end() {
        let outcome = run(&LateLooker, r#"{"command":["head","-c","60000","/dev/zero"]}"#);
        let Outcome::Fail { note, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(note.message, "60000");
    }
}
