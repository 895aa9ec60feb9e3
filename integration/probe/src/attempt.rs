//! Things a container may or may not do, tried one by one.
//!
//! An attempt is written `NAME=ARGUMENT`, arguments divided by colons. Each is tried in a process of
//! its own, so that none changes what the next one finds, and a filter that kills kills only it.

use std::fmt::Write;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use rustix::fs::{FileType, Mode, makedev};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::sys;

/// At most this much of a file is told.
const EXCERPT: u64 = 4096;

/// What came of an attempt: `ok`, `ok: DETAIL`, the name of an errno, or `signal N`.
pub type Outcome = String;

/// Tries `attempt` in a process of its own, which is this program called with `try ATTEMPT`.
pub fn in_child(attempt: &str) -> anyhow::Result<Outcome> {
    let program = std::env::current_exe().context("find this program")?;
    let output = Command::new(program)
        .args(["try", attempt])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("try {attempt}"))?;
    if let Some(signal) = output.status.signal() {
        return Ok(format!("signal {signal}"));
    }
    if !output.status.success() {
        bail!("{attempt}: {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Tries `attempt` here.
pub fn here(attempt: &str) -> anyhow::Result<Outcome> {
    let (name, argument) = attempt.split_once('=').unwrap_or((attempt, ""));
    let mut parts = argument.splitn(2, ':');
    let path = parts.next().unwrap_or_default();
    let rest = parts.next().unwrap_or_default();
    let done = match name {
        "read" => read(path),
        "write" => write(path, rest),
        "open" => fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map(nothing),
        "create" => fs::File::create_new(path).map(nothing),
        "mkdir" => fs::DirBuilder::new().mode(0o755).create(path).map(nothing),
        "list" => list(path),
        "stat" => fs::symlink_metadata(path).map(|data| describe(&data)),
        "device" => device(path, rest)?,
        "execute" => Command::new(path)
            .args(rest.split_whitespace())
            .output()
            .map(|output| {
                String::from_utf8_lossy(&output.stdout)
                    .trim_end()
                    .to_owned()
            }),
        "tmpfs" => mount("tmpfs", path, MountFlags::empty(), "tmpfs"),
        // version 1 of the hierarchies
        "cgroup" => mount("cgroup", path, MountFlags::empty(), "cgroup"),
        "proc" => mount("proc", path, MountFlags::empty(), "proc"),
        "bind" => mount(path, rest, MountFlags::BIND, ""),
        "writable" => rustix::mount::mount_remount(path, MountFlags::BIND, "")
            .map_err(Into::into)
            .map(nothing),
        "unmount" => rustix::mount::unmount(path, UnmountFlags::DETACH)
            .map_err(Into::into)
            .map(nothing),
        "chroot" => rustix::process::chroot(path)
            .map_err(Into::into)
            .map(nothing),
        "connect" => UnixStream::connect(path).map(nothing),
        "hostname" => rustix::system::sethostname(path.as_bytes())
            .map_err(Into::into)
            .map(nothing),
        "unshare" => sys::unshare(namespace(path)?).map(nothing),
        "enter" => enter(path),
        "trace" => sys::seize(path.parse()?).map(nothing),
        "call" => sys::with_zeroes(path)
            .with_context(|| format!("{path} is no call that is tried"))?
            .map(nothing),
        _ => bail!("no attempt is called {name}"),
    };
    Ok(match done {
        Ok(detail) if detail.is_empty() => "ok".to_owned(),
        Ok(detail) => format!("ok: {detail}"),
        Err(error) => errno(&error),
    })
}

fn nothing<T>(_: T) -> String {
    String::new()
}

fn read(path: &str) -> io::Result<String> {
    let mut content = Vec::new();
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    file.take(EXCERPT).read_to_end(&mut content)?;
    Ok(String::from_utf8_lossy(&content).trim_end().to_owned())
}

/// Writes to a file that is there.
fn write(path: &str, content: &str) -> io::Result<String> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    io::Write::write_all(&mut file, content.as_bytes())?;
    Ok(String::new())
}

fn list(path: &str) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names.join(" "))
}

