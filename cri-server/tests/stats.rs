//! What a client is told of use, with cgroups that are directories.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use skiff_cri::v1 as cri;
use skiff_cri::v1::runtime_service_server::RuntimeService;
use support::{Node, Running, container, host_pod, refused};
use tonic::{Code, Request};

/// Writes the files of a cgroup that has used so many microseconds.
fn cgroup(dir: &Path, usage: u64) {
    fs::create_dir_all(dir).unwrap();
    let cpu = format!("usage_usec {usage}\nuser_usec 1\nsystem_usec 1\n");
    for (file, text) in [
        ("cpu.stat", &*cpu),
        ("cgroup.procs", "1\n2\n3\n"),
        ("memory.current", "50000\n"),
        ("memory.max", "max\n"),
        (
            "memory.stat",
            "anon 1\nfile 2\nfile_mapped 0\ninactive_file 20000\nactive_file 0\npgfault 0\npgmajfault 0\n",
        ),
    ] {
        fs::write(dir.join(file), text).unwrap();
    }
}

/// A daemon with a pod and a container whose cgroups are there.
fn running(node: &Node) -> (Running, String, String) {
    let daemon = node.start();
    let pod = daemon.run_pod(&host_pod("a")).unwrap();
    let mut config = container("c");
    config.labels.insert("l".into(), "1".into());
    let c = daemon.create(&pod, &config).unwrap();
    daemon.start(&c).unwrap();
    cgroup(&pod_cgroup(node, &pod), 9000);
    cgroup(&container_cgroup(node, &pod, &c), 7000);
    (daemon, pod, c)
}

fn pod_cgroup(node: &Node, pod: &str) -> PathBuf {
    node.path("cgroup/skiff").join(pod)
}

fn container_cgroup(node: &Node, pod: &str, container: &str) -> PathBuf {
    pod_cgroup(node, pod).join(format!("skiff-{container}"))
}

fn stats(daemon: &Running, id: &str) -> Result<cri::ContainerStats, tonic::Status> {
    let request = cri::ContainerStatsRequest {
        container_id: id.into(),
    };
    let answer = daemon.block_on(daemon.service.container_stats(Request::new(request)))?;
    Ok(answer.into_inner().stats.unwrap())
}

fn pod_stats(daemon: &Running, id: &str) -> Result<cri::PodSandboxStats, tonic::Status> {
    let request = cri::PodSandboxStatsRequest {
        pod_sandbox_id: id.into(),
    };
    let answer = daemon.block_on(daemon.service.pod_sandbox_stats(Request::new(request)))?;
    Ok(answer.into_inner().stats.unwrap())
}

fn metrics(daemon: &Running) -> Vec<cri::PodSandboxMetrics> {
    let request = Request::new(cri::ListPodSandboxMetricsRequest {});
    let answer = daemon.block_on(daemon.service.list_pod_sandbox_metrics(request));
    answer.unwrap().into_inner().pod_metrics
}

fn number(value: Option<cri::UInt64Value>) -> u64 {
    value.expect("a value").value
}

#[test]
fn what_was_never_read_is_read_on_the_spot() {
    let node = Node::new();
    let (daemon, pod, c) = running(&node);
    let told = stats(&daemon, &c[..12]).unwrap();
    let attributes = told.attributes.unwrap();
    assert_eq!((&attributes.id, &*attributes.labels["l"]), (&c, "1"));
    let cpu = told.cpu.unwrap();
    assert_eq!(number(cpu.usage_core_nano_seconds), 7_000_000);
    assert_eq!((cpu.usage_nano_cores, cpu.psi), (None, None));
    let memory = told.memory.unwrap();
    assert_eq!(number(memory.working_set_bytes), 30_000);
    assert_eq!(memory.available_bytes, None);
    assert_eq!((told.swap, told.io), (None, None));
    let linux = pod_stats(&daemon, &pod).unwrap().linux.unwrap();
    assert_eq!(
        number(linux.cpu.unwrap().usage_core_nano_seconds),
        9_000_000
    );
    assert_eq!(number(linux.process.unwrap().process_count), 3);
    assert_eq!(linux.network, None, "the host's network");
    assert_eq!(linux.containers.len(), 1);
}

#[test]
fn answers_come_from_memory() {
    let node = Node::new();
    let (daemon, pod, c) = running(&node);
    let first = stats(&daemon, &c).unwrap();
    fs::remove_dir_all(pod_cgroup(&node, &pod)).unwrap();
    assert_eq!(stats(&daemon, &c).unwrap(), first);
}

#[test]
fn the_ended_use_nothing_and_the_gone_are_not_found() {
    let node = Node::new();
    let (daemon, pod, c) = running(&node);
    node.shims.exit(&pod, &c, 0);
    daemon.wait_for(&c, cri::ContainerState::ContainerExited);
    let told = stats(&daemon, &c).unwrap();
    assert!(told.cpu.is_none() && told.memory.is_none() && told.attributes.is_some());
    let found = metrics(&daemon);
    assert!(found.len() == 1 && found[0].container_metrics.is_empty());
    // Its files do not keep a cgroup from being removed.
    fs::remove_dir_all(pod_cgroup(&node, &pod)).unwrap();
    daemon.stop_pod(&pod).unwrap();
    let linux = pod_stats(&daemon, &pod).unwrap().linux.unwrap();
    assert!(linux.cpu.is_none() && linux.containers.len() == 1);
    assert!(metrics(&daemon).is_empty());
    daemon.remove_pod(&pod).unwrap();
    refused(stats(&daemon, &c), Code::NotFound, &c);
    refused(pod_stats(&daemon, &pod), Code::NotFound, &pod);
}

#[test]
fn a_vanished_cgroup_leaves_a_list_whole() {
    let node = Node::new();
    let (daemon, pod, c) = running(&node);
    let other = daemon.create(&pod, &container("other")).unwrap();
    let request = cri::ListContainerStatsRequest { filter: None };
    let answer = daemon.block_on(daemon.service.list_container_stats(Request::new(request)));
    let list = answer.unwrap().into_inner().stats;
    let with_cpu: Vec<_> = list
        .iter()
        .filter(|stats| stats.cpu.is_some())
        .map(|stats| &stats.attributes.as_ref().unwrap().id)
        .collect();
    assert_eq!(
        (list.len(), with_cpu),
        (2, vec![&c]),
        "{other} has no cgroup"
    );
    let found = metrics(&daemon);
    let ids = found[0].container_metrics.iter().map(|of| &of.container_id);
    assert_eq!(ids.collect::<Vec<_>>(), [&c]);
}
