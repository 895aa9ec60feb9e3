//! What becomes of pods whose shims hang up, do not answer, break or die, and of what they leave.

mod support;

use std::sync::Arc;
use std::time::Duration;

use skiff_cri::v1 as cri;
use skiff_cri_server::shim::Pool;
use skiff_cri_server::shim::pool::Kind;
use support::{Node, Running, container, host_pod, refused};
use tonic::Code;

fn running(node: &Node) -> (Running, String, String) {
    let daemon = node.start();
    let pod = daemon.run_pod(&host_pod("a")).unwrap();
    let c = daemon.create(&pod, &container("c")).unwrap();
    daemon.start(&c).unwrap();
    (daemon, pod, c)
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("waited for nothing: {what}");
}

/// Out of descriptors, starved or stopped: the shim lives, and so do its containers.
#[test]
fn a_shim_that_cannot_be_reached_keeps_its_containers_and_is_found_later() {
    let node = Node::new();
    let (daemon, pod, c) = running(&node);
    daemon.kill();
    node.shims.hide(&pod);
    let daemon = node.start();
    let ready = cri::PodSandboxState::SandboxReady;
    assert_eq!(daemon.pod_status(&pod).unwrap().state(), ready);
    let reason = daemon.pod_info(&pod)["reason"].to_string();
    assert!(reason.contains("does not answer"), "{reason}");
    let status = daemon.status(&c).unwrap();
    assert_eq!(status.state(), cri::ContainerState::ContainerRunning);
    let unavailable = |result: Result<(), tonic::Status>| {
        refused(result, Code::Unavailable, "does not answer");
    };
    unavailable(daemon.exec(&c, &["x"], 0).map(drop));
    unavailable(daemon.stop(&c, 0));
    unavailable(daemon.remove(&c));
    unavailable(daemon.create(&pod, &container("d")).map(drop));
    assert!(node.shims.log().is_empty(), "{:?}", node.shims.log());
    node.shims.show(&pod);
    wait_until("an exec", || daemon.exec(&c, &["x"], 0).is_ok());
    assert!(daemon.pod_info(&pod)["reason"].is_null());
    daemon.stop(&c, 0).unwrap();
    daemon.remove_pod(&pod).unwrap();
    assert_eq!(node.left(), Vec::<String>::new());
}

#[test]
fn what_ended_while_its_shim_was_silent_is_told_when_it_is_found() {
    let node = Node::new();
    let (daemon, pod, recorded) = running(&node);
    let told = daemon.create(&pod, &container("told")).unwrap();
    daemon.start(&told).unwrap();
    daemon.kill();
    node.shims.hide(&pod);
    node.shims.exit(&pod, &recorded, 7);
    let daemon = node.start();
    assert_eq!(daemon.status(&recorded).unwrap().exit_code, 7);
    node.shims.script.lock().unwrap().disk_full = true;
    node.shims.exit(&pod, &told, 8);
    node.shims.show(&pod);
    let status = daemon.wait_for(&told, cri::ContainerState::ContainerExited);
    assert_eq!(status.exit_code, 8);
}

#[test]
fn a_shim_that_stays_silent_is_lost_when_its_process_ends() {
    let node = Node::new();
    let (daemon, pod, c) = running(&node);
    daemon.kill();
    node.shims.hide(&pod);
    let daemon = node.start();
    node.shims.kill(&pod);
    let status = daemon.wait_for(&c, cri::ContainerState::ContainerExited);
    assert_eq!(status.reason, "ShimDied");
    let not_ready = cri::PodSandboxState::SandboxNotready;
    assert_eq!(daemon.pod_status(&pod).unwrap().state(), not_ready);
    daemon.remove_pod(&pod).unwrap();
    assert_eq!(node.left(), Vec::<String>::new());
}

/// Whoever asks for a stop gets it, with a shim that answers or without.
#[test]
fn a_pod_with_a_silent_shim_can_be_stopped_and_removed() {
    let node = Node::new();
    let (daemon, pod, _) = running(&node);
    daemon.kill();
    node.shims.hide(&pod);
    let daemon = node.start();
    daemon.stop_pod(&pod).unwrap();
    daemon.remove_pod(&pod).unwrap();
    assert_eq!(node.left(), Vec::<String>::new());
}

#[test]
fn a_shim_that_hangs_up_is_connected_again() {
    let node = Node::new();
    let (daemon, pod, c) = running(&node);
    node.shims.hide(&pod);
    node.shims.hang_up(&pod);
    wait_until("the hang-up", || !daemon.pod_info(&pod)["reason"].is_null());
    node.shims.exit(&pod, &c, 5);
    node.shims.show(&pod);
    let status = daemon.wait_for(&c, cri::ContainerState::ContainerExited);
    assert_eq!(status.exit_code, 5);
    let d = daemon.create(&pod, &container("d")).unwrap();
    daemon.start(&d).unwrap();
    assert!(node.shims.log().is_empty(), "{:?}", node.shims.log());
}

