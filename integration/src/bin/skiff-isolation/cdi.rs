//! CDI beyond a plain device: what annotations ask for, hooks, further groups, files that are wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, ensure};

use crate::lab::{Lab, Shape, same};

/// In /var/run/cdi, which goes before /etc/cdi, beside a file that is none. The container asks by
/// annotation. The hook looks for the container's root where the bundle says, in the container's
/// mount namespace, and has nothing of the container's environment (CVE-2025-23266).
pub(crate) async fn annotations_and_hooks(lab: &mut Lab) -> anyhow::Result<()> {
    let (hook, told) = ("/var/cdi-hook", "/var/cdi-told");
    fs::write(
        hook,
        format!(
            "#!/bin/sh\nstate=$(cat)\nbundle=$(echo \"$state\" | sed 's/.*\"bundle\":\"\\([^\"]*\\)\".*/\\1/')\n\
             {{ env; echo \"bundle $bundle\"; ls $bundle $bundle/rootfs; }} >{told}\n\
             echo made >$bundle/rootfs/by-hook\n"
        ),
    )?;
    fs::set_permissions(hook, PermissionsExt::from_mode(0o755))?;
    let document = |from: &str| {
        format!(
            "cdiVersion: 0.7.0\nkind: lab.skiff/hooked\ndevices:\n- name: one\n  containerEdits:\n\
             \x20   env: [FROM={from}]\n    additionalGids: [4321]\n\
             \x20   hooks:\n    - {{hookName: createContainer, path: {hook}, env: [HOOK=1], timeout: 20}}\n"
        )
    };
    for (dir, from) in [("/etc/cdi", "etc"), ("/var/run/cdi", "run")] {
        fs::create_dir_all(dir)?;
        fs::write(format!("{dir}/hooked.yaml"), document(from))?;
        fs::write(format!("{dir}/bad.json"), "{ \"kind\": oops")?;
    }
    let mut shape = Shape::new("cdi-annotated");
    shape
        .container
        .annotations
        .insert("cdi.k8s.io/lab".into(), "lab.skiff/hooked=one".into());
    let outcome = lab
        .look(shape, async |inside| {
            let from = inside.report.environment.get("FROM").map(String::as_str);
            same("FROM", from, Some("run"))?;
            let groups = inside.run(&["sh", "-c", "id -G; cat /by-hook"]).await?;
            ensure!(groups.contains("4321"), "groups are {groups}");
            ensure!(groups.contains("made"), "the hook did not run: {groups}");
            let told = fs::read_to_string(told).context("the hook told nothing")?;
            ensure!(told.contains("HOOK=1"), "{told}");
            ensure!(
                !told.contains("FROM="),
                "the container's environment: {told}"
            );
            ensure!(
                told.contains("config.json") && told.contains("bin"),
                "{told}"
            );
            Ok(())
        })
        .await;
    for dir in ["/etc/cdi", "/var/run/cdi"] {
        fs::remove_file(format!("{dir}/hooked.yaml"))?;
        fs::remove_file(format!("{dir}/bad.json"))?;
    }
    outcome?;
    let mut shape = Shape::new("cdi-gone");
    shape
        .container
        .annotations
        .insert("cdi.k8s.io/lab".into(), "lab.skiff/hooked=one".into());
    lab.refuses(shape, &["lab.skiff/hooked=one"]).await
}
