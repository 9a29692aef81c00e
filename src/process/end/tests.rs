use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::super::group::testing::shell;
use super::*;

/// Names the directory to the process that plays the owner.
const OWNER_DIRECTORY: &str = "ORCH_TEST_OWNER_DIRECTORY";
/// The script its command runs. It is up when it says `up`.
const OWNER_SCRIPT: &str = "ORCH_TEST_OWNER_SCRIPT";

/// Not a test of its own: the process that [`killed_owner`] starts and kills.
#[test]
fn as_an_owner() {
    let Some(directory) = std::env::var_os(OWNER_DIRECTORY) else { return };
    let script = std::env::var(OWNER_SCRIPT).unwrap();
    let _group = shell(&script, Some(&PathBuf::from(directory)));
    // Until it is killed, or whoever plays with it is gone.
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
}

/// An owner that runs `script` and is killed once the script is up.
fn killed_owner(directory: &Path, script: &str) {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process::end::tests::as_an_owner", "--nocapture"])
        .env(OWNER_DIRECTORY, directory)
        .env(OWNER_SCRIPT, script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(owner.stdout.take().unwrap()).lines();
    assert!(said.map_while(Result::ok).any(|line| line.ends_with("up")), "it never came up");
    owner.kill().unwrap();
    owner.wait().unwrap();
}

fn members(pgid: Pid) -> usize {
    let of_group = |stat: &Stat| stat.group == pgid.as_raw_pid() && !stat.has_ended();
    all_processes().unwrap().into_iter().filter(of_group).count()
}

fn only_record(directory: &Path) -> GroupName {
    let names = recorded_groups(directory).unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
    names[0]
}

#[test]
fn the_command_of_a_killed_owner_is_ended_before_anyone_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    killed_owner(
        directory.path(),
        "trap '' TERM; sleep 600 & echo up; while :; do sleep 600; done",
    );
    let name = only_record(directory.path());
    assert!(members(name.pgid) >= 2, "it outlives its owner");
    assert_eq!(end_recorded_groups(directory.path()).unwrap(), 1);
    assert_eq!(members(name.pgid), 0);
    assert_eq!(recorded_groups(directory.path()).unwrap(), []);
    assert_eq!(end_recorded_groups(directory.path()).unwrap(), 0);
}

#[test]
fn a_group_whose_leader_is_gone_is_ended_too() {
    let directory = tempfile::tempdir().unwrap();
    // The leader ends on its own, after its owner: the rest waits for that.
    let leader = directory.path().join("leader");
    let made = Command::new("mkfifo").arg(&leader).status().unwrap();
    assert!(made.success());
    let script = format!("sleep 600 & echo up; read go < '{}'", leader.display());
    killed_owner(directory.path(), &script);
    let name = only_record(directory.path());
    let process = Pid::from_raw(name.pgid.as_raw_pid()).unwrap();
    let exit = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()).unwrap();
    fs::write(&leader, "go\n").unwrap();
    let mut fds = [rustix::event::PollFd::new(&exit, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut fds, None).unwrap();
    assert_eq!(members(name.pgid), 1);
    assert_eq!(end_recorded_groups(directory.path()).unwrap(), 1);
    assert_eq!(members(name.pgid), 0);
}

#[test]
fn a_stranger_under_a_reused_id_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut group = shell("exec sleep 600", Some(directory.path()));
    let name = only_record(directory.path());
    for stranger in [
        GroupName { start_ticks: name.start_ticks - 1, ..name },
        GroupName { start_ticks: name.start_ticks + 1, ..name },
    ] {
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join(stranger.to_string()), "").unwrap();
        assert_eq!(end_recorded_groups(elsewhere.path()).unwrap(), 0);
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0, "it is over: forgotten");
    }
    assert_eq!(members(name.pgid), 1);
    group.end().unwrap();
}

#[test]
fn without_its_leader_a_group_is_known_by_session_and_age() {
    let stat = |pid, group, session, start_ticks| Stat {
        pid,
        state: b'S',
        group,
        session,
        threads: 1,
        start_ticks,
    };
    let name = GroupName { pgid: Pid::from_raw(50).unwrap(), start_ticks: 100, session: 9 };
    let check = |processes: &[Stat], expected: &[i32]| {
        let found: Vec<_> = living_members(&name, processes).iter().map(|s| s.pid).collect();
        assert_eq!(found, expected, "{processes:?}");
    };
    let zombie = |stat: Stat| Stat { state: b'Z', ..stat };
    check(&[stat(50, 50, 9, 100), stat(51, 50, 9, 120), stat(52, 52, 9, 120)], &[50, 51]);
    check(&[zombie(stat(50, 50, 9, 100)), stat(51, 50, 9, 120)], &[51]);
    check(&[zombie(stat(50, 50, 9, 100))], &[]);
    check(&[stat(51, 50, 9, 120)], &[51]);
    check(&[stat(51, 50, 8, 120)], &[]);
    check(&[stat(51, 50, 9, 99)], &[]);
    check(&[stat(50, 50, 9, 300), stat(51, 50, 9, 301)], &[]);
    check(&[stat(50, 7, 9, 300)], &[]);
}

#[test]
fn groups_of_another_boot_are_nobodys() {
    let directory = tempfile::tempdir().unwrap();
    let mut group = shell("exec sleep 600", Some(directory.path()));
    let pgid = only_record(directory.path()).pgid;
    let lock = directory.path().join("lock");
    fs::write(&lock, "5b1f6a52-0000-4000-8000-000000000000\n").unwrap();
    assert_eq!(end_recorded_groups(directory.path()).unwrap(), 0);
    assert_eq!(members(pgid), 1);
    assert_eq!(only_record(directory.path()).pgid, pgid);
    fs::copy("/proc/sys/kernel/random/boot_id", &lock).unwrap();
    assert_eq!(end_recorded_groups(directory.path()).unwrap(), 1);
    assert_eq!(members(pgid), 0);
    group.end().unwrap();
}

#[test]
fn all_of_ones_own_are_killed_at_once_and_reaped_by_who_waits() {
    use std::os::unix::process::ExitStatusExt;

    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("lock"), "").unwrap();
    let start = || shell("sleep 600 & wait", Some(directory.path()));
    let groups: Vec<_> = (0..3).map(|_| start()).collect();
    let mut over = shell("exit 4", Some(directory.path()));
    assert_eq!(recorded_groups(directory.path()).unwrap().len(), 4);
    let mut fds =
        [rustix::event::PollFd::from_borrowed_fd(over.exited(), rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut fds, None).unwrap();
    assert_eq!(kill_all_recorded(directory.path()).unwrap(), 3, "a zombie does not run");
    for mut group in groups {
        assert_eq!(group.end().unwrap().signal(), Some(9));
    }
    assert_eq!(over.end().unwrap().code(), Some(4));
    let left: Vec<OsString> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
}

#[test]
fn a_directory_that_is_not_there_has_no_groups() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(end_recorded_groups(&directory.path().join("gone")).unwrap(), 0);
}
