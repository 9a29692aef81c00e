//! One thread owns standard error: log lines and the live lines of the progress display go through it.
//!
//! Two things follow. A log line never garbles the live lines: the one thread takes them away, writes,
//! and draws them again. And a reader that stops reading (a paused terminal, `less`, a full pipe) stops
//! only that thread: whoever logs puts the line into a bounded queue and goes on. Lines that do not fit
//! are dropped, counted, and the count is written as soon as something can be written again.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait for a slow reader.
const MAX_WAITING: usize = 8_192;
/// Lines are written in chunks of up to so many bytes (the last line may go beyond).
const CHUNK_BYTES: usize = 64 * 1024;
/// Live lines are drawn for so many columns where the terminal does not tell.
const DEFAULT_COLUMNS: usize = 80;

/// Makes the live lines for a width in columns.
type Render = Box<dyn FnOnce(usize) -> Vec<String> + Send>;

enum Message {
    Line(Box<[u8]>),
    Live(Render),
    Flush(Sender<()>),
}

/// A handle on the thread that owns standard error. Clones share it.
#[derive(Clone)]
pub struct Screen {
    messages: Sender<Message>,
    dropped: Arc<AtomicU64>,
    live: bool,
}

impl Screen {
    /// Takes over standard error. With `live`, and if that is a terminal that can do it, live lines are shown.
    ///
    /// # Errors
    /// The system's, when no thread can be started.
    pub fn stderr(live: bool) -> io::Result<Screen> {
        let target = if live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Screen::start(Painter::new(Box::new(io::stderr()), target, stderr_columns))
    }

    fn start(painter: Painter) -> io::Result<Screen> {
        let (messages, inbox) = bounded(MAX_WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let screen = Screen { messages, dropped: dropped.clone(), live: painter.live.is_some() };
        thread::Builder::new()
            .name("orch-stderr".into())
            .spawn(move || paint(painter, &inbox, &dropped))?;
        Ok(screen)
    }

    /// Whether live lines are shown here.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Shows the lines that `render` makes for a width in columns in place of the present live lines; none: clears them.
    /// Rendered and drawn by the thread that owns the screen; passed over when that is busy.
    pub fn show(&self, render: impl FnOnce(usize) -> Vec<String> + Send + 'static) {
        if self.live {
            // A skipped picture is not missed: the next one comes within a second.
            let _ = self.messages.try_send(Message::Live(Box::new(render)));
        }
    }

    /// Writes `line`, which ends in a line break, above the live lines. Never waits.
    pub fn write_line(&self, line: &[u8]) {
        if let Err(TrySendError::Full(_)) = self.messages.try_send(Message::Line(line.into())) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything given so far is written, but no longer than `within`. Says whether it is.
    ///
    /// To be called before anything else is written to the terminal, and before the process ends.
    pub fn flush(&self, within: Duration) -> bool {
        let (done, written) = bounded(1);
        self.messages.send_timeout(Message::Flush(done), within).is_ok()
            && written.recv_timeout(within).is_ok()
    }
}

/// One event's writer, for tracing: every event is written with one call.
pub struct LineWriter<'a>(&'a Screen);

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter(self)
    }
}

/// What the thread owns.
struct Painter {
    out: Box<dyn Write + Send>,
    live: Option<Live>,
}

struct Live {
    all: MultiProgress,
    /// All live lines in one, so that they are drawn at once; `None` when there are none.
    lines: Option<ProgressBar>,
    columns: fn() -> usize,
}

impl Painter {
    fn new(
        out: Box<dyn Write + Send>,
        target: ProgressDrawTarget,
        columns: fn() -> usize,
    ) -> Painter {
        let all = MultiProgress::with_draw_target(target);
        let live = (!all.is_hidden()).then(|| Live { all, lines: None, columns });
        Painter { out, live }
    }

    /// Errors are let go: there is nowhere left to tell them.
    fn write(&mut self, lines: &[u8]) {
        let out = &mut self.out;
        let mut write = || {
            let _ = out.write_all(lines).and_then(|()| out.flush());
        };
        match &self.live {
            Some(live) => live.all.suspend(write),
            None => write(),
        }
    }
}

impl Live {
    fn show(&mut self, render: Render) {
        let text = render((self.columns)()).join("\n");
        if !text.is_empty() {
            // Without a length and a tick thread: it is drawn when its text changes, and only then.
            let new = || self.all.add(ProgressBar::new_spinner().with_style(plain()));
            self.lines.get_or_insert_with(new).set_message(text);
        } else if let Some(lines) = self.lines.take() {
            // Removed alone, the text would stay on the screen until something else is drawn.
            lines.finish_and_clear();
            self.all.remove(&lines);
        }
    }
}

/// A bar that shows its text and nothing else.
fn plain() -> ProgressStyle {
    ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// The thread's life: until the last handle is gone.
fn paint(mut painter: Painter, inbox: &Receiver<Message>, dropped: &AtomicU64) {
    let mut chunk = Vec::new();
    while let Ok(first) = inbox.recv() {
        // Lines that are waiting already are written with one call, and the live lines drawn once.
        let mut next = Some(first);
        while let Some(Message::Line(line)) = next {
            chunk.extend_from_slice(&line);
            next = if chunk.len() < CHUNK_BYTES { inbox.try_recv().ok() } else { None };
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let note = format!("({lost} log lines were dropped here: nobody read them in time)\n");
            chunk.extend_from_slice(note.as_bytes());
        }
        if !chunk.is_empty() {
            painter.write(&chunk);
            chunk.clear();
        }
        match next {
            Some(Message::Live(render)) => {
                if let Some(live) = &mut painter.live {
                    live.show(render);
                }
            }
            // Nobody listening is as good as an answer.
            Some(Message::Flush(done)) => drop(done.send(())),
            Some(Message::Line(_)) | None => {}
        }
    }
}

/// The width of the terminal that standard error is, in columns.
fn stderr_columns() -> usize {
    rustix::termios::tcgetwinsize(io::stderr())
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|columns| *columns > 0)
        .unwrap_or(DEFAULT_COLUMNS)
}

