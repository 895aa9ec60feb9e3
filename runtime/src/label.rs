//! Mandatory access control: the AppArmor profile and the SELinux label a process changes to when
//! it executes its command.
//!
//! Both are words written to a file of /proc/self/attr, which takes effect with the next execve.
//! The files are opened while /proc is known to be the host's (a container's own may be anything,
//! CVE-2019-16884 and CVE-2025-52881) and written as the last thing before the filter: a hook that
//! runs in between must not take the container's profile. The kernel lets only the process that
//! opened such a file write to it.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::Doing;
use crate::oci_spec::runtime::Process;
use crate::{Error, sys};

/// Since Linux 5.1 each security module has a directory of its own; there also where the module is
/// not enabled, and then takes no word.
const APPARMOR: [&str; 2] = ["/proc/self/attr/apparmor/exec", "/proc/self/attr/exec"];
/// Whether AppArmor is enabled, `Y` or `N`.
const APPARMOR_ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
const SELINUX: [&str; 1] = ["/proc/self/attr/exec"];
/// What new keyrings are labelled with.
const KEYRING: [&str; 1] = ["/proc/self/attr/keycreate"];

/// Name of the profile that confines nothing.
const UNCONFINED: &str = "unconfined";

/// What a process changes to; nothing costs nothing.
#[derive(Debug, Default)]
pub(crate) struct Labels(Vec<(OwnedFd, String)>);

impl Labels {
    /// Opens what [`Self::apply`] writes to. Through the host's /proc.
    pub(crate) fn open(process: &Process) -> Result<Self, Error> {
        let mut labels = Vec::new();
        if let Some(profile) = wanted(process.apparmor_profile()) {
            // Where nothing is confined, unconfined is what it is.
            if profile != UNCONFINED || has_apparmor() {
                let what = || format!("ask for AppArmor profile {profile} (is AppArmor enabled?)");
                labels.push((open(&APPARMOR).doing(what)?, format!("exec {profile}")));
            }
        }
        if let Some(label) = wanted(process.selinux_label()) {
            let what = || format!("ask for SELinux label {label} (is SELinux enabled?)");
            has_policy().doing(what)?;
            labels.push((open(&SELINUX).doing(what)?, label.to_owned()));
        }
        Ok(Self(labels))
    }

    /// Leaves the descriptors to exec to close.
    pub(crate) fn leave_to_exec(self) {
        self.0
            .into_iter()
            .for_each(|(fd, _)| sys::fd::leave_to_exec(fd));
    }

    /// Asks for the change.
    pub(crate) fn apply(&self) -> Result<(), Error> {
        self.0.iter().try_for_each(|(fd, word)| {
            let kind = match word.strip_prefix("exec ") {
                Some(profile) => format!("AppArmor profile {profile}"),
                None => format!("SELinux label {word}"),
            };
            write(fd, word).doing(|| format!("ask for {kind} (is it loaded, and enabled?)"))
        })
    }
}

/// Has the session keyring that is made next labelled like the process, so that the process may
/// use it.
pub(crate) fn label_keyring(process: &Process) -> Result<(), Error> {
    let Some(label) = wanted(process.selinux_label()) else {
        return Ok(());
    };
    let what = || format!("label the session keyring {label} (is SELinux enabled?)");
    let fd = open(&KEYRING).doing(what)?;
    write(&fd, label).doing(what)?;
    sys::fd::leave_to_exec(fd);
    Ok(())
}

fn has_apparmor() -> bool {
    std::fs::read_to_string(APPARMOR_ENABLED).is_ok_and(|enabled| enabled.starts_with('Y'))
}

fn wanted(label: &Option<String>) -> Option<&str> {
    label.as_deref().filter(|label| !label.is_empty())
}

/// A kernel with SELinux and without a policy takes any label and enforces none; it has not
/// mounted the file system of the policy either.
fn has_policy() -> rustix::io::Result<()> {
    rustix::fs::access("/sys/fs/selinux/enforce", rustix::fs::Access::EXISTS)
}

fn open(paths: &[&str]) -> rustix::io::Result<OwnedFd> {
    let mut error = Errno::NOENT;
    for path in paths {
        match rustix::fs::open(*path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
            Err(e) => error = e,
            done => return done,
        }
    }
    Err(error)
}

/// The kernel takes a word in one write or not at all.
fn write(fd: &OwnedFd, word: &str) -> rustix::io::Result<()> {
    rustix::io::write(fd, word.as_bytes()).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_label_opens_nothing() {
        assert!(Labels::open(&Process::default()).unwrap().0.is_empty());
        let mut process = Process::default();
        process.set_apparmor_profile(Some(String::new()));
        process.set_selinux_label(Some(String::new()));
        assert!(Labels::open(&process).unwrap().0.is_empty());
    }

    #[test]
    fn the_file_of_the_module_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("old"), "").unwrap();
        let (new, old) = (path("new"), path("old"));
        write(&open(&[&new, &old]).unwrap(), "exec a").unwrap();
        std::fs::write(&new, "").unwrap();
        write(&open(&[&new, &old]).unwrap(), "exec b").unwrap();
        assert_eq!(std::fs::read(&old).unwrap(), b"exec a");
        assert_eq!(std::fs::read(&new).unwrap(), b"exec b");
        assert_eq!(open(&[&path("none")]).unwrap_err(), Errno::NOENT);
    }
}