#[test]
fn a_pod_whose_pid_namespace_has_ended_is_not_ready_and_says_why() {
    let node = Node::new();
    let (daemon, pod, c) = running(&node);
    let reason = "the init of the PID namespace has ended";
    node.shims.break_pod(&pod, reason);
    node.shims.exit(&pod, &c, 137);
    let status = daemon.wait_for(&c, cri::ContainerState::ContainerExited);
    assert_eq!(status.exit_code, 137);
    let check = |daemon: &Running| {
        let not_ready = cri::PodSandboxState::SandboxNotready;
        assert_eq!(daemon.pod_status(&pod).unwrap().state(), not_ready);
        assert_eq!(daemon.pod_info(&pod)["reason"], reason);
        let created = daemon.create(&pod, &container("d"));
        refused(created, Code::FailedPrecondition, reason);
        assert_eq!(daemon.status(&c).unwrap().exit_code, 137);
    };
    check(&daemon);
    daemon.kill();
    let daemon = node.start();
    check(&daemon);
    daemon.remove_pod(&pod).unwrap();
    assert_eq!(node.left(), Vec::<String>::new());
}

/// A pod breaks while no daemon runs: the shim says so when it is asked.
#[test]
fn a_pod_that_broke_meanwhile_is_not_ready_after_a_restart() {
    let node = Node::new();
    let (daemon, pod, _) = running(&node);
    daemon.kill();
    node.shims.break_pod(&pod, "its init has ended");
    let daemon = node.start();
    let not_ready = cri::PodSandboxState::SandboxNotready;
    assert_eq!(daemon.pod_status(&pod).unwrap().state(), not_ready);
    assert_eq!(daemon.pod_info(&pod)["reason"], "its init has ended");
}

/// A cgroup that cannot be emptied, as one with a process in an uninterruptible sleep.
fn busy_cgroup(node: &Node, pod: &str, container: &str) -> std::path::PathBuf {
    let path = format!("cgroup/skiff/{pod}/skiff-{container}");
    std::fs::create_dir_all(node.path(&path)).unwrap();
    std::fs::write(node.path(&path).join("busy"), "").unwrap();
    node.path(&path)
}

#[test]
fn what_cannot_be_killed_is_not_told_to_have_ended() {
    let node = Node::new();
    let (daemon, pod, c) = running(&node);
    let cgroup = busy_cgroup(&node, &pod, &c);
    node.shims.kill(&pod);
    let unknown = cri::ContainerState::ContainerUnknown;
    let status = daemon.wait_for(&c, unknown);
    let cgroup_name = cgroup.to_str().unwrap();
    assert!(status.message.contains(cgroup_name), "{status:?}");
    assert_eq!(status.started_at, 1_000);
    refused(daemon.stop(&c, 0), Code::Internal, "still being killed");
    refused(daemon.remove(&c), Code::Internal, cgroup_name);
    refused(daemon.remove_pod(&pod), Code::Internal, cgroup_name);
    daemon.kill();
    let daemon = node.start();
    assert_eq!(daemon.status(&c).unwrap().state(), unknown);
    // The daemon may write a file into it at any moment.
    while std::fs::remove_dir_all(&cgroup).is_err() {}
    let status = daemon.wait_for(&c, cri::ContainerState::ContainerExited);
    assert_eq!(status.reason, "ShimDied");
    daemon.remove_pod(&pod).unwrap();
    assert_eq!(node.left(), Vec::<String>::new());
}

#[test]
fn an_exit_that_the_shim_could_not_record_outlives_shim_and_daemon() {
    let node = Node::new();
    let (daemon, pod, c) = running(&node);
    node.shims.script.lock().unwrap().disk_full = true;
    node.shims.exit(&pod, &c, 9);
    daemon.wait_for(&c, cri::ContainerState::ContainerExited);
    daemon.kill();
    node.shims.kill(&pod);
    let daemon = node.start();
    let status = daemon.status(&c).unwrap();
    assert_eq!((status.exit_code, status.finished_at), (9, 2_000));
}

#[test]
fn the_last_words_of_a_shim_are_heard_when_its_pod_is_stopped() {
    let node = Node::new();
    let (daemon, pod, c) = running(&node);
    node.shims.script.lock().unwrap().disk_full = true;
    daemon.stop_pod(&pod).unwrap();
    let status = daemon.status(&c).unwrap();
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
    daemon.kill();
    assert_eq!(node.start().status(&c).unwrap().exit_code, 137);
}

/// A pool that keeps one spare, under the directory of the node.
fn pool(node: &Node) -> Pool {
    Pool::new(Arc::new(node.shims.clone()), node.path(""), 1)
}

/// They cost something, and most nodes need none.
#[tokio::test(flavor = "multi_thread")]
async fn spares_with_a_user_namespace_are_kept_once_one_was_asked_for() {
    let node = Node::new();
    let pool = pool(&node);
    let (plain, with_one) = (Kind::Plain, Kind::UserNamespace);
    wait_until("a spare", || node.shims.kinds() == [plain]);
    let first = pool.take(with_one).await.unwrap();
    wait_until("another", || {
        node.shims.kinds() == [plain, with_one, with_one]
    });
    let other = pool.take(plain).await.unwrap();
    let all = [plain, with_one, with_one, plain];
    wait_until("one in its place", || node.shims.kinds() == all);
    drop((first, other));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_number_of_spares_is_kept_from_then_on() {
    let node = Node::new();
    let pool = pool(&node);
    wait_until("a spare", || pool.spares() == 1);
    pool.resize(3);
    wait_until("two more", || pool.spares() == 3);
    pool.resize(0);
    wait_until("the end of all", || pool.spares() == 0);
    let taken = pool.take(Kind::Plain).await.unwrap();
    assert_eq!(pool.spares(), 0);
    drop(taken);
}
