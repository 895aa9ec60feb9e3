//! What a container's specification depends on.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Capabilities, LinuxDeviceType, PosixRlimit};

use crate::cdi::Injection;
use crate::cri::{
    ContainerConfig, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, PodSandboxConfig,
};
use crate::selinux::{Labels, SeLinux};
use crate::user::User;

/// Everything a container's specification depends on.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The request.
    pub config: &'a ContainerConfig,
    /// The configuration the pod was made with.
    pub pod_config: &'a PodSandboxConfig,
    /// The pod as it is.
    pub pod: &'a PodFacts,
    /// The image's own wishes.
    pub image: &'a ImageConfig,
    /// Name under which tools show the image.
    pub image_name: &'a str,
    /// Who runs, from [`crate::resolve_user`].
    pub user: &'a User,
    /// Cgroup below the v2 root, as in runtime-spec `linux.cgroupsPath`.
    pub cgroups_path: &'a Path,
    /// Host pid of the first process of the container that
    /// `namespace_options.target_id` names; `None` when it names none.
    pub target_pid: Option<i32>,
    /// Device nodes, looked up by the caller.
    pub devices: &'a Devices,
    /// From the daemon's configuration.
    pub defaults: &'a Defaults,
    /// What this host can do.
    pub host: &'a HostFeatures,
}

impl<'a> Input<'a> {
    /// The container's security context.
    pub(crate) fn security(&self) -> Option<&'a LinuxContainerSecurityContext> {
        self.config
            .linux
            .as_ref()
            .and_then(|linux| linux.security_context.as_ref())
    }

    /// The pod's security context.
    pub(crate) fn pod_security(&self) -> Option<&'a LinuxSandboxSecurityContext> {
        pod_security(self.pod_config)
    }

    /// The container asks to be privileged.
    pub(crate) fn privileged(&self) -> bool {
        self.security().is_some_and(|context| context.privileged)
    }
}

/// A pod's security context.
pub(crate) fn pod_security(config: &PodSandboxConfig) -> Option<&LinuxSandboxSecurityContext> {
    config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref())
}

/// A pod as far as its containers' specifications depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFacts {
    /// Pod id.
    pub id: String,
    /// Pid of its shim, whose IPC and UTS namespaces are the pod's.
    pub shim_pid: i32,
    /// Its network.
    pub network: PodNetwork,
    /// It uses the host's IPC namespace.
    pub host_ipc: bool,
    /// Host pid of the first process of the pod's PID namespace, when it has one.
    pub init_pid: Option<i32>,
    /// Host name that programs in the pod see; for a pod in the host's network the host's.
    pub hostname: String,
    /// File to bind over /etc/hostname.
    pub hostname_path: Option<PathBuf>,
    /// File to bind over /etc/hosts.
    pub hosts_path: Option<PathBuf>,
    /// File to bind over /etc/resolv.conf.
    pub resolv_conf_path: Option<PathBuf>,
    /// Its SELinux labels; `None` where labels mean nothing.
    pub labels: Option<Labels>,
}

/// A pod's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodNetwork {
    /// The host's network and UTS namespaces.
    Host,
    /// A network namespace bound at this path.
    Namespace(PathBuf),
}

/// The part of an image's configuration that a container starts from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// `User`, in one of the forms of [`crate::user`].
    pub user: String,
    /// `Env`, as `NAME=value`.
    pub env: Vec<String>,
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `WorkingDir`.
    pub working_dir: String,
    /// `StopSignal`, such as `SIGTERM`, `15` or `RTMIN+3`.
    pub stop_signal: String,
}

/// A device node of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDevice {
    /// Where the host has it.
    pub path: PathBuf,
    /// Character or block.
    pub kind: LinuxDeviceType,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A device that a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedDevice {
    /// Where the container wants it.
    pub container_path: PathBuf,
    /// Some of `r`, `w` and `m`.
    pub permissions: String,
    /// The node.
    pub node: HostDevice,
}

/// Device nodes that the caller has looked up.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Devices {
    /// One or more per entry of `devices` (a directory stands for the nodes in it).
    pub requested: Vec<RequestedDevice>,
    /// Every node of the host's /dev; wanted only for a privileged container.
    pub host: Vec<HostDevice>,
    /// What the request's CDI devices change.
    pub cdi: Injection,
}

/// What the daemon's configuration says about containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// Capabilities of a container that asks for no change.
    pub capabilities: Capabilities,
    /// Resource limits of its first process, in the order they are set.
    pub rlimits: Vec<PosixRlimit>,
}

impl TryFrom<&skiff_config::Container> for Defaults {
    type Error = crate::SpecError;

    fn try_from(container: &skiff_config::Container) -> Result<Self, Self::Error> {
        let rlimits = container
            .default_ulimits
            .iter()
            .map(|(name, limit)| limit.rlimit(*name));
        Ok(Self {
            capabilities: container.default_capabilities.iter().copied().collect(),
            rlimits: rlimits.collect::<Result<_, _>>()?,
        })
    }
}

/// What this host can do, found by the daemon at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFeatures {
    /// The daemon's own capability bounding set: the most a container can be given.
    pub bounding: Capabilities,
    /// `mount_setattr` with `AT_RECURSIVE` works.
    pub recursive_read_only: bool,
    /// Cgroups have `memory.swap.max`.
    pub swap_accounting: bool,
    /// Cgroups have the hugetlb controller.
    pub hugetlb: bool,
    /// What SELinux can do.
    pub selinux: SeLinux,
    /// The kernel has seccomp filters.
    pub seccomp: bool,
    /// What AppArmor can do.
    pub apparmor: AppArmor,
    /// Everything that pods with user namespaces take works; otherwise what does not, and why.
    pub user_namespaces: Result<(), String>,
}

/// AppArmor on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppArmor {
    /// Not in the kernel, or not enabled.
    Disabled,
    /// Enabled, but the runtime's own profile could not be loaded, and why.
    NoDefault(String),
    /// Enabled, and the runtime's own profile is loaded.
    Ready,
}

/// Name of the runtime's own AppArmor profile.
pub const APPARMOR_DEFAULT: &str = "skiff-default";
