//! The publisher: gives files their final names, in groups, and only then says that jobs are done.
//!
//! ```text
//!   round n:     sync  the bytes of group n  +  the names of group n-1      one wait on the disk
//!                then  finish the jobs of group n-1, rename group n
//!   queue empty: the next round syncs the names alone
//! ```
//!
//! So while files keep coming there is one sync for each group, not two for each file, and yet a name
//! appears only after its bytes are durable, and a job ends only after its name is (invariants 3 and 8).
//! Must never drop a job it was given: every one is finished, whatever the disk says.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, bounded, select};
use tempfile::NamedTempFile;

use super::by_content::ByContent;
use super::out::sweep_temporaries;
use super::verdict::disk_trouble;
use crate::clock::{Clock, System};
use crate::handler::Completion;
use crate::job::Outcome;

/// The most files of one round.
const GROUP_MAX: usize = 128;
/// A round of so many files or more is a busy one.
const BUSY_MIN: usize = 2;
/// How long more files are waited for in a busy time.
const GATHER: Duration = Duration::from_millis(5);
/// From so many files and directories on, the whole file system is synced at once (Linux).
#[cfg(target_os = "linux")]
const SYNCFS_MIN: usize = 4;

/// A file to be published.
pub(super) struct Ready {
    /// Its bytes under their temporary name; `None` when it has its final name and only that is to be
    /// made durable.
    pub(super) file: Option<NamedTempFile>,
    /// Its final name.
    pub(super) path: PathBuf,
    /// The SHA-256 of its bytes, 64 hexadecimal digits: where equal files are stored once, its equal is looked for.
    pub(super) sha256: Option<String>,
    /// What the job has come to once that is done.
    pub(super) outcome: Outcome,
    /// Whom to tell.
    pub(super) completion: Completion,
}

/// The thread that publishes. Dropped, it finishes all it was given and ends.
pub(super) struct Publisher {
    queue: Option<Sender<Ready>>,
    thread: Option<JoinHandle<()>>,
}

impl Publisher {
    /// Starts the thread for the output directory `root`; with `dedup`, files of equal content are stored once. Before
    /// anything else it sweeps the directory of the temporary files of dead processes.
    ///
    /// # Errors
    /// When the directory cannot be opened or there is no thread to be had.
    pub(super) fn start(root: &Path, dedup: bool) -> io::Result<Publisher> {
        let disk = RealDisk { root: File::open(root)? };
        let root = root.to_owned();
        let now = System::new().wall();
        Publisher::start_with(disk, root.clone(), dedup, move || {
            let swept = sweep_temporaries(&root, now);
            if swept > 0 {
                tracing::info!(files = swept, "removed what dead processes left unfinished");
            }
        })
    }

    fn start_with(
        disk: impl Disk + Send + 'static,
        root: PathBuf,
        dedup: bool,
        before: impl FnOnce() + Send + 'static,
    ) -> io::Result<Publisher> {
        let (queue, receiver) = bounded(GROUP_MAX);
        let thread = thread::Builder::new().name("orch-publisher".to_owned()).spawn(move || {
            before();
            let by_content = dedup.then(|| ByContent::of(&root));
            publish(&receiver, &disk, &root, by_content.as_ref());
        })?;
        Ok(Publisher { queue: Some(queue), thread: Some(thread) })
    }

    /// Hands a file over. Waits when the disk is slower than the net.
    pub(super) fn publish(&self, ready: Ready) {
        let unsent = match &self.queue {
            Some(queue) => queue.send(ready).err().map(|error| error.into_inner()),
            None => Some(ready),
        };
        if let Some(ready) = unsent {
            let error = io::Error::other("the publisher has ended");
            ready.completion.end(disk_trouble(&ready.path, &error));
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // It panicked: its jobs were reported when their completions were dropped.
            let _ = thread.join();
        }
    }
}

/// What is asked of the disk; tests watch the order.
pub(super) trait Disk {
    /// Makes the bytes of `files` and the entries of `directories` durable.
    fn sync(&self, files: &[&File], directories: &BTreeSet<PathBuf>) -> io::Result<()>;

    /// Gives a file its final name, in place of what has it.
    fn rename(&self, file: NamedTempFile, path: &Path) -> io::Result<()> {
        file.persist(path).map(drop).map_err(|failed| failed.error)
    }

    /// Gives a file a second name, which nothing has yet.
    fn link(&self, file: &Path, path: &Path) -> io::Result<()> {
        std::fs::hard_link(file, path)
    }
}

struct RealDisk {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only syncfs needs it"))]
    root: File,
}

impl Disk for RealDisk {
    fn sync(&self, files: &[&File], directories: &BTreeSet<PathBuf>) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if files.len() + directories.len() >= SYNCFS_MIN {
            return Ok(rustix::fs::syncfs(&self.root)?);
        }
        files.iter().try_for_each(|file| file.sync_data())?;
        directories.iter().try_for_each(|directory| File::open(directory)?.sync_all())
    }
}

