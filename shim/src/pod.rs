//! What a pod is made of besides its containers: namespaces, shared memory, an init for a shared
//! PID namespace.
//!
//! A spare has new network, IPC and UTS namespaces; adoption keeps them or goes back to the
//! host's, kind by kind. Those of a pod with a user namespace belong to it: of a spare for such pods
//! they do from the beginning, and adoption only gives the user namespace its ids; any other makes
//! them anew. The shim is in them, but stays in the host's user namespace.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, mkdir};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_bind_recursive, mount_change};
use skiff_runtime::namespace::{self, Saved};
use skiff_runtime::oci_spec::runtime::{LinuxNamespaceType, Spec};
use skiff_runtime::pod_init::{self, PodInit};
use skiff_runtime::shm::Shm;
use skiff_runtime::user_namespace::{Belongings, IdMappings, Unmapped, UserNamespace};
use skiff_runtime::{MountLabel, Namespaces, cgroup};
use skiff_shim_proto::message::{self, Adopt, ExternalRuntime, Failure};

use crate::failure;

/// Kinds of namespaces that a spare makes.
const KINDS: Namespaces = Namespaces::NEWNET
    .union(Namespaces::NEWIPC)
    .union(Namespaces::NEWUTS);
/// Size of /dev/shm for which a spare is prepared, in bytes: what Kubernetes pods have.
const USUAL_SHM: u64 = 64 * 1024 * 1024;

/// Namespaces made ahead of time, and the way back.
#[derive(Debug)]
pub(crate) struct Spare {
    host: Saved,
    shm: Shm,
    /// To whom the namespaces belong, if not to the host.
    user_namespace: Option<Unmapped>,
}

/// The pod.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) id: String,
    /// Where its network namespace is bound.
    netns: Option<PathBuf>,
    /// Kinds of namespaces that are its own.
    own: Namespaces,
    shm: Option<Shm>,
    user_namespace: Option<UserNamespace>,
    /// What its root is still to be given: not while somebody waits for the pod.
    belongings: Option<Belongings>,
    init: Option<PodInit>,
    init_cgroup: Option<PathBuf>,
    /// Who makes its containers; `None`: we.
    pub(crate) external: Option<Arc<ExternalRuntime>>,
    /// Why containers cannot be run in it any more.
    pub(crate) broken: Option<String>,
}

/// Makes the namespaces, belonging to a new user namespace if wanted, and brings `lo` up.
pub(crate) fn prepare(user_namespace: bool) -> Result<Spare, skiff_runtime::Error> {
    let host = namespace::save(KINDS)?;
    let user_namespace = match user_namespace {
        true => Some(Unmapped::new(KINDS)?),
        false => {
            namespace::unshare(KINDS)?;
            None
        }
    };
    namespace::loopback_up()?;
    cgroup::prepare();
    Ok(Spare {
        host,
        shm: Shm::new(USUAL_SHM)?,
        user_namespace,
    })
}

impl Spare {
    /// Becomes a pod. On error nothing is left outside of this process, which is of no use any
    /// more.
    pub(crate) fn adopt(self, adopt: &Adopt) -> Result<Pod, Failure> {
        let own = own(adopt);
        check_sysctls(adopt, own)?;
        if adopt.user_namespace.is_none() && self.user_namespace.is_some() {
            return Err(failure::invalid(
                "a shim started with --user-namespace takes pods with a user namespace only",
            ));
        }
        run(self.host.join(KINDS.difference(own)))?;
        let user = adopt
            .user_namespace
            .as_ref()
            .map(|wanted| user_namespace(mappings(wanted), self.user_namespace, own));
        let (user_namespace, belongings) = run(user.transpose())?.unzip();
        run(furnish(adopt, own, user_namespace.as_ref()))?;
        let shm = match own.contains(Namespaces::NEWIPC) {
            true if adopt.shm_size == USUAL_SHM && adopt.mount_label.is_none() => Some(self.shm),
            true => {
                let label = MountLabel::new(adopt.mount_label.as_deref());
                Some(run(Shm::labelled(adopt.shm_size, label))?)
            }
            false => None,
        };
        if let (Some(shm), Some(user_namespace)) = (&shm, &user_namespace) {
            run(user_namespace
                .mappings()
                .root()
                .and_then(|root| shm.give(root)))?;
        }
        let mut pod = Pod {
            id: adopt.pod_id.clone(),
            netns: None,
            own,
            shm,
            user_namespace,
            belongings,
            init: None,
            init_cgroup: adopt.init_cgroup.clone().filter(|_| adopt.shared_pid),
            external: adopt.external.clone().map(Arc::from),
            broken: None,
        };
        let made = pod.make_outside(adopt);
        if made.is_err() {
            pod.undo();
        }
        made.map(|()| pod).map_err(|e| failure::of(&e))
    }
}

