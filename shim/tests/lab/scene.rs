//! Containers of busybox for the tests.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use skiff_shim_proto::message::{Create, Exec, Rootfs};

/// Why the tests cannot be run here, if so.
pub(crate) fn missing() -> Option<&'static str> {
    const CGROUP2: i64 = 0x6367_7270;
    if !rustix::process::getuid().is_root() {
        return Some("not root");
    }
    match rustix::fs::statfs("/sys/fs/cgroup") {
        Ok(fs) if fs.f_type == CGROUP2 => {}
        _ => return Some("no cgroup v2 at /sys/fs/cgroup"),
    }
    (!Path::new("/bin/busybox").exists()).then_some("no /bin/busybox")
}

/// Directories of one test's containers.
pub(crate) struct Scene {
    pub(crate) dir: tempfile::TempDir,
    rootfs: PathBuf,
    pub(crate) cgroups: PathBuf,
}

impl Scene {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::tempdir().unwrap();
        let rootfs = dir.path().join("rootfs");
        for name in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
            std::fs::create_dir_all(rootfs.join(name)).unwrap();
        }
        std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "sleep", "cat", "echo", "ps", "df", "id", "hostname", "setsid", "true", "kill",
            "head", "tr", "seq", "tty", "readlink", "ip", "mkdir", "printf", "yes",
        ] {
            symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        std::fs::write(rootfs.join("bin/not-executable"), "#!/bin/sh\n").unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("skiff-test-{}-{number}", std::process::id());
        Self {
            dir,
            rootfs,
            cgroups: Path::new("/sys/fs/cgroup").join(name),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn log(&self, id: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{id}.log"))).unwrap()
    }

    /// Contents of the log's entries, each after its stream and tag.
    pub(crate) fn logged(&self, id: &str) -> Vec<String> {
        self.log(id)
            .split_terminator('\n')
            .map(|line| line[31..].to_owned())
            .collect()
    }

    pub(crate) fn cgroup(&self, id: &str) -> PathBuf {
        self.cgroups.join(format!("skiff-{id}"))
    }

    /// A container of a pod with the host's network and its own IPC namespace.
    pub(crate) fn container(&self, shim: i32, id: &str, command: &[&str]) -> Create {
        let namespaces = json!([
            {"type": "mount"},
            {"type": "pid"},
            {"type": "cgroup"},
            {"type": "ipc", "path": format!("/proc/{shim}/ns/ipc")},
        ]);
        self.container_in(id, command, namespaces)
    }

    pub(crate) fn container_in(&self, id: &str, command: &[&str], namespaces: Value) -> Create {
        let spec = json!({
            "ociVersion": "1.2.0",
            "process": process(command),
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                 "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                 "options": ["nosuid", "noexec", "nodev"]},
            ],
            "linux": {"namespaces": namespaces},
        });
        Create {
            id: id.into(),
            spec: serde_json::from_value(spec).unwrap(),
            rootfs: Rootfs::Directory(self.rootfs.clone()),
            images: BTreeMap::new(),
            cgroup: self.cgroup(id),
            log_path: Some(self.path(&format!("{id}.log"))),
            log_entry: None,
            stdin: false,
            stdin_once: false,
            seccomp: None,
            exit_path: self.path(&format!("{id}.exit.json")),
        }
    }

    pub(crate) fn exec(&self, exec_id: u64, id: &str, command: &[&str]) -> Exec {
        Exec {
            exec_id,
            id: id.into(),
            process: serde_json::from_value(process(command)).unwrap(),
            stdin: false,
            terminal: false,
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::write(self.cgroups.join("cgroup.kill"), "1");
        let _ = std::fs::remove_dir(&self.cgroups);
    }
}

fn process(command: &[&str]) -> Value {
    json!({
        "user": {"uid": 0, "gid": 0},
        "args": command,
        "env": ["PATH=/bin"],
        "cwd": "/",
        "noNewPrivileges": true,
    })
}
