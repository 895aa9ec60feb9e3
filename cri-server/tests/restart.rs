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

/// The pid of a pod's shim is somebody else's in the next boot.
#[test]
fn a_process_of_this_boot_is_not_taken_for_the_shim_of_an_earlier_one() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.run_pod(&host_pod("a")).unwrap();
    daemon.kill();
    // What a boot clears.
    std::fs::remove_dir_all(node.path("state")).unwrap();
    let daemon = node.start_in_boot("the next");
    daemon.stop_pod(&id).unwrap();
    daemon.remove_pod(&id).unwrap();
    assert_eq!(node.shims.pods(), [id.as_str()], "it was not ours to kill");
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
    daemon.run_pod(&pod("a")).expect("the name is free at once");
    daemon.wait_until(|| daemon.pods().len() == 1);
    assert_eq!(node.shims.pods(), daemon.pods());
    let daemon_pods = daemon.pods();
    daemon.remove_pod(&daemon_pods[0]).unwrap();
    assert_eq!(node.left(), Vec::<String>::new());
}

/// What a plugin holds of a half-made pod must not keep clients from the pods that run.
#[test]
fn a_plugin_that_hangs_does_not_hold_up_recovery() {
    let node = Node::new();
    node.network(PLUGIN);
    let daemon = node.start();
    let whole = daemon.run_pod(&pod("whole")).unwrap();
    node.network("sleep 3600");
    daemon.block_on(async {
        use skiff_cri::v1::runtime_service_server::RuntimeService;
        let request = cri::RunPodSandboxRequest {
            config: Some(pod("half")),
            ..<_>::default()
        };
        let call = daemon.service.run_pod_sandbox(tonic::Request::new(request));
        let patience = std::time::Duration::from_millis(300);
        assert!(tokio::time::timeout(patience, call).await.is_err());
    });
    daemon.kill();
    let daemon = node.start();
    let ready = cri::PodSandboxState::SandboxReady;
    assert_eq!(daemon.pod_status(&whole).unwrap().state(), ready);
    assert_eq!(
        daemon.pods().len(),
        2,
        "the other is seen while it is being removed"
    );
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
        "torn",
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

/// The daemon dies between its call and the shim's answer: the next one saw the container before
/// it ran.
#[test]
fn a_start_that_comes_through_after_the_daemon_died_is_heard_of() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.run_pod(&host_pod("a")).unwrap();
    let c = daemon.create(&id, &container("c")).unwrap();
    node.shims.script.lock().unwrap().silent_start = true;
    daemon.block_on(async {
        use skiff_cri::v1::runtime_service_server::RuntimeService;
        let request = cri::StartContainerRequest {
            container_id: c.clone(),
        };
        let call = daemon.service.start_container(tonic::Request::new(request));
        let patience = std::time::Duration::from_millis(200);
        assert!(tokio::time::timeout(patience, call).await.is_err());
    });
    daemon.kill();
    let daemon = node.start();
    let created = cri::ContainerState::ContainerCreated;
    assert_eq!(daemon.status(&c).unwrap().state(), created);
    node.shims.come_through(&id, &c);
    let status = daemon.wait_for(&c, cri::ContainerState::ContainerRunning);
    assert_eq!(status.started_at, 1_000);
    daemon.kill();
    assert_eq!(node.start().status(&c).unwrap().started_at, 1_000);
}

/// The daemon dies while a plugin detaches the pod: it must not be taken for a ready one.
#[test]
fn a_stop_is_recorded_before_it_begins() {
    let node = Node::new();
    node.network(&format!("[ $CNI_COMMAND = DEL ] && sleep 5\n{PLUGIN}"));
    let daemon = node.start();
    let id = daemon.run_pod(&pod("a")).unwrap();
    daemon.block_on(async {
        use skiff_cri::v1::runtime_service_server::RuntimeService;
        let request = cri::StopPodSandboxRequest {
            pod_sandbox_id: id.clone(),
        };
        let call = daemon
            .service
            .stop_pod_sandbox(tonic::Request::new(request));
        let patience = std::time::Duration::from_millis(300);
        assert!(tokio::time::timeout(patience, call).await.is_err());
    });
    daemon.kill();
    assert_eq!(node.shims.pods(), [id.as_str()], "it had not been stopped");
    node.network(PLUGIN);
    let daemon = node.start();
    let not_ready = cri::PodSandboxState::SandboxNotready;
    assert_eq!(daemon.pod_status(&id).unwrap().state(), not_ready);
    let created = daemon.create(&id, &container("c"));
    refused(created, Code::FailedPrecondition, "not ready");
    daemon.remove_pod(&id).unwrap();
    assert_eq!(node.left(), Vec::<String>::new());
}

/// A disk that fails for a moment must not cost a pod its life.
#[test]
fn recovery_refuses_to_start_when_records_cannot_be_listed_or_read() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.run_pod(&host_pod("a")).unwrap();
    let c = daemon.create(&id, &container("c")).unwrap();
    daemon.start(&c).unwrap();
    daemon.kill();
    let records = [
        node.path(&format!("root/state/pods/{id}.json")),
        node.path(&format!("root/state/containers/{c}.json")),
        node.path("root/state/pods"),
        node.path("root/state/containers"),
    ];
    for path in &records {
        let aside = path.with_extension("aside");
        // What cannot be read, and says another thing than "no such file".
        let spoil = || {
            std::fs::rename(path, &aside).unwrap();
            std::os::unix::fs::symlink(path, path).unwrap();
        };
        let error = node.try_start("this boot", spoil).err().expect("a refusal");
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        assert_eq!(node.shims.pods(), [id.as_str()]);
        assert!(node.shims.log().is_empty(), "{:?}", node.shims.log());
        std::fs::remove_file(path).unwrap();
        std::fs::rename(&aside, path).unwrap();
    }
    let daemon = node.start();
    let running = cri::ContainerState::ContainerRunning;
    assert_eq!(daemon.status(&c).unwrap().state(), running);
}

