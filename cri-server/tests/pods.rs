//! What a client relies on about pods, with shims that run nothing.

mod support;

use skiff_cri::v1 as cri;
use skiff_cri::v1::runtime_service_server::RuntimeService;
use skiff_cri_server::pod::record::PodRecord;
use skiff_shim_proto::message::{Failure, FailureKind};
use support::{Node, container, entries, host_pod, pod, refused};
use tonic::{Code, Request};

/// A plugin that gives an address, and writes down what it was asked.
const PLUGIN: &str = r#"echo $CNI_COMMAND >>"$(dirname "$0")/log"
[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"'$CNI_NETNS'"}],"ips":[{"address":"10.1.2.3/24","interface":0}]}'
exit 0"#;

#[test]
fn a_pod_is_made_listed_stopped_and_removed_without_a_trace() {
    let node = Node::new();
    node.network(PLUGIN);
    let daemon = node.start();
    let id = daemon.run_pod(&pod("web")).unwrap();
    assert_eq!((id.len(), daemon.pods()), (64, vec![id.clone()]));
    let status = daemon.pod_status(&id).unwrap();
    assert_eq!(status.state(), cri::PodSandboxState::SandboxReady);
    assert_eq!(status.network.unwrap().ip, "10.1.2.3");
    assert!(status.created_at > 0 && status.metadata.unwrap().name == "web");
    daemon.stop_pod(&id).unwrap();
    daemon.stop_pod(&id).unwrap();
    assert_eq!(
        daemon.pod_status(&id).unwrap().state(),
        cri::PodSandboxState::SandboxNotready
    );
    daemon.remove_pod(&id).unwrap();
    daemon.remove_pod(&id).unwrap();
    refused(daemon.pod_status(&id), Code::NotFound, &id);
    assert_eq!(node.left(), Vec::<String>::new());
    assert_eq!(
        std::fs::read_to_string(node.path("cni-bin/log")).unwrap(),
        "ADD\nDEL\n"
    );
    assert!(node.shims.pods().is_empty());
}

#[test]
fn verbose_statuses_are_what_tools_can_read() {
    let node = Node::new();
    node.network(PLUGIN);
    let daemon = node.start();
    let id = daemon.run_pod(&pod("web")).unwrap();
    daemon.create(&id, &container("c")).unwrap();
    let answer_cni = &daemon.pod_info(&id)["cniResult"]["ips"][0]["address"];
    assert_eq!(answer_cni, "10.1.2.3/24");
    let request = |verbose| Request::new(cri::StatusRequest { verbose });
    let status = |verbose| daemon.block_on(daemon.service.status(request(verbose)));
    assert!(status(false).unwrap().into_inner().info.is_empty());
    let mut info = status(true).unwrap().into_inner().info;
    assert_eq!(info.remove("lastCNILoadStatus").unwrap(), "OK");
    for (key, text) in &info {
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        assert!(value.is_object(), "{key}: {text}");
    }
    let of = |key: &str| serde_json::from_str::<serde_json::Value>(&info[key]).unwrap();
    assert_eq!(of("runtime")["pods"], 1);
    assert_eq!(of("runtime")["containers"], 1);
    assert_eq!(
        of("cniconfig")["confDir"],
        of("config")["network"]["conf_dir"]
    );
}

#[test]
fn removing_a_running_pod_stops_it_first() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.run_pod(&host_pod("a")).unwrap();
    let c = daemon.create(&id, &container("c")).unwrap();
    daemon.start(&c).unwrap();
    daemon.remove_pod(&id).unwrap();
    refused(daemon.status(&c), Code::NotFound, &c);
    assert_eq!(node.left(), Vec::<String>::new());
}

#[test]
fn the_same_request_returns_the_same_pod_and_another_one_is_refused() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.run_pod(&host_pod("a")).unwrap();
    assert_eq!(daemon.run_pod(&host_pod("a")).unwrap(), id);
    let mut other = host_pod("a");
    other.labels.insert("new".into(), "label".into());
    refused(daemon.run_pod(&other), Code::AlreadyExists, &id);
    daemon.stop_pod(&id).unwrap();
    refused(
        daemon.run_pod(&host_pod("a")),
        Code::AlreadyExists,
        "stopped",
    );
    daemon.remove_pod(&id).unwrap();
    assert_ne!(daemon.run_pod(&host_pod("a")).unwrap(), id);
}

