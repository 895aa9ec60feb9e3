//! Ways out of a container that other runtimes had, each under the name of its CVE. What is shared
//! by several is tried in one.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FileType, Mode, OFlags, mknodat};
use serde_json::{Value, json};

use crate::Test;
use crate::fixture::{Container, Lab, More, Skip, holds};

pub(crate) const TESTS: &[Test] = &[
    (
        "CVE-2016-9962: a process on its way into the container cannot be looked into",
        joining_process,
    ),
    (
        "CVE-2019-5736: the runtime's own file cannot be written through its process",
        own_binary,
    ),
    (
        "CVE-2019-16884, CVE-2019-19921, CVE-2023-27561: no volume takes the place of /proc",
        over_proc,
    ),
    (
        "CVE-2021-30465, CVE-2024-45310: a mount point swapped for a link stays inside",
        swapped_mount_point,
    ),
    (
        "CVE-2022-29162: inheritable capabilities are empty",
        inheritable,
    ),
    (
        "CVE-2024-21626: no working directory leads out, and no descriptor of ours is left",
        working_directory,
    ),
    (
        "CVE-2025-23266: a hook has nothing of the container's environment or directory",
        hook_environment,
    ),
    (
        "CVE-2025-31133: what masks a file is the host's null device",
        mask_source,
    ),
    (
        "CVE-2025-52565: the console's mount point is resolved inside",
        console,
    ),
    (
        "CVE-2025-52881: what is written to /proc goes to the kernel's own",
        proc_writes,
    ),
];

/// A layer to put on top of the image.
fn layer(lab: &Lab) -> Result<PathBuf> {
    Ok(tempfile::tempdir_in(lab.dir.path())?.keep())
}

/// The watcher in the container sees what processes hold, as long as it may look. Nothing of the
/// host may be among that.
fn joining_process(lab: &Lab) -> Result<()> {
    let script = "while :; do ls -l /proc/[0-9]*/fd /proc/[0-9]*/exe /proc/[0-9]*/cwd \
                  /proc/[0-9]*/root 2>/dev/null >>/tmp/seen; done";
    let container = lab.container(script);
    let running = container.start()?;
    for _ in 0..30 {
        running.exec_process(json!(["true"]))?;
    }
    let (_, seen) = running.exec("cat /tmp/seen")?;
    let own = std::env::current_exe()?;
    let name = own.file_name().context("no name")?.to_string_lossy();
    ensure!(seen.contains("busybox"), "the watcher saw nothing");
    for word in [&*name, "/sys/fs/cgroup", "/var/tmp"] {
        let line = seen.lines().find(|line| line.contains(word));
        ensure!(line.is_none(), "{line:?}");
    }
    Ok(())
}

/// Held by a path until it is executed no more, the file is still on a read-only mount, and that
/// alone keeps root from writing it.
fn own_binary(lab: &Lab) -> Result<()> {
    let program = Path::new(env!("CARGO_BIN_EXE_skiff-oci"));
    if !program.exists() {
        return Err(Skip(format!("no {}", program.display())).into());
    }
    let container = lab.container("true");
    let bundle = layer(lab)?;
    let mut tree = container.tree.clone();
    tree["root"]["path"] = json!(lab.image());
    tree["linux"]["cgroupsPath"] = json!("/skiff-lab-test/own-binary");
    fs::write(bundle.join("config.json"), tree.to_string())?;
    let state = bundle.join("state");
    let oci = |words: &[&str]| {
        let mut command = Command::new(program);
        command.arg("--root").arg(&state).args(words).output()
    };
    let bundle = bundle.to_string_lossy().into_owned();
    // The container keeps what it is given: a file, for a pipe would never end.
    let log = state.with_extension("log");
    let made = Command::new(program)
        .arg("--root")
        .arg(&state)
        .args(["create", "--bundle", &bundle, "own-binary"])
        .stdout(fs::File::create(&log)?)
        .stderr(fs::File::options().append(true).open(&log)?)
        .status()?;
    ensure!(made.success(), "{}", fs::read_to_string(&log)?);
    let told: Value = serde_json::from_slice(&oci(&["state", "own-binary"])?.stdout)?;
    let file = format!("/proc/{}/exe", told["pid"]);
    let same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    let executed = fs::metadata(&file);
    let held = rustix::fs::open(&file, OFlags::PATH, Mode::empty());
    oci(&["delete", "--force", "own-binary"])?;
    let held = held?;
    let name = format!("/proc/self/fd/{}", held.as_raw_fd());
    let opened = fs::OpenOptions::new().write(true).open(name);
    let error = opened.err().context("it could be opened for writing")?;
    ensure!(same(executed?, fs::metadata(program)?), "another program");
    ensure!(error.kind() == io::ErrorKind::ReadOnlyFilesystem, "{error}");
    Ok(())
}

