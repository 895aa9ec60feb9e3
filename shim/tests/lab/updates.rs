//! Changes of limits that take long. A file of the cgroup is covered by a FIFO, so that whoever
//! reads or writes it waits until the test does the other thing.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use skiff_shim_proto::message::{Call, Failure, FailureKind, Reply, Update};

use crate::daemon::{PATIENCE, Shim, lives, processes, wait_for};
use crate::needs_a_lab;
use crate::scene::Scene;

/// Limits the processes of a container.
fn pids(id: &str, limit: u32) -> Call {
    Call::Update(Box::new(Update {
        id: id.into(),
        resources: serde_json::from_value(json!({"pids": {"limit": limit}})).unwrap(),
        oom_score_adj: None,
    }))
}

/// The file `pids.max` of a container, as a FIFO.
struct Covered {
    fifo: PathBuf,
    file: PathBuf,
}

impl Covered {
    fn new(scene: &Scene, id: &str) -> Self {
        let (fifo, file) = (scene.path("fifo"), scene.cgroup(id).join("pids.max"));
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        mount_bind(&fifo, &file).unwrap();
        Self { fifo, file }
    }

    /// Lets one who changes the limit read `old`, and gives what is written then: who opens a FIFO to
    /// read waits for a writer, and the other way round.
    fn serve(&self, old: &str) -> String {
        let (fifo, old) = (self.fifo.clone(), old.to_owned());
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut writer = File::options().write(true).open(&fifo).unwrap();
            writer.write_all(old.as_bytes()).unwrap();
            drop(writer);
            tell.send(fs::read_to_string(&fifo).unwrap())
        });
        told.recv_timeout(PATIENCE).expect("nobody makes a change")
    }
}

impl Drop for Covered {
    fn drop(&mut self) {
        let _ = unmount(&self.file, UnmountFlags::DETACH);
    }
}

/// A pod with containers that sleep and whose limits can change; `None` where one of the controllers
/// is missing.
fn sleepers(ids: &[&str], controllers: &[&str]) -> Option<(Scene, Shim)> {
    let there = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let there: Vec<_> = there.split_whitespace().collect();
    if let Some(missing) = controllers.iter().find(|name| !there.contains(name)) {
        eprintln!("skipped: no {missing} controller");
        return None;
    }
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    for id in ids {
        let create = scene.container(shim.pid, id, &["sleep", "600"]);
        shim.daemon.run(create);
        let limited = shim.daemon.ask(pids(id, 99));
        assert!(matches!(limited, Ok(Reply::Done)), "{limited:?}");
    }
    Some((scene, shim))
}

/// Waits until a change is under way, and gives the pid of who makes it.
fn begun(shim: i32) -> i32 {
    wait_for("the change to begin", || match writers(shim)[..] {
        [writer] => Some(writer),
        _ => None,
    })
}

/// Children of a process that wait in the cgroup's file.
fn writers(shim: i32) -> Vec<i32> {
    let list = format!("/proc/{shim}/task/{shim}/children");
    let children = fs::read_to_string(list).unwrap_or_default();
    let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
    let program = |pid: i32| fs::read_link(format!("/proc/{pid}/exe")).ok();
    children
        .filter(|&pid| program(pid) == program(shim) && lives(pid))
        .collect()
}