fn run<T>(result: Result<T, skiff_runtime::Error>) -> Result<T, Failure> {
    result.map_err(|e| failure::of(&e))
}

fn mappings(wanted: &message::UserNamespace) -> IdMappings {
    IdMappings {
        uid: wanted.uid_mappings.clone(),
        gid: wanted.gid_mappings.clone(),
    }
}

/// A user namespace with its ids: one that was made ahead, or one made now with the namespaces that
/// belong to it, into which the caller moves.
fn user_namespace(
    mappings: IdMappings,
    ahead: Option<Unmapped>,
    own: Namespaces,
) -> Result<(UserNamespace, Belongings), skiff_runtime::Error> {
    let unmapped = match ahead {
        Some(ahead) => ahead,
        None => {
            let made = Unmapped::new(own)?;
            if own.contains(Namespaces::NEWNET) {
                namespace::loopback_up()?;
            }
            made
        }
    };
    let (user, belongings) = unmapped.map(mappings)?;
    Ok(match own.contains(Namespaces::NEWNET) {
        true => (user, belongings),
        false => (user, belongings.without_network()),
    })
}

/// What is set in the pod's namespaces: its host name and the sysctls.
///
/// Sysctls of IPC only root of the namespace's user namespace may write. All others are set by the
/// host's root, to whom all groups exist that they may name (`net.ipv4.ping_group_range`).
fn furnish(
    adopt: &Adopt,
    own: Namespaces,
    user: Option<&UserNamespace>,
) -> Result<(), skiff_runtime::Error> {
    if let Some(name) = &adopt.hostname
        && own.contains(Namespaces::NEWUTS)
    {
        namespace::set_hostname(name)?;
    }
    let of_ipc = |name: &str| sysctl_namespace(&name.replace('/', ".")) == Some(Namespaces::NEWIPC);
    match user {
        Some(user) if adopt.sysctls.keys().any(|name| of_ipc(name)) => {
            set_sysctls(adopt, |name| !of_ipc(name))?;
            user.as_root(|| set_sysctls(adopt, of_ipc))
        }
        _ => set_sysctls(adopt, |_| true),
    }
}

fn set_sysctls(adopt: &Adopt, wanted: impl Fn(&str) -> bool) -> Result<(), skiff_runtime::Error> {
    let sysctls = adopt.sysctls.iter().filter(|(name, _)| wanted(name));
    namespace::set_sysctls(sysctls.map(|(name, value)| (name.as_str(), value.as_str())))
}

impl Pod {
    /// What does not go away with this process.
    fn make_outside(&mut self, adopt: &Adopt) -> Result<(), skiff_runtime::Error> {
        if adopt.shared_pid {
            self.init = Some(pod_init::spawn(
                self.init_cgroup.as_deref(),
                self.user_namespace.as_ref(),
            )?);
        }
        if let Some(path) = &adopt.netns {
            if let Some(directory) = path.parent() {
                share(directory).map_err(|e| {
                    let what = format!("make {} a shared mount", directory.display());
                    skiff_runtime::Error::system(what, e)
                })?;
            }
            namespace::bind_network(path)?;
            self.netns = Some(path.clone());
        }
        Ok(())
    }

    /// Best effort: the failure that led here is the one to tell.
    fn undo(&mut self) {
        if let Some(init) = self.init.take() {
            let _ = crate::sys::send_signal(init.pidfd.as_fd(), libc::SIGKILL);
            let _ = rustix::process::waitid(
                rustix::process::WaitId::PidFd(init.pidfd.as_fd()),
                rustix::process::WaitIdOptions::EXITED,
            );
            let _ = self.remove_init_cgroup();
        }
    }

    /// Does what was put off until the pod's adoption was answered.
    pub(crate) fn settle(&mut self) -> Result<(), skiff_runtime::Error> {
        match (self.belongings.take(), &self.user_namespace) {
            (Some(belongings), Some(user)) => belongings.give(user.mappings()),
            _ => Ok(()),
        }
    }