fn over_proc(lab: &Lab) -> Result<()> {
    let volume = layer(lab)?;
    fs::write(volume.join("meminfo"), "MemTotal: mine")?;
    let bind = |destination: &str, source: PathBuf| json!({"destination": destination, "source": source, "options": ["rbind"]});
    for destination in [
        "/proc",
        "//proc/",
        "/proc/self",
        "/x/../proc",
        "/link",
        "/links/self",
    ] {
        let mut container = lab
            .container("true")
            .mount(bind(destination, volume.clone()));
        let top = layer(lab)?;
        symlink("/proc/sys", top.join("link"))?;
        symlink("/proc", top.join("links"))?;
        container.lower.insert(0, top);
        let failure = container.failure()?;
        holds(&failure, &["mounts (", "take the place"])
            .with_context(|| format!("at {destination}"))?;
    }
    let one = bind("/proc/meminfo", volume.join("meminfo"));
    let output = lab.container("cat /proc/meminfo").mount(one).output()?;
    ensure!(output == "MemTotal: mine", "{output}");
    Ok(())
}

/// Somebody who shares a volume swaps a directory in it for a link to the outside, over and over,
/// while containers are made that want mounts, directories and files there.
fn swapped_mount_point(lab: &Lab) -> Result<()> {
    let volume = layer(lab)?;
    let outside = layer(lab)?;
    fs::create_dir(volume.join("dir"))?;
    symlink(&outside, volume.join("link"))?;
    let bind = |destination: &str, source: &Path| json!({"destination": destination, "source": source, "options": ["rbind"]});
    let script = "while :; do mv /volume/dir /volume/t; mv /volume/link /volume/dir; \
                  mv /volume/dir /volume/link; mv /volume/t /volume/dir; done";
    let swapper = lab.container(script).mount(bind("/volume", &volume));
    let before = lab.host().0;
    let swapping = swapper.start()?;
    let (mut made, mut refused) = (0, 0);
    for _ in 0..60 {
        let container = lab
            .container("true")
            .mount(bind("/volume", &volume))
            .mount(bind("/volume/dir/a/b", &lab.image()))
            .mount(bind("/volume/dir/file", Path::new("/dev/null")));
        match container.run() {
            Ok(_) => made += 1,
            Err(_) => refused += 1,
        }
    }
    drop(swapping);
    let escaped: Vec<_> = fs::read_dir(&outside)?
        .flatten()
        .map(|e| e.path())
        .collect();
    ensure!(
        escaped.is_empty(),
        "{escaped:?} ({made} made, {refused} refused)"
    );
    ensure!(lab.host().0 == before, "the host's mounts have changed");
    Ok(())
}

fn inheritable(lab: &Lab) -> Result<()> {
    let container = lab.container("sleep 100");
    let running = container.start()?;
    for pid in ["1", "self"] {
        let (_, output) = running.exec(&format!("grep CapInh /proc/{pid}/status"))?;
        ensure!(output == "CapInh:\t0000000000000000\n", "{output:?}");
    }
    Ok(())
}

/// Refused, or a directory from which the way up ends at the container's own root.
fn working_directory(lab: &Lab) -> Result<()> {
    let script = "[ \"$(ls ../../../../../../../../..)\" = \"$(ls /)\" ] && echo inside";
    for fd in 0..24 {
        for cwd in [
            format!("/proc/self/fd/{fd}"),
            format!("/link{fd}"),
            format!("/link{fd}/.."),
        ] {
            let mut container = lab.container(script).set("/process/cwd", json!(cwd));
            let top = layer(lab)?;
            symlink(format!("/proc/self/fd/{fd}"), top.join(format!("link{fd}")))?;
            container.lower.insert(0, top);
            match container.run() {
                Err(refused) => holds(&format!("{refused:#}"), &["working directory"])
                    .or_else(|_| holds(&format!("{refused:#}"), &[&cwd]))?,
                Ok((_, output)) => ensure!(output == "inside\n", "{cwd}: {output}"),
            }
        }
    }
    let container = lab.container("sleep 100");
    let running = container.start()?;
    let mut into = lab.container("true");
    into.tree = container.tree.clone();
    let (_, output) = running.exec("ls /proc/self/fd | wc -l; readlink /proc/self/cwd")?;
    // Three, and the one by which ls reads the directory.
    ensure!(output == "4\n/\n", "{output:?}");
    Ok(())
}

