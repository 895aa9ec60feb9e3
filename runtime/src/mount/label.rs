//! The SELinux label of what is mounted for a container (`linux.mountLabel`).
//!
//! A file system is mounted with it (`context=`), so that all its files have it and none is
//! written to. The kernel's own file systems keep the labels that the policy gives them; an mqueue
//! takes no such option in a user namespace, so its root directory is labelled instead, from which
//! the policy derives the labels of queues.

use std::os::fd::BorrowedFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;
use rustix::mount::fsconfig_set_string;

use crate::Error;
use crate::error::Doing;
use crate::oci_spec::runtime::Linux;
use crate::path;
use crate::rootfs::FSCONFIG_STRING;

/// The attribute that a file's label is.
const ATTRIBUTE: &str = "security.selinux";
/// File systems whose files the policy labels one by one.
const OF_THE_POLICY: [&str; 5] = ["cgroup", "cgroup2", "mqueue", "proc", "sysfs"];

/// A label for everything that is mounted, or none, which costs nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MountLabel<'a>(Option<&'a str>);

impl<'a> MountLabel<'a> {
    /// The configuration's.
    pub fn of(linux: Option<&'a Linux>) -> Self {
        let label = linux.and_then(|linux| linux.mount_label().as_deref());
        Self(label.filter(|label| !label.is_empty()))
    }

    /// A given one.
    pub fn new(label: Option<&'a str>) -> Self {
        Self(label)
    }

    /// Refuses what could not be handed to the kernel as it is.
    pub(crate) fn check(self) -> Result<(), Error> {
        let Some(label) = self.0 else { return Ok(()) };
        let problem = if label.len() >= FSCONFIG_STRING {
            format!("longer than {} bytes", FSCONFIG_STRING - 1)
        } else if label.contains(['"', '\0']) {
            format!("{label:?} is no SELinux label")
        } else {
            return Ok(());
        };
        Err(Error::invalid("linux.mountLabel", problem))
    }

    /// Labels a file system that is being made.
    pub(crate) fn configure(self, fs: BorrowedFd<'_>) -> Result<(), Error> {
        let Some(label) = self.0 else { return Ok(()) };
        fsconfig_set_string(fs, "context", label).doing(|| explained(label))
    }

    /// The label for a new file system of this kind and these options, where it takes one; an
    /// option of the configuration's own wins.
    pub(crate) fn for_new(self, kind: &str, data: &str) -> Option<String> {
        let own = data.split(',').any(|option| option.starts_with("context="));
        let label = self.0.filter(|_| !own && !OF_THE_POLICY.contains(&kind))?;
        Some(label.to_owned())
    }

    /// Labels the root directory of an mqueue, unless the policy has no labels for it.
    pub(crate) fn label_mqueue(self, mqueue: BorrowedFd<'_>) -> Result<(), Error> {
        let Some(label) = self.0 else { return Ok(()) };
        let path = path::of_fd(mqueue);
        match rustix::fs::setxattr(path, ATTRIBUTE, label.as_bytes(), XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP) => Ok(()),
            done => done.doing(|| explained(label)),
        }
    }
}

/// Options of mount(2) with a label among them.
pub(crate) fn with_context(data: &str, label: Option<&str>) -> String {
    match label {
        None => data.to_owned(),
        Some(label) if data.is_empty() => format!("context=\"{label}\""),
        Some(label) => format!("{data},context=\"{label}\""),
    }
}

fn explained(label: &str) -> String {
    format!("label a file system {label} (is SELinux enabled, and does its policy know that?)")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";

    #[test]
    fn file_systems_of_files_are_labelled_and_the_kernels_are_not() {
        let label = MountLabel::new(Some(LABEL));
        for kind in ["tmpfs", "devpts", "overlay"] {
            assert_eq!(label.for_new(kind, "mode=755").as_deref(), Some(LABEL));
        }
        for kind in OF_THE_POLICY {
            assert_eq!(label.for_new(kind, ""), None);
        }
        assert_eq!(label.for_new("tmpfs", "size=1m,context=\"x\""), None);
        assert_eq!(MountLabel::default().for_new("tmpfs", ""), None);
    }

    #[test]
    fn a_label_with_commas_is_quoted_among_options() {
        assert_eq!(with_context("", None), "");
        assert_eq!(
            with_context("", Some(LABEL)),
            format!("context=\"{LABEL}\"")
        );
        let both = with_context("size=1m", Some(LABEL));
        assert_eq!(both, format!("size=1m,context=\"{LABEL}\""));
    }

    #[test]
    fn what_would_end_its_quotes_is_refused() {
        assert!(MountLabel::new(Some(LABEL)).check().is_ok());
        let long = "a".repeat(FSCONFIG_STRING);
        for bad in ["a\",size=1", "a\0", &long] {
            let error = MountLabel::new(Some(bad)).check().unwrap_err().to_string();
            assert!(error.contains("linux.mountLabel"), "{error}");
        }
    }
}
