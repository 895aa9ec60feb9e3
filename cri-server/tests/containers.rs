//! What a client relies on about containers, with shims that run nothing.

mod support;

use std::time::{Duration, Instant};

use skiff_cri::v1 as cri;
use skiff_cri::v1::runtime_service_server::RuntimeService;
use skiff_shim_proto::message::{Failure, FailureKind};
use support::{IMAGE, Node, Running, container, host_pod, refused};
use tonic::{Code, Request};

const SIGUSR1: i32 = 10;

fn running(node: &Node) -> (Running, String, String) {
    let daemon = node.start();
    let pod = daemon.run_pod(&host_pod("a")).unwrap();
    let c = daemon.create(&pod, &container("c")).unwrap();
    daemon.start(&c).unwrap();
    (daemon, pod, c)
}

#[test]
fn a_containers_life_as_a_client_sees_it() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.run_pod(&host_pod("a")).unwrap();
    let mut config = container("c");
    config.labels.insert("l".into(), "1".into());
    let c = daemon.create(&pod, &config).unwrap();
    let status = daemon.status(&c).unwrap();
    assert_eq!(status.state(), cri::ContainerState::ContainerCreated);
    assert!(status.created_at > 0 && status.started_at == 0);
    assert_eq!(status.image.as_ref().unwrap().image, IMAGE);
    assert!(status.image_id.starts_with("sha256:") && status.image_ref == status.image_id);
    assert_eq!(status.user.as_ref().unwrap().linux.as_ref().unwrap().uid, 0);
    assert_eq!(status.stop_signal(), cri::Signal::Sigusr1);
    assert_eq!(status.labels["l"], "1");
    daemon.start(&c).unwrap();
    let status = daemon.status(&c).unwrap();
    assert_eq!(
        (status.state(), status.started_at),
        (cri::ContainerState::ContainerRunning, 1_000)
    );
    node.shims.exit(&pod, &c, 0);
    let status = daemon.wait_for(&c, cri::ContainerState::ContainerExited);
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
    assert_eq!((status.started_at, status.finished_at), (1_000, 2_000));
    refused(daemon.start(&c), Code::FailedPrecondition, "exited");
    daemon.stop(&c, 10).unwrap();
    daemon.remove(&c).unwrap();
    daemon.remove(&c).unwrap();
    daemon.stop(&c, 10).unwrap();
    refused(daemon.status(&c), Code::NotFound, &c);
    refused(daemon.start(&c), Code::NotFound, &c);
    daemon.remove_pod(&pod).unwrap();
    assert_eq!(node.left(), Vec::<String>::new());
}

#[test]
fn the_same_request_returns_the_same_container_until_it_is_started() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.run_pod(&host_pod("a")).unwrap();
    let c = daemon.create(&pod, &container("c")).unwrap();
    assert_eq!(daemon.create(&pod, &container("c")).unwrap(), c);
    let mut other = container("c");
    other.command.push("more".into());
    refused(daemon.create(&pod, &other), Code::AlreadyExists, &c);
    daemon.start(&c).unwrap();
    refused(
        daemon.create(&pod, &container("c")),
        Code::AlreadyExists,
        "started",
    );
    let mut next = container("c");
    next.metadata.as_mut().unwrap().attempt = 1;
    assert_ne!(daemon.create(&pod, &next).unwrap(), c);
}

#[test]
fn a_container_that_cannot_be_made_leaves_nothing() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.run_pod(&host_pod("a")).unwrap();
    let message = "mount /none: no such file".to_owned();
    let failure = Failure {
        kind: FailureKind::System,
        message,
    };
    node.shims.script.lock().unwrap().refuse_create = Some(failure);
    refused(
        daemon.create(&pod, &container("c")),
        Code::Internal,
        "mount /none",
    );
    let mut image = container("c");
    image.image.as_mut().unwrap().image = "registry.example/absent:1".into();
    refused(daemon.create(&pod, &image), Code::NotFound, "absent:1");
    let mut log = host_pod("b");
    log.log_directory = "/tmp".into();
    let logging = daemon.run_pod(&log).unwrap();
    let mut outside = container("c");
    outside.log_path = "../etc/passwd".into();
    refused(
        daemon.create(&logging, &outside),
        Code::InvalidArgument,
        "log_path",
    );
    for id in [&pod, &logging] {
        daemon.remove_pod(id).unwrap();
    }
    assert_eq!(node.left(), Vec::<String>::new());
}

#[test]
fn requests_that_cannot_be_meant_name_the_field() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.run_pod(&host_pod("a")).unwrap();
    let mut config = container("c");
    config.metadata = None;
    refused(
        daemon.create(&pod, &config),
        Code::InvalidArgument,
        "config.metadata",
    );
    let mut config = container("c");
    config.image = None;
    refused(
        daemon.create(&pod, &config),
        Code::InvalidArgument,
        "config.image",
    );
    refused(
        daemon.create("no-such", &container("c")),
        Code::NotFound,
        "no-such",
    );
    let mut config = container("c");
    let seccomp = cri::SecurityProfile {
        profile_type: cri::security_profile::ProfileType::Localhost.into(),
        localhost_ref: "/profile.json".into(),
    };
    let context = cri::LinuxContainerSecurityContext {
        seccomp: Some(seccomp),
        ..<_>::default()
    };
    config.linux = Some(cri::LinuxContainerConfig {
        security_context: Some(context),
        ..<_>::default()
    });
    refused(
        daemon.create(&pod, &config),
        Code::FailedPrecondition,
        "seccomp",
    );
}

