//! The seccomp filter that comes with a container, kept for its execs.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use skiff_runtime::seccomp::{Filter, Listener};
use skiff_shim_proto::message::{Create, Failure, Seccomp};

use crate::failure;

/// Largest program that the kernel takes, in bytes: 4096 instructions.
const MAX: u32 = 4096 * 8;

/// The filter of a request and the descriptors that came with it.
pub(crate) fn take(create: &Create, fds: Vec<OwnedFd>) -> Result<Option<Filter>, Failure> {
    let invalid = |why: &str| failure::invalid(format!("seccomp filter of {}: {why}", create.id));
    let seccomp = match (&create.seccomp, fds.as_slice()) {
        (None, _) => return Ok(None),
        (Some(seccomp), [program]) => (seccomp, program),
        (Some(_), _) => return Err(invalid("needs one descriptor")),
    };
    let (Seccomp { size, flags, .. }, program) = seccomp;
    if *size > MAX {
        return Err(invalid("longer than a program can be"));
    }
    let mut bytes = vec![0; *size as usize];
    // Others read the same file: its position is theirs, too.
    let read = rustix::io::pread(program, &mut bytes, 0)
        .map_err(|e| failure::system(format!("read the seccomp filter of {}", create.id), &e))?;
    if read < bytes.len() {
        return Err(invalid("shorter than announced"));
    }
    let listener = create
        .seccomp
        .as_ref()
        .and_then(|seccomp| seccomp.listener.as_ref());
    let listener = listener.map(|listener| Listener {
        agent: listener.path.clone(),
        metadata: listener.metadata.clone(),
        container: create.id.clone(),
        bundle: PathBuf::new(),
    });
    Filter::new(&bytes, *flags, listener)
        .map(Some)
        .map_err(|e| failure::of(&e))
}