/// A client that gives up must not leave a half-made pod, nor a name that is taken for ever.
#[test]
fn a_dropped_request_is_carried_through_and_joined_by_the_next() {
    let node = Node::new();
    node.network(&format!("[ $CNI_COMMAND = ADD ] && sleep 0.3\n{PLUGIN}"));
    let daemon = node.start();
    let request = cri::RunPodSandboxRequest {
        config: Some(pod("slow")),
        ..<_>::default()
    };
    daemon.block_on(async {
        let call = daemon.service.run_pod_sandbox(Request::new(request));
        let patience = std::time::Duration::from_millis(30);
        assert!(tokio::time::timeout(patience, call).await.is_err());
    });
    assert!(
        daemon.pods().is_empty(),
        "a pod that is being made is not listed"
    );
    let id = daemon.run_pod(&pod("slow")).unwrap();
    assert_eq!(daemon.pods(), [id]);
    assert_eq!(
        std::fs::read_to_string(node.path("cni-bin/log")).unwrap(),
        "ADD\n"
    );
}

#[test]
fn a_plugin_that_fails_leaves_nothing_and_the_name_free() {
    let node = Node::new();
    node.network(
        "[ $CNI_COMMAND = ADD ] && { echo '{\"code\":7,\"msg\":\"no room\"}'; exit 1; }; exit 0",
    );
    let daemon = node.start();
    refused(daemon.run_pod(&pod("a")), Code::Internal, "no room");
    assert_eq!(node.left(), Vec::<String>::new());
    assert!(node.shims.pods().is_empty());
    node.network(PLUGIN);
    daemon.run_pod(&pod("a")).unwrap();
}

/// What is left of a pod stays in sight until it can be removed: forgotten, it would be left again
/// by every attempt of a kubelet.
#[test]
fn a_pod_that_can_be_neither_started_nor_undone_is_seen_and_can_be_removed() {
    let node = Node::new();
    node.network("echo '{\"code\":7,\"msg\":\"no way to the agent\"}'; exit 1");
    let daemon = node.start();
    refused(
        daemon.run_pod(&pod("a")),
        Code::Internal,
        "no way to the agent",
    );
    let ids = daemon.pods();
    let [id] = &ids[..] else {
        panic!("{ids:?}");
    };
    let not_ready = cri::PodSandboxState::SandboxNotready;
    assert_eq!(daemon.pod_status(id).unwrap().state(), not_ready);
    refused(
        daemon.create(id, &container("c")),
        Code::FailedPrecondition,
        "could not be started",
    );
    refused(daemon.remove_pod(id), Code::Internal, "no way to the agent");
    daemon.kill();
    let daemon = node.start();
    assert_eq!(daemon.pod_status(id).unwrap().state(), not_ready);
    node.network(PLUGIN);
    daemon.remove_pod(id).unwrap();
    assert_eq!(node.left(), Vec::<String>::new());
    assert!(node.shims.pods().is_empty());
    daemon.run_pod(&pod("a")).unwrap();
}

#[test]
fn a_shim_that_cannot_adopt_leaves_nothing() {
    let node = Node::new();
    let daemon = node.start();
    let message = "set sysctl net.x: no such file".to_owned();
    let failure = Failure {
        kind: FailureKind::System,
        message,
    };
    node.shims.script.lock().unwrap().refuse_adopt = Some(failure);
    refused(daemon.run_pod(&host_pod("a")), Code::Internal, "net.x");
    assert_eq!(node.left(), Vec::<String>::new());
    node.shims.script.lock().unwrap().refuse_adopt = None;
    daemon.run_pod(&host_pod("a")).unwrap();
}