/// The command's exit code is the one a shell gives, and the path is in the message.
#[test]
fn a_command_that_does_not_exist_ends_its_container() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.run_pod(&host_pod("a")).unwrap();
    let c = daemon.create(&pod, &container("c")).unwrap();
    let kind = FailureKind::Command { exit_code: 127 };
    let message = "exec /no/such: no such file or directory".to_owned();
    node.shims.script.lock().unwrap().refuse_start = Some(Failure { kind, message });
    refused(daemon.start(&c), Code::InvalidArgument, "/no/such");
    let status = daemon.status(&c).unwrap();
    assert_eq!(status.state(), cri::ContainerState::ContainerExited);
    assert_eq!(
        (status.exit_code, status.reason.as_str()),
        (127, "StartError")
    );
    assert!(status.message.contains("/no/such"));
    assert!(status.started_at > 0 && status.finished_at > 0);
}

#[test]
fn a_container_that_heeds_its_signal_is_not_killed() {
    let node = Node::new();
    let (daemon, _, c) = running(&node);
    daemon.stop(&c, 30).unwrap();
    assert_eq!(daemon.status(&c).unwrap().exit_code, 128 + SIGUSR1);
    assert_eq!(node.shims.log(), ["kill 10"]);
}

#[test]
fn a_container_that_ignores_its_signal_is_killed_when_the_grace_is_over() {
    let node = Node::new();
    let (daemon, _, c) = running(&node);
    node.shims.script.lock().unwrap().ignored = vec![SIGUSR1];
    daemon.stop(&c, 1).unwrap();
    assert_eq!(daemon.status(&c).unwrap().exit_code, 137);
    assert_eq!(node.shims.log(), ["kill 10", "kill 9 all"]);
}

#[test]
fn a_second_stop_shortens_the_first() {
    let node = Node::new();
    let (daemon, _, c) = running(&node);
    node.shims.script.lock().unwrap().ignored = vec![SIGUSR1];
    let stop = |timeout| {
        let request = cri::StopContainerRequest {
            container_id: c.clone(),
            timeout,
        };
        daemon.service.stop_container(Request::new(request))
    };
    let start = Instant::now();
    daemon.block_on(async {
        let (first, second) = tokio::join!(stop(600), stop(0));
        first.unwrap();
        second.unwrap();
    });
    assert!(start.elapsed() < Duration::from_secs(60));
    assert_eq!(daemon.status(&c).unwrap().exit_code, 137);
}

#[test]
fn no_grace_kills_at_once_and_so_does_a_container_that_was_never_started() {
    let node = Node::new();
    let (daemon, pod, c) = running(&node);
    daemon.stop(&c, 0).unwrap();
    let d = daemon.create(&pod, &container("d")).unwrap();
    daemon.stop(&d, 30).unwrap();
    assert_eq!(
        daemon.status(&d).unwrap().state(),
        cri::ContainerState::ContainerExited
    );
    assert_eq!(node.shims.log(), ["kill 9 all", "kill 9 all"]);
}

#[test]
fn an_exec_returns_output_and_exit_code() {
    let node = Node::new();
    let (daemon, _, c) = running(&node);
    let output = daemon.exec(&c, &["echo", "hi"], 0).unwrap();
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (&b"echo hi\n"[..], &b"oops"[..])
    );
    assert_eq!(output.exit_code, 3);
    let missing = daemon.exec(&c, &["/missing"], 0).unwrap();
    assert_eq!(missing.exit_code, 127);
    assert!(
        String::from_utf8(missing.stderr)
            .unwrap()
            .contains("/missing")
    );
    refused(daemon.exec(&c, &[], 0), Code::InvalidArgument, "cmd");
    refused(daemon.exec("no-such", &["x"], 0), Code::NotFound, "no-such");
    daemon.stop(&c, 0).unwrap();
    refused(
        daemon.exec(&c, &["x"], 0),
        Code::FailedPrecondition,
        "not running",
    );
}

/// It was told before: critest looked for the process and found it.
#[test]
fn an_exec_that_takes_too_long_is_gone_when_that_is_told() {
    let node = Node::new();
    let (daemon, _, c) = running(&node);
    node.shims.script.lock().unwrap().endless_exec = true;
    refused(
        daemon.exec(&c, &["sleep", "600"], 1),
        Code::DeadlineExceeded,
        "sleep",
    );
    let script = node.shims.script.lock().unwrap();
    assert!(script.log.iter().any(|word| word == "exec ended"));
}