    /// Host pid of the init of a shared PID namespace.
    pub(crate) fn init_pid(&self) -> Option<i32> {
        self.init.as_ref().map(|init| init.pid)
    }

    /// The init.
    pub(crate) fn init(&self) -> Option<&PodInit> {
        self.init.as_ref()
    }

    /// The init has ended and is reaped.
    pub(crate) fn init_ended(&mut self) {
        self.init = None;
    }

    /// Shared memory of its containers; `None` in the host's IPC namespace.
    pub(crate) fn shm(&self) -> Option<&Shm> {
        self.shm.as_ref()
    }

    /// The user namespace of its containers; `None`: the host's.
    pub(crate) fn user_namespace(&self) -> Option<&UserNamespace> {
        self.user_namespace.as_ref()
    }

    /// The PID namespace of the pod, when the configuration names it.
    pub(crate) fn shared_pid(&self, spec: &Spec) -> Option<&PodInit> {
        let init = self.init.as_ref()?;
        let path = path_of(spec, LinuxNamespaceType::Pid)??;
        (path == Path::new(&format!("/proc/{}/ns/pid", init.pid))).then_some(init)
    }

    /// Kinds of namespaces that the container of this configuration has in common with this
    /// process.
    pub(crate) fn inherited(&self, spec: &Spec) -> Result<Namespaces, Failure> {
        let mut inherited = Namespaces::empty();
        for (kind, name, own) in [
            (LinuxNamespaceType::Network, "net", Namespaces::NEWNET),
            (LinuxNamespaceType::Ipc, "ipc", Namespaces::NEWIPC),
            (LinuxNamespaceType::Uts, "uts", Namespaces::NEWUTS),
        ] {
            match path_of(spec, kind) {
                Some(Some(path)) if self.is_ours(path, name)? => inherited |= own,
                Some(_) => {}
                None if self.own.contains(own) => {
                    return Err(failure::invalid(format!(
                        "linux.namespaces: no {name} namespace means the host's, but pod {} has \
                         its own; give its path",
                        self.id
                    )));
                }
                None => {}
            }
        }
        Ok(inherited)
    }

    /// Whether a path leads to this process's namespace: by its names, or else by what it is.
    fn is_ours(&self, path: &Path, kind: &str) -> Result<bool, Failure> {
        let usual = format!("/proc/{}/ns/{kind}", std::process::id());
        if path == Path::new(&usual) || kind == "net" && self.netns.as_deref() == Some(path) {
            return Ok(true);
        }
        same_file(path, &format!("/proc/self/ns/{kind}"))
    }

    /// Lets go of what does not go away with this process; the init has ended before.
    pub(crate) fn let_go(&mut self) -> Result<(), skiff_runtime::Error> {
        self.remove_init_cgroup()?;
        if let Some(path) = &self.netns {
            namespace::unbind_network(path)?;
        }
        self.netns = None;
        if let Some(runtime) = &self.external {
            // What stays is removed by the daemon when this process has ended.
            let _ = std::fs::remove_dir_all(&runtime.root);
        }
        Ok(())
    }

    fn remove_init_cgroup(&mut self) -> Result<(), skiff_runtime::Error> {
        if let Some(path) = &self.init_cgroup {
            cgroup::remove(path)?;
        }
        self.init_cgroup = None;
        Ok(())
    }
}

