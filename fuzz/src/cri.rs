//! What a client of the CRI sends.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

use oci_spec::runtime::{Capabilities, Capability, Spec};
use prost::Message;
use skiff_cri::v1::{self, CreateContainerRequest, PodSandboxConfig};
use skiff_spec::selinux::{Contexts, pod_labels};
use skiff_spec::{
    Defaults, Devices, HostFeatures, ImageConfig, Input, PodFacts, PodNetwork, SeLinux, UserFiles,
    check_sandbox, container_spec, exec_process, pod_namespaces, pod_sysctls, resolve_user,
};

/// Bytes as every request there is: what decodes can be printed and encodes to the same.
pub fn cri_requests(data: &[u8]) {
    macro_rules! each {
        ($($name:ident),* $(,)?) => { $(same::<v1::$name>(data);)* };
    }
    each![
        AttachRequest,
        CheckpointContainerRequest,
        CheckpointPodRequest,
        ContainerStatsRequest,
        ContainerStatusRequest,
        CreateContainerRequest,
        ExecRequest,
        ExecSyncRequest,
        GetEventsRequest,
        ImageFsInfoRequest,
        ImageStatusRequest,
        ListContainerStatsRequest,
        ListContainersRequest,
        ListImagesRequest,
        ListMetricDescriptorsRequest,
        ListPodSandboxMetricsRequest,
        ListPodSandboxRequest,
        ListPodSandboxStatsRequest,
        PodSandboxStatsRequest,
        PodSandboxStatusRequest,
        PortForwardRequest,
        PullImageRequest,
        RemoveContainerRequest,
        RemoveImageRequest,
        RemovePodSandboxRequest,
        ReopenContainerLogRequest,
        RestorePodRequest,
        RunPodSandboxRequest,
        RuntimeConfigRequest,
        StartContainerRequest,
        StatusRequest,
        StopContainerRequest,
        StopPodSandboxRequest,
        StreamContainerStatsRequest,
        StreamContainersRequest,
        StreamImagesRequest,
        StreamPodSandboxMetricsRequest,
        StreamPodSandboxStatsRequest,
        StreamPodSandboxesRequest,
        UpdateContainerResourcesRequest,
        UpdatePodSandboxResourcesRequest,
        UpdateRuntimeConfigRequest,
        VersionRequest,
    ];
}

fn same<M: Message + Default + PartialEq + Debug>(data: &[u8]) {
    let Ok(message) = M::decode(data) else {
        return;
    };
    let encoded = message.encode_to_vec();
    assert_eq!(encoded.len(), message.encoded_len());
    assert!(M::decode(&*encoded).as_ref() == Ok(&message), "{message:?}");
}

/// A `CreateContainerRequest`, whose specification is refused, or is what its shim will read.
pub fn container_specification(data: &[u8]) {
    let Ok(request) = CreateContainerRequest::decode(data) else {
        return;
    };
    let host = host();
    let config = request.config.unwrap_or_default();
    let pod_config = request.sandbox_config.unwrap_or_default();
    sandbox(&pod_config, &host);
    let image = ImageConfig {
        env: vec!["PATH=/bin".into()],
        cmd: vec!["/bin/sh".into()],
        ..ImageConfig::default()
    };
    let context = config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref());
    let files = UserFiles::parse(b"root:x:0:0::/root:\nweb:x:33:33::/srv:\n", b"web:x:33:\n");
    let Ok(user) = resolve_user(context, &image.user, &files) else {
        return;
    };
    let pod = PodFacts {
        id: "b".repeat(64),
        shim_pid: 4321,
        network: PodNetwork::Namespace("/run/netns/skiff-bbbbbbbbbbbb".into()),
        host_ipc: false,
        init_pid: None,
        hostname: "shop".into(),
        hostname_path: None,
        hosts_path: None,
        resolv_conf_path: None,
        labels: pod_labels(&pod_config, &contexts(), "s0:c1,c2".parse().ok()).ok(),
    };
    let container = skiff_config::Container::default();
    let spec = container_spec(&Input {
        config: &config,
        pod_config: &pod_config,
        pod: &pod,
        image: &image,
        image_name: "registry.test/web:1",
        user: &user,
        cgroups_path: Path::new("/skiff/c"),
        target_pid: None,
        devices: &Devices::default(),
        defaults: &Defaults::try_from(&container).expect("defaults are valid"),
        host: &host,
    });
    match spec {
        Ok(spec) => is_read_by_the_shim(&spec),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn is_read_by_the_shim(spec: &Spec) {
    let json = serde_json::to_vec(spec).expect("a specification is JSON");
    let again: Spec = serde_json::from_slice(&json).expect("and can be read");
    assert_eq!(&again, spec);
    let process = exec_process(spec, &["true".into()], false).expect("a process to derive from");
    assert_eq!(process.args().as_deref(), Some(&["true".to_owned()][..]));
}

fn sandbox(config: &PodSandboxConfig, host: &HostFeatures) {
    let namespaces = pod_namespaces(config);
    let sysctls = pod_sysctls(config, &BTreeMap::new());
    if let Ok(sysctls) = sysctls {
        let namespaces = namespaces.expect("sysctls depend on namespaces");
        let of_the_pod = |name: &str| !namespaces.host_network || !name.starts_with("net.");
        assert!(sysctls.keys().all(|name| of_the_pod(name)), "{sysctls:?}");
    }
    // Its answer is one of the two; that there is one is what is tried.
    let _ = check_sandbox(config, host);
}

fn contexts() -> Contexts {
    let text = "process = \"u:r:container_t:s0\"\nfile = \"u:r:container_file_t:s0\"\n";
    Contexts::parse(text).expect("contexts are valid")
}

fn host() -> HostFeatures {
    let bounding = [
        Capability::Chown,
        Capability::NetBindService,
        Capability::NetRaw,
        Capability::SysAdmin,
        Capability::SysTime,
    ];
    HostFeatures {
        seccomp: true,
        apparmor: skiff_spec::AppArmor::Ready,
        bounding: bounding.into_iter().collect::<Capabilities>(),
        recursive_read_only: true,
        swap_accounting: true,
        hugetlb: true,
        selinux: SeLinux::Ready(Box::new(contexts())),
        user_namespaces: Ok(()),
    }
}
