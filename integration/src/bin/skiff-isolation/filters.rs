//! Seccomp and AppArmor.

use std::fs;

use anyhow::{Context, ensure};
use skiff_cri::v1::security_profile::ProfileType::{Localhost, RuntimeDefault, Unconfined};

use crate::credentials::with_capabilities;
use crate::lab::{Lab, PROBE, Shape, profile, same};

/// The mode of a process with a filter (PR_SET_SECCOMP(2const)).
const FILTER: &str = "2";

/// The default profile refuses what a container should not even try, and lets programs work.
pub(crate) async fn seccomp_runtime_default(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("seccomp-default");
    shape.security().seccomp = profile(RuntimeDefault, "");
    lab.look(shape, async |inside| {
        same("Seccomp", inside.report.field("Seccomp"), FILTER)?;
        same(
            "Seccomp of an exec",
            inside.exec_report().await?.field("Seccomp"),
            FILTER,
        )?;
        inside
            .outcomes(&[
                ("call=bpf", "EPERM"),
                ("call=perf_event_open", "EPERM"),
                ("call=io_uring_setup", "EPERM|ENOSYS"),
                ("call=keyctl", "EPERM|ENOSYS"),
                ("call=add_key", "EPERM|ENOSYS"),
                ("call=request_key", "EPERM|ENOSYS"),
                ("call=userfaultfd", "EPERM"),
                ("call=open_by_handle_at", "EPERM"),
                ("call=kexec_load", "EPERM|ENOSYS"),
                ("call=init_module", "EPERM"),
                ("call=fsopen", "EPERM"),
                ("call=open_tree", "EPERM"),
                ("call=move_mount", "EPERM"),
                ("call=acct", "EPERM"),
                ("call=quotactl", "EPERM"),
                // programs fall back to clone, whose flags a filter can see
                ("call=clone3", "ENOSYS"),
                ("unshare=user", "EPERM"),
                ("unshare=user,mount", "EPERM"),
                ("tmpfs=/tmp", "EPERM"),
                ("chroot=/tmp", "ok"),
                ("create=/tmp/file", "ok"),
                ("execute=/bin/sh:-c true", "ok"),
            ])
            .await
    })
    .await
}

/// With CAP_SYS_ADMIN the default profile lets through what needs it, as the capability would.
pub(crate) async fn seccomp_default_follows_capabilities(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("seccomp-admin");
    shape.security().seccomp = profile(RuntimeDefault, "");
    shape.security().capabilities = Some(skiff_cri::v1::Capability {
        add_capabilities: vec!["SYS_ADMIN".to_owned()],
        ..Default::default()
    });
    lab.look(shape, async |inside| {
        same("Seccomp", inside.report.field("Seccomp"), FILTER)?;
        inside
            .outcomes(&[
                ("unshare=mount", "ok"),
                ("hostname=other", "ok"),
                ("call=clone3", "EINVAL"),
                ("call=init_module", "EPERM"),
                ("call=kexec_load", "EPERM|ENOSYS"),
            ])
            .await
    })
    .await
}

pub(crate) async fn seccomp_unconfined(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("seccomp-unconfined");
    shape.security().seccomp = profile(Unconfined, "");
    lab.look(shape, async |inside| {
        same("Seccomp", inside.report.field("Seccomp"), "0")?;
        // a user namespace may be refused by AppArmor's default profile
        inside
            .outcomes(&[("call=clone3", "EINVAL"), ("unshare=user", "ok|EACCES")])
            .await
    })
    .await
}