/// What the sweep takes for nobody's is what no pod has that readers see.
#[test]
fn what_a_pod_holds_is_there_after_recovery() {
    let node = Node::new();
    node.network(PLUGIN);
    let daemon = node.start();
    let id = daemon.run_pod(&pod("a")).unwrap();
    let c = daemon.create(&id, &container("c")).unwrap();
    daemon.kill();
    let snapshot = node.path("root/snapshots").join(&c);
    std::fs::create_dir_all(&snapshot).unwrap();
    let held = [
        snapshot,
        node.path(&format!("netns/skiff-{}", &id[..12])),
        node.path(&format!("root/cni/{id}.json")),
        node.path(&format!("root/pods/{id}")),
    ];
    for _ in 0..3 {
        node.start().kill();
        for path in &held {
            assert!(path.exists(), "{}", path.display());
        }
    }
    assert_eq!(node.shims.pods(), [id]);
}

#[test]
fn of_two_pods_with_one_name_the_one_that_is_ready_stays() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.run_pod(&host_pod("a")).unwrap();
    daemon.kill();
    let records = node.path("root/state/pods");
    let record = std::fs::read_to_string(records.join(format!("{id}.json"))).unwrap();
    let other = "f".repeat(64);
    // Newer, and of a shim that is long gone.
    let other_record = record
        .replace(&id, &other)
        .replace("\"pid\":", "\"pid\":99")
        .replace("\"created_at\":1", "\"created_at\":2");
    std::fs::write(records.join(format!("{other}.json")), other_record).unwrap();
    let daemon = node.start();
    daemon.wait_until(|| daemon.pods() == [id.as_str()]);
    assert_eq!(entries(&records), [format!("{id}.json")]);
    let ready = cri::PodSandboxState::SandboxReady;
    assert_eq!(daemon.pod_status(&id).unwrap().state(), ready);
}

/// Two daemons with different directories share the host's cgroups and network namespaces.
#[test]
fn another_daemons_pods_are_not_swept_away() {
    let node = Node::new();
    node.network(PLUGIN);
    let daemon = node.start();
    let id = daemon.run_pod(&pod("a")).unwrap();
    let c = daemon.create(&id, &container("c")).unwrap();
    let cgroup = node.path(&format!("cgroup/skiff/{id}/skiff-{c}"));
    let netns = node.path(&format!("netns/skiff-{}", &id[..12]));
    std::fs::create_dir_all(&cgroup).unwrap();
    let neighbour = node.neighbour();
    let lost = "e".repeat(64);
    let lost_netns = node.path(&format!("netns/skiff-{}", &lost[..12]));
    std::fs::write(&lost_netns, "").unwrap();
    std::fs::create_dir_all(node.path("root2/state/quarantine")).unwrap();
    std::fs::write(
        node.path(&format!("root2/state/quarantine/{lost}.json")),
        "",
    )
    .unwrap();
    let second = neighbour.start();
    assert!(second.pods().is_empty());
    assert_eq!(entries(&cgroup), Vec::<String>::new(), "nothing was killed");
    assert!(netns.exists() && cgroup.exists());
    assert!(!lost_netns.exists(), "what is its own is removed");
    assert_eq!(node.shims.pods(), [id.as_str()]);
    daemon.start(&c).unwrap();
}

/// A removal that cannot remove the record must not be told to have succeeded.
#[test]
fn a_pod_whose_record_stays_is_not_removed() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.run_pod(&host_pod("a")).unwrap();
    let c = daemon.create(&id, &container("c")).unwrap();
    for (record, remove) in [
        (
            format!("root/state/containers/{c}.json"),
            &(|| daemon.remove(&c)) as &dyn Fn() -> Result<(), tonic::Status>,
        ),
        (
            format!("root/state/pods/{id}.json"),
            &(|| daemon.remove_pod(&id)),
        ),
    ] {
        let (path, aside) = (node.path(&record), node.path("aside"));
        std::fs::rename(&path, &aside).unwrap();
        std::fs::create_dir(&path).unwrap();
        refused(remove(), Code::Internal, &record);
        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(&aside, &path).unwrap();
        remove().unwrap();
    }
    assert_eq!(node.left(), Vec::<String>::new());
}

#[test]
fn the_networks_of_pods_that_are_back_are_checked() {
    let node = Node::new();
    node.network(PLUGIN);
    let daemon = node.start();
    let id = daemon.run_pod(&pod("a")).unwrap();
    daemon.kill();
    let daemon = node.start();
    let log = || std::fs::read_to_string(node.path("cni-bin/log")).unwrap();
    for _ in 0..2000 {
        if log() == "ADD\nCHECK\n" {
            return daemon.remove_pod(&id).unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("{}", log());
}

/// A daemon that dies between making the file and writing to it leaves nothing worth keeping.
#[test]
fn an_empty_record_is_of_nothing_and_is_removed() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.run_pod(&host_pod("a")).unwrap();
    daemon.kill();
    let other = "d".repeat(64);
    for dir in ["root/state/pods", "root/state/containers"] {
        std::fs::write(node.path(dir).join(format!("{other}.json")), "").unwrap();
    }
    let daemon = node.start();
    assert_eq!(daemon.pods(), [id.as_str()]);
    assert!(entries(&node.path("root/state/quarantine")).is_empty());
    daemon.remove_pod(&id).unwrap();
    assert_eq!(node.left(), Vec::<String>::new());
}
