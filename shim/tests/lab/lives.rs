//! The lives of containers, and of the daemons beside them.

use skiff_shim_proto::message::{Call, Event, FailureKind, Reply};
use skiff_shim_proto::record::ExitRecord;

use crate::daemon::{Shim, lives, processes, wait_for};
use crate::needs_a_lab;
use crate::scene::Scene;

fn record(scene: &Scene, id: &str) -> Option<ExitRecord> {
    let json = std::fs::read(scene.path(&format!("{id}.exit.json"))).ok()?;
    Some(serde_json::from_slice(&json).unwrap())
}

#[test]
fn a_container_lives_and_is_gone() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    let create = scene.container(
        shim.pid,
        "c",
        &["sh", "-c", "echo out; echo err >&2; exit 3"],
    );
    shim.daemon.run(create);
    let exit = shim.daemon.exit("c");
    assert_eq!(
        (exit.code, exit.signal, exit.oom_killed, &exit.start_error),
        (3, 0, false, &None)
    );
    assert!(exit.started_at > 0 && exit.finished_at >= exit.started_at);
    assert_eq!(record(&scene, "c").unwrap(), exit);
    let mut logged = scene.logged("c");
    logged.sort();
    assert_eq!(logged, ["stderr F err", "stdout F out"]);
    let state = shim.daemon.state();
    assert_eq!(state.containers[0].exit.as_ref(), Some(&exit));
    assert!(matches!(
        shim.daemon.ask(Call::Delete { id: "c".into() }),
        Ok(Reply::Done)
    ));
    assert!(matches!(
        shim.daemon.ask(Call::Delete { id: "c".into() }),
        Ok(Reply::Done)
    ));
    assert!(!scene.cgroup("c").exists());
    assert!(shim.daemon.state().containers.is_empty());
    assert_eq!(shim.complaints(), "");
    shim.shutdown();
}

#[test]
fn a_signal_ends_it() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    shim.daemon
        .run(scene.container(shim.pid, "c", &["sleep", "600"]));
    let kill = |signal, all| Call::Kill {
        id: "c".into(),
        signal,
        all,
    };
    // The first process of a PID namespace does not even notice a signal it does not handle.
    assert!(matches!(
        shim.daemon.ask(kill(libc::SIGTERM, false)),
        Ok(Reply::Done)
    ));
    assert!(matches!(
        shim.daemon.ask(kill(libc::SIGKILL, true)),
        Ok(Reply::Done)
    ));
    let exit = shim.daemon.exit("c");
    assert_eq!((exit.code, exit.signal), (137, 9));
    assert!(matches!(
        shim.daemon.ask(kill(libc::SIGTERM, false)),
        Ok(Reply::Done)
    ));
    let unknown = Call::Kill {
        id: "d".into(),
        signal: 15,
        all: false,
    };
    assert_eq!(
        shim.daemon.ask(unknown).unwrap_err().kind,
        FailureKind::NotFound
    );
    let no_signal = shim.daemon.ask(kill(65, false)).unwrap_err();
    assert_eq!(no_signal.kind, FailureKind::InvalidArgument);
    shim.shutdown();
}

#[test]
fn a_command_that_cannot_be_executed_is_an_exit() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    for (id, command, code) in [("a", "/bin/absent", 127), ("b", "/bin/not-executable", 126)] {
        let create = scene.container(shim.pid, id, &[command]);
        shim.daemon.ask(Call::Create(Box::new(create))).unwrap();
        let failure = shim.daemon.ask(Call::Start { id: id.into() }).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Command { exit_code: code });
        assert!(failure.message.contains(command), "{failure}");
        let exit = shim.daemon.exit(id);
        assert_eq!((exit.code, exit.started_at), (code, 0));
        assert_eq!(exit.start_error.as_deref(), Some(failure.message.as_str()));
        assert_eq!(record(&scene, id).unwrap(), exit);
    }
    shim.shutdown();
}

