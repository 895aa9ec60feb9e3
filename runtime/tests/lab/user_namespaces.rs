//! Containers with a user namespace: whose their namespaces and their files are, and what their
//! root cannot do.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use anyhow::{Result, ensure};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use serde_json::{Value, json};
use skiff_runtime::user_namespace::{IdMappings, UserNamespace};
use skiff_runtime::{ImageVolume, Progress, pod_init};

use crate::fixture::{Container, Lab, More, holds};
use crate::{Test, sys};

pub(crate) const TESTS: &[Test] = &[
    (
        "user namespace: root is nobody outside, files are on disk as the host's ids",
        files,
    ),
    (
        "user namespace: the container's namespaces belong to it",
        owned,
    ),
    (
        "user namespace: a volume is mapped, a tmpfs too, and its files are on disk as they were meant",
        volumes,
    ),
    (
        "user namespace: a volume that cannot be mapped is refused by name",
        unmappable,
    ),
    (
        "user namespace: an image volume of several layers is mapped",
        image_volume,
    ),
    (
        "user namespace: a user that is not mapped is refused",
        unmapped_user,
    ),
    ("user namespace: exec joins it", exec),
    (
        "user namespace: exec where network and cgroup namespace are the host's",
        exec_beside_the_host,
    ),
    (
        "user namespace: a shared PID namespace belongs to it, its init is out of reach",
        shared_pids,
    ),
    (
        "user namespace: devices are there and are not the host's",
        devices,
    ),
    ("user namespace: limits and oom_score_adj are set", limits),
    (
        "user namespace: root with every capability does not get out",
        escape,
    ),
    (
        "user namespace: CVE-2022-0492, a release agent cannot be set",
        release_agent,
    ),
    (
        "user namespace: a createContainer hook runs inside, as its root",
        hook,
    ),
    (
        "user namespace: one that cannot be made says why",
        malformed,
    ),
];

/// Where the container's root is on the host.
const FIRST: u32 = 200_000;
const COUNT: u32 = 65_536;

fn mapping() -> Value {
    json!([{"containerID": 0, "hostID": FIRST, "size": COUNT}])
}

fn container(lab: &Lab, script: &str) -> Container {
    lab.container(script)
        .set(
            "/linux/namespaces",
            json!([
                {"type": "user"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "mount"}, {"type": "cgroup"}, {"type": "network"},
            ]),
        )
        .set("/linux/uidMappings", mapping())
        .set("/linux/gidMappings", mapping())
}

/// Every capability, and nothing that hides or forbids.
fn mighty(container: Container) -> Container {
    let all = skiff_runtime::capabilities();
    let all: Vec<_> = all
        .iter()
        .filter(|name| {
            serde_json::from_value::<skiff_runtime::oci_spec::runtime::Capability>(json!(name))
                .is_ok()
        })
        .collect();
    container
        .set(
            "/process/capabilities",
            json!({"bounding": all, "effective": all, "permitted": all, "inheritable": all}),
        )
        .set("/process/noNewPrivileges", json!(false))
        .set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]))
}

fn files(lab: &Lab) -> Result<()> {
    let script = "cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g; \
                  stat -c '%u %g' / /bin/busybox /dev /dev/null /dev/shm /dev/mqueue; \
                  touch /made; mkdir /dir; chmod 600 /etc/hostname 2>&1; \
                  echo changed > /bin/touched; touch /bin/busybox && echo copied-up";
    let container = container(lab, script);
    let output = container.output()?;
    let map = format!("{:>10} {FIRST:>10} {COUNT:>10}\n", 0);
    ensure!(output.starts_with(&map.repeat(2)), "{output}");
    holds(
        &output,
        &[&format!("0\n0\n{}", "0 0\n".repeat(6)), "copied-up"],
    )?;
    for name in ["", "made", "dir", "bin/touched", "bin/busybox"] {
        let found = fs::metadata(container.dir.join("upper").join(name))?;
        ensure!(
            (found.uid(), found.gid()) == (FIRST, FIRST),
            "{name:?} is {}:{} on disk",
            found.uid(),
            found.gid()
        );
    }
    let image = fs::metadata(lab.image().join("bin/busybox"))?;
    ensure!(image.uid() == 0, "the image's file has changed its owner");
    Ok(())
}