fn hook_environment(lab: &Lab) -> Result<()> {
    let bundle = layer(lab)?;
    fs::create_dir(bundle.join("rootfs"))?;
    let told = bundle.join("told");
    let hook = bundle.join("hook");
    let script =
        "#!/bin/sh\n{ env; pwd; ls rootfs 2>&1; ls \"${0%/*}/rootfs\"; } >\"${0%/*}/told\"\n";
    fs::write(&hook, script)?;
    fs::set_permissions(&hook, PermissionsExt::from_mode(0o755))?;
    let container = lab
        .container("true")
        .set("/root/path", json!("rootfs"))
        .set(
            "/process/env",
            json!(["LD_PRELOAD=/proc/self/cwd/evil.so", "PATH=/bin"]),
        )
        .set(
            "/hooks",
            json!({"createContainer": [{"path": hook, "env": ["MINE=1"]}]}),
        );
    let more = More {
        bundle: Some(&bundle),
        ..More::default()
    };
    container.create_with(more)?;
    let told = fs::read_to_string(told)?;
    holds(&told, &["MINE=1", "\nbin\n"])?;
    ensure!(!told.contains("LD_PRELOAD"), "{told}");
    let own = std::env::current_dir()?;
    ensure!(told.lines().any(|line| Path::new(line) == own), "{told}");
    ensure!(
        fs::read_dir(bundle.join("rootfs"))?.next().is_none(),
        "the host sees the mount"
    );
    Ok(())
}

/// The image's own /dev/null, which a configuration may even keep, is a link to what an attacker
/// wants to write.
fn mask_source(lab: &Lab) -> Result<()> {
    let top = layer(lab)?;
    fs::create_dir(top.join("dev"))?;
    symlink("/proc/sys/kernel/core_pattern", top.join("dev/null"))?;
    fs::write(top.join("secret"), "secret")?;
    let without_dev = |tree: &mut Value| {
        let mounts = tree["mounts"].as_array_mut().expect("mounts");
        mounts.retain(|m| {
            !m["destination"]
                .as_str()
                .is_some_and(|d| d.starts_with("/dev"))
        });
    };
    for keep_dev in [true, false] {
        let script = "cat /secret | wc -c; cat /proc/kcore | wc -c; stat -c %F /secret";
        let mut container = lab
            .container(script)
            .set("/linux/maskedPaths", json!(["/secret", "/proc/kcore"]));
        if !keep_dev {
            without_dev(&mut container.tree);
        }
        container.lower.insert(0, top.clone());
        match container.output() {
            Ok(output) => ensure!(output == "0\n0\ncharacter special file\n", "{output}"),
            // The link stands where the real node has to be.
            Err(e) => holds(&format!("{e:#}"), &["/dev/null"])?,
        }
    }
    Ok(())
}

/// With no tmpfs at /dev the image decides what /dev/console is.
fn console(lab: &Lab) -> Result<()> {
    let outside = layer(lab)?;
    for target in [
        outside.join("console"),
        "/proc/sys/kernel/core_pattern".into(),
    ] {
        let top = layer(lab)?;
        fs::create_dir(top.join("dev"))?;
        symlink(&target, top.join("dev/console"))?;
        let mut container = lab.container("tty");
        let mounts = container.tree["mounts"].as_array_mut().expect("mounts");
        mounts.retain(|m| m["destination"] != "/dev");
        container.lower.insert(0, top);
        let more = More {
            terminal: true,
            ..More::default()
        };
        let made = container.create_with(more);
        ensure!(
            !target.starts_with(&outside) || !target.exists(),
            "{}",
            target.display()
        );
        let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
        ensure!(!pattern.is_empty(), "the host's file was covered");
        drop(made);
    }
    Ok(())
}

/// The image has files and links where /proc will be, and a directory that looks like it.
fn proc_writes(lab: &Lab) -> Result<()> {
    let top = layer(lab)?;
    for dir in ["proc/self", "proc/sys/kernel", "proc/self/attr"] {
        fs::create_dir_all(top.join(dir))?;
    }
    for file in [
        "proc/self/oom_score_adj",
        "proc/sys/kernel/msgmax",
        "proc/self/attr/exec",
    ] {
        fs::write(top.join(file), "untouched")?;
    }
    mknodat(
        rustix::fs::CWD,
        top.join("proc/sysrq-trigger"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        rustix::fs::makedev(1, 3),
    )?;
    let with = |keep_proc: bool| -> Container {
        let script = "cat /proc/sys/kernel/msgmax /proc/self/oom_score_adj";
        let mut container = lab
            .container(script)
            .set("/linux/sysctl", json!({"kernel.msgmax": "4321"}));
        container.lower.insert(0, top.clone());
        if !keep_proc {
            let mounts = container.tree["mounts"].as_array_mut().expect("mounts");
            mounts.retain(|m| m["destination"] != "/proc");
        }
        container
    };
    let output = with(true).output()?;
    ensure!(output.starts_with("4321\n"), "{output}");
    // Without a proc the container sees the image's files, which nothing was written to.
    match with(false).run() {
        Ok((_, output)) => ensure!(output == "untoucheduntouched", "{output}"),
        Err(e) => bail!(e),
    }
    for file in [
        "proc/self/oom_score_adj",
        "proc/sys/kernel/msgmax",
        "proc/self/attr/exec",
    ] {
        ensure!(fs::read_to_string(top.join(file))? == "untouched", "{file}");
    }
    Ok(())
}
