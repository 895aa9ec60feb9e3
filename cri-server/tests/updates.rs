//! What a client relies on when it changes limits, with shims that run nothing.

mod support;

use std::path::PathBuf;

use futures_util::StreamExt;
use skiff_cri::v1 as cri;
use skiff_cri::v1::runtime_service_server::RuntimeService;
use skiff_shim_proto::message::{Failure, FailureKind};
use support::{Node, Running, container, host_pod, refused};
use tonic::{Code, Request, Status};

fn limits(memory: i64) -> cri::LinuxContainerResources {
    cri::LinuxContainerResources {
        memory_limit_in_bytes: memory,
        ..Default::default()
    }
}

fn update(
    daemon: &Running,
    id: &str,
    resources: &cri::LinuxContainerResources,
) -> Result<(), Status> {
    let request = Request::new(cri::UpdateContainerResourcesRequest {
        container_id: id.into(),
        linux: Some(resources.clone()),
        ..Default::default()
    });
    let answer = daemon.service.update_container_resources(request);
    daemon.block_on(answer).map(drop)
}

fn reported(daemon: &Running, id: &str) -> cri::LinuxContainerResources {
    let status = daemon.status(id).unwrap();
    status.resources.unwrap().linux.unwrap()
}

fn created(daemon: &Running) -> (String, String) {
    let pod = daemon.run_pod(&host_pod("a")).unwrap();
    let mut config = container("c");
    config.linux.get_or_insert_default().resources = Some(limits(1 << 30));
    let id = daemon.create(&pod, &config).unwrap();
    (pod, id)
}