fn owned(lab: &Lab) -> Result<()> {
    let container = container(lab, "sleep 100");
    let running = container.start()?;
    let directory = format!("/proc/{}/ns", running.init.pid());
    let user = fs::metadata(format!("{directory}/user"))?.ino();
    ensure!(
        user != fs::metadata("/proc/self/ns/user")?.ino(),
        "the container is in the host's user namespace"
    );
    for kind in ["mnt", "pid", "ipc", "uts", "net", "cgroup"] {
        let owner = sys::owner(File::open(format!("{directory}/{kind}"))?)?;
        let owner = rustix::fs::fstat(&owner)?.st_ino;
        ensure!(owner == user, "{kind} belongs to another user namespace");
    }
    let status = fs::read_to_string(format!("/proc/{}/status", running.init.pid()))?;
    let id = FIRST.to_string();
    holds(&status, &[&format!("Uid:\t{id}\t{id}\t{id}\t{id}")])
}

fn volume(source: &Path, destination: &str) -> Value {
    json!({
        "destination": destination, "type": "bind", "source": source,
        "options": ["rbind", "rprivate", "rw", "ridmap"],
        "uidMappings": mapping(), "gidMappings": mapping(),
    })
}

fn volumes(lab: &Lab) -> Result<()> {
    let disk = lab.dir.path().join("volume");
    fs::create_dir_all(&disk)?;
    let memory = tempfile::tempdir_in("/run")?;
    let other = lab.dir.path().join("other");
    fs::create_dir_all(&other)?;
    for directory in [&disk, memory.path(), &other] {
        fs::write(directory.join("secret"), "word")?;
        chown(directory.join("secret"), Some(1000), Some(1000))?;
    }
    let script = "stat -c '%u %g' /disk/secret /memory/secret /other/secret; cat /memory/secret; \
                  touch /disk/new /memory/new";
    let mut odd = volume(&other, "/other");
    for field in ["uidMappings", "gidMappings"] {
        // What is 1000 on disk is 5 in the container.
        odd[field] = json!([{"containerID": 1000, "hostID": FIRST + 5, "size": 1}]);
    }
    let output = container(lab, script)
        .mount(volume(&disk, "/disk"))
        .mount(volume(memory.path(), "/memory"))
        .mount(odd)
        .output()?;
    ensure!(output == "1000 1000\n1000 1000\n5 5\nword", "{output:?}");
    for directory in [&disk, memory.path()] {
        let new = fs::metadata(directory.join("new"))?;
        ensure!(new.uid() == 0, "{} on disk", new.uid());
    }
    Ok(())
}

fn unmappable(lab: &Lab) -> Result<()> {
    let failure = container(lab, "true")
        .mount(volume(Path::new("/proc/sys"), "/data"))
        .failure()?;
    holds(&failure, &["/proc/sys", "/data", "idmapped"])
}

fn image_volume(lab: &Lab) -> Result<()> {
    let layers = [lab.dir.path().join("one"), lab.dir.path().join("two")];
    for layer in &layers {
        fs::create_dir_all(layer)?;
        fs::write(layer.join(layer.file_name().unwrap_or_default()), "x")?;
    }
    let script = "stat -c '%u %g' /volume /volume/one /volume/two; touch /volume/three 2>&1";
    let container = container(lab, script).mount(json!({
        "destination": "/volume", "type": "image", "source": "sha256:0",
        "options": ["ro", "noexec", "nosuid", "nodev", "ridmap"],
        "uidMappings": mapping(), "gidMappings": mapping(),
    }));
    let (mut running, _) = container.create_with(More {
        images: &[ImageVolume {
            destination: "/volume".into(),
            layers: layers.to_vec(),
            sub_path: None,
        }],
        ..More::default()
    })?;
    running.start()?;
    let (_, output) = running.finish()?;
    ensure!(output.starts_with(&"0 0\n".repeat(3)), "{output}");
    holds(&output, &["Read-only file system"])
}

