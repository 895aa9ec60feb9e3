//! The files that every container of a pod gets: hostname, hosts and resolv.conf.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use skiff_cni::files::{BadValue, hostname, hosts, resolv_conf};
use skiff_cri::v1::PodSandboxConfig;
use skiff_spec::SpecError;

use crate::selinux::{RelabelError, relabel};

/// Name of the hostname file in the directory of a pod's files.
pub const HOSTNAME: &str = "hostname";
/// Name of the hosts file in the directory of a pod's files.
pub const HOSTS: &str = "hosts";
/// Name of the resolver file in the directory of a pod's files.
pub const RESOLV_CONF: &str = "resolv.conf";
/// Name of an empty directory there, if the pod has a label.
pub const EMPTY: &str = "empty";
const HOST_RESOLV_CONF: &str = "/etc/resolv.conf";
const HOST_HOSTS: &str = "/etc/hosts";

/// Why the files could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The request has a value that does not fit into a file.
    #[error(transparent)]
    Value(#[from] SpecError),
    /// They could not be labelled.
    #[error(transparent)]
    Label(#[from] RelabelError),
    /// The file system refused.
    #[error("write {}", .0.display())]
    Write(PathBuf, #[source] std::io::Error),
}

/// The pod's resolver configuration as the CNI crate has it.
pub fn dns(config: &PodSandboxConfig) -> skiff_cni::Dns {
    let dns = config.dns_config.clone().unwrap_or_default();
    skiff_cni::Dns {
        servers: dns.servers,
        searches: dns.searches,
        options: dns.options,
    }
}

/// The host name of a pod with a UTS namespace: the request's, else the pod's name, cut as a
/// kubelet cuts it.
pub fn pod_hostname(config: &PodSandboxConfig) -> String {
    const LONGEST: usize = 63;
    if !config.hostname.is_empty() {
        return config.hostname.clone();
    }
    let name = config
        .metadata
        .as_ref()
        .map_or("", |metadata| &metadata.name);
    let cut = name
        .char_indices()
        .nth(LONGEST)
        .map_or(name, |(at, _)| &name[..at]);
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// The name of the host itself.
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Makes the directory of the pod's files and writes them, for a pod with these addresses or, without any, in
/// the host's network. The latter gets the host's own files. With an SELinux label all of it has that.
pub fn write(
    dir: &Path,
    config: &PodSandboxConfig,
    name: &str,
    ips: Option<&[IpAddr]>,
    label: Option<&str>,
) -> Result<(), FilesError> {
    let bad = |e: BadValue| SpecError::invalid("dns_config or hostname", e.to_string());
    // A host without a file has nothing to say, and neither have its pods.
    let of_host = |path: &str| std::fs::read(path).unwrap_or_default();
    let resolver = match resolv_conf(&dns(config)).map_err(bad)? {
        Some(text) => text.into_bytes(),
        None => of_host(HOST_RESOLV_CONF),
    };
    let hosts = match ips {
        Some(ips) => hosts(name, ips).map_err(bad)?.into_bytes(),
        None => of_host(HOST_HOSTS),
    };
    std::fs::create_dir(dir).map_err(|e| FilesError::Write(dir.into(), e))?;
    put(dir.join(RESOLV_CONF), &resolver)?;
    put(dir.join(HOSTS), &hosts)?;
    put(dir.join(HOSTNAME), hostname(name).map_err(bad)?.as_bytes())?;
    if let Some(label) = label {
        let empty = dir.join(EMPTY);
        std::fs::create_dir(&empty).map_err(|e| FilesError::Write(empty, e))?;
        relabel(dir, label)?;
    }
    Ok(())
}

/// Containers that do not run as root read these files, so the mode is everybody's.
fn put(path: PathBuf, bytes: &[u8]) -> Result<(), FilesError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o644);
    let written = options
        .open(&path)
        .and_then(|mut file| file.write_all(bytes));
    written.map_err(|e| FilesError::Write(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_cri::v1::{DnsConfig, PodSandboxMetadata};

    #[test]
    fn a_pods_own_files_name_it() {
        let dir = tempfile::tempdir().unwrap();
        let config = PodSandboxConfig {
            dns_config: Some(DnsConfig {
                servers: vec!["10.96.0.10".into()],
                ..<_>::default()
            }),
            metadata: Some(PodSandboxMetadata {
                name: "web".into(),
                ..<_>::default()
            }),
            ..<_>::default()
        };
        let ips = ["10.0.0.7".parse().unwrap()];
        let dir = dir.path().join("pod");
        write(&dir, &config, &pod_hostname(&config), Some(&ips), None).unwrap();
        let read = |name| std::fs::read_to_string(dir.join(name)).unwrap();
        assert_eq!(read(RESOLV_CONF), "nameserver 10.96.0.10\n");
        assert!(read(HOSTS).contains("10.0.0.7\tweb\n"));
        assert_eq!(read(HOSTNAME), "web\n");
    }

    /// The kernel takes at most 64 bytes; a pod's name may have 253.
    #[test]
    fn a_long_name_is_cut_and_a_long_host_name_is_not() {
        let name = format!("{}-{}", "a".repeat(62), "b".repeat(100));
        let mut config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.clone(),
                ..<_>::default()
            }),
            ..<_>::default()
        };
        assert_eq!(pod_hostname(&config), "a".repeat(62));
        config.hostname = name.clone();
        assert_eq!(pod_hostname(&config), name);
    }

    #[test]
    fn a_value_that_breaks_its_line_names_its_field() {
        let dir = tempfile::tempdir().unwrap();
        let config = PodSandboxConfig {
            dns_config: Some(DnsConfig {
                searches: vec!["a\nb".into()],
                ..<_>::default()
            }),
            ..<_>::default()
        };
        let error = write(dir.path(), &config, "web", None, None).unwrap_err();
        assert!(error.to_string().contains("dns search domain"), "{error}");
    }
}