#[test]
fn an_exec_whose_client_has_gone_is_killed() {
    let node = Node::new();
    let (daemon, _, c) = running(&node);
    node.shims.script.lock().unwrap().endless_exec = true;
    let cmd = vec!["sleep".to_owned()];
    let request = cri::ExecSyncRequest {
        container_id: c,
        cmd,
        timeout: 0,
    };
    daemon.block_on(async {
        let call = daemon.service.exec_sync(Request::new(request));
        assert!(
            tokio::time::timeout(Duration::from_millis(50), call)
                .await
                .is_err()
        );
    });
    await_log(&node, "kill exec");
}

fn await_log(node: &Node, word: &str) {
    for _ in 0..1000 {
        if node.shims.log().iter().any(|line| line == word) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("no {word:?} in {:?}", node.shims.log());
}

#[test]
fn a_log_is_reopened_only_for_a_container_that_runs() {
    let node = Node::new();
    let (daemon, _, c) = running(&node);
    let reopen = || {
        let request = cri::ReopenContainerLogRequest {
            container_id: c.clone(),
        };
        daemon.block_on(daemon.service.reopen_container_log(Request::new(request)))
    };
    reopen().unwrap();
    daemon.stop(&c, 0).unwrap();
    refused(reopen(), Code::FailedPrecondition, "not running");
}

#[test]
fn lists_tell_what_a_kubelet_reads() {
    let node = Node::new();
    let (daemon, pod, c) = running(&node);
    let d = daemon.create(&pod, &container("d")).unwrap();
    let list = |filter: cri::ContainerFilter| {
        let request = cri::ListContainersRequest {
            filter: Some(filter),
        };
        let answer = daemon.block_on(daemon.service.list_containers(Request::new(request)));
        answer.unwrap().into_inner().containers().unwrap()
    };
    let all = list(cri::ContainerFilter {
        pod_sandbox_id: pod.clone(),
        ..<_>::default()
    });
    assert_eq!(all.len(), 2);
    for item in &all {
        assert!(item.created_at > 0 && item.image_id == item.image_ref);
        assert_eq!(item.image.as_ref().unwrap().image, IMAGE);
        assert_eq!(item.pod_sandbox_id, pod);
    }
    let state = Some(cri::ContainerStateValue {
        state: cri::ContainerState::ContainerRunning.into(),
    });
    let got = list(cri::ContainerFilter {
        state,
        ..<_>::default()
    });
    assert_eq!(
        got.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(),
        [c.as_str()]
    );
    let got = list(cri::ContainerFilter {
        id: d.clone(),
        ..<_>::default()
    });
    assert_eq!(got[0].id, d);
    daemon.stop(&c, 0).unwrap();
    let ended = list(cri::ContainerFilter {
        id: c,
        ..<_>::default()
    });
    assert_eq!(ended[0].state(), cri::ContainerState::ContainerExited);
}

#[test]
fn an_exit_that_overtakes_the_creation_is_not_lost() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.run_pod(&host_pod("a")).unwrap();
    node.shims.script.lock().unwrap().stillborn = Some(5);
    let c = daemon.create(&pod, &container("c")).unwrap();
    let status = daemon.wait_for(&c, cri::ContainerState::ContainerExited);
    assert_eq!(status.exit_code, 5);
}

#[test]
fn the_log_directory_is_made() {
    let node = Node::new();
    let daemon = node.start();
    let mut config = host_pod("a");
    let logs = node.path("logs/pod");
    config.log_directory = logs.to_str().unwrap().into();
    let pod = daemon.run_pod(&config).unwrap();
    let mut logged = container("c");
    logged.log_path = "c/0.log".into();
    daemon.create(&pod, &logged).unwrap();
    assert!(logs.join("c").is_dir());
}

/// The one image there is declares volumes at /data and /logs.
#[test]
fn volumes_of_the_image_are_directories_of_the_container() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.run_pod(&host_pod("a")).unwrap();
    let mut config = container("c");
    let host_path = node.path("host");
    config.mounts.push(cri::Mount {
        container_path: "/logs".into(),
        host_path: host_path.to_str().unwrap().into(),
        ..<_>::default()
    });
    let c = daemon.create(&pod, &config).unwrap();
    let volume = node.path(&format!("fake-snapshots/{c}/volumes/0"));
    let of = std::fs::read_to_string(volume.join("of")).unwrap();
    assert_eq!(of, "/data");
    assert!(
        !volume.with_file_name("1").exists(),
        "/logs is the request's"
    );
    let mounts = node.shims.mounts(&pod, &c);
    let volume = (volume.to_str().unwrap().to_owned(), "/data".to_owned());
    assert!(mounts.contains(&volume), "{mounts:?}");
    let requested = (host_path.to_str().unwrap().to_owned(), "/logs".to_owned());
    assert!(mounts.contains(&requested), "{mounts:?}");
    daemon.remove_pod(&pod).unwrap();
    assert_eq!(node.left(), Vec::<String>::new());
}