fn cgroup(node: &Node, pod: &str, id: &str) -> PathBuf {
    let path = format!("cgroup/skiff/{pod}/skiff-{id}");
    let path = node.path(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn a_change_is_carried_out_reported_and_outlives_the_daemon() {
    let node = Node::new();
    let daemon = node.start();
    let (_, id) = created(&daemon);
    let change = cri::LinuxContainerResources {
        oom_score_adj: 7,
        ..limits(2 << 30)
    };
    update(&daemon, &id, &change).unwrap();
    let expected = format!("update {{\"memory\":{{\"limit\":{}}}}} Some(7)", 2u64 << 30);
    assert!(
        node.shims.log().contains(&expected),
        "{:?}",
        node.shims.log()
    );
    assert_eq!(reported(&daemon, &id), change);
    daemon.kill();
    let daemon = node.start();
    assert_eq!(reported(&daemon, &id), change);
}

#[test]
fn a_change_that_the_shim_refuses_changes_nothing() {
    let node = Node::new();
    let daemon = node.start();
    let (_, id) = created(&daemon);
    node.shims.script.lock().unwrap().refuse_update = Some(Failure {
        kind: FailureKind::InvalidState,
        message: "too much is in use".into(),
    });
    let answer = update(&daemon, &id, &limits(1 << 20));
    refused(answer, Code::FailedPrecondition, "too much is in use");
    assert_eq!(reported(&daemon, &id), limits(1 << 30));
}

#[test]
fn what_cannot_be_changed_is_refused() {
    let node = Node::new();
    let daemon = node.start();
    let (pod, id) = created(&daemon);
    let nonsense = cri::LinuxContainerResources {
        cpu_shares: -1,
        ..Default::default()
    };
    let answer = update(&daemon, &id, &nonsense);
    refused(answer, Code::InvalidArgument, "cpu_shares");
    daemon.start(&id).unwrap();
    node.shims.exit(&pod, &id, 0);
    daemon.wait_for(&id, cri::ContainerState::ContainerExited);
    let answer = update(&daemon, &id, &limits(1 << 30));
    refused(answer, Code::FailedPrecondition, "exited");
    let unknown = "0".repeat(64);
    refused(
        update(&daemon, &unknown, &limits(1)),
        Code::NotFound,
        &unknown,
    );
    // A change of nothing needs no shim.
    let pod = daemon.run_pod(&host_pod("b")).unwrap();
    let other = daemon.create(&pod, &container("c")).unwrap();
    update(&daemon, &other, &cri::LinuxContainerResources::default()).unwrap();
    assert!(
        !node
            .shims
            .log()
            .iter()
            .any(|line| line.starts_with("update"))
    );
}

#[test]
fn the_status_says_what_the_cgroup_has() {
    let node = Node::new();
    let daemon = node.start();
    let (pod, id) = created(&daemon);
    let cgroup = cgroup(&node, &pod, &id);
    std::fs::write(cgroup.join("memory.max"), "1048576\n").unwrap();
    std::fs::write(cgroup.join("cpu.max"), "50000 100000\n").unwrap();
    let expected = cri::LinuxContainerResources {
        cpu_quota: 50_000,
        cpu_period: 100_000,
        ..limits(1 << 20)
    };
    assert_eq!(reported(&daemon, &id), expected);
    // A kubelet with evented PLEG reads it here.
    let request = Request::new(cri::PodSandboxStatusRequest {
        pod_sandbox_id: pod.clone(),
        verbose: false,
    });
    let answer = daemon.block_on(daemon.service.pod_sandbox_status(request));
    let of_pod = answer.unwrap().into_inner().containers_statuses;
    let events = daemon
        .service
        .get_container_events(Request::new(cri::GetEventsRequest {}));
    let mut events = daemon.block_on(events).unwrap().into_inner();
    daemon.start(&id).unwrap();
    let event = daemon.block_on(events.next()).unwrap().unwrap();
    for statuses in [of_pod, event.containers_statuses] {
        let held = statuses[0].resources.clone().unwrap().linux;
        assert_eq!(held, Some(expected.clone()));
    }
}

/// The shim finishes what a daemon asked for that is gone; the next daemon goes on from there.
#[test]
fn a_change_that_nobody_was_there_to_record_is_built_upon() {
    let node = Node::new();
    let daemon = node.start();
    let (pod, id) = created(&daemon);
    daemon.kill();
    let cgroup = cgroup(&node, &pod, &id);
    std::fs::write(cgroup.join("cpu.max"), "50000 200000\n").unwrap();
    let daemon = node.start();
    let change = cri::LinuxContainerResources {
        cpu_quota: 60_000,
        ..Default::default()
    };
    update(&daemon, &id, &change).unwrap();
    let expected = "\"quota\":60000,\"period\":200000";
    let log = node.shims.log();
    assert!(log.iter().any(|line| line.contains(expected)), "{log:?}");
}

#[test]
fn a_pods_change_is_taken_note_of() {
    let node = Node::new();
    let daemon = node.start();
    let (pod, _) = created(&daemon);
    let tell = |pod: &str, memory| {
        let request = Request::new(cri::UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: pod.into(),
            overhead: None,
            resources: Some(limits(memory)),
        });
        let answer = daemon.service.update_pod_sandbox_resources(request);
        daemon.block_on(answer).map(drop)
    };
    tell(&pod, 1 << 30).unwrap();
    refused(
        tell(&pod, -7),
        Code::InvalidArgument,
        "memory_limit_in_bytes",
    );
    let unknown = "0".repeat(64);
    refused(tell(&unknown, 1), Code::NotFound, &unknown);
}

/// The second of two changes depends on what has become of the first; readers wait for neither.
#[test]
fn overlapping_changes_are_made_one_after_the_other() {
    let busy = Failure {
        kind: FailureKind::InvalidState,
        message: "too much is in use".into(),
    };
    for (outcome, period, code) in [
        (Ok(()), 40_000, Code::Ok),
        (Err(busy), 0, Code::FailedPrecondition),
    ] {
        let node = Node::new();
        let daemon = node.start();
        let (_, id) = created(&daemon);
        node.shims.script.lock().unwrap().hold_updates = true;
        let ask = |resources| {
            let request = cri::UpdateContainerResourcesRequest {
                container_id: id.clone(),
                linux: Some(resources),
                ..Default::default()
            };
            daemon
                .service
                .update_container_resources(Request::new(request))
        };
        let first = ask(cri::LinuxContainerResources {
            cpu_period: 40_000,
            cpu_quota: 20_000,
            ..limits(2 << 30)
        });
        let second = ask(cri::LinuxContainerResources {
            cpu_quota: 30_000,
            ..Default::default()
        });
        let sent = || -> Vec<String> {
            let log = node.shims.log();
            log.into_iter()
                .filter(|line| line.starts_with("update"))
                .collect()
        };
        let until = async |count| {
            while sent().len() < count {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        let (first, second, ()) = daemon.block_on(async {
            tokio::join!(first, second, async {
                until(1).await;
                let request = Request::new(cri::ContainerStatusRequest {
                    container_id: id.clone(),
                    verbose: false,
                });
                let status = daemon.service.container_status(request).await.unwrap();
                let status = status.into_inner().status.unwrap();
                assert_eq!(status.resources.unwrap().linux, Some(limits(1 << 30)));
                assert_eq!(sent().len(), 1, "{:?}", sent());
                node.shims.answer_update(outcome);
                until(2).await;
                node.shims.answer_update(Ok(()));
            })
        });
        assert_eq!(first.map_or_else(|e| e.code(), |_| Code::Ok), code);
        second.unwrap();
        let last = sent().pop().unwrap();
        assert_eq!(last.contains("\"period\":40000"), period != 0, "{last}");
        let expected = cri::LinuxContainerResources {
            cpu_period: period,
            cpu_quota: 30_000,
            ..limits(if period == 0 { 1 << 30 } else { 2 << 30 })
        };
        assert_eq!(reported(&daemon, &id), expected);
    }
}
