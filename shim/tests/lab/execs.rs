//! Processes that are run in containers.

use std::time::Duration;

use skiff_shim_proto::message::{Call, FailureKind, Reply};

use crate::daemon::{Shim, processes, wait_for};
use crate::needs_a_lab;
use crate::scene::Scene;

fn exited(answer: &Result<Reply, skiff_shim_proto::message::Failure>) -> i32 {
    match answer {
        Ok(Reply::ExecExited { code }) => *code,
        other => panic!("{other:?}"),
    }
}

fn running() -> (Scene, Shim) {
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    shim.daemon
        .run(scene.container(shim.pid, "c", &["sleep", "600"]));
    (scene, shim)
}

#[test]
fn output_and_exit_code_come_back() {
    needs_a_lab!();
    let (scene, mut shim) = running();
    let command = ["sh", "-c", "echo out; echo err >&2; cat; exit 5"];
    let mut exec = scene.exec(1, "c", &command);
    exec.stdin = true;
    let executed = shim.daemon.exec(exec, Some("typed"));
    assert_eq!(exited(&executed.answer), 5);
    assert_eq!(
        (executed.stdout.as_str(), executed.stderr.as_str()),
        ("out\ntyped", "err\n")
    );
    let killed = shim
        .daemon
        .exec(scene.exec(2, "c", &["sh", "-c", "kill -9 $$"]), None);
    assert_eq!(exited(&killed.answer), 137);
    assert_eq!(scene.log("c"), "");
    shim.shutdown();
}

#[test]
fn another_user_can_open_its_output() {
    needs_a_lab!();
    let (scene, mut shim) = running();
    let user = serde_json::json!({"uid": 1000, "gid": 1000});
    let mut exec = scene.exec(1, "c", &["sh", "-c", "echo opened >/proc/self/fd/1"]);
    exec.process
        .set_user(serde_json::from_value(user.clone()).unwrap());
    let executed = shim.daemon.exec(exec, None);
    assert_eq!(
        (exited(&executed.answer), executed.stdout.as_str()),
        (0, "opened\n")
    );
    let script = "echo opened >/proc/self/fd/1; echo opened >/proc/self/fd/2";
    let mut create = scene.container(shim.pid, "d", &["sh", "-c", script]);
    let process = create.spec.process_mut().as_mut().unwrap();
    process.set_user(serde_json::from_value(user).unwrap());
    shim.daemon.run(create);
    assert_eq!(shim.daemon.exit("d").code, 0);
    assert_eq!(scene.logged("d").len(), 2);
    shim.shutdown();
}

#[test]
fn it_sees_the_container_and_nothing_else() {
    needs_a_lab!();
    let (scene, mut shim) = running();
    let command = [
        "sh",
        "-c",
        "ps -o pid,args | head -3; readlink /proc/1/root; cat /proc/self/cgroup",
    ];
    let seen = shim.daemon.exec(scene.exec(1, "c", &command), None).stdout;
    assert!(seen.contains("1 sleep 600"), "{seen}");
    assert!(seen.ends_with("0::/\n"), "{seen}");
    shim.shutdown();
}

#[test]
fn a_command_that_cannot_be_executed_fails() {
    needs_a_lab!();
    let (scene, mut shim) = running();
    for (number, command, code) in [(1, "/bin/absent", 127), (2, "/bin/not-executable", 126)] {
        let failed = shim
            .daemon
            .exec(scene.exec(number, "c", &[command]), None)
            .answer;
        let failure = failed.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Command { exit_code: code });
        assert!(failure.message.contains(command), "{failure}");
    }
    let unknown = shim
        .daemon
        .exec(scene.exec(3, "d", &["true"]), None)
        .answer
        .unwrap_err();
    assert_eq!(unknown.kind, FailureKind::NotFound);
    shim.shutdown();
}

#[test]
fn a_wrong_number_of_descriptors_is_refused() {
    needs_a_lab!();
    let (scene, mut shim) = running();
    let failure = shim
        .daemon
        .ask(Call::Exec(Box::new(scene.exec(1, "c", &["true"]))))
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidArgument);
    shim.shutdown();
}

