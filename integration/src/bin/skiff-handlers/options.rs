//! What a handler's options make of its runtime.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::node::{Node, process_with};

/// Where the handler of the test has its runtime's state.
const ROOT: &str = "/run/elsewhere";

/// A runtime that makes no cgroups, because it is told so, and has its state where it is told.
pub(crate) async fn root_and_arguments(node: &mut Node) -> anyhow::Result<()> {
    let file = node.options.drop_ins.join("rooted.toml");
    let handler = format!(
        "[runtime.handlers.rooted]\npath = '/usr/bin/crun'\nroot = '{ROOT}'\n\
         arguments = ['--cgroup-manager=disabled']\n"
    );
    fs::write(&file, handler)?;
    node.reload().await?;
    node.cri.handler = "rooted".into();
    let outcome = rooted(node).await;
    node.cri.handler.clear();
    fs::remove_file(&file)?;
    node.reload().await?;
    outcome
}

async fn rooted(node: &mut Node) -> anyhow::Result<()> {
    let running = node.launch("rooted", "exec sleep 3602").await?;
    let state: PathBuf = [ROOT, &running.pod_id, &running.id].iter().collect();
    ensure!(state.is_dir(), "no state in {}", state.display());
    let child = process_with("3602").await?;
    let cgroup = fs::read_to_string(format!("/proc/{child}/cgroup"))?;
    ensure!(
        !cgroup.contains(&running.id),
        "the runtime was not told to make no cgroup: {cgroup}"
    );
    node.says(&running.id, "true").await.context("exec")?;
    let began = Instant::now();
    node.cri
        .stop(&running.id, 0)
        .await
        .context("StopContainer")?;
    ensure!(
        began.elapsed() < Duration::from_secs(10),
        "the end of a process outside of the container's cgroup took {:?}",
        began.elapsed()
    );
    let code = node.cri.status(&running.id).await?.exit_code;
    ensure!(code == 137, "exit code {code}");
    let pod = Path::new(ROOT).join(&running.pod_id);
    node.discard(&running).await?;
    ensure!(!pod.exists(), "{} is left", pod.display());
    Ok(())
}

/// `container.log_entry_size`: a longer line becomes several entries, each but the last marked `P`.
pub(crate) async fn log_entries_as_long_as_configured(node: &mut Node) -> anyhow::Result<()> {
    let file = node.options.drop_ins.join("entries.toml");
    fs::write(&file, "[container]\nlog_entry_size = '2KiB'\n")?;
    node.reload().await?;
    let script = "head -c 5000 /dev/zero | tr '\\0' x; echo";
    let running = node.launch("entries", script).await;
    fs::remove_file(&file)?;
    node.reload().await?;
    let running = running?;
    let entry = |tag: &str, length: usize| format!("stdout {tag} {}", "x".repeat(length));
    let entries = [entry("F", 904), entry("P", 2048), entry("P", 2048)];
    let entries = entries.each_ref().map(String::as_str);
    node.logged(&running, &entries).await?;
    node.discard(&running).await?;
    let running = node.launch("entries-whole", script).await?;
    node.logged(&running, &[&entry("F", 5000)]).await?;
    node.discard(&running).await
}

pub(crate) async fn a_kernel_of_its_own(node: &mut Node) -> anyhow::Result<()> {
    let running = node.launch("kernel", "sleep 3600").await?;
    let inside = node.says(&running.id, "cat /proc/version").await?;
    let outside = fs::read_to_string("/proc/version")?;
    ensure!(
        inside != outside.trim_end(),
        "its kernel is the host's: {inside}"
    );
    node.discard(&running).await
}
