//! An image, containers of it, and what they print.

use std::cell::Cell;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use serde_json::{Value, json};
use skiff_runtime::oci_spec::runtime::{Process, Spec};
use skiff_runtime::seccomp::{Filter, Listener};
use skiff_runtime::shm::Shm;
use skiff_runtime::user_namespace::{IdMappings, UserNamespace};
use skiff_runtime::{Create, Exec, ImageVolume, Init, Namespaces, Progress, Rootfs, Stdio, cgroup};
use skiff_seccomp::{Profile, Subject, compile};

const CGROUPS: &str = "/sys/fs/cgroup/skiff-lab-test";
const APPLETS: &[&str] = &[
    "cat", "chmod", "dd", "echo", "env", "grep", "head", "hostname", "id", "ifconfig", "kill",
    "ln", "ls", "mkdir", "mknod", "mount", "mv", "ps", "pwd", "readlink", "rm", "sed", "sh",
    "sleep", "stat", "stty", "touch", "true", "tty", "umount", "unshare", "wc", "chown",
];

/// A test that cannot be had on this node.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Skip(pub(crate) String);

/// Where the tests are done.
pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
    count: Cell<u32>,
}

impl Lab {
    pub(crate) fn new() -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "not root");
        let cgroup2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        ensure!(cgroup2, "no cgroup v2 at /sys/fs/cgroup");
        let busybox = std::env::var("BUSYBOX").unwrap_or("/usr/bin/busybox".into());
        ensure!(Path::new(&busybox).exists(), "no busybox at {busybox}");
        fs::create_dir_all(CGROUPS).context("cgroups cannot be made")?;
        let dir = tempfile::tempdir_in("/var/tmp")?;
        let image = dir.path().join("image");
        for name in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
            fs::create_dir_all(image.join(name))?;
        }
        fs::copy(busybox, image.join("bin/busybox"))?;
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", image.join("bin").join(applet))?;
        }
        Ok(Self {
            dir,
            count: Cell::new(0),
        })
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    /// A container to be, that runs a shell script.
    pub(crate) fn container(&self, script: &str) -> Container {
        let number = self.count.get();
        self.count.set(number + 1);
        let dir = self.dir.path().join(format!("c{number}"));
        let mut tree: Value =
            serde_json::from_str(include_str!("../../examples/latency.json")).expect("JSON");
        tree["process"]["args"] = json!(["sh", "-c", script]);
        let mounts = tree["mounts"].as_array_mut().expect("mounts");
        mounts.retain(|mount| mount["type"] != "bind");
        Container {
            id: format!("c{number}"),
            lower: vec![self.image()],
            cgroup: PathBuf::from(CGROUPS).join(format!("c{number}")),
            dir,
            tree,
        }
    }

    /// What must be the same before and after: mounts and cgroups.
    pub(crate) fn host(&self) -> (usize, usize) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let cgroups = fs::read_dir(CGROUPS).map_or(0, |entries| {
            entries.flatten().filter(|e| e.path().is_dir()).count()
        });
        (mounts.lines().count(), cgroups)
    }
}

/// A container's configuration, as JSON to be changed at will.
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) tree: Value,
    pub(crate) lower: Vec<PathBuf>,
    pub(crate) cgroup: PathBuf,
    pub(crate) dir: PathBuf,
}

impl Container {
    pub(crate) fn mount(mut self, mount: Value) -> Self {
        if let Some(mounts) = self.tree["mounts"].as_array_mut() {
            mounts.push(mount);
        }
        self
    }

    pub(crate) fn set(mut self, pointer: &str, value: Value) -> Self {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        self.tree.pointer_mut(parent).expect("a parent")[name] = value;
        self
    }

    /// Creates it with more than its configuration, and waits until it is built.
    pub(crate) fn create_with(&self, more: More<'_>) -> Result<(Running<'_>, Progress)> {
        let spec: Spec = serde_json::from_value(self.tree.clone())?;
        let (upper, work) = (self.dir.join("upper"), self.dir.join("work"));
        fs::create_dir_all(&upper)?;
        fs::create_dir_all(&work)?;
        let rootfs = Rootfs::Overlay {
            lower: self.lower.clone(),
            upper,
            work,
        };
        let null = fs::File::open("/dev/null")?;
        let (output, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let stdio = match more.terminal {
            true => Stdio::Terminal,
            false => Stdio::Fds([null.as_fd(), writer.as_fd(), writer.as_fd()]),
        };
        let mut create = Create::new(&self.id, &spec, &rootfs, &self.cgroup, stdio);
        create.bundle = more.bundle;
        create.gate = more.gate;
        create.shm = more.shm;
        create.images = more.images;
        create.pid_namespace = more.pid_namespace;
        create.inherit = more.inherit;
        create.user_namespace = more.user_namespace;
        let filter = filter(&spec, &self.id)?;
        create.seccomp = filter.as_ref();
        let init = skiff_runtime::create(create)?;
        let mut running = Running {
            init,
            output,
            container: self,
        };
        let progress = running.init.wait()?;
        Ok((running, progress))
    }

    pub(crate) fn create(&self) -> Result<Running<'_>> {
        match self.create_with(More::default())? {
            (running, Progress::Ready { .. }) => Ok(running),
            (_, Progress::Failed(failure)) => bail!(failure),
            (_, other) => bail!("{other:?}"),
        }
    }