/// A file's rules: an action with an errno of its own, one that looks at an argument, one that kills.
pub(crate) async fn seccomp_localhost(lab: &mut Lab) -> anyhow::Result<()> {
    let path = "/var/lib/kubelet/seccomp/lab.json";
    write(
        path,
        r#"{"defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [
              {"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
              {"names": ["unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 16,
               "args": [{"index": 0, "value": 268435456, "valueTwo": 268435456, "op": "SCMP_CMP_MASKED_EQ"}]},
              {"names": ["swapon"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#,
    )?;
    let mut shape = Shape::new("seccomp-localhost");
    shape.security().seccomp = profile(Localhost, path);
    lab.look(shape, async |inside| {
        same("Seccomp", inside.report.field("Seccomp"), FILTER)?;
        inside
            .outcomes(&[
                ("mkdir=/tmp/directory", "ENOSPC"),
                ("unshare=user", "EBUSY"),
                ("unshare=mount", "EPERM"),
                // SIGSYS
                ("call=swapon", "signal 31"),
                ("create=/tmp/file", "ok"),
            ])
            .await
    })
    .await
}

/// What is wrong with a profile is told, with its path, before the container runs.
pub(crate) async fn seccomp_profiles_that_do_not_work(lab: &mut Lab) -> anyhow::Result<()> {
    let refused = [
        ("missing", None),
        ("garbage", Some("{\"defaultAction\": ")),
        ("no-action", Some("{\"defaultAction\": \"SCMP_ACT_DANCE\"}")),
    ];
    for (name, content) in refused {
        let path = format!("/var/lib/kubelet/seccomp/{name}.json");
        if let Some(content) = content {
            write(&path, content)?;
        }
        let mut shape = Shape::new(&format!("seccomp-{name}"));
        shape.security().seccomp = profile(Localhost, &path);
        let refused = lab.refuses(shape, &[&path]).await;
        refused.with_context(|| name.to_owned())?;
    }
    Ok(())
}

fn write(path: &str, content: &str) -> anyhow::Result<()> {
    fs::create_dir_all("/var/lib/kubelet/seccomp")?;
    fs::write(path, content).with_context(|| format!("write {path}"))
}

/// The runtime's own profile is loaded when it is asked for. An exec into a container that may trace
/// gets there on another way.
pub(crate) async fn apparmor_runtime_default(lab: &mut Lab) -> anyhow::Result<()> {
    apparmor_default(lab, Shape::new("apparmor-default")).await?;
    let tracer = with_capabilities("apparmor-tracer", &["SYS_PTRACE"], &[], &[]);
    apparmor_default(lab, tracer).await
}

async fn apparmor_default(lab: &mut Lab, mut shape: Shape) -> anyhow::Result<()> {
    shape.security().apparmor = profile(RuntimeDefault, "");
    lab.look(shape, async |inside| {
        let label = inside.report.label.clone();
        ensure!(label.ends_with("(enforce)"), "label {label:?}");
        same("label of an exec", inside.exec_report().await?.label, label)?;
        inside
            .outcomes(&[
                ("write=/proc/sysrq-trigger:h", "EACCES|EROFS|EPERM"),
                ("tmpfs=/tmp", "EPERM|EACCES"),
                ("create=/tmp/file", "ok"),
            ])
            .await
    })
    .await
}

pub(crate) async fn apparmor_localhost(lab: &mut Lab) -> anyhow::Result<()> {
    let policy = "#include <tunables/global>\nprofile skiff-lab flags=(attach_disconnected) {\n\
                  #include <abstractions/base>\n  file,\n  deny /tmp/** w,\n  signal,\n  ptrace,\n}\n";
    fs::write("/run/skiff-lab.apparmor", policy)?;
    let parser = std::process::Command::new("apparmor_parser")
        .args(["--replace", "--skip-cache", "/run/skiff-lab.apparmor"])
        .output()
        .context("apparmor_parser")?;
    ensure!(
        parser.status.success(),
        "apparmor_parser: {}",
        String::from_utf8_lossy(&parser.stderr)
    );
    let mut shape = Shape::new("apparmor-localhost");
    shape.security().apparmor = profile(Localhost, "skiff-lab");
    lab.look(shape, async |inside| {
        same("label", inside.report.label.as_str(), "skiff-lab (enforce)")?;
        inside
            .outcomes(&[("create=/tmp/file", "EACCES"), ("create=/root/file", "ok")])
            .await
    })
    .await?;
    let mut shape = Shape::new("apparmor-unloaded");
    shape.security().apparmor = profile(Localhost, "no-such-profile");
    lab.refuses(shape, &["no-such-profile"]).await
}

pub(crate) async fn apparmor_unconfined(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("apparmor-unconfined");
    shape.security().apparmor = profile(Unconfined, "");
    lab.look(shape, async |inside| {
        same("label", inside.report.label.as_str(), "unconfined")?;
        inside.run(&[PROBE, "report"]).await.map(drop)
    })
    .await
}