#[cfg(test)]
mod tests {
    use indicatif::TermLike;
    use parking_lot::Mutex;

    use super::*;

    /// Ample for a loaded machine; only a hang reaches it.
    const AMPLE: Duration = Duration::from_secs(60);

    /// What reached the terminal, in order: `clear`, drawn text, and log lines after `log:`.
    #[derive(Debug, Clone, Default)]
    struct Tape(Arc<Mutex<Vec<String>>>);

    impl Tape {
        fn note(&self, what: &str) {
            if !what.is_empty() {
                self.0.lock().push(what.trim_end().to_owned());
            }
        }
    }

    impl Write for Tape {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.note(&format!("log:{}", String::from_utf8_lossy(text)));
            Ok(text.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl TermLike for Tape {
        fn width(&self) -> u16 {
            40
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.note(text);
            Ok(())
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.note(text.trim());
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            self.note("clear");
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn taped(live: bool) -> (Screen, Tape) {
        let tape = Tape::default();
        let target = match live {
            true => ProgressDrawTarget::term_like(Box::new(tape.clone())),
            false => ProgressDrawTarget::hidden(),
        };
        let painter = Painter::new(Box::new(tape.clone()), target, || 40);
        (Screen::start(painter).unwrap(), tape)
    }

    #[test]
    fn a_log_line_takes_the_live_lines_away_and_puts_them_back() {
        let (screen, tape) = taped(true);
        screen.show(|columns| vec![format!("{columns} columns")]);
        assert!(screen.flush(AMPLE));
        tape.0.lock().clear();
        screen.write_line(b"one\n");
        assert!(screen.flush(AMPLE));
        assert_eq!(*tape.0.lock(), ["clear", "log:one", "40 columns"]);
    }

    #[test]
    fn several_live_lines_are_drawn_as_several() {
        let (screen, tape) = taped(true);
        screen.show(|_| vec!["first".into(), "second".into()]);
        assert!(screen.flush(AMPLE));
        tape.0.lock().clear();
        screen.show(|_| vec!["third".into(), "fourth".into()]);
        assert!(screen.flush(AMPLE));
        assert_eq!(*tape.0.lock(), ["clear", "clear", "third", "fourth"], "drawn once");
    }

    #[test]
    fn live_lines_come_and_go() {
        let (screen, tape) = taped(true);
        assert!(screen.is_live());
        screen.show(|_| vec!["first".into(), "second".into()]);
        assert!(screen.flush(AMPLE));
        tape.0.lock().clear();
        screen.show(|_| Vec::new());
        assert!(screen.flush(AMPLE));
        let drawn = tape.0.lock().drain(..).collect::<Vec<_>>();
        assert!(drawn.contains(&"clear".into()), "{drawn:?}");
        assert!(!drawn.iter().any(|text| text.contains("second")), "{drawn:?}");
        screen.write_line(b"one\n");
        assert!(screen.flush(AMPLE));
        assert_eq!(*tape.0.lock(), ["log:one"]);
    }

    #[test]
    fn where_there_is_no_terminal_nothing_is_drawn() {
        let (screen, tape) = taped(false);
        assert!(!screen.is_live());
        screen.show(|_| vec!["live".into()]);
        screen.write_line(b"one\n");
        assert!(screen.flush(AMPLE));
        assert_eq!(*tape.0.lock(), ["log:one"]);
    }

    /// Writes only when it is let.
    struct Gated(Receiver<()>, Tape);

    impl Write for Gated {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            self.1.write(text)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stalls_stops_nobody_and_what_is_dropped_is_said() {
        let (open, gate) = bounded(MAX_WAITING);
        let tape = Tape::default();
        let out = Gated(gate, tape.clone());
        let painter = Painter::new(Box::new(out), ProgressDrawTarget::hidden(), || 40);
        let screen = Screen::start(painter).unwrap();
        // The writer stands still: the queue takes its fill, and one chunk is in the writer's hands.
        let line = [b'x'; 1_000];
        let given = MAX_WAITING + 2 * CHUNK_BYTES / line.len();
        for _ in 0..given {
            screen.write_line(&line);
        }
        let dropped = screen.dropped.load(Ordering::Relaxed);
        assert!(dropped > 0);
        for _ in 0..given {
            open.try_send(()).ok();
        }
        assert!(screen.flush(AMPLE));
        let written = tape.0.lock().concat();
        assert!(written.contains(&format!("({dropped} log lines were dropped here")), "{dropped}");
        let whole = u64::try_from(written.matches('x').count() / line.len()).unwrap();
        assert_eq!(whole + dropped, u64::try_from(given).unwrap());
    }

    #[test]
    fn a_flush_of_a_stalled_screen_gives_up() {
        let (_open, gate) = bounded(1);
        let out = Gated(gate, Tape::default());
        let painter = Painter::new(Box::new(out), ProgressDrawTarget::hidden(), || 40);
        let screen = Screen::start(painter).unwrap();
        screen.write_line(b"one\n");
        assert!(!screen.flush(Duration::from_millis(10)));
    }
}