fn unmapped_user(lab: &Lab) -> Result<()> {
    let failure = container(lab, "true")
        .set("/process/user/uid", json!(COUNT))
        .failure()?;
    holds(&failure, &["process.user.uid", "65536 is not mapped"])?;
    let failure = container(lab, "true")
        .set("/process/user/additionalGids", json!([7, 70_000]))
        .failure()?;
    holds(
        &failure,
        &["process.user.additionalGids", "70000 is not mapped"],
    )?;
    let last = container(lab, "id -u; id -g; id -G; touch /tmp/mine")
        .set("/process/user/uid", json!(COUNT - 1))
        .set("/process/user/gid", json!(1234))
        .set("/process/user/additionalGids", json!([7]));
    let image = lab.image().join("tmp");
    fs::set_permissions(&image, std::os::unix::fs::PermissionsExt::from_mode(0o1777))?;
    let output = last.output()?;
    ensure!(output == "65535\n1234\n1234 7\n", "{output}");
    let mine = fs::metadata(last.dir.join("upper/tmp/mine"))?;
    ensure!(
        (mine.uid(), mine.gid()) == (FIRST + COUNT - 1, FIRST + 1234),
        "{}:{}",
        mine.uid(),
        mine.gid()
    );
    Ok(())
}

fn exec(lab: &Lab) -> Result<()> {
    let container = container(lab, "sleep 100");
    let running = container.start()?;
    let script = "cat /proc/self/uid_map; touch /by-exec; for n in user mnt pid ipc uts net cgroup; \
                  do [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] && echo same; \
                  done; cat /proc/self/cgroup; cat /proc/self/oom_score_adj";
    let (code, output) = running.exec(script)?;
    ensure!(code == 0, "{code}: {output}");
    ensure!(output.matches("same").count() == 7, "{output}");
    holds(&output, &["200000", "0::/\n", "1000\n"])?;
    ensure!(fs::metadata(container.dir.join("upper/by-exec"))?.uid() == FIRST);
    Ok(())
}