#[test]
fn a_container_that_cannot_be_built_leaves_nothing() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    let mut create = scene.container(shim.pid, "c", &["true"]);
    create.rootfs = skiff_shim_proto::message::Rootfs::Directory("/absent/rootfs".into());
    let failure = shim.daemon.ask(Call::Create(Box::new(create))).unwrap_err();
    assert!(failure.message.contains("/absent/rootfs"), "{failure}");
    assert!(!scene.cgroup("c").exists());
    assert!(shim.daemon.state().containers.is_empty());
    assert!(record(&scene, "c").is_none());
    shim.daemon.run(scene.container(shim.pid, "c", &["true"]));
    let again = scene.container(shim.pid, "c", &["true"]);
    let taken = shim.daemon.ask(Call::Create(Box::new(again))).unwrap_err();
    assert_eq!(taken.kind, FailureKind::AlreadyExists);
    shim.shutdown();
}

#[test]
fn one_that_is_created_and_killed_was_never_started() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    let create = scene.container(shim.pid, "c", &["true"]);
    shim.daemon.ask(Call::Create(Box::new(create))).unwrap();
    let exec = scene.exec(1, "c", &["true"]);
    let early = shim.daemon.exec(exec, None).answer.unwrap_err();
    assert_eq!(early.kind, FailureKind::InvalidState);
    shim.daemon
        .ask(Call::Kill {
            id: "c".into(),
            signal: 9,
            all: true,
        })
        .unwrap();
    let exit = shim.daemon.exit("c");
    assert_eq!(
        (exit.code, exit.started_at, &exit.start_error),
        (137, 0, &None)
    );
    let late = shim.daemon.ask(Call::Start { id: "c".into() }).unwrap_err();
    assert_eq!(late.kind, FailureKind::InvalidState);
    shim.shutdown();
}

#[test]
fn a_running_one_that_ignores_signals_is_deleted() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    let script = "trap '' TERM; sleep 600 & sleep 600 & wait";
    let pid = shim
        .daemon
        .run(scene.container(shim.pid, "c", &["sh", "-c", script]));
    assert!(matches!(
        shim.daemon.ask(Call::Delete { id: "c".into() }),
        Ok(Reply::Done)
    ));
    assert!(!lives(pid));
    assert!(!scene.cgroup("c").exists());
    assert_eq!(shim.daemon.exit("c").code, 137);
    shim.shutdown();
}

#[test]
fn without_a_pid_namespace_the_rest_goes_with_the_first() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    let namespaces = serde_json::json!([
        {"type": "mount"},
        {"type": "ipc", "path": format!("/proc/{}/ns/ipc", shim.pid)},
    ]);
    let script = "setsid sleep 600 & setsid sleep 600 & echo ready; cat";
    let mut create = scene.container_in("c", &["sh", "-c", script], namespaces);
    create.stdin = true;
    let pid = shim.daemon.run(create);
    wait_for("three processes", || {
        (processes(&scene.cgroup("c")).len() >= 3).then_some(())
    });
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    assert_eq!(shim.daemon.exit("c").code, 137);
    wait_for("nobody left", || {
        processes(&scene.cgroup("c")).is_empty().then_some(())
    });
    shim.shutdown();
}

#[test]
fn a_pod_outlives_its_daemon() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    let script = "echo before; cat; echo after; exit 7";
    let mut create = scene.container(shim.pid, "c", &["sh", "-c", script]);
    create.stdin = true;
    let pid = shim.daemon.run(create);
    shim.daemon
        .run(scene.container(shim.pid, "d", &["sleep", "600"]));
    shim.restart_daemon();
    let state = shim.daemon.state();
    assert_eq!(state.pod_id, Some("a".repeat(64)));
    let ids: Vec<_> = state
        .containers
        .iter()
        .map(|c| (c.id.as_str(), c.exit.is_some()))
        .collect();
    assert_eq!(ids, [("c", false), ("d", false)]);
    assert_eq!(state.containers[0].pid, pid);
    wait_for("its first words", || {
        (!scene.log("c").is_empty()).then_some(())
    });
    // Nobody is there when it ends: its exit is found on disk, and asked for later.
    shim.lose_daemon();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let on_disk = wait_for("the exit record", || record(&scene, "c"));
    assert_eq!(on_disk.code, 137);
    shim.daemon = shim.connect();
    let state = shim.daemon.state();
    let exit = state
        .containers
        .iter()
        .find(|c| c.id == "c")
        .unwrap()
        .exit
        .clone();
    assert_eq!(exit, Some(on_disk));
    assert_eq!(scene.logged("c"), ["stdout F before"]);
    assert_eq!(shim.complaints(), "");
    shim.shutdown();
}

