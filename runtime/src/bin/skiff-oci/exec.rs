//! `exec`.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use skiff_runtime::oci_spec::runtime::{Capability, LinuxCapabilities, Process};
use skiff_runtime::user_namespace::IdMappings;
use skiff_runtime::{Init, Progress, bundle};

use crate::args;
use crate::create::{inherited, send_console, stdio, write_pid};
use crate::record::{Record, Root, Status};
use crate::{foreground, protect, seccomp};

/// Runs a process in a container; without --detach, its exit code is ours.
pub(crate) fn run(root: &Root, args: &args::Exec) -> Result<ExitCode> {
    protect::reexec()?;
    let record = root.load(&args.id)?;
    match record.status()? {
        Status::Paused if !args.ignore_paused => bail!("container {} is paused", args.id),
        Status::Stopped => bail!("container {} is stopped", args.id),
        _ => {}
    }
    let process = process(&record, args)?;
    let terminal = process.terminal() == Some(true);
    if terminal != args.console_socket.is_some() {
        bail!("--tty, or process.terminal, and --console-socket go together");
    }
    let container = record
        .pidfd()?
        .with_context(|| format!("container {} has ended", args.id))?;
    let extra = inherited(args.preserve_fds)?;
    let extra: Vec<BorrowedFd<'_>> = extra.iter().map(AsFd::as_fd).collect();
    let signals = if args.detach {
        None
    } else {
        Some(foreground::Signals::new()?)
    };
    let mut exec =
        skiff_runtime::Exec::new(&process, container.as_fd(), &record.cgroup, stdio(terminal));
    exec.extra_fds = &extra;
    // An exec before this one may have been given more than the container.
    exec.peers_may_trace = true;
    let filter = seccomp::filter(&record.spec, &args.id, &record.bundle)?;
    exec.seccomp = filter.as_ref();
    let mappings = IdMappings::of(&record.spec);
    exec.user_namespace = (!mappings.is_empty()).then_some(&mappings);
    let mut init = skiff_runtime::exec(exec)?;
    settle(&mut init, args)?;
    match signals {
        Some(signals) => signals.wait_for(init.pidfd()),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Waits until the command is executed, and tells who wants to know.
fn settle(init: &mut Init, args: &args::Exec) -> Result<()> {
    match init.wait()? {
        Progress::Running { console } => {
            if let (Some(console), Some(socket)) = (console, &args.console_socket) {
                send_console(socket, console.as_fd())?;
            }
        }
        Progress::Failed(failure) => bail!(failure),
        other => bail!("unexpected {other:?} of a process being executed"),
    }
    match &args.pid_file {
        Some(path) => write_pid(path, init.pid()),
        None => Ok(()),
    }
}

/// The process of the file, or that of the container with what the options change.
fn process(record: &Record, args: &args::Exec) -> Result<Process> {
    if let Some(path) = &args.process {
        let json = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        return bundle::process(&json).with_context(|| format!("process {}", path.display()));
    }
    if args.command.is_empty() {
        bail!("exec needs a command, or --process");
    }
    let mut process = record
        .spec
        .process()
        .clone()
        .context("process: missing in the record")?;
    process.set_args(Some(args.command.clone()));
    process.set_terminal(Some(args.tty));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(args.env.iter().cloned());
    process.set_env(Some(env));
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if let Some(user) = &args.user {
        set_user(&mut process, user)?;
    }
    if !args.additional_gids.is_empty() {
        let mut user = process.user().clone();
        let mut gids = user.additional_gids().clone().unwrap_or_default();
        gids.extend(&args.additional_gids);
        user.set_additional_gids(Some(gids));
        process.set_user(user);
    }
    if !args.cap.is_empty() {
        let capabilities = process.capabilities().clone().unwrap_or_default();
        process.set_capabilities(Some(add_capabilities(capabilities, &args.cap)?));
    }
    Ok(process)
}

fn set_user(process: &mut Process, text: &str) -> Result<()> {
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (text, None),
    };
    let number = |text: &str| {
        text.parse::<u32>()
            .with_context(|| format!("--user {text:?}: only numbers are known here"))
    };
    let mut user = process.user().clone();
    user.set_uid(number(uid)?);
    if let Some(gid) = gid {
        user.set_gid(number(gid)?);
    }
    process.set_user(user);
    Ok(())
}

/// Adds to every set but the ambient one, as runc does.
fn add_capabilities(
    mut capabilities: LinuxCapabilities,
    names: &[String],
) -> Result<LinuxCapabilities> {
    let mut added = Vec::new();
    for name in names {
        let parsed = serde_json::from_value::<Capability>(name.as_str().into());
        added.push(parsed.with_context(|| format!("--cap {name}"))?);
    }
    let with = |set: &Option<std::collections::HashSet<Capability>>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend(&added);
        Some(set)
    };
    capabilities.set_bounding(with(capabilities.bounding()));
    capabilities.set_effective(with(capabilities.effective()));
    capabilities.set_permitted(with(capabilities.permitted()));
    Ok(capabilities)
}
