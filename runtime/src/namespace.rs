//! Namespaces: those that a pod's shim makes before the pod exists, and those that a container
//! makes or joins.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::Doing;
use crate::{Error, sys};

/// A set of namespace kinds (`NEWNET`, `NEWIPC`, `NEWUTS`, ...).
pub type Namespaces = rustix::thread::UnshareFlags;

/// Kinds and their names in /proc/pid/ns.
const NAMES: &[(Namespaces, &str, LinkNameSpaceType)] = &[
    (Namespaces::NEWUSER, "user", LinkNameSpaceType::User),
    (
        Namespaces::NEWIPC,
        "ipc",
        LinkNameSpaceType::InterProcessCommunication,
    ),
    (
        Namespaces::NEWUTS,
        "uts",
        LinkNameSpaceType::HostNameAndNISDomainName,
    ),
    (Namespaces::NEWNET, "net", LinkNameSpaceType::Network),
    (Namespaces::NEWPID, "pid", LinkNameSpaceType::ProcessID),
    (
        Namespaces::NEWCGROUP,
        "cgroup",
        LinkNameSpaceType::ControlGroup,
    ),
    (Namespaces::NEWNS, "mnt", LinkNameSpaceType::Mount),
    (Namespaces::NEWTIME, "time", LinkNameSpaceType::Time),
];

/// An open namespace that can be joined.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) kind: Namespaces,
    pub(crate) fd: OwnedFd,
    path: PathBuf,
}

impl Handle {
    /// Opens a namespace file of /proc, or a bind mount of one.
    pub(crate) fn open(kind: Namespaces, path: &Path) -> Result<Self, Error> {
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .doing(|| format!("open namespace {}", path.display()))?;
        Ok(Self {
            kind,
            fd,
            path: path.to_owned(),
        })
    }

    /// Moves the caller into it; a PID namespace, into which only its children can go.
    pub(crate) fn join(&self) -> Result<(), Error> {
        let expected = NAMES
            .iter()
            .find(|(kind, ..)| *kind == self.kind)
            .map(|(.., link)| *link);
        move_into_link_name_space(self.fd.as_fd(), expected)
            .doing(|| format!("join namespace {}", self.path.display()))
    }
}

/// The caller's own PID namespace, opened once: every exec returns to it.
pub(crate) fn own_pid() -> Result<BorrowedFd<'static>, Error> {
    static OWN: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(own) = OWN.get() {
        return Ok(own.as_fd());
    }
    let handle = Handle::open(Namespaces::NEWPID, Path::new("/proc/self/ns/pid"))?;
    Ok(OWN.get_or_init(|| handle.fd).as_fd())
}

/// The caller's namespaces of some kinds, opened so that they can be joined again after an
/// [`unshare`].
#[derive(Debug)]
pub struct Saved {
    handles: Vec<Handle>,
}

/// Opens the caller's present namespaces of the given kinds.
pub fn save(kinds: Namespaces) -> Result<Saved, Error> {
    let wanted = NAMES.iter().filter(|(kind, ..)| kinds.contains(*kind));
    let handles = wanted
        .map(|(kind, name, _)| Handle::open(*kind, &Path::new("/proc/self/ns").join(name)))
        .collect::<Result<_, _>>()?;
    Ok(Saved { handles })
}

impl Saved {
    /// Moves the caller back into the saved namespaces of the given kinds.
    pub fn join(&self, kinds: Namespaces) -> Result<(), Error> {
        self.handles
            .iter()
            .filter(|h| kinds.contains(h.kind))
            .try_for_each(Handle::join)
    }
}

/// Moves the caller into new namespaces of the given kinds.
pub fn unshare(kinds: Namespaces) -> Result<(), Error> {
    sys::process::unshare(kinds).doing(|| format!("unshare namespaces {kinds:?}"))
}

/// Brings the loopback interface of the caller's network namespace up.
pub fn loopback_up() -> Result<(), Error> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .doing(|| "open a socket")?;
    sys::net::loopback_up(socket.as_fd()).doing(|| "bring the loopback interface up")
}

/// Binds the caller's network namespace to `path`, which is made as an empty file. This mount
/// appears in the host's mount table.
pub fn bind_network(path: &Path) -> Result<(), Error> {
    let doing = || format!("bind the network namespace to {}", path.display());
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o444)).doing(doing)?;
    rustix::mount::mount_bind("/proc/self/ns/net", path).map_err(|e| {
        let _ = rustix::fs::unlink(path);
        Error::system(doing(), e)
    })
}

/// Undoes [`bind_network`]: unmounts and removes the file. Succeeds when it is not there.
pub fn unbind_network(path: &Path) -> Result<(), Error> {
    let doing = || format!("unbind the network namespace at {}", path.display());
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // Invalid: a file nothing is mounted on.
        Ok(()) | Err(Errno::NOENT | Errno::INVAL) => {}
        Err(e) => return Err(Error::system(doing(), e)),
    }
    match rustix::fs::unlink(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(Error::system(doing(), e)),
    }
}

/// Sets the host name of the caller's UTS namespace.
pub fn set_hostname(name: &str) -> Result<(), Error> {
    rustix::system::sethostname(name.as_bytes()).doing(|| format!("set the host name to {name:?}"))
}

/// Sets the NIS domain name of the caller's UTS namespace.
pub fn set_domainname(name: &str) -> Result<(), Error> {
    rustix::system::setdomainname(name.as_bytes())
        .doing(|| format!("set the domain name to {name:?}"))
}

/// Writes sysctls (dotted names; a slash may stand for a dot) as the caller's namespaces see
/// them. The caller's /proc must be the host's, not a container's.
pub fn set_sysctls<'a>(sysctls: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<(), Error> {
    for (name, value) in sysctls {
        let path = sysctl_path(name)?;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::open(&path, flags, Mode::empty())
            .and_then(|file| rustix::io::write(file, value.as_bytes()))
            .doing(|| format!("set sysctl {name} to {value:?}"))?;
    }
    Ok(())
}

/// Refuses names that are no sysctl's on any host.
#[cfg(feature = "oci")]
pub(crate) fn check_sysctls<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), Error> {
    names
        .into_iter()
        .try_for_each(|name| sysctl_path(name).map(drop))
}

/// Where sysctl(8) finds a name: with dots for slashes, unless a slash comes first.
fn sysctl_path(name: &str) -> Result<PathBuf, Error> {
    let slashed = match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'.' => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    };
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !slashed.split('/').all(plain) {
        return Err(Error::invalid(
            "linux.sysctl",
            format!("{name:?} is not the name of one"),
        ));
    }
    Ok(Path::new("/proc/sys").join(slashed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctl_names() {
        let path = |name: &str| sysctl_path(name).unwrap();
        assert_eq!(
            path("net.ipv4.ip_forward"),
            Path::new("/proc/sys/net/ipv4/ip_forward")
        );
        assert_eq!(
            path("net.ipv4.conf.eth0/1.x"),
            Path::new("/proc/sys/net/ipv4/conf/eth0.1/x")
        );
        assert_eq!(
            path("net/ipv4/conf/eth0.1/x"),
            Path::new("/proc/sys/net/ipv4/conf/eth0.1/x")
        );
        for bad in [
            "",
            "net..x",
            "/etc/passwd",
            "../../etc",
            "net/../../x",
            "kernel.//.x",
        ] {
            assert!(sysctl_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn unbinding_what_is_not_there_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        assert!(unbind_network(&dir.path().join("none")).is_ok());
    }
}