/// A file under its final name, which may not be durable yet.
struct Named {
    path: PathBuf,
    outcome: Outcome,
    completion: Completion,
}

fn publish(queue: &Receiver<Ready>, disk: &impl Disk, root: &Path, by_content: Option<&ByContent>) {
    let mut known = HashSet::new();
    let mut named: Vec<Named> = Vec::new();
    let mut patient = false;
    while let Some(group) = next_group(queue, !named.is_empty(), patient) {
        patient = group.len() >= BUSY_MIN;
        let files: Vec<&File> = group
            .iter()
            .filter_map(|ready| ready.file.as_ref())
            .map(NamedTempFile::as_file)
            .collect();
        let directories = directories_of(&named, &mut known, root);
        match disk.sync(&files, &directories) {
            Ok(()) => {
                for done in named.drain(..) {
                    done.completion.finish(done.outcome);
                }
                let renamed = group.into_iter().filter_map(|ready| rename(disk, by_content, ready));
                named.extend(renamed);
            }
            Err(error) => {
                // Nobody can say which of them it was. What has its name already is found there by
                // the next attempt.
                let ended = named.drain(..).map(|done| (done.path, done.completion));
                let ended = ended.chain(group.into_iter().map(|r| (r.path, r.completion)));
                for (path, completion) in ended {
                    completion.end(disk_trouble(&path, &error));
                }
            }
        }
    }
}

/// The files of the next round: waits for one, unless names are waiting for their sync. Where the last round was a busy one,
/// more are `patient`ly gathered: a disk takes as long for one file as for many. `None` when there will be no more.
fn next_group(queue: &Receiver<Ready>, names_waiting: bool, patient: bool) -> Option<Vec<Ready>> {
    let mut group = Vec::new();
    if !names_waiting {
        group.push(queue.recv().ok()?);
    }
    group.extend(queue.try_iter().take(GROUP_MAX - group.len()));
    if patient {
        gather(queue, &mut group);
    }
    Some(group)
}

/// Takes in what comes within [`GATHER`], up to a full group.
fn gather(queue: &Receiver<Ready>, group: &mut Vec<Ready>) {
    let late = after(GATHER);
    while group.len() < GROUP_MAX {
        select! {
            recv(queue) -> ready => match ready {
                Ok(ready) => group.push(ready),
                Err(_) => return,
            },
            recv(late) -> _ => return,
        }
    }
}

/// The directories whose entries changed: where files were named, and their parent the first time one
/// of them is seen, for this process or a dead one may have just made it.
fn directories_of(named: &[Named], known: &mut HashSet<PathBuf>, root: &Path) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    for directory in named.iter().filter_map(|named| named.path.parent()) {
        directories.insert(directory.to_owned());
        if !known.contains(directory) {
            known.insert(directory.to_owned());
            directories.insert(root.to_owned());
        }
    }
    directories
}