/// A plugin that cannot detach: the client is told, and the next attempt does it.
#[test]
fn a_failed_stop_is_told_and_can_be_repeated() {
    let node = Node::new();
    node.network(PLUGIN);
    let daemon = node.start();
    let id = daemon.run_pod(&pod("a")).unwrap();
    node.network("echo '{\"code\":7,\"msg\":\"cannot detach\"}'; exit 1");
    refused(daemon.stop_pod(&id), Code::Internal, "cannot detach");
    refused(daemon.remove_pod(&id), Code::Internal, "cannot detach");
    node.network(PLUGIN);
    daemon.stop_pod(&id).unwrap();
    daemon.remove_pod(&id).unwrap();
    assert_eq!(node.left(), Vec::<String>::new());
}

fn pod_with_port(name: &str) -> cri::PodSandboxConfig {
    let mapping = cri::PortMapping {
        container_port: 80,
        host_port: 8080,
        ..Default::default()
    };
    cri::PodSandboxConfig {
        port_mappings: vec![mapping],
        ..pod(name)
    }
}

/// A port was free as soon as its pod was not ready, with the plugin's rule for it still there.
#[test]
fn a_host_port_is_free_when_its_pod_has_no_network_any_more() {
    let node = Node::new();
    node.network(PLUGIN);
    let daemon = node.start();
    let port_is_taken = || {
        let run = daemon.run_pod(&pod_with_port("b"));
        refused(run, Code::FailedPrecondition, "8080/TCP");
    };
    let a = daemon.run_pod(&pod_with_port("a")).unwrap();
    port_is_taken();
    node.network("echo '{\"code\":7,\"msg\":\"cannot detach\"}'; exit 1");
    refused(daemon.stop_pod(&a), Code::Internal, "cannot detach");
    port_is_taken();
    node.network(PLUGIN);
    daemon.stop_pod(&a).unwrap();
    let b = daemon.run_pod(&pod_with_port("b")).unwrap();
    node.shims.kill(&b);
    while daemon.pod_status(&b).unwrap().state() == cri::PodSandboxState::SandboxReady {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let run = daemon.run_pod(&pod_with_port("c"));
    refused(run, Code::FailedPrecondition, "8080/TCP");
    daemon.kill();
    let daemon = node.start_in_boot("the next");
    daemon.run_pod(&pod_with_port("c")).unwrap();
}

#[test]
fn a_killed_shim_ends_its_containers_with_a_reason_and_no_others() {
    let node = Node::new();
    let daemon = node.start();
    let (a, b) = (
        daemon.run_pod(&host_pod("a")).unwrap(),
        daemon.run_pod(&host_pod("b")).unwrap(),
    );
    let (ca, cb) = (
        daemon.create(&a, &container("c")).unwrap(),
        daemon.create(&b, &container("c")).unwrap(),
    );
    daemon.start(&ca).unwrap();
    daemon.start(&cb).unwrap();
    let record = node.path("root/state/pods").join(format!("{a}.json"));
    let (_, record) = PodRecord::read(&record).unwrap();
    let shim = record.shim.id;
    assert!(entries(&node.path("state/shims")).contains(&shim));
    node.shims.kill(&a);
    let status = daemon.wait_for(&ca, cri::ContainerState::ContainerExited);
    assert_eq!(
        (status.exit_code, status.reason.as_str()),
        (255, "ShimDied")
    );
    assert!(status.message.contains("shim") && status.finished_at > 0 && status.started_at > 0);
    assert_eq!(
        daemon.pod_status(&a).unwrap().state(),
        cri::PodSandboxState::SandboxNotready
    );
    assert_eq!(
        daemon.status(&cb).unwrap().state(),
        cri::ContainerState::ContainerRunning
    );
    assert_eq!(
        daemon.pod_status(&b).unwrap().state(),
        cri::PodSandboxState::SandboxReady
    );
    refused(
        daemon.create(&a, &container("d")),
        Code::FailedPrecondition,
        "not ready",
    );
    daemon.stop_pod(&a).unwrap();
    daemon.remove_pod(&a).unwrap();
    assert_eq!(daemon.pods(), [b]);
    assert!(
        !entries(&node.path("state/shims")).contains(&shim),
        "its directory is left"
    );
}

#[test]
fn requests_that_cannot_be_meant_name_the_field() {
    let node = Node::new();
    let daemon = node.start();
    let mut nameless = host_pod("a");
    nameless.metadata = None;
    refused(
        daemon.run_pod(&nameless),
        Code::InvalidArgument,
        "config.metadata",
    );
    let mut outside = host_pod("a");
    outside.linux.as_mut().unwrap().cgroup_parent = "/a/../../b".into();
    refused(
        daemon.run_pod(&outside),
        Code::InvalidArgument,
        "cgroup_parent",
    );
    let handler = cri::RunPodSandboxRequest {
        config: Some(host_pod("a")),
        runtime_handler: "kata".into(),
    };
    let answer = daemon.block_on(daemon.service.run_pod_sandbox(Request::new(handler)));
    refused(answer, Code::InvalidArgument, "kata");
    refused(
        daemon.pod_status(""),
        Code::InvalidArgument,
        "pod_sandbox_id",
    );
    refused(daemon.pod_status("no-such"), Code::NotFound, "no-such");
    daemon.stop_pod("no-such").unwrap();
    daemon.remove_pod("no-such").unwrap();
}

#[test]
fn an_ids_beginning_names_a_pod_when_it_is_unique() {
    let node = Node::new();
    let daemon = node.start();
    let ids: Vec<String> = (0..17)
        .map(|n| daemon.run_pod(&host_pod(&format!("p{n}"))).unwrap())
        .collect();
    assert_eq!(daemon.pod_status(&ids[0][..20]).unwrap().id, ids[0]);
    // Seventeen ids cannot begin with sixteen different digits.
    let twice = |c: &char| ids.iter().filter(|id| id.starts_with(*c)).count() > 1;
    let digit = ('0'..='9').chain('a'..='f').find(twice).unwrap();
    refused(
        daemon.pod_status(&digit.to_string()),
        Code::InvalidArgument,
        "several",
    );
}

#[test]
fn a_filter_wants_all_its_parts() {
    let node = Node::new();
    let daemon = node.start();
    let a = daemon.run_pod(&host_pod("a")).unwrap();
    let b = daemon.run_pod(&host_pod("b")).unwrap();
    let list_all = |filter: cri::PodSandboxFilter| {
        let request = cri::ListPodSandboxRequest {
            filter: Some(filter),
        };
        let answer = daemon.block_on(daemon.service.list_pod_sandbox(Request::new(request)));
        answer.unwrap().into_inner().items().unwrap()
    };
    let state = |id: &str| {
        let id = id.to_owned();
        list_all(cri::PodSandboxFilter {
            id,
            ..<_>::default()
        })[0]
            .state()
    };
    assert_eq!(state(&b), cri::PodSandboxState::SandboxReady);
    daemon.stop_pod(&b).unwrap();
    assert_eq!(state(&b), cri::PodSandboxState::SandboxNotready);
    let list = |filter| {
        let items = list_all(filter).into_iter();
        items.map(|p| p.id).collect::<Vec<_>>()
    };
    let ready = cri::PodSandboxStateValue {
        state: cri::PodSandboxState::SandboxReady.into(),
    };
    let label = |v: &str| [("app".to_owned(), v.to_owned())].into();
    assert_eq!(
        list(cri::PodSandboxFilter {
            state: Some(ready),
            ..<_>::default()
        }),
        [a.as_str()]
    );
    assert_eq!(
        list(cri::PodSandboxFilter {
            id: b.clone(),
            ..<_>::default()
        }),
        [b.as_str()]
    );
    let labelled = cri::PodSandboxFilter {
        label_selector: label("b"),
        ..<_>::default()
    };
    assert_eq!(list(labelled.clone()), [b]);
    assert!(
        list(cri::PodSandboxFilter {
            state: Some(ready),
            ..labelled
        })
        .is_empty()
    );
}

#[test]
fn what_is_not_built_says_its_name() {
    let node = Node::new();
    let daemon = node.start();
    let request = Request::new(cri::CheckpointContainerRequest::default());
    let answer = daemon.block_on(daemon.service.checkpoint_container(request));
    refused(answer, Code::Unimplemented, "CheckpointContainer");
}
