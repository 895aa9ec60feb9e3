//! Whose the descriptors 0, 1 and 2 of a container's process are.
//!
//! A process that runs as another user than root can only open /dev/stdout, as many do to log, if
//! the pipe behind it is that user's.

use std::os::fd::AsFd;

use rustix::fs::{FileType, Uid, fchown, fstat};
use rustix::io::Errno;
use skiff_runtime::oci_spec::runtime::{LinuxIdMapping, Process, Spec};

/// How user ids of a container's user namespace read on the host; empty without one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Users(Vec<LinuxIdMapping>);

impl Users {
    /// Those of a configuration.
    pub(crate) fn of(spec: &Spec) -> Self {
        let linux = spec.linux().as_ref();
        Self(
            linux
                .and_then(|linux| linux.uid_mappings().clone())
                .unwrap_or_default(),
        )
    }

    /// Gives a pipe to the user of a process, unless that is root, who needs no leave. Anything
    /// else that may have been handed in is left alone: it can be opened again by others.
    pub(crate) fn give(&self, fd: impl AsFd, process: &Process) -> rustix::io::Result<()> {
        let user = self.on_host(process.user().uid()).ok_or(Errno::OVERFLOW)?;
        if Uid::from_raw(user).is_root() {
            return Ok(());
        }
        let stat = fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo || stat.st_uid == user {
            return Ok(());
        }
        fchown(fd, Some(Uid::from_raw(user)), None)
    }

    /// `None` when the user has no id on the host.
    fn on_host(&self, user: u32) -> Option<u32> {
        if self.0.is_empty() {
            return Some(user);
        }
        self.0.iter().find_map(|mapping| {
            let distance = user.checked_sub(mapping.container_id())?;
            (distance < mapping.size()).then(|| mapping.host_id().checked_add(distance))?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_runtime::oci_spec::runtime::LinuxIdMappingBuilder;

    fn mapping(container: u32, host: u32, size: u32) -> LinuxIdMapping {
        LinuxIdMappingBuilder::default()
            .container_id(container)
            .host_id(host)
            .size(size)
            .build()
            .unwrap()
    }

    #[test]
    fn users_are_found_on_the_host() {
        assert_eq!(Users::default().on_host(1000), Some(1000));
        let users = Users(vec![mapping(0, 100_000, 1000), mapping(5000, 7, 1)]);
        assert_eq!(users.on_host(0), Some(100_000));
        assert_eq!(users.on_host(999), Some(100_999));
        assert_eq!(users.on_host(1000), None);
        assert_eq!(users.on_host(5000), Some(7));
        assert_eq!(users.on_host(5001), None);
        assert_eq!(Users(vec![mapping(0, u32::MAX, 2)]).on_host(1), None);
    }
}
