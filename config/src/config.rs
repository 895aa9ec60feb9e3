//! The keys.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Capability;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::endpoint::Endpoint;
use crate::size::Size;
use crate::span::Span;
use crate::sysctl::SysctlName;
use crate::ulimit::{Ulimit, UlimitName};

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the kubelet connects.
    pub listen: Endpoint,
    /// What outlives a boot: images, snapshots, records.
    #[serde(deserialize_with = "absolute")]
    pub root: PathBuf,
    /// What a boot clears: sockets and run directories.
    #[serde(deserialize_with = "absolute")]
    pub state: PathBuf,
    /// Who manages cgroups; told to the kubelet, which follows it.
    pub cgroup_driver: CgroupDriver,
    /// The daemon's own log.
    pub log: Log,
    /// How pods are run.
    pub runtime: Runtime,
    /// What containers start from.
    pub container: Container,
    /// CNI.
    pub network: Network,
    /// Devices that vendors describe in files.
    pub cdi: Cdi,
    /// Image pulls.
    pub image: Image,
    /// Exec, attach and port forwarding.
    pub streaming: Streaming,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Endpoint::default(),
            root: "/var/lib/skiff".into(),
            state: "/run/skiff".into(),
            cgroup_driver: CgroupDriver::default(),
            log: Log::default(),
            runtime: Runtime::default(),
            container: Container::default(),
            network: Network::default(),
            cdi: Cdi::default(),
            image: Image::default(),
            streaming: Streaming::default(),
        }
    }
}

/// Who manages cgroups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupDriver {
    /// systemd where it is PID 1, cgroupfs elsewhere.
    #[default]
    Auto,
    /// skiff asks systemd for a scope for each pod.
    Systemd,
    /// skiff makes directories below /sys/fs/cgroup itself.
    Cgroupfs,
}

impl<'de> Deserialize<'de> for CgroupDriver {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "auto" => Ok(Self::Auto),
            "systemd" => Ok(Self::Systemd),
            "cgroupfs" => Ok(Self::Cgroupfs),
            other => Err(D::Error::custom(format!(
                "{other:?} is none of \"auto\", \"systemd\" and \"cgroupfs\""
            ))),
        }
    }
}

/// The daemon's own log, on standard error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least important messages to write.
    pub level: LogLevel,
    /// How they look.
    pub format: LogFormat,
}

/// How important a message is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is wrong and went on.
    Warn,
    /// What happened.
    #[default]
    Info,
    /// How it happened.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The level's name, as the configuration has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How log messages look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How pods are run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// Name that a RuntimeClass may use for the built-in runtime, beside the empty one.
    #[serde(deserialize_with = "handler_name")]
    pub default_handler: String,
    /// The shim's program.
    pub shim: Shim,
    /// Shims kept ready for the next pods.
    #[serde(deserialize_with = "spare_shims")]
    pub spare_shims: usize,
}

/// Most shims that may be kept ready: each is a process with three namespaces.
const MAX_SPARE_SHIMS: usize = 64;

impl Default for Runtime {
    fn default() -> Self {
        Self {
            default_handler: "skiff".into(),
            shim: Shim::default(),
            spare_shims: 4,
        }
    }
}

/// The shim's program: an absolute path, or a name to be found beside the daemon's own program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Shim(PathBuf);

impl Shim {
    /// The absolute path, for a daemon whose own program is at `daemon`.
    pub fn path(&self, daemon: &Path) -> PathBuf {
        match daemon.parent() {
            Some(dir) => dir.join(&self.0),
            None => self.0.clone(),
        }
    }
}

impl Default for Shim {
    fn default() -> Self {
        Self("skiff-shim".into())
    }
}

impl<'de> Deserialize<'de> for Shim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = PathBuf::deserialize(deserializer)?;
        if path.is_absolute() || (path.components().count() == 1 && path.file_name().is_some()) {
            return Ok(Self(path));
        }
        let message = format!(
            "{} is neither an absolute path nor a mere name",
            path.display()
        );
        Err(D::Error::custom(message))
    }
}

/// What containers start from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Container {
    /// Size of a pod's /dev/shm.
    #[serde(deserialize_with = "some_size")]
    pub shm_size: Size,
    /// Capabilities of a container that asks for no change.
    pub default_capabilities: Vec<Capability>,
    /// Kernel parameters of every pod's namespaces, unless the pod sets them otherwise.
    pub default_sysctls: BTreeMap<SysctlName, String>,
    /// Resource limits of every container's processes; those not named are the daemon's.
    pub default_ulimits: BTreeMap<UlimitName, Ulimit>,
}

impl Default for Container {
    fn default() -> Self {
        Self {
            shm_size: Size::mib(64),
            // What images count on: the set that container runtimes have always given.
            default_capabilities: vec![
                Capability::AuditWrite,
                Capability::Chown,
                Capability::DacOverride,
                Capability::Fowner,
                Capability::Fsetid,
                Capability::Kill,
                Capability::Mknod,
                Capability::NetBindService,
                Capability::NetRaw,
                Capability::Setfcap,
                Capability::Setgid,
                Capability::Setpcap,
                Capability::Setuid,
                Capability::SysChroot,
            ],
            default_sysctls: BTreeMap::new(),
            default_ulimits: BTreeMap::new(),
        }
    }
}

