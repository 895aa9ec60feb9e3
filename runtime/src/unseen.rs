//! A child in a PID namespace where somebody may look into it from its first moment on.
//!
//! Who has CAP_SYS_PTRACE, and is in no user namespace, looks into processes that are not dumpable,
//! too. A child that is still in the host's mount namespace is a way to the host for him
//! (/proc/pid/root), and so is a directory of the host's that it has open (/proc/pid/fd/n/..). So
//! a helper, whom nobody in there sees, leaves all of that behind and then clones the child:
//!
//! ```text
//!   caller ──clone3──> helper: close, label, setns ──clone3(CLONE_PARENT)──> child
//!     └─────────────── child of the caller, born in the container ────────────┘
//! ```
//!
//! What must hold: the child is born with no descriptor but those of its command, its end of the
//! conversation and what leads to the container itself. The one by which the helper named it would
//! be another, and one to lie with: the number goes through memory that the child does not have.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::child::{self, Status};
use crate::error::Doing;
use crate::mount;
use crate::namespace::Namespaces;
use crate::oci_spec::runtime::{Capability, Process};
use crate::sys::clone::Child;
use crate::sys::word::Word;
use crate::user_namespace::{helper_failed, open_child, reap};
use crate::{Error, sys};

/// Whether this process, or what it executes, may come to hold CAP_SYS_PTRACE.
pub fn may_trace(process: &Process) -> bool {
    let Some(capabilities) = process.capabilities() else {
        return true;
    };
    let bounding = capabilities.bounding().as_ref();
    bounding.is_some_and(|set| set.contains(&Capability::SysPtrace))
}

/// A cgroup as it may be open in such a child: with no way up, and read-only.
pub(crate) fn view(cgroup: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    let doing = || "make a read-only mount of the container's cgroup";
    let view = mount::copy_of(cgroup).doing(doing)?;
    mount::make_read_only(view.as_fd()).doing(doing)?;
    Ok(view)
}

/// Clones the child, which runs `body`, into the namespaces for which `enter` leaves those of the
/// host, and into a cgroup. The caller is its parent.
pub(crate) fn clone(
    (ours, status): (BorrowedFd<'_>, &Status),
    enter: impl FnOnce() -> Result<(), Error>,
    cgroup: BorrowedFd<'_>,
    body: impl FnOnce(),
) -> Result<Child, Error> {
    let pid = Word::new().doing(|| "map memory to share with a child")?;
    let helper = sys::clone::clone3(Namespaces::empty(), None, || {
        child::run(status, || {
            enter()?;
            pid.leave(|| sys::clone::sibling(Namespaces::empty(), Some(cgroup), body))
                .doing(|| "clone a process in its container")?;
            sys::process::exit(0)
        })
    })
    .doing(|| "clone a process on its way into a container")?;
    reap(&helper)?;
    match pid.get() {
        0 => Err(helper_failed(ours)?),
        pid => open_child(pid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_trace() {
        let process = |capabilities: serde_json::Value| -> Process {
            let tree = serde_json::json!({
                "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["x"],
                "capabilities": capabilities,
            });
            serde_json::from_value(tree).unwrap()
        };
        let effective = serde_json::json!({"effective": ["CAP_SYS_PTRACE"]});
        for (capabilities, may) in [
            (serde_json::Value::Null, true),
            (serde_json::json!({}), false),
            (serde_json::json!({"bounding": ["CAP_CHOWN"]}), false),
            (
                serde_json::json!({"bounding": ["CAP_CHOWN", "CAP_SYS_PTRACE"]}),
                true,
            ),
            (effective, false),
        ] {
            assert_eq!(
                may_trace(&process(capabilities.clone())),
                may,
                "{capabilities}"
            );
        }
    }
}
