//! What is left after a `kill -9` of the daemon, and what the next one makes of it.

mod support;

use skiff_cri::v1 as cri;
use support::{Node, container, entries, host_pod, pod, refused};
use tonic::Code;

const PLUGIN: &str = r#"echo $CNI_COMMAND >>"$(dirname "$0")/log"
[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"'$CNI_NETNS'"}],"ips":[{"address":"10.1.2.3/24","interface":0}]}'
exit 0"#;

#[test]
fn pods_and_containers_are_back_as_they_were() {
    let node = Node::new();
    node.network(PLUGIN);
    let daemon = node.start();
    let id = daemon.run_pod(&pod("web")).unwrap();
    let created = daemon.create(&id, &container("created")).unwrap();
    let running = daemon.create(&id, &container("running")).unwrap();
    let exited = daemon.create(&id, &container("exited")).unwrap();
    for c in [&running, &exited] {
        daemon.start(c).unwrap();
    }
    node.shims.exit(&id, &exited, 7);
    daemon.wait_for(&exited, cri::ContainerState::ContainerExited);
    let before = [&created, &running, &exited].map(|c| daemon.status(c).unwrap());
    let pod_before = daemon.pod_status(&id).unwrap();
    daemon.kill();

    let daemon = node.start();
    assert_eq!(daemon.pod_status(&id).unwrap(), pod_before);
    assert_eq!(
        [&created, &running, &exited].map(|c| daemon.status(c).unwrap()),
        before
    );
    daemon.start(&created).unwrap();
    assert_eq!(daemon.exec(&running, &["true"], 0).unwrap().exit_code, 3);
    daemon.stop(&running, 5).unwrap();
    assert_eq!(
        daemon.run_pod(&pod("web")).unwrap(),
        id,
        "the name is still this pod's"
    );
    daemon.remove_pod(&id).unwrap();
    assert_eq!(node.left(), Vec::<String>::new());
    assert!(node.shims.pods().is_empty());
}

#[test]
fn an_exit_while_no_daemon_runs_is_not_lost() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.run_pod(&host_pod("a")).unwrap();
    let c = daemon.create(&id, &container("c")).unwrap();
    daemon.start(&c).unwrap();
    daemon.kill();
    node.shims.exit(&id, &c, 42);
    let daemon = node.start();
    let status = daemon.status(&c).unwrap();
    assert_eq!((status.exit_code, status.finished_at), (42, 2_000));
}

#[test]
fn a_shim_that_died_meanwhile_leaves_its_exits_and_an_unready_pod() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.run_pod(&host_pod("a")).unwrap();
    let (known, unknown) = (
        daemon.create(&id, &container("known")).unwrap(),
        daemon.create(&id, &container("unknown")).unwrap(),
    );
    for c in [&known, &unknown] {
        daemon.start(c).unwrap();
    }
    daemon.kill();
    node.shims.exit(&id, &known, 9);
    node.shims.kill(&id);
    let daemon = node.start();
    assert_eq!(
        daemon.pod_status(&id).unwrap().state(),
        cri::PodSandboxState::SandboxNotready
    );
    assert_eq!(daemon.status(&known).unwrap().exit_code, 9);
    assert_eq!(daemon.status(&unknown).unwrap().reason, "ShimDied");
    daemon.remove_pod(&id).unwrap();
    assert_eq!(node.left(), Vec::<String>::new());
}

#[test]
fn after_a_reboot_everything_is_over_and_can_be_removed() {
    let node = Node::new();
    node.network(PLUGIN);
    let daemon = node.start();
    let id = daemon.run_pod(&pod("web")).unwrap();
    let c = daemon.create(&id, &container("c")).unwrap();
    daemon.start(&c).unwrap();
    daemon.kill();
    node.shims.kill(&id);
    // What a boot clears.
    std::fs::remove_dir_all(node.path("netns")).unwrap();
    std::fs::remove_dir_all(node.path("state")).unwrap();
    let daemon = node.start_in_boot("the next");
    assert_eq!(
        daemon.pod_status(&id).unwrap().state(),
        cri::PodSandboxState::SandboxNotready
    );
    let status = daemon.status(&c).unwrap();
    assert_eq!(
        (status.state(), status.reason.as_str()),
        (cri::ContainerState::ContainerExited, "NodeRestarted")
    );
    assert!(status.started_at == 1_000 && status.finished_at > 0);
    daemon.stop_pod(&id).unwrap();
    daemon.remove_pod(&id).unwrap();
    assert_eq!(node.left(), Vec::<String>::new());
    assert_eq!(
        std::fs::read_to_string(node.path("cni-bin/log")).unwrap(),
        "ADD\nDEL\n"
    );
}

