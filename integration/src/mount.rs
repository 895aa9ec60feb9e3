//! Mounts that a test makes on the node.

use std::path::Path;

use anyhow::Context;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change,
};

/// Mounts a tmpfs of at most that size, for example `64k`.
pub fn tmpfs(path: impl AsRef<Path>, size: &str) -> anyhow::Result<()> {
    let (path, options) = (path.as_ref(), format!("size={size}"));
    let options = std::ffi::CString::new(options)?;
    mount("tmpfs", path, "tmpfs", MountFlags::empty(), Some(&*options))
        .with_context(|| format!("mount a tmpfs on {path:?}"))
}

/// Shows `source` at `target`, too.
pub fn bind(source: &str, target: &str) -> anyhow::Result<()> {
    mount_bind(source, target).with_context(|| format!("mount {source} on {target}"))
}

/// Makes a mount a peer of those that are made from it.
pub fn shared(path: &str) -> anyhow::Result<()> {
    let shared = mount_change(path, MountPropagationFlags::SHARED);
    shared.with_context(|| format!("share the mount on {path}"))
}

/// Lets a mount have no peers.
pub fn private(path: &str) -> anyhow::Result<()> {
    let private = mount_change(path, MountPropagationFlags::PRIVATE);
    private.with_context(|| format!("make the mount on {path} private"))
}

/// Takes a mount away, also while it is used.
pub fn unmount(path: impl AsRef<Path>) -> anyhow::Result<()> {
    let path = path.as_ref();
    let unmounted = rustix::mount::unmount(path, UnmountFlags::DETACH);
    unmounted.with_context(|| format!("unmount {path:?}"))
}

/// Where something is mounted in this mount namespace.
pub fn points() -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").context("read mountinfo")?;
    let point = |line: &str| line.split(' ').nth(4).map(str::to_owned);
    Ok(text.lines().filter_map(point).collect())
}