fn exec_beside_the_host(lab: &Lab) -> Result<()> {
    let mut container = container(lab, "sleep 100").set(
        "/linux/namespaces",
        json!([{"type": "user"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"},
               {"type": "mount"}]),
    );
    // A sysfs can be mounted only by who owns the network.
    if let Some(mounts) = container.tree["mounts"].as_array_mut() {
        mounts.retain(|mount| {
            let destination = mount["destination"].as_str();
            destination.is_some_and(|path| !path.starts_with("/sys"))
        });
    }
    let running = container.start()?;
    let script = "id -u; for n in user mnt pid ipc uts net cgroup; do \
                  [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] && echo same; done";
    let (code, output) = running.exec(script)?;
    ensure!(code == 0, "{code}: {output}");
    ensure!(output == format!("0\n{}", "same\n".repeat(7)), "{output}");
    Ok(())
}

fn shared_pids(lab: &Lab) -> Result<()> {
    let mappings: Vec<_> = serde_json::from_value(mapping())?;
    let user = UserNamespace::new(IdMappings {
        uid: mappings.clone(),
        gid: mappings,
    })?;
    let cgroup = Path::new("/sys/fs/cgroup/skiff-lab-test/init");
    let init = pod_init::spawn(Some(cgroup), Some(&user))?;
    let namespace = format!("/proc/{}/ns", init.pid);
    let owner = sys::owner(File::open(format!("{namespace}/pid"))?)?;
    ensure!(
        rustix::fs::fstat(&owner)?.st_ino == fs::metadata(format!("{namespace}/user"))?.ino(),
        "the PID namespace belongs to another user namespace"
    );
    let script = "ps; kill -9 1; cat /proc/1/environ 2>&1; ls -l /proc/1/exe 2>&1; \
                  ls /proc/1/root/ 2>&1; true";
    let container = mighty(container(lab, script));
    let (mut running, _) = container.create_with(More {
        pid_namespace: Some(init.pidfd.as_fd()),
        user_namespace: Some(&user),
        ..More::default()
    })?;
    running.start()?;
    let (_, output) = running.finish()?;
    holds(&output, &["skiff-init", "denied"])?;
    ensure!(output.matches("denied").count() == 3, "{output}");
    pidfd_send_signal(&init.pidfd, Signal::KILL)?;
    waitid(WaitId::PidFd(init.pidfd.as_fd()), WaitIdOptions::EXITED)?;
    while !skiff_runtime::cgroup::remove(cgroup)? {}
    Ok(())
}

fn devices(lab: &Lab) -> Result<()> {
    let script = "echo x > /dev/null && head -c 4 /dev/zero | wc -c; readlink /dev/fd; \
                  stat -c '%t:%T %a %u' /dev/net/mine /dev/given; \
                  cat /dev/net/mine 2>&1; cat /dev/given | head -c 1 | wc -c; \
                  mknod /dev/n c 1 3 2>&1; mknod /tmp/n b 7 0 2>&1; ls /dev/pts/ptmx";
    let allow = json!([{"allow": true, "type": "c", "access": "rwm"}]);
    let container = mighty(container(lab, script))
        .set(
            "/linux/devices",
            json!([
                {"path": "/dev/net/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600},
                {"path": "/dev/given", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600,
                 "uid": 0, "gid": 0},
            ]),
        )
        .set("/linux/resources/devices", allow);
    let (_, output) = container.run()?;
    holds(
        &output,
        &[
            "4\n/proc/self/fd\n",
            "1:5 600 65534\n",
            "1:5 600 0\n",
            "'/dev/net/mine': Permission denied",
            "\n1\n",
            "/dev/n: Operation not permitted",
            "/tmp/n: Operation not permitted",
            "/dev/pts/ptmx",
        ],
    )?;
    let outside = json!([{"path": "/srv/null", "type": "c", "major": 1, "minor": 3}]);
    let failure = crate::user_namespaces::container(lab, "true")
        .set("/linux/devices", outside)
        .failure()?;
    holds(&failure, &["/srv/null", "outside of /dev"])
}

fn limits(lab: &Lab) -> Result<()> {
    let (_, before) = lab.container("ulimit -Hn").run()?;
    let more = before.trim().parse::<u64>().unwrap_or(1024) + 10;
    let output = container(lab, "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj")
        .set(
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": more}]),
        )
        .set("/process/oomScoreAdj", json!(-5))
        .output();
    match output {
        Ok(output) => {
            ensure!(output == format!("100\n{more}\n-5\n"), "{output}");
            Ok(())
        }
        // Not the node's root's either.
        Err(e) if format!("{e:#}").contains("CAP_SYS_RESOURCE") => {
            Err(crate::fixture::Skip("no CAP_SYS_RESOURCE here".into()).into())
        }
        Err(e) => Err(e),
    }
}

fn escape(lab: &Lab) -> Result<()> {
    let host = rustix::system::uname().nodename().to_owned();
    let probe = lab.dir.path().join("outside");
    fs::create_dir_all(&probe)?;
    fs::write(probe.join("private"), "secret")?;
    fs::set_permissions(
        probe.join("private"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )?;
    // Each line must fail.
    let script = "mkdir -p /tmp/m
        try() { \"$@\" >/dev/null 2>&1 && echo \"GOT OUT: $*\"; }
        try mknod /tmp/disk b 7 0
        try mount -t ext4 /dev/disk /tmp/m
        try cat /dev/disk
        try sh -c 'echo /bin/sh > /proc/sys/kernel/core_pattern'
        try sh -c 'echo 1 > /proc/sys/kernel/sysrq'
        try sh -c 'echo b > /proc/sysrq-trigger'
        try cat /outside/private
        try chown 0 /outside/private
        try chmod 666 /outside/private
        try kill -9 2147483647
        try mount -o remount,rw /sys/fs/cgroup
        try sh -c 'mount -t cgroup2 none /tmp/m && echo max > /tmp/m/memory.max'
        try sh -c 'mount -t cgroup2 none /tmp/m && mkdir /tmp/m/mine'
        try sh -c 'unshare -UrmC mount -t cgroup -o rdma none /tmp/m'
        try unshare -Urm sh -c 'umount /proc/kcore; echo x > /proc/sys/kernel/core_pattern'
        hostname pod; hostname; ls /proc | grep -c '^[0-9]*$'";
    let allow = json!([{"allow": true, "access": "rwm"}]);
    let block = json!([{"path": "/dev/disk", "type": "b", "major": 7, "minor": 0,
                        "fileMode": 0o660}]);
    let container = mighty(container(lab, script))
        .set("/linux/devices", block)
        .set("/linux/resources/devices", allow)
        .mount(
            json!({"destination": "/outside", "type": "bind", "source": probe,
                      "options": ["rbind", "rw"]}),
        );
    let (_, output) = container.run()?;
    ensure!(!output.contains("GOT OUT"), "{output}");
    holds(&output, &["pod\n"])?;
    ensure!(
        rustix::system::uname().nodename() == &*host,
        "the host's name changed"
    );
    let private = fs::metadata(probe.join("private"))?;
    ensure!(private.uid() == 0 && private.mode() & 0o777 == 0o600);
    Ok(())
}

/// The container's root makes itself a user and a cgroup namespace, in which it has
/// CAP_SYS_ADMIN, and mounts a cgroup hierarchy of version 1, whose release_agent the host's
/// kernel would execute.
fn release_agent(lab: &Lab) -> Result<()> {
    let script = "mkdir -p /tmp/m; for c in rdma memory cpu freezer misc none,name=x; do \
                  for how in '' 'unshare -UrmC'; do \
                  $how sh -c \"mount -t cgroup -o $c none /tmp/m && \
                  echo /bin/sh > /tmp/m/release_agent\" 2>/dev/null && echo GOT OUT; \
                  umount /tmp/m 2>/dev/null; done; done; echo tried";
    let (_, output) = mighty(container(lab, script)).run()?;
    ensure!(output == "tried\n", "{output}");
    Ok(())
}

fn malformed(lab: &Lab) -> Result<()> {
    let twice = json!([
        {"containerID": 0, "hostID": FIRST, "size": 10},
        {"containerID": 5, "hostID": FIRST + 100, "size": 10},
    ]);
    let failure = container(lab, "true")
        .set("/linux/uidMappings", twice)
        .failure()?;
    holds(&failure, &["linux.uidMappings", "overlaps"])?;
    let rootless = json!([{"containerID": 1, "hostID": FIRST, "size": 10}]);
    let failure = container(lab, "true")
        .set("/linux/gidMappings", rootless)
        .failure()?;
    holds(&failure, &["linux.gidMappings", "container id 0"])?;
    let failure = lab
        .container("true")
        .set("/linux/uidMappings", mapping())
        .failure()?;
    holds(&failure, &["linux.uidMappings", "without a user namespace"])
}

/// As of a CDI device: it has the container's mounts and namespaces, and no right outside.
fn hook(lab: &Lab) -> Result<()> {
    let bundle = lab.dir.path().join("hooked");
    fs::create_dir_all(bundle.join("rootfs"))?;
    // Where it may write, though it is nobody outside.
    let open = tempfile::Builder::new()
        .prefix("hook")
        .tempdir_in("/var/tmp")?;
    fs::set_permissions(open.path(), PermissionsExt::from_mode(0o755))?;
    let told = open.path().join("told");
    File::create(&told)?.set_permissions(PermissionsExt::from_mode(0o666))?;
    let script = format!(
        "{{ id -u; cat /proc/self/uid_map; touch /etc/escaped && echo escaped; }} >{} 2>&1; :",
        told.display()
    );
    let container = container(lab, "true")
        .set("/root/path", json!("rootfs"))
        .set(
            "/hooks",
            json!({"createContainer": [
                {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]},
            ]}),
        );
    let (_running, progress) = container.create_with(More {
        bundle: Some(&*bundle),
        ..More::default()
    })?;
    ensure!(matches!(progress, Progress::Ready { .. }), "{progress:?}");
    let said = fs::read_to_string(&told)?;
    holds(&said, &["0\n", &FIRST.to_string(), "Permission denied"])?;
    ensure!(
        !said.contains("\nescaped") && !Path::new("/etc/escaped").exists(),
        "{said}"
    );
    Ok(())
}