/// Names one file. A file that cannot be named ends its own job only.
fn rename(disk: &impl Disk, by_content: Option<&ByContent>, ready: Ready) -> Option<Named> {
    let Ready { file, path, sha256, outcome, completion } = ready;
    let renamed = match (file, by_content.zip(sha256)) {
        (None, _) => Ok(()),
        (Some(file), None) => disk.rename(file, &path),
        (Some(file), Some((by_content, sha256))) => by_content.place(disk, file, &path, &sha256),
    };
    match renamed {
        Ok(()) => Some(Named { path, outcome, completion }),
        Err(error) => {
            completion.end(disk_trouble(&path, &error));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::handler::MachineFault;

    /// Writes down what happens, fails on demand, and holds the first sync until told.
    #[derive(Clone)]
    struct Watched {
        log: Arc<Mutex<Vec<String>>>,
        hold: Receiver<()>,
        fail_sync: Option<usize>,
    }

    impl Watched {
        fn count(&self, what: &str) -> usize {
            self.log.lock().iter().filter(|line| line.starts_with(what)).count()
        }
    }

    impl Disk for Watched {
        fn sync(&self, files: &[&File], directories: &BTreeSet<PathBuf>) -> io::Result<()> {
            // Ends at once when the test has dropped the other end.
            let _ = self.hold.recv();
            let number = self.count("sync");
            self.log.lock().push(format!("sync {} {}", files.len(), directories.len()));
            match self.fail_sync {
                Some(failing) if failing == number => {
                    Err(io::Error::from(io::ErrorKind::StorageFull))
                }
                _ => Ok(()),
            }
        }

        fn rename(&self, file: NamedTempFile, path: &Path) -> io::Result<()> {
            file.persist(path).map_err(|failed| failed.error)?;
            self.log.lock().push("rename".to_owned());
            Ok(())
        }
    }

    struct Rig {
        root: tempfile::TempDir,
        publisher: Publisher,
        log: Arc<Mutex<Vec<String>>>,
        ended: Arc<Mutex<Vec<Result<Outcome, MachineFault>>>>,
        go: Sender<()>,
    }

    fn rig(fail_sync: Option<usize>) -> Rig {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("d")).unwrap();
        let (go, hold) = bounded(1_000);
        let log = Arc::new(Mutex::new(Vec::new()));
        let disk = Watched { log: Arc::clone(&log), hold, fail_sync };
        let path = root.path().to_owned();
        let publisher = Publisher::start_with(disk, path, false, || ()).unwrap();
        Rig { root, publisher, log, ended: Arc::default(), go }
    }

    impl Rig {
        fn path(&self, n: usize) -> PathBuf {
            self.root.path().join(format!("d/{n}.pdf"))
        }

        fn publish(&self, n: usize) {
            let mut file = NamedTempFile::new_in(self.root.path().join("d")).unwrap();
            file.write_all(b"whole").unwrap();
            let (log, ended) = (Arc::clone(&self.log), Arc::clone(&self.ended));
            let completion = Completion::new(move |outcome| {
                log.lock().push("finish".to_owned());
                ended.lock().push(outcome);
            });
            let (path, outcome) = (self.path(n), Outcome::done());
            let file = Some(file);
            self.publisher.publish(Ready { file, path, sha256: None, outcome, completion });
        }
    }

    #[test]
    fn a_lone_file_is_synced_then_named_then_its_name_synced_then_reported() {
        let rig = rig(None);
        rig.publish(0);
        drop(rig.go);
        drop(rig.publisher);
        // The directory of the file and, seen for the first time, its parent.
        assert_eq!(*rig.log.lock(), ["sync 1 0", "rename", "sync 0 2", "finish"]);
    }

    #[test]
    fn no_name_appears_before_a_sync_and_no_job_ends_before_another() {
        let rig = rig(None);
        // The thread holds the first file in its first sync, while the next 64 come in.
        for n in 0..65 {
            rig.publish(n);
        }
        assert!((0..65).all(|n| !rig.path(n).exists()));
        assert_eq!(rig.ended.lock().len(), 0);
        drop(rig.go);
        drop(rig.publisher);
        assert!((0..65).all(
            |n| std::fs::read(rig.root.path().join(format!("d/{n}.pdf"))).unwrap() == b"whole"
        ));
        let log = rig.log.lock();
        let mut renamed_before_sync = 0;
        let (mut renamed, mut synced_bytes, mut finished) = (0, 0, 0);
        for line in &*log {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["sync", files, _] => {
                    renamed_before_sync = renamed;
                    synced_bytes += files.parse::<usize>().unwrap();
                }
                ["rename"] => renamed += 1,
                _ => finished += 1,
            }
            assert!(renamed <= synced_bytes, "named before its bytes were synced: {log:?}");
            assert!(finished <= renamed_before_sync, "ended before its name was synced: {log:?}");
        }
        assert_eq!((renamed, synced_bytes, finished), (65, 65, 65));
        // Groups, not files: one or two waits on the disk for 64.
        let syncs = log.iter().filter(|line| line.starts_with("sync")).count();
        assert!(syncs <= 4, "{syncs} syncs");
    }

    #[test]
    fn a_full_disk_names_nothing_and_gives_every_job_back() {
        let rig = rig(Some(0));
        rig.publish(0);
        rig.go.send(()).unwrap();
        let Rig { root, publisher, ended, go, .. } = rig;
        drop(go);
        drop(publisher);
        let ended = ended.lock();
        assert!(
            matches!(&ended[..], [Err(fault)] if fault.message.contains("no space left")),
            "{ended:?}"
        );
        assert_eq!(std::fs::read_dir(root.path().join("d")).unwrap().count(), 0);
    }

    #[test]
    fn the_real_disk_publishes_few_and_many() {
        let root = tempfile::tempdir().unwrap();
        let publisher = Publisher::start(root.path(), false).unwrap();
        let (send, ended) = crossbeam_channel::unbounded();
        for n in 0..200 {
            let file = NamedTempFile::new_in(root.path()).unwrap();
            let path = root.path().join(format!("{n}.pdf"));
            let (send, expected) = (send.clone(), path.clone());
            let completion = Completion::new(move |outcome| {
                send.send((outcome.unwrap(), expected.exists())).unwrap();
            });
            publisher.publish(Ready {
                file: Some(file),
                path,
                sha256: None,
                outcome: Outcome::done(),
                completion,
            });
        }
        drop(publisher);
        drop(send);
        let ended: Vec<_> = ended.iter().collect();
        assert_eq!(ended.len(), 200);
        assert!(ended.iter().all(|(outcome, named)| *outcome == Outcome::done() && *named));
    }
}