#[test]
fn every_daemon_hears_of_an_exit_and_nobody_is_harmed_by_another() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    let (mut second, mut wrong) = (shim.connect(), shim.connect());
    wrong.send_bytes(b"\x07 no message");
    wrong.expect_close();
    second.send_bytes(b"\x00{\"seq\":9,\"call\":{\"pause\":{\"id\":\"c\"}}}");
    assert_eq!(second.answer(9).unwrap_err().kind, FailureKind::Unsupported);
    shim.daemon.run(scene.container(shim.pid, "c", &["true"]));
    let exit = shim.daemon.exit("c");
    assert_eq!(second.exit("c"), exit);
    drop(second);
    assert_eq!(shim.daemon.state().containers.len(), 1);
    shim.shutdown();
}

#[test]
fn an_exit_record_that_cannot_be_written_is_told_and_tried_again() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    let mut create = scene.container(shim.pid, "c", &["true"]);
    create.exit_path = scene.path("later/c.exit.json");
    shim.daemon.run(create);
    match shim.daemon.event() {
        Event::Warning {
            id: Some(id),
            message,
        } if id == "c" => {
            assert!(message.contains("later/c.exit.json"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let exit = shim.daemon.exit("c");
    std::fs::create_dir(scene.path("later")).unwrap();
    let written = wait_for("the record", || {
        std::fs::read(scene.path("later/c.exit.json")).ok()
    });
    assert_eq!(
        serde_json::from_slice::<ExitRecord>(&written).unwrap(),
        exit
    );
    shim.shutdown();
}

#[test]
fn an_oom_kill_is_noticed() {
    needs_a_lab!();
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control").unwrap();
    if !controllers.split_whitespace().any(|name| name == "memory") {
        eprintln!("skipped: no memory controller");
        return;
    }
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    let script = "head -c 200000000 /dev/zero | tr '\\0' x | cat >/dev/shm/x; exit 0";
    let mut create = scene.container(shim.pid, "c", &["sh", "-c", script]);
    let limits = serde_json::json!({"memory": {"limit": 16 << 20}});
    let mut linux = create.spec.linux().clone().unwrap();
    linux.set_resources(Some(serde_json::from_value(limits).unwrap()));
    create.spec.set_linux(Some(linux));
    shim.daemon.run(create);
    let exit = shim.daemon.exit("c");
    assert!(exit.oom_killed, "{exit:?}");
    shim.shutdown();
}

#[test]
fn without_descriptors_left_requests_fail_and_the_pod_goes_on() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    shim.daemon
        .run(scene.container(shim.pid, "c", &["sleep", "600"]));
    let pid = rustix::process::Pid::from_raw(shim.pid);
    let limit = |most: u64| {
        let files = rustix::process::Rlimit {
            current: Some(most),
            maximum: Some(4096),
        };
        rustix::process::prlimit(pid, rustix::process::Resource::Nofile, files).unwrap();
    };
    let open = || -> Vec<u64> {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", shim.pid)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.map(|name| name.parse().unwrap()).collect()
    };
    // The limit is on numbers: those below it that are free have to be taken first.
    let mut others = Vec::new();
    while open().len() as u64 <= open().into_iter().max().unwrap() {
        others.push(shim.connect());
        others.last_mut().unwrap().state();
    }
    limit(open().len() as u64);
    let create = scene.container(shim.pid, "d", &["true"]);
    let failure = shim.daemon.ask(Call::Create(Box::new(create))).unwrap_err();
    assert_eq!(failure.kind, FailureKind::System, "{failure}");
    let failure = shim
        .daemon
        .exec(scene.exec(1, "c", &["true"]), None)
        .answer
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::System, "{failure}");
    shim.connect().expect_close();
    limit(4096);
    shim.daemon.run(scene.container(shim.pid, "d", &["true"]));
    assert_eq!(shim.daemon.exit("d").code, 0);
    assert_eq!(shim.connect().state().containers.len(), 2);
    shim.shutdown();
}
