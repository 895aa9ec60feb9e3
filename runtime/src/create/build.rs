//! The child of [`super::create`]: the container is built here, step by step.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use rustix::fs::Mode;
use rustix::net::{SocketFlags, accept_with};

use super::Plan;
use crate::child::{self, Fds, Launch, Status};
use crate::console::{self, Console};
use crate::error::Doing;
use crate::label::{self, Labels};
use crate::mount;
use crate::mount::MountLabel;
use crate::namespace::Namespaces;
use crate::oci_spec::runtime::Linux;
use crate::report::{Report, Word};
use crate::rootfs::{self, Root};
use crate::{Error, Stdio, device, hook, mask, namespace, sys, user_namespace};

impl Plan<'_> {
    /// From a fresh clone to the command.
    pub(super) fn build(
        mut self,
        root: Root,
        fds: &Fds<'_>,
        status: &Status,
    ) -> Result<Infallible, Error> {
        child::set_apart(status, fds, self.needed(&root))?;
        if self.in_user_namespace {
            user_namespace::become_root()?;
        }
        self.join_namespaces()?;
        if self.outside {
            status.say(&Report::Hooks);
            if !status.hear(Word::HooksDone) {
                sys::process::exit(1);
            }
        }
        if !self.in_user_namespace {
            child::set_oom_score(self.process)?;
        }
        let labels = Labels::open(self.process)?;
        let linux = self.create.spec.linux().as_ref();
        let linux = linux.ok_or_else(|| Error::invalid("linux", "missing"))?;
        let root = root.attach(self.place())?;
        let root = root.as_fd();
        let console = self.populate(root, linux)?;
        let mut launch = Launch::prepare(root, self.process, labels, self.create.seccomp)?;
        self.seal(root, linux)?;
        self.run_create_container()?;
        rootfs::enter(root)?;
        if let Some(propagation) = rootfs::propagation(linux)? {
            rootfs::set_propagation(root, propagation)?;
        }
        let console = self.hand_over(console, status)?;
        if self.is_ready_to_settle() {
            launch.settle(self.process)?;
        }
        let gate = self.wait(status)?;
        child::run(gate.as_ref().unwrap_or(status), || {
            self.run_start_container()?;
            child::arrange(fds, console.as_ref(), self.process)?;
            launch.become_user(self.process, gate.as_ref().unwrap_or(status))?;
            Err(launch.execute())
        })
    }

    /// startContainer hooks run after the word to start, with all privileges.
    fn is_ready_to_settle(&self) -> bool {
        self.inside
            .as_ref()
            .is_none_or(|inside| inside.start_container.is_empty())
    }

    /// Descriptors of the plan itself.
    fn needed(&self, root: &Root) -> Vec<RawFd> {
        let mut fds: Vec<RawFd> = root.fd().iter().map(AsRawFd::as_raw_fd).collect();
        fds.extend(self.join.iter().map(|handle| handle.fd.as_raw_fd()));
        fds.extend(self.create.gate.iter().map(AsRawFd::as_raw_fd));
        let mounts = self.mounts.iter().flat_map(mount::Mount::fds);
        fds.extend(mounts.map(|fd| fd.as_raw_fd()));
        fds
    }

    /// clone3 would take the parent's cgroup for the root of a new cgroup namespace; and in a user
    /// namespace what is made before the child has become root there belongs to nobody.
    fn made_late(&self) -> Namespaces {
        match self.in_user_namespace {
            false => Namespaces::NEWCGROUP,
            true => !(Namespaces::NEWNS | Namespaces::NEWPID),
        }
    }

    fn join_namespaces(&self) -> Result<(), Error> {
        self.join.iter().try_for_each(namespace::Handle::join)?;
        let late = self.new & self.made_late();
        if !late.is_empty() {
            namespace::unshare(late)?;
        }
        if self.new.contains(Namespaces::NEWNET) {
            namespace::loopback_up()?;
        }
        let spec = self.create.spec;
        if let Some(name) = spec.hostname() {
            namespace::set_hostname(name)?;
        }
        if let Some(name) = spec.domainname() {
            namespace::set_domainname(name)?;
        }
        label::label_keyring(self.process)?;
        match sys::process::new_session_keyring() {
            // A kernel without keys has none to hide.
            Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
            done => done.doing(|| "join a new session keyring"),
        }
    }

    /// Where the root has to be attached: createContainer hooks look for it where the
    /// configuration says.
    fn place(&self) -> Option<&Path> {
        let inside = self
            .inside
            .as_ref()
            .filter(|inside| !inside.create_container.is_empty());
        inside.and_then(|inside| inside.root.as_deref())
    }

    /// Mounts and devices.
    fn populate(&self, root: BorrowedFd<'_>, linux: &Linux) -> Result<Option<Console>, Error> {
        rustix::process::umask(Mode::empty());
        let label = MountLabel::of(Some(linux));
        for mount in &self.mounts {
            mount::attach(mount, root)?;
            mount::label(mount, root, label)?;
        }
        device::make_all(
            root,
            &self.mounts,
            linux.devices().as_deref().unwrap_or_default(),
        )?;
        match self.create.stdio {
            Stdio::Fds(_) => Ok(None),
            Stdio::Terminal => {
                let console = console::open(root, self.process)?;
                console.bind(root)?;
                Ok(Some(console))
            }
        }
    }

    /// Takes away what the container must not see or change.
    fn seal(&self, root: BorrowedFd<'_>, linux: &Linux) -> Result<(), Error> {
        for mount in &self.mounts {
            mount::finish(mount, root)?;
        }
        if let Some(sysctls) = linux.sysctl() {
            namespace::set_sysctls(sysctls.iter().map(|(k, v)| (k.as_str(), v.as_str())))?;
        }
        mask::make_read_only(root, linux.readonly_paths().as_deref().unwrap_or_default())?;
        mask::mask(
            root,
            linux.masked_paths().as_deref().unwrap_or_default(),
            MountLabel::of(Some(linux)),
        )?;
        let read_only = self
            .create
            .spec
            .root()
            .as_ref()
            .and_then(|root| root.readonly());
        if read_only == Some(true) {
            rootfs::make_read_only(root)
        } else {
            Ok(())
        }
    }

    fn run_create_container(&mut self) -> Result<(), Error> {
        let Some(inside) = &mut self.inside else {
            return Ok(());
        };
        inside
            .state
            .set_pid(Some(rustix::process::getpid().as_raw_nonzero().get()));
        hook::run("createContainer", &inside.create_container, &inside.state)
    }

    fn run_start_container(&mut self) -> Result<(), Error> {
        let Some(inside) = &mut self.inside else {
            return Ok(());
        };
        inside
            .state
            .set_status(crate::oci_spec::runtime::ContainerState::Created);
        hook::run("startContainer", &inside.start_container, &inside.state)
    }

    /// Tells the parent that the container is built, and gives it the terminal.
    fn hand_over(
        &self,
        console: Option<Console>,
        status: &Status,
    ) -> Result<Option<Console>, Error> {
        let master = console.as_ref().map(|console| console.master.try_clone());
        let master = master.transpose().doing(|| "duplicate the terminal")?;
        status.say(&Report::Ready(master));
        Ok(console)
    }

    /// Waits for the word to start. With a gate, the connection by which it came is returned:
    /// whoever sent it wants to know the outcome. Nobody left who could say it: the end.
    fn wait(&self, status: &Status) -> Result<Option<Status>, Error> {
        let gate = match self.create.gate {
            None => None,
            Some(gate) => {
                let doing = || "accept whoever starts the container";
                Some(Status(
                    accept_with(gate, SocketFlags::CLOEXEC).doing(doing)?,
                ))
            }
        };
        if gate.as_ref().unwrap_or(status).hear(Word::Start) {
            Ok(gate)
        } else {
            sys::process::exit(1)
        }
    }
}
