//! The first process of a container, and those an exec adds.

use std::path::PathBuf;

use oci_spec::runtime::{Process, ProcessBuilder, Spec, UserBuilder};

use crate::SpecError;
use crate::capabilities::capabilities;
use crate::input::{APPARMOR_DEFAULT, Input};
use crate::security::{Profile, apparmor_profile};
use crate::user::User;

/// Search path of a container whose image sets none.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const TERM: &str = "TERM=xterm";

/// The first process.
pub(crate) fn process(input: &Input<'_>) -> Result<Process, SpecError> {
    let context = input.security();
    let mut builder = ProcessBuilder::default()
        .terminal(input.config.tty)
        .user(oci_user(input.user)?)
        .args(args(input)?)
        .env(env(input)?)
        .cwd(working_dir(input)?)
        .capabilities(capabilities(context, input.defaults, input.host)?)
        .rlimits(input.defaults.rlimits.clone())
        .no_new_privileges(context.is_some_and(|c| c.no_new_privs))
        .oom_score_adj(oom_score_adj(input)?);
    match apparmor_profile(context, input.host)? {
        Profile::Unconfined => {}
        Profile::RuntimeDefault => builder = builder.apparmor_profile(APPARMOR_DEFAULT),
        Profile::Localhost(name) => builder = builder.apparmor_profile(name),
    }
    Ok(builder.build()?)
}

/// The process of an exec: the container's own with another command, with or without a terminal.
/// `None` when the specification has no process.
pub fn exec_process(container: &Spec, command: &[String], tty: bool) -> Option<Process> {
    let mut process = container.process().clone()?;
    process.set_terminal(Some(tty));
    process.set_args(Some(command.to_vec()));
    if tty {
        let mut env = process.env().clone().unwrap_or_default();
        if !env.iter().any(|entry| entry.starts_with("TERM=")) {
            env.push(TERM.to_owned());
        }
        process.set_env(Some(env));
    }
    Some(process)
}

fn oci_user(user: &User) -> Result<oci_spec::runtime::User, SpecError> {
    let groups = user.groups.clone();
    let builder = UserBuilder::default()
        .uid(user.uid)
        .gid(user.gid)
        .additional_gids(groups);
    Ok(builder.build()?)
}

/// The request's command replaces the image's entrypoint and, with it, the image's arguments; the
/// request's arguments alone replace only those. An entrypoint of one empty string is none.
fn args(input: &Input<'_>) -> Result<Vec<String>, SpecError> {
    let (command, args) = (&input.config.command, &input.config.args);
    let image = input.image;
    let mut all = command.clone();
    if command.is_empty() && image.entrypoint != [""] {
        all.extend_from_slice(&image.entrypoint);
    }
    if command.is_empty() && args.is_empty() {
        all.extend_from_slice(&image.cmd);
    }
    all.extend_from_slice(args);
    if all.is_empty() {
        return Err(SpecError::invalid(
            "command",
            "none, and the image has none either",
        ));
    }
    match all.iter().find(|arg| arg.contains('\0')) {
        Some(arg) => Err(SpecError::invalid(
            "command",
            format!("NUL byte in {arg:?}"),
        )),
        None => Ok(all),
    }
}

/// Later entries replace earlier ones of the same name, at the earlier one's place: a default
/// search path, TERM for a terminal, HOSTNAME, the user's HOME, the image's, the request's.
fn env(input: &Input<'_>) -> Result<Vec<String>, SpecError> {
    let mut env = vec![PATH.to_owned()];
    if input.config.tty {
        env.push(TERM.to_owned());
    }
    env.push(format!("HOSTNAME={}", input.pod.hostname));
    env.push(format!(
        "HOME={}",
        input.user.home.as_deref().unwrap_or("/")
    ));
    for entry in &input.image.env {
        set_variable(&mut env, entry.clone());
    }
    for (i, request) in input.config.envs.iter().enumerate() {
        let field = |part: &str| format!("envs[{i}].{part}");
        let key = &request.key;
        if key.is_empty() || key.contains(['=', '\0']) {
            let reason = format!("{key:?} is not the name of a variable");
            return Err(SpecError::invalid(field("key"), reason));
        }
        // The runtime-spec is JSON and has no way to carry other bytes.
        let value = std::str::from_utf8(&request.value)
            .ok()
            .filter(|value| !value.contains('\0'))
            .ok_or_else(|| {
                let reason = format!("the value of {key:?} is not UTF-8 without NUL bytes");
                SpecError::unsupported(field("value"), reason)
            })?;
        set_variable(&mut env, format!("{key}={value}"));
    }
    Ok(env)
}

/// Replaces the variable of the same name, or adds it.
pub(crate) fn set_variable(env: &mut Vec<String>, entry: String) {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    match env.iter_mut().find(|old| name(old) == name(&entry)) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

fn working_dir(input: &Input<'_>) -> Result<PathBuf, SpecError> {
    let (dir, field) = match input.config.working_dir.as_str() {
        "" => (input.image.working_dir.as_str(), "image working directory"),
        dir => (dir, "working_dir"),
    };
    let dir = PathBuf::from(if dir.is_empty() { "/" } else { dir });
    if dir.is_absolute() {
        Ok(dir)
    } else {
        Err(SpecError::invalid(
            field,
            format!("{} is not absolute", dir.display()),
        ))
    }
}

/// Always set: a container must not inherit the protection of the shim that starts it.
fn oom_score_adj(input: &Input<'_>) -> Result<i32, SpecError> {
    let resources = input
        .config
        .linux
        .as_ref()
        .and_then(|l| l.resources.as_ref());
    let value = resources.map_or(0, |r| r.oom_score_adj);
    i32::try_from(value)
        .ok()
        .filter(|v| (-1000..=1000).contains(v))
        .ok_or_else(|| {
            let reason = format!("{value} is not from -1000 to 1000");
            SpecError::invalid("linux.resources.oom_score_adj", reason)
        })
}