/// Makes a directory one whose mounts reach every mount namespace that was copied from ours, as
/// ip-netns(8) does, so that a network namespace bound there can be used and, more to the point,
/// let go of everywhere.
fn share(directory: &Path) -> rustix::io::Result<()> {
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    let attempt = match mount_change(directory, shared) {
        Err(Errno::NOENT) => {
            mkdir(directory, Mode::from_raw_mode(0o755)).or_else(exists)?;
            mount_change(directory, shared)
        }
        done => done,
    };
    if attempt != Err(Errno::INVAL) {
        return attempt;
    }
    // Not a mount point yet. Whoever else finds that at the same time waits for the lock.
    let lock = rustix::fs::open(
        directory,
        OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    flock(&lock, FlockOperation::LockExclusive)?;
    match mount_change(directory, shared) {
        Err(Errno::INVAL) => {
            mount_bind_recursive(directory, directory)?;
            mount_change(directory, shared)
        }
        done => done,
    }
}

fn exists(error: Errno) -> rustix::io::Result<()> {
    if error == Errno::EXIST {
        Ok(())
    } else {
        Err(error)
    }
}

/// Whether a configuration has its own new PID namespace.
pub(crate) fn has_own_pid_namespace(spec: &Spec) -> bool {
    path_of(spec, LinuxNamespaceType::Pid) == Some(None)
}

/// Kinds of namespaces that are the pod's own.
fn own(adopt: &Adopt) -> Namespaces {
    let mut own = KINDS;
    if adopt.netns.is_none() {
        own.remove(Namespaces::NEWNET | Namespaces::NEWUTS);
    }
    if adopt.host_ipc {
        own.remove(Namespaces::NEWIPC);
    }
    own
}

/// A sysctl that does not belong to a namespace of the pod's own would change the host.
fn check_sysctls(adopt: &Adopt, own: Namespaces) -> Result<(), Failure> {
    for name in adopt.sysctls.keys() {
        let dotted = name.replace('/', ".");
        let needed = sysctl_namespace(&dotted).ok_or_else(|| {
            failure::invalid(format!(
                "sysctl {name} does not belong to a pod's namespaces"
            ))
        })?;
        if !own.contains(needed) {
            return Err(failure::invalid(format!(
                "sysctl {name} belongs to a namespace that the pod shares with the host"
            )));
        }
    }
    Ok(())
}

/// Which kind of namespace a sysctl (with dots) belongs to.
fn sysctl_namespace(name: &str) -> Option<Namespaces> {
    const IPC: [&str; 9] = [
        "kernel.auto_msgmni",
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    if name.starts_with("net.") {
        Some(Namespaces::NEWNET)
    } else if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        Some(Namespaces::NEWIPC)
    } else if name == "kernel.domainname" {
        Some(Namespaces::NEWUTS)
    } else {
        None
    }
}

/// `None`: the configuration does not have this namespace; `Some(None)`: a new one.
fn path_of(spec: &Spec, kind: LinuxNamespaceType) -> Option<Option<&Path>> {
    let namespaces = spec.linux().as_ref()?.namespaces().as_ref()?;
    let namespace = namespaces
        .iter()
        .find(|namespace| namespace.typ() == kind)?;
    Some(namespace.path().as_deref())
}

fn same_file(path: &Path, own: &str) -> Result<bool, Failure> {
    let look = |path: &Path| {
        rustix::fs::stat(path)
            .map(|stat| (stat.st_dev, stat.st_ino))
            .map_err(|e| failure::system(format!("look at namespace {}", path.display()), &e))
    };
    Ok(look(path)? == look(Path::new(own))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn adopt(netns: bool, host_ipc: bool, sysctl: &str) -> Adopt {
        Adopt {
            pod_id: "p".into(),
            netns: netns.then(|| "/run/netns/p".into()),
            hostname: None,
            host_ipc,
            shared_pid: false,
            init_cgroup: None,
            user_namespace: None,
            sysctls: BTreeMap::from([(sysctl.into(), "1".into())]),
            shm_size: USUAL_SHM,
            mount_label: None,
            external: None,
        }
    }

    fn allowed(adopt: &Adopt) -> bool {
        check_sysctls(adopt, own(adopt)).is_ok()
    }

    #[test]
    fn a_sysctl_needs_a_namespace_of_the_pods_own() {
        for name in ["net.ipv4.ip_forward", "net/ipv4/conf/eth0.1/forwarding"] {
            assert!(allowed(&adopt(true, false, name)));
            assert!(!allowed(&adopt(false, false, name)));
        }
        for name in ["kernel.shm_rmid_forced", "fs.mqueue.msg_max", "kernel.sem"] {
            assert!(allowed(&adopt(true, false, name)));
            assert!(!allowed(&adopt(true, true, name)));
        }
        for name in [
            "kernel.panic",
            "vm.swappiness",
            "kernel.hostname",
            "network.x",
            "",
        ] {
            assert!(!allowed(&adopt(true, false, name)), "{name}");
        }
    }

    #[test]
    fn the_hosts_network_goes_with_its_host_name() {
        assert_eq!(own(&adopt(true, false, "")), KINDS);
        assert_eq!(own(&adopt(false, false, "")), Namespaces::NEWIPC);
        assert_eq!(own(&adopt(false, true, "")), Namespaces::empty());
    }
}