#[test]
fn a_change_that_takes_long_holds_up_nobody_but_the_next_of_its_container() {
    needs_a_lab!();
    let Some((scene, mut shim)) = sleepers(&["c", "d"], &["pids"]) else {
        return;
    };
    let covered = Covered::new(&scene, "c");
    let first = shim.daemon.send(pids("c", 20), &[]);
    let second = shim.daemon.send(pids("c", 30), &[]);
    // Were anybody held up, nothing of this would be answered.
    assert_eq!(shim.daemon.state().containers.len(), 2);
    for id in ["c", "d"] {
        let executed = shim.daemon.exec(scene.exec(7, id, &["echo", "x"]), None);
        assert_eq!(executed.stdout, "x\n", "{:?}", executed.answer);
    }
    assert!(matches!(shim.daemon.ask(pids("d", 50)), Ok(Reply::Done)));
    let limit = fs::read_to_string(scene.cgroup("d").join("pids.max")).unwrap();
    assert_eq!(limit, "50\n");
    assert_eq!(writers(shim.pid).len(), 1, "one change at a time");

    assert_eq!(covered.serve("99\n"), "20");
    assert!(matches!(shim.daemon.answer(first), Ok(Reply::Done)));
    assert_eq!(covered.serve("20\n"), "30");
    assert!(matches!(shim.daemon.answer(second), Ok(Reply::Done)));
    drop(covered);
    for id in ["c", "d"] {
        let deleted = shim.daemon.ask(Call::Delete { id: id.into() });
        assert!(matches!(deleted, Ok(Reply::Done)), "{deleted:?}");
    }
    assert_eq!(shim.complaints(), "");
    shim.shutdown();
}

#[test]
fn a_container_can_be_removed_in_the_middle_of_a_change() {
    needs_a_lab!();
    let Some((scene, mut shim)) = sleepers(&["c"], &["pids"]) else {
        return;
    };
    let _covered = Covered::new(&scene, "c");
    let asked = [20, 30].map(|limit| shim.daemon.send(pids("c", limit), &[]));
    begun(shim.pid);
    let deleted = shim.daemon.ask(Call::Delete { id: "c".into() });
    assert!(matches!(deleted, Ok(Reply::Done)), "{deleted:?}");
    for seq in asked {
        let failure: Failure = shim.daemon.answer(seq).unwrap_err();
        let killed = [FailureKind::System, FailureKind::InvalidState];
        assert!(killed.contains(&failure.kind), "{failure}");
    }
    assert!(writers(shim.pid).is_empty());
    assert!(processes(&scene.cgroup("c")).is_empty());
    assert!(!scene.cgroup("c").exists());
    assert_eq!(shim.complaints(), "");
    shim.shutdown();
}

/// Whoever removes the cgroup then waits for nobody.
#[test]
fn a_change_ends_with_its_shim() {
    needs_a_lab!();
    let Some((scene, mut shim)) = sleepers(&["c"], &["pids"]) else {
        return;
    };
    let _covered = Covered::new(&scene, "c");
    shim.daemon.send(pids("c", 20), &[]);
    let writer = begun(shim.pid);
    shim.process.kill().unwrap();
    shim.process.wait().unwrap();
    wait_for("the change to end", || (!lives(writer)).then_some(()));
}

/// The OOM killer may choose who changes limits; its container lives on, and is not to be slowed down by
/// what was for a moment only.
#[test]
fn a_change_that_is_killed_leaves_no_memory_high() {
    needs_a_lab!();
    let Some((scene, mut shim)) = sleepers(&["c"], &["pids", "memory"]) else {
        return;
    };
    let limits = |memory: u64, pids: u32| {
        Call::Update(Box::new(Update {
            id: "c".into(),
            resources: serde_json::from_value(json!({
                "memory": {"limit": memory}, "pids": {"limit": pids},
            }))
            .unwrap(),
            oom_score_adj: None,
        }))
    };
    let set = shim.daemon.ask(limits(128 << 20, 99));
    assert!(matches!(set, Ok(Reply::Done)), "{set:?}");
    let high = scene.cgroup("c").join("memory.high");
    let covered = Covered::new(&scene, "c");
    let asked = shim.daemon.send(limits(64 << 20, 20), &[]);
    let writer = begun(shim.pid);
    // In the middle it would be so.
    fs::write(&high, "67108864").unwrap();
    kill_process(Pid::from_raw(writer).unwrap(), Signal::KILL).unwrap();
    let failure = shim.daemon.answer(asked).unwrap_err();
    assert_eq!(failure.kind, FailureKind::System, "{failure}");
    assert_eq!(fs::read_to_string(&high).unwrap(), "max\n");
    drop(covered);
    let deleted = shim.daemon.ask(Call::Delete { id: "c".into() });
    assert!(matches!(deleted, Ok(Reply::Done)), "{deleted:?}");
    shim.shutdown();
}