#[test]
fn a_thousand_descendants_are_killed_and_nobody_else() {
    needs_a_lab!();
    let (scene, mut shim) = running();
    let script =
        "i=0; while [ $i -lt 500 ]; do sleep 600 & setsid sleep 600 & i=$((i+1)); done; wait";
    let seq = shim.daemon.send(
        Call::Exec(Box::new(scene.exec(1, "c", &["sh", "-c", script]))),
        &[rustix::stdio::stdout(), rustix::stdio::stderr()],
    );
    let count = || processes(&scene.cgroup("c")).len();
    wait_for("a thousand", || (count() == 1002).then_some(()));
    assert!(matches!(
        shim.daemon.ask(Call::KillExec { exec_id: 1 }),
        Ok(Reply::Done)
    ));
    assert_eq!(exited(&shim.daemon.answer(seq)), 137);
    wait_for("only the first", || (count() == 1).then_some(()));
    assert!(shim.daemon.state().containers[0].exit.is_none());
    let gone = shim.daemon.ask(Call::KillExec { exec_id: 1 }).unwrap_err();
    assert_eq!(gone.kind, FailureKind::NotFound);
    shim.shutdown();
}

#[test]
fn a_fork_storm_is_killed() {
    needs_a_lab!();
    let (scene, mut shim) = running();
    let script = "storm() { while true; do (true; true) & sleep 0.01; done; }; \
                  storm & storm & storm & setsid sh -c 'while true; do sleep 0.01 & wait; done' & wait";
    let seq = shim.daemon.send(
        Call::Exec(Box::new(scene.exec(1, "c", &["sh", "-c", script]))),
        &[rustix::stdio::stdout(), rustix::stdio::stderr()],
    );
    std::thread::sleep(Duration::from_millis(200));
    shim.daemon.ask(Call::KillExec { exec_id: 1 }).unwrap();
    assert_eq!(exited(&shim.daemon.answer(seq)), 137);
    wait_for("only the first", || {
        (processes(&scene.cgroup("c")).len() == 1).then_some(())
    });
    shim.shutdown();
}

#[test]
fn what_a_dead_daemon_ran_ends() {
    needs_a_lab!();
    let (scene, mut shim) = running();
    shim.daemon.send(
        Call::Exec(Box::new(scene.exec(
            1,
            "c",
            &["sh", "-c", "sleep 600; true"],
        ))),
        &[rustix::stdio::stdout(), rustix::stdio::stderr()],
    );
    wait_for("the exec", || {
        (processes(&scene.cgroup("c")).len() == 3).then_some(())
    });
    shim.restart_daemon();
    wait_for("its end", || {
        (processes(&scene.cgroup("c")).len() == 1).then_some(())
    });
    shim.shutdown();
}

#[test]
fn a_terminal_is_copied() {
    needs_a_lab!();
    let (scene, mut shim) = running();
    let mut exec = scene.exec(
        1,
        "c",
        &["sh", "-c", "tty; read word; echo got $word; exit 4"],
    );
    (exec.terminal, exec.stdin) = (true, true);
    let executed = shim.daemon.exec(exec, Some("hello\n"));
    assert_eq!(exited(&executed.answer), 4);
    assert!(executed.stdout.contains("/dev/pts/"), "{}", executed.stdout);
    assert!(
        executed.stdout.ends_with("got hello\r\n"),
        "{}",
        executed.stdout
    );
    let mut exec = scene.exec(2, "c", &["seq", "100000"]);
    exec.terminal = true;
    let long = shim.daemon.exec(exec, None).stdout;
    assert_eq!(long.lines().count(), 100_000);
    assert!(long.ends_with("100000\r\n"));
    shim.shutdown();
}

#[test]
fn a_client_that_does_not_read_holds_up_its_terminal_only() {
    needs_a_lab!();
    let (scene, mut shim) = running();
    let mut exec = scene.exec(1, "c", &["yes"]);
    exec.terminal = true;
    let (_unread, writer) = rustix::pipe::pipe().unwrap();
    let seq = shim.daemon.send(
        Call::Exec(Box::new(exec)),
        &[std::os::fd::AsFd::as_fd(&writer)],
    );
    drop(writer);
    let beside = shim
        .daemon
        .exec(scene.exec(2, "c", &["echo", "beside"]), None);
    assert_eq!(
        (exited(&beside.answer), beside.stdout.as_str()),
        (0, "beside\n")
    );
    shim.daemon.ask(Call::KillExec { exec_id: 1 }).unwrap();
    assert_eq!(exited(&shim.daemon.answer(seq)), 137);
    shim.shutdown();
}