    pub(crate) fn start(&self) -> Result<Running<'_>> {
        let mut running = self.create()?;
        running.start()?;
        Ok(running)
    }

    /// Runs it to its end: exit code (128 + signal) and output.
    pub(crate) fn run(&self) -> Result<(i32, String)> {
        self.start()?.finish()
    }

    /// Runs it, wants it to succeed, and returns its output.
    pub(crate) fn output(&self) -> Result<String> {
        let (code, output) = self.run()?;
        ensure!(code == 0, "exited with {code}: {output}");
        Ok(output)
    }

    /// The message with which create or start fails.
    pub(crate) fn failure(&self) -> Result<String> {
        match self.run() {
            Ok((code, output)) => bail!("ran and exited with {code}: {output}"),
            Err(e) => Ok(format!("{e:#}")),
        }
    }
}

/// What a container can have beside its configuration.
pub(crate) struct More<'a> {
    pub(crate) terminal: bool,
    pub(crate) bundle: Option<&'a Path>,
    pub(crate) gate: Option<BorrowedFd<'a>>,
    pub(crate) shm: Option<&'a Shm>,
    pub(crate) images: &'a [ImageVolume],
    pub(crate) pid_namespace: Option<BorrowedFd<'a>>,
    pub(crate) inherit: Namespaces,
    pub(crate) user_namespace: Option<&'a UserNamespace>,
}

impl Default for More<'_> {
    fn default() -> Self {
        Self {
            terminal: false,
            bundle: None,
            gate: None,
            shm: None,
            images: &[],
            pid_namespace: None,
            inherit: Namespaces::empty(),
            user_namespace: None,
        }
    }
}

/// A container with a process.
pub(crate) struct Running<'a> {
    pub(crate) init: Init,
    output: OwnedFd,
    pub(crate) container: &'a Container,
}

impl Running<'_> {
    pub(crate) fn start(&mut self) -> Result<()> {
        self.init.start()?;
        match self.init.wait()? {
            Progress::Running { .. } => Ok(()),
            Progress::Failed(failure) => bail!(failure),
            other => bail!("{other:?}"),
        }
    }

    pub(crate) fn finish(self) -> Result<(i32, String)> {
        let output = read(&self.output)?;
        Ok((reap(&self.init)?, output))
    }

    /// Runs a script in it: exit code and output.
    pub(crate) fn exec(&self, script: &str) -> Result<(i32, String)> {
        self.exec_process(json!(["sh", "-c", script]))
    }

    pub(crate) fn exec_process(&self, args: Value) -> Result<(i32, String)> {
        self.exec_among(args, false)
    }

    /// Where other containers of the PID namespace may trace.
    pub(crate) fn exec_beside_tracers(&self, args: Value) -> Result<(i32, String)> {
        self.exec_among(args, true)
    }

    fn exec_among(&self, args: Value, peers_may_trace: bool) -> Result<(i32, String)> {
        let mut tree = self.container.tree["process"].clone();
        tree["args"] = args;
        let process: Process = serde_json::from_value(tree)?;
        let null = fs::File::open("/dev/null")?;
        let (output, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let stdio = Stdio::Fds([null.as_fd(), writer.as_fd(), writer.as_fd()]);
        let cgroup = &self.container.cgroup;
        let spec: Spec = serde_json::from_value(self.container.tree.clone())?;
        let mappings = IdMappings::of(&spec);
        let filter = filter(&spec, &self.container.id)?;
        let mut exec = Exec::new(&process, self.init.pidfd(), cgroup, stdio);
        exec.seccomp = filter.as_ref();
        exec.peers_may_trace = peers_may_trace;
        exec.user_namespace = (!mappings.is_empty()).then_some(&mappings);
        let mut init = skiff_runtime::exec(exec)?;
        drop(writer);
        let progress = init.wait()?;
        let code = || reap(&init);
        match progress {
            Progress::Running { .. } => {
                let output = read(&output)?;
                Ok((code()?, output))
            }
            Progress::Failed(failure) => {
                code()?;
                bail!(failure)
            }
            other => bail!("{other:?}"),
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = cgroup::kill_all(&self.container.cgroup);
        let _ = reap(&self.init);
        while let Ok(false) = cgroup::remove(&self.container.cgroup) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

/// The filter of a configuration's profile.
fn filter(spec: &Spec, id: &str) -> Result<Option<Filter>> {
    let linux = spec.linux().as_ref();
    let Some(seccomp) = linux.and_then(|linux| linux.seccomp().as_ref()) else {
        return Ok(None);
    };
    let subject = Subject {
        capabilities: Vec::new(),
        kernel: (6, 1),
    };
    let filter = compile(&Profile::of(seccomp)?, &subject)?;
    let listener = filter.listener.map(|listener| Listener {
        agent: listener.path,
        metadata: listener.metadata,
        container: id.to_owned(),
        bundle: PathBuf::new(),
    });
    Ok(Some(Filter::new(&filter.program, filter.flags, listener)?))
}

fn read(pipe: &OwnedFd) -> Result<String> {
    let mut text = String::new();
    fs::File::from(pipe.try_clone()?).read_to_string(&mut text)?;
    Ok(text)
}

/// Waits for the end: exit code, or 128 and the signal.
pub(crate) fn reap(init: &Init) -> Result<i32> {
    let status = waitid(WaitId::PidFd(init.pidfd()), WaitIdOptions::EXITED)?.context("no end")?;
    let signal = status.terminating_signal().map(|signal| 128 + signal);
    status.exit_status().or(signal).context("a strange end")
}

/// Wants `text` to hold all of `parts`.
pub(crate) fn holds(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "no {part:?} in {text:?}");
    }
    Ok(())
}