/// CNI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Directory of network configurations; the first by name is used, and changes are noticed.
    #[serde(deserialize_with = "absolute")]
    pub conf_dir: PathBuf,
    /// Directories of plugins, searched in order.
    #[serde(deserialize_with = "absolute_list")]
    pub bin_dirs: Vec<PathBuf>,
    /// Longest time one plugin may run before it is killed.
    #[serde(deserialize_with = "some_time")]
    pub plugin_timeout: Span,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            conf_dir: "/etc/cni/net.d".into(),
            bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            plugin_timeout: Span::seconds(120),
        }
    }
}

/// Devices that vendors describe in files (Container Device Interface).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cdi {
    /// Directories of `.json` and `.yaml` files. What a later one says of a device goes before
    /// what an earlier one says. Changes are noticed.
    #[serde(deserialize_with = "absolute_list")]
    pub dirs: Vec<PathBuf>,
}

impl Default for Cdi {
    fn default() -> Self {
        Self {
            dirs: vec!["/etc/cdi".into(), "/var/run/cdi".into()],
        }
    }
}

/// Image pulls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Image {
    /// Directory of `<host>/hosts.toml` files: mirrors, certificates, plain HTTP.
    #[serde(deserialize_with = "absolute")]
    pub config_path: PathBuf,
    /// Images the kubelet must not collect: references, or text with `*` at its start or end.
    pub pinned: Vec<String>,
    /// Layers downloaded and unpacked at the same time, over all pulls.
    pub parallel_layers: NonZeroUsize,
    /// A pull that receives nothing for this long is aborted.
    #[serde(deserialize_with = "some_time")]
    pub progress_timeout: Span,
    /// Most bytes that one layer may unpack to.
    #[serde(deserialize_with = "some_size")]
    pub max_layer_size: Size,
}

impl Default for Image {
    fn default() -> Self {
        Self {
            config_path: "/etc/skiff/certs.d".into(),
            pinned: Vec::new(),
            parallel_layers: NonZeroUsize::new(6).unwrap_or(NonZeroUsize::MIN),
            progress_timeout: Span::seconds(300),
            max_layer_size: Size::gib(64),
        }
    }
}

/// Where a kubelet comes for exec, attach and port forwarding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Streaming {
    /// Address and port; port 0 is one that the kernel chooses. Without a certificate it must be
    /// a loopback address.
    pub address: SocketAddr,
    /// Certificate chain for TLS, PEM; none for plain HTTP.
    #[serde(
        deserialize_with = "absolute_or_none",
        serialize_with = "empty_for_none"
    )]
    pub certificate: Option<PathBuf>,
    /// Private key of the certificate, PEM.
    #[serde(
        deserialize_with = "absolute_or_none",
        serialize_with = "empty_for_none"
    )]
    pub key: Option<PathBuf>,
}

impl Default for Streaming {
    fn default() -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            certificate: None,
            key: None,
        }
    }
}

fn absolute_or_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    checked_absolute(path).map(Some).map_err(D::Error::custom)
}

fn empty_for_none<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.clone().unwrap_or_default().serialize(serializer)
}

fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    checked_absolute(PathBuf::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn absolute_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    let paths = Vec::<PathBuf>::deserialize(deserializer)?;
    paths
        .into_iter()
        .map(checked_absolute)
        .collect::<Result<_, _>>()
        .map_err(D::Error::custom)
}

pub(crate) fn checked_absolute(path: PathBuf) -> Result<PathBuf, String> {
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!(
            "{:?} is not an absolute path",
            path.display().to_string()
        ))
    }
}

/// The names a RuntimeClass may have as handler: a DNS label (Kubernetes, RuntimeClass).
fn handler_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edge = |c: char| c != '-';
    if (1..=63).contains(&name.len())
        && name.chars().all(plain)
        && name.starts_with(edge)
        && name.ends_with(edge)
    {
        return Ok(name);
    }
    Err(D::Error::custom(format!(
        "{name:?} is not a name of 1 to 63 letters a-z, digits and -"
    )))
}

fn spare_shims<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        number if number <= MAX_SPARE_SHIMS => Ok(number),
        number => Err(D::Error::custom(format!(
            "{number} is more than {MAX_SPARE_SHIMS}"
        ))),
    }
}

fn some_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
    match Span::deserialize(deserializer)? {
        span if span == Span::seconds(0) => Err(D::Error::custom("must be longer than 0s")),
        span => Ok(span),
    }
}

fn some_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    match Size::deserialize(deserializer)? {
        size if size.bytes() == 0 => Err(D::Error::custom("must be more than 0")),
        size => Ok(size),
    }
}