/// The daemon dies while a plugin attaches: no client was told of the pod.
#[test]
fn a_half_made_pod_is_undone() {
    let node = Node::new();
    node.network(&format!("[ $CNI_COMMAND = ADD ] && sleep 5\n{PLUGIN}"));
    let daemon = node.start();
    let begun = daemon.daemon.clone();
    daemon.block_on(async {
        use skiff_cri::v1::runtime_service_server::RuntimeService;
        let request = cri::RunPodSandboxRequest {
            config: Some(pod("a")),
            ..<_>::default()
        };
        let call = daemon.service.run_pod_sandbox(tonic::Request::new(request));
        let patience = std::time::Duration::from_millis(300);
        assert!(tokio::time::timeout(patience, call).await.is_err());
    });
    assert_eq!(node.shims.pods().len(), 1, "it was being made");
    drop(begun);
    daemon.kill();
    node.network(PLUGIN);
    let daemon = node.start();
    assert!(daemon.pods().is_empty());
    assert!(node.shims.pods().is_empty());
    assert_eq!(node.left(), Vec::<String>::new());
    daemon.run_pod(&pod("a")).unwrap();
}

/// The daemon dies between the shim's work and its own record: the shim decides what there is.
#[test]
fn a_half_made_container_is_undone() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.run_pod(&host_pod("a")).unwrap();
    node.shims.script.lock().unwrap().silent_create = true;
    daemon.block_on(async {
        use skiff_cri::v1::runtime_service_server::RuntimeService;
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: id.clone(),
            config: Some(container("c")),
            sandbox_config: None,
        };
        let call = daemon
            .service
            .create_container(tonic::Request::new(request));
        let patience = std::time::Duration::from_millis(200);
        assert!(tokio::time::timeout(patience, call).await.is_err());
    });
    assert_eq!(
        entries(&node.path("root/state/containers")).len(),
        1,
        "it was being made"
    );
    daemon.kill();
    node.shims.script.lock().unwrap().silent_create = false;
    let daemon = node.start();
    assert!(entries(&node.path("root/state/containers")).is_empty());
    let c = daemon.create(&id, &container("c")).unwrap();
    daemon.start(&c).unwrap();
    daemon.remove_pod(&id).unwrap();
    assert_eq!(node.left(), Vec::<String>::new());
}

#[test]
fn a_record_that_cannot_be_read_is_put_aside_and_its_pod_removed() {
    let node = Node::new();
    node.network(PLUGIN);
    let daemon = node.start();
    let (torn, whole) = (
        daemon.run_pod(&pod("torn")).unwrap(),
        daemon.run_pod(&pod("whole")).unwrap(),
    );
    daemon.create(&torn, &container("c")).unwrap();
    daemon.kill();
    let record = node.path("root/state/pods").join(format!("{torn}.json"));
    let bytes = std::fs::read(&record).unwrap();
    std::fs::write(&record, &bytes[..bytes.len() / 2]).unwrap();
    let daemon = node.start();
    assert_eq!(daemon.pods(), [whole.as_str()]);
    assert_eq!(
        entries(&node.path("root/state/quarantine")),
        [format!("{torn}.json")]
    );
    assert_eq!(node.shims.pods(), [whole.as_str()]);
    assert_eq!(entries(&node.path("root/cni")), [format!("{whole}.json")]);
    assert!(entries(&node.path("root/state/containers")).is_empty());
    refused(daemon.pod_status(&torn), Code::NotFound, &torn);
    daemon.remove_pod(&whole).unwrap();
    assert_eq!(node.left(), Vec::<String>::new());
}

#[test]
fn a_container_record_that_cannot_be_read_costs_only_that_container() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.run_pod(&host_pod("a")).unwrap();
    let (torn, whole) = (
        daemon.create(&id, &container("torn")).unwrap(),
        daemon.create(&id, &container("whole")).unwrap(),
    );
    daemon.start(&whole).unwrap();
    daemon.kill();
    std::fs::write(
        node.path("root/state/containers")
            .join(format!("{torn}.json")),
        "",
    )
    .unwrap();
    let daemon = node.start();
    refused(daemon.status(&torn), Code::NotFound, &torn);
    assert_eq!(
        daemon.status(&whole).unwrap().state(),
        cri::ContainerState::ContainerRunning
    );
    assert_eq!(
        entries(&node.path("root/state/quarantine")),
        [format!("{torn}.json")]
    );
    daemon.create(&id, &container("torn")).unwrap();
}
