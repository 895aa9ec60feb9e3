//! A container that asks for nothing, in a pod that asks for nothing, on a host that can do all:
//! tests change what they are about.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::runtime::{Capability, LinuxDeviceType, Spec};
use skiff_cri::v1::{
    ContainerConfig, ContainerMetadata, LinuxContainerConfig, LinuxContainerResources,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext,
    NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata,
};
use skiff_spec::{
    AppArmor, Defaults, Devices, HostDevice, HostFeatures, ImageConfig, Input, PodFacts,
    PodNetwork, SeLinux, SpecError, User, container_spec,
};

/// Everything an [`Input`] borrows.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) config: ContainerConfig,
    pub(crate) pod_config: PodSandboxConfig,
    pub(crate) pod: PodFacts,
    pub(crate) image: ImageConfig,
    pub(crate) user: User,
    pub(crate) target_pid: Option<i32>,
    pub(crate) devices: Devices,
    pub(crate) defaults: Defaults,
    pub(crate) host: HostFeatures,
}

impl Case {
    pub(crate) fn plain() -> Self {
        Self {
            config: ContainerConfig {
                metadata: Some(ContainerMetadata {
                    name: "web".into(),
                    attempt: 0,
                }),
                ..Default::default()
            },
            pod_config: PodSandboxConfig {
                metadata: Some(PodSandboxMetadata {
                    name: "shop".into(),
                    uid: "5a9c2f3e".into(),
                    namespace: "default".into(),
                    attempt: 0,
                }),
                linux: Some(LinuxPodSandboxConfig {
                    security_context: Some(LinuxSandboxSecurityContext {
                        namespace_options: Some(pid(NamespaceMode::Container)),
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            },
            pod: PodFacts {
                id: "b".repeat(64),
                shim_pid: 4321,
                network: PodNetwork::Namespace("/run/netns/skiff-bbbbbbbbbbbb".into()),
                host_ipc: false,
                init_pid: None,
                hostname: "shop".into(),
                hostname_path: Some("/state/pods/b/hostname".into()),
                hosts_path: Some("/state/pods/b/hosts".into()),
                resolv_conf_path: Some("/state/pods/b/resolv.conf".into()),
                labels: None,
            },
            image: ImageConfig {
                env: vec!["PATH=/bin".into(), "LANG=C".into()],
                entrypoint: vec!["/entry".into()],
                cmd: vec!["serve".into()],
                working_dir: "/srv".into(),
                ..Default::default()
            },
            user: User {
                uid: 0,
                gid: 0,
                groups: vec![0],
                home: Some("/root".into()),
            },
            target_pid: None,
            devices: Devices::default(),
            defaults: Defaults::try_from(&skiff_config::Container::default()).unwrap(),
            host: HostFeatures {
                bounding: every_capability(),
                recursive_read_only: true,
                swap_accounting: true,
                hugetlb: true,
                selinux: SeLinux::Disabled,
                seccomp: true,
                apparmor: AppArmor::Disabled,
                user_namespaces: Ok(()),
            },
        }
    }

    pub(crate) fn security(&mut self) -> &mut LinuxContainerSecurityContext {
        self.linux().security_context.get_or_insert_default()
    }

    pub(crate) fn resources(&mut self) -> &mut LinuxContainerResources {
        self.linux().resources.get_or_insert_default()
    }

    pub(crate) fn pod_security(&mut self) -> &mut LinuxSandboxSecurityContext {
        let linux = self.pod_config.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default()
    }

    fn linux(&mut self) -> &mut LinuxContainerConfig {
        self.config.linux.get_or_insert_default()
    }

    pub(crate) fn build(&self) -> Result<Spec, SpecError> {
        container_spec(&Input {
            config: &self.config,
            pod_config: &self.pod_config,
            pod: &self.pod,
            image: &self.image,
            image_name: "registry.test/web:1",
            user: &self.user,
            cgroups_path: &PathBuf::from("/kubepods/pod5a9c2f3e/skiff-c"),
            target_pid: self.target_pid,
            devices: &self.devices,
            defaults: &self.defaults,
            host: &self.host,
        })
    }

    pub(crate) fn spec(&self) -> Spec {
        self.build().unwrap()
    }

    pub(crate) fn refused(&self) -> String {
        self.build().unwrap_err().field().to_owned()
    }
}

pub(crate) fn pid(mode: NamespaceMode) -> NamespaceOption {
    NamespaceOption {
        pid: mode as i32,
        ..Default::default()
    }
}

pub(crate) fn device(path: &str, kind: LinuxDeviceType, major: u32, minor: u32) -> HostDevice {
    HostDevice {
        path: path.into(),
        kind,
        major,
        minor,
        mode: 0o660,
        uid: 0,
        gid: 6,
    }
}

pub(crate) fn text_map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).into(), (*value).into()))
        .collect()
}

fn every_capability() -> oci_spec::runtime::Capabilities {
    let mut all = oci_spec::runtime::Capabilities::from([
        Capability::NetAdmin,
        Capability::SysAdmin,
        Capability::SysPtrace,
        Capability::Bpf,
    ]);
    all.extend(skiff_config::Container::default().default_capabilities);
    all
}
