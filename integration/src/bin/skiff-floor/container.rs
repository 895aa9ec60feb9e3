//! A container made by hand.

use std::convert::Infallible;
use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_bind,
    mount_change, mount_remount, move_mount, unmount,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
};

use crate::sys::{self, Child};

const TRUE: &CStr = c"/bin/true";
const SLEEP: &CStr = c"/bin/sleep";
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;
/// Files of the pod that are bind-mounted into /etc.
const FILES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

const READ_ONLY: [&str; 3] = ["proc/bus", "proc/irq", "proc/sys"];
const MASKED: [&str; 3] = ["proc/kcore", "proc/keys", "proc/timer_list"];

/// Where containers are made, one at a time.
pub(crate) struct Place {
    lower: String,
    dir: PathBuf,
    cgroup: PathBuf,
    limits: bool,
    /// This process's own PID namespace, to come back to.
    own_pid_namespace: File,
}

impl Place {
    /// Makes `dir`, which must not exist.
    pub(crate) fn new(
        lower: &[PathBuf],
        dir: &Path,
        cgroup_parent: &Path,
        limits: bool,
    ) -> anyhow::Result<Self> {
        let lower: Vec<&str> = lower
            .iter()
            .map(|dir| dir.to_str().context("a name that is not UTF-8"))
            .collect::<Result<_, _>>()?;
        fs::create_dir(dir).with_context(|| format!("make {dir:?}"))?;
        fs::create_dir(dir.join("root"))?;
        for file in FILES {
            fs::write(dir.join(file), "")?;
        }
        let place = Self {
            lower: lower.join(":"),
            dir: dir.to_owned(),
            cgroup: cgroup_parent.join("skiff-floor"),
            limits,
            own_pid_namespace: File::open("/proc/self/ns/pid")?,
        };
        place.clear()?;
        Ok(place)
    }

    /// Makes the writable layer anew.
    pub(crate) fn clear(&self) -> anyhow::Result<()> {
        for name in ["upper", "work"] {
            let layer = self.dir.join(name);
            if layer.exists() {
                fs::remove_dir_all(&layer).with_context(|| format!("remove {layer:?}"))?;
            }
            fs::create_dir(&layer)?;
        }
        Ok(())
    }

    /// Removes what [`Place::new`] made.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        fs::remove_dir_all(&self.dir).with_context(|| format!("remove {:?}", self.dir))
    }

    fn make_cgroup(&self) -> anyhow::Result<OwnedFd> {
        let path = &self.cgroup;
        fs::create_dir(path).with_context(|| format!("make the cgroup {path:?}"))?;
        if self.limits {
            for (file, value) in [
                ("cpu.max", "50000 100000"),
                ("cpu.weight", "20"),
                ("memory.max", "134217728"),
            ] {
                fs::write(path.join(file), value)
                    .with_context(|| format!("set {file} of {path:?}"))?;
            }
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(path, flags, Mode::empty())?)
    }

    fn remove_cgroup(&self) -> anyhow::Result<()> {
        fs::remove_dir(&self.cgroup).with_context(|| format!("remove the cgroup {:?}", self.cgroup))
    }

    fn overlay(&self) -> anyhow::Result<OwnedFd> {
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&fs, "lowerdir", self.lower.as_str())?;
        fsconfig_set_string(&fs, "upperdir", self.dir.join("upper"))?;
        fsconfig_set_string(&fs, "workdir", self.dir.join("work"))?;
        fsconfig_create(&fs).context("make the overlay")?;
        Ok(fsmount(
            &fs,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )?)
    }
}

/// A container whose program is running.
pub(crate) struct Container {
    first: Child,
    cgroup: OwnedFd,
}

impl Container {
    /// Starts `/bin/sleep` in a container; returns once it has been executed. With `network`, the
    /// container has a network namespace of its own.
    pub(crate) fn start(place: &Place, network: bool) -> anyhow::Result<Self> {
        let cgroup = place.make_cgroup()?;
        match Self::clone(place, &cgroup, network) {
            Ok(first) => Ok(Self { first, cgroup }),
            Err(error) => {
                place.remove_cgroup()?;
                Err(error)
            }
        }
    }

    fn clone(place: &Place, cgroup: &OwnedFd, network: bool) -> anyhow::Result<Child> {
        let root = place.overlay()?;
        let (executed, gate) = pipe_with(PipeFlags::CLOEXEC)?;
        let namespaces = NAMESPACES | if network { libc::CLONE_NEWNET } else { 0 };
        let child = sys::clone_into(cgroup.as_fd(), namespaces, || {
            become_container(place, &root)
        })?;
        drop(gate);
        // ends when execve, or the child's failure, closes the other end
        rustix::io::read(&executed, &mut [0])?;
        let status = wait(&child, WaitIdOptions::NOHANG | WaitIdOptions::EXITED)?;
        if let Some(status) = status {
            bail!("the container ended with status {status}");
        }
        Ok(child)
    }