/// `MODE UID GID SIZE`, and the numbers of a device.
fn describe(data: &fs::Metadata) -> String {
    let mut text = format!(
        "{:o} {} {} {}",
        data.mode(),
        data.uid(),
        data.gid(),
        data.size()
    );
    if data.file_type().is_char_device() || data.file_type().is_block_device() {
        let (major, minor) = (
            rustix::fs::major(data.rdev()),
            rustix::fs::minor(data.rdev()),
        );
        // writing to a string does not fail
        let _ = write!(text, " {major}:{minor}");
    }
    text
}

/// Makes a device node `KIND:MAJOR:MINOR` at `path` and opens it. The detail says how far it came.
fn device(path: &str, numbers: &str) -> anyhow::Result<io::Result<String>> {
    let parts: Vec<&str> = numbers.split(':').collect();
    let [kind, major, minor] = parts[..] else {
        bail!("{numbers:?} is not KIND:MAJOR:MINOR");
    };
    let kind = if kind == "b" {
        FileType::BlockDevice
    } else {
        FileType::CharacterDevice
    };
    let number = makedev(major.parse()?, minor.parse()?);
    let mode = Mode::RUSR | Mode::WUSR;
    if let Err(error) = rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, number) {
        return Ok(Ok(format!("not made, {}", errno(&error.into()))));
    }
    let opened = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    fs::remove_file(path)?;
    Ok(Ok(match opened {
        Ok(_) => "opened".to_owned(),
        Err(error) => format!("made, not opened, {}", errno(&error)),
    }))
}

fn mount(source: &str, target: &str, flags: MountFlags, kind: &str) -> io::Result<String> {
    rustix::mount::mount(source, target, kind, flags, None).map_err(io::Error::from)?;
    Ok(String::new())
}

fn namespace(name: &str) -> anyhow::Result<libc::c_int> {
    Ok(match name {
        "user" => libc::CLONE_NEWUSER,
        "mount" => libc::CLONE_NEWNS,
        "network" => libc::CLONE_NEWNET,
        "user,mount" => libc::CLONE_NEWUSER | libc::CLONE_NEWNS,
        "user,cgroup,mount" => libc::CLONE_NEWUSER | libc::CLONE_NEWCGROUP | libc::CLONE_NEWNS,
        _ => bail!("no namespace is called {name}"),
    })
}

/// setns(2) into a namespace by its path.
fn enter(path: &str) -> io::Result<String> {
    use std::os::fd::AsFd;
    let file = fs::File::open(Path::new(path))?;
    rustix::thread::move_into_link_name_space(file.as_fd(), None)?;
    Ok(String::new())
}

/// The name of the error's number, as in errno(3).
fn errno(error: &io::Error) -> String {
    let Some(number) = error.raw_os_error() else {
        return error.to_string();
    };
    let name = match number {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::ESRCH => "ESRCH",
        libc::EIO => "EIO",
        libc::ENXIO => "ENXIO",
        libc::EBADF => "EBADF",
        libc::EACCES => "EACCES",
        libc::EFAULT => "EFAULT",
        libc::EBUSY => "EBUSY",
        libc::EEXIST => "EEXIST",
        libc::ENODEV => "ENODEV",
        libc::ENOTDIR => "ENOTDIR",
        libc::EISDIR => "EISDIR",
        libc::EINVAL => "EINVAL",
        libc::ENOSPC => "ENOSPC",
        libc::EROFS => "EROFS",
        libc::ENOSYS => "ENOSYS",
        libc::ECONNREFUSED => "ECONNREFUSED",
        libc::ELOOP => "ELOOP",
        libc::ENOKEY => "ENOKEY",
        libc::EOVERFLOW => "EOVERFLOW",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::EUSERS => "EUSERS",
        other => return format!("errno {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_of_an_attempt_is_told_in_one_word_or_line() {
        assert_eq!(here("read=/no/such/file").expect("an outcome"), "ENOENT");
        assert_eq!(here("open=/dev/null").expect("an outcome"), "ok");
        assert!(
            here("read=/proc/self/comm")
                .expect("an outcome")
                .starts_with("ok: ")
        );
    }

    #[test]
    fn an_unknown_attempt_is_an_error() {
        here("fly").expect_err("no such attempt");
        here("call=reboot").expect_err("a call that is not tried");
    }
}
