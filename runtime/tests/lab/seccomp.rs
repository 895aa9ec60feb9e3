//! Seccomp filters, and what of ours still works under them.

use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use anyhow::{Context, Result, ensure};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

use crate::Test;
use crate::fixture::{Container, Lab, holds};

pub(crate) const TESTS: &[Test] = &[
    (
        "after the filter nothing is called but what is written down",
        calls_after_the_filter,
    ),
    (
        "with no_new_privs the filter is the last thing before execve",
        last_thing,
    ),
    (
        "a filter holds in the container and in an exec",
        holds_everywhere,
    ),
    (
        "a profile without its compiled filter is refused",
        needs_its_filter,
    ),
    ("the listener of notifications goes to the agent", listener),
    ("an agent that is not there fails the start", missing_agent),
    (
        "a security module that the kernel lacks is an error that names it",
        no_module,
    ),
];

/// A profile that kills for anything but `calls`, on a container whose command does not exist: all
/// calls under the filter are ours, and the failure arrives only if none of them was another.
fn nothing_but(lab: &Lab, calls: &[&str]) -> Container {
    let rule = json!({"names": calls, "action": "SCMP_ACT_ALLOW"});
    let profile = json!({"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": [rule]});
    let mut container = lab
        .container("")
        .set("/process/args", json!(["/no/such/command"]))
        .set("/linux/seccomp", profile);
    let process = &mut container.tree["process"];
    process["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [5], "umask": 23});
    process["cwd"] = json!("/tmp");
    for set in [
        "bounding",
        "permitted",
        "effective",
        "inheritable",
        "ambient",
    ] {
        process["capabilities"][set] = json!(["CAP_CHOWN"]);
    }
    container
}

fn reports(container: &Container) -> Result<()> {
    let failure = container.failure()?;
    holds(&failure, &["/no/such/command", "No such file"])
}

/// The list of docs/security.md.
fn calls_after_the_filter(lab: &Lab) -> Result<()> {
    let calls = [
        "setresuid",
        "capset",
        "prctl",
        "fchdir",
        "execve",
        "write",
        "exit_group",
    ];
    let container = nothing_but(lab, &calls).set("/process/noNewPrivileges", json!(false));
    reports(&container)?;
    let running = lab
        .container("")
        .set("/process/args", json!(["sleep", "9"]));
    running.start().map(drop)
}

fn last_thing(lab: &Lab) -> Result<()> {
    let calls = ["execve", "write", "exit_group"];
    reports(&nothing_but(lab, &calls).set("/process/noNewPrivileges", json!(true)))
}

fn no_mkdir(lab: &Lab, script: &str) -> Container {
    lab.container(script).set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
        }),
    )
}

fn holds_everywhere(lab: &Lab) -> Result<()> {
    let script = "mkdir /tmp/a 2>&1; grep Seccomp: /proc/self/status";
    let expected = ["No space left", "Seccomp:\t2"];
    for no_new_privileges in [true, false] {
        let container =
            no_mkdir(lab, "sleep 100").set("/process/noNewPrivileges", json!(no_new_privileges));
        let running = container.start()?;
        holds(&running.exec(script)?.1, &expected)?;
        drop(running);
        let container =
            no_mkdir(lab, script).set("/process/noNewPrivileges", json!(no_new_privileges));
        holds(&container.output()?, &expected)?;
    }
    Ok(())
}

fn needs_its_filter(lab: &Lab) -> Result<()> {
    let container = no_mkdir(lab, "true");
    let spec = serde_json::from_value(container.tree.clone())?;
    let rootfs = skiff_runtime::Rootfs::Directory(lab.image());
    let stdio = skiff_runtime::Stdio::Terminal;
    let create =
        skiff_runtime::Create::new(&container.id, &spec, &rootfs, &container.cgroup, stdio);
    let error = skiff_runtime::create(create)
        .err()
        .context("created without a filter")?;
    holds(&error.to_string(), &["linux.seccomp"])
}

fn asking(lab: &Lab, agent: &str) -> Container {
    lab.container("true").set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": agent,
            "listenerMetadata": "for the agent",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
        }),
    )
}

fn listener(lab: &Lab) -> Result<()> {
    let path = lab.dir.path().join("agent");
    let socket = UnixListener::bind(&path)?;
    let agent = path.to_str().context("a path that is not UTF-8")?;
    for no_new_privileges in [true, false] {
        let container =
            asking(lab, agent).set("/process/noNewPrivileges", json!(no_new_privileges));
        let running = container.start()?;
        let (state, listener) = receive(&socket)?;
        ensure!(state["fds"] == json!(["seccompFd"]), "{state}");
        ensure!(state["metadata"] == "for the agent", "{state}");
        ensure!(state["pid"] == running.init.pid(), "{state}");
        ensure!(state["state"]["id"] == container.id.as_str(), "{state}");
        let kind = std::fs::read_link(format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&listener)
        ))?;
        holds(&kind.to_string_lossy(), &["seccomp notify"])?;
        let (code, output) = running.finish()?;
        ensure!(code == 0, "{code}: {output}");
    }
    Ok(())
}

/// What an agent gets: the container process state and the descriptor.
fn receive(socket: &UnixListener) -> Result<(Value, OwnedFd)> {
    let (mut peer, _) = socket.accept()?;
    let mut data = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [std::io::IoSliceMut::new(&mut data)];
    let got = recvmsg(&peer, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let mut json = data[..got.bytes].to_vec();
    peer.read_to_end(&mut json)?;
    Ok((serde_json::from_slice(&json)?, fd.context("no descriptor")?))
}

fn missing_agent(lab: &Lab) -> Result<()> {
    let failure = asking(lab, "/no/such/agent").failure()?;
    holds(&failure, &["/no/such/agent", "seccomp listener"])
}

fn no_module(lab: &Lab) -> Result<()> {
    let apparmor = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    if !apparmor.is_ok_and(|enabled| enabled.starts_with('Y')) {
        let container = lab
            .container("true")
            .set("/process/apparmorProfile", json!("some"));
        holds(&container.failure()?, &["AppArmor profile some"])?;
    }
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        let label = "system_u:system_r:container_t:s0:c1,c2";
        let container = lab
            .container("true")
            .set("/process/selinuxLabel", json!(label));
        holds(&container.failure()?, &[label])?;
    }
    lab.container("true")
        .set("/process/apparmorProfile", json!("unconfined"))
        .output()
        .map(drop)
}