    /// Runs `/bin/true` in the container, to its end.
    pub(crate) fn exec(&self, place: &Place) -> anyhow::Result<()> {
        let pidfd = self.first.pidfd.as_fd();
        move_into_thread_name_spaces(pidfd, ThreadNameSpaceType::PROCESS_ID)?;
        let cloned = sys::clone_into(self.cgroup.as_fd(), 0, || {
            let others = ThreadNameSpaceType::MOUNT
                | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
                | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
                | ThreadNameSpaceType::CONTROL_GROUP
                | ThreadNameSpaceType::NETWORK;
            move_into_thread_name_spaces(pidfd, others).context("enter the namespaces")?;
            Err(sys::exec(TRUE, None)).context("execute /bin/true")
        });
        let own = place.own_pid_namespace.as_fd();
        move_into_link_name_space(own, Some(LinkNameSpaceType::ProcessID))?;
        match wait(&cloned?, WaitIdOptions::EXITED)? {
            Some(0) => Ok(()),
            status => bail!("exec in the container: status {status:?}"),
        }
    }

    /// Kills the container and removes its cgroup.
    pub(crate) fn end(self, place: &Place) -> anyhow::Result<()> {
        pidfd_send_signal(&self.first.pidfd, Signal::KILL)?;
        wait(&self.first, WaitIdOptions::EXITED)?;
        place.remove_cgroup()
    }
}

/// The child's exit status, or a negative number of the signal that ended it. `None`: it runs.
fn wait(child: &Child, options: WaitIdOptions) -> io::Result<Option<i32>> {
    let status = waitid(WaitId::Pid(child.pid), options)?;
    Ok(status.and_then(|status| {
        status
            .exit_status()
            .or_else(|| status.terminating_signal().map(|signal| -signal))
    }))
}

/// From the clone to the program, in the child.
fn become_container(place: &Place, root: &OwnedFd) -> anyhow::Result<Infallible> {
    let top = place.dir.join("root");
    mount_change(
        "/",
        MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM,
    )?;
    move_mount(root, "", CWD, &top, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    rustix::process::chdir(&top)?;
    for dir in ["proc", "dev", "sys", "etc", "old"] {
        fs::create_dir_all(dir)?;
    }
    mounts().context("mount")?;
    for file in FILES {
        let target = format!("etc/{file}");
        File::create(&target)?;
        mount_bind(place.dir.join(file), &target)?;
    }
    rustix::process::pivot_root(".", "old")?;
    unmount("/old", UnmountFlags::DETACH)?;
    Err(sys::exec(SLEEP, Some(c"3600"))).context("execute /bin/sleep")
}

/// The mounts of a default container, below the working directory.
fn mounts() -> anyhow::Result<()> {
    let safe = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "proc", "proc", safe, None)?;
    mount(
        "tmpfs",
        "dev",
        "tmpfs",
        MountFlags::NOSUID,
        Some(c"mode=755,size=65536k"),
    )?;
    for dir in ["dev/pts", "dev/shm", "dev/mqueue"] {
        fs::create_dir(dir)?;
    }
    let pts = Some(c"newinstance,ptmxmode=0666,mode=0620");
    mount(
        "devpts",
        "dev/pts",
        "devpts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        pts,
    )?;
    mount(
        "shm",
        "dev/shm",
        "tmpfs",
        safe,
        Some(c"mode=1777,size=65536k"),
    )?;
    mount("mqueue", "dev/mqueue", "mqueue", safe, None)?;
    mount("sysfs", "sys", "sysfs", safe | MountFlags::RDONLY, None)?;
    mount(
        "cgroup",
        "sys/fs/cgroup",
        "cgroup2",
        safe | MountFlags::RDONLY,
        None,
    )?;
    for (name, major, minor) in DEVICES {
        let device = rustix::fs::makedev(major, minor);
        let path = Path::new("dev").join(name);
        rustix::fs::mknodat(
            CWD,
            path,
            FileType::CharacterDevice,
            Mode::from(0o666),
            device,
        )?;
    }
    for (target, name) in LINKS {
        symlink(target, Path::new("dev").join(name))?;
    }
    for path in READ_ONLY {
        mount_bind(path, path)?;
        mount_remount(path, MountFlags::BIND | MountFlags::RDONLY, "")?;
    }
    for path in MASKED {
        match mount_bind("/dev/null", path) {
            // kernels differ in what they show
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => bail!("mask {path}: {error}"),
        }
    }
    Ok(())
}
