//! Whose the descriptors 0, 1 and 2 of a container's process are.
//!
//! A process that runs as another user than root can only open /dev/stdout, as many do to log, if
//! the pipe behind it is that user's.

use std::os::fd::AsFd;

use rustix::fs::{FileType, Uid, fchown, fstat};
use rustix::io::Errno;
use skiff_runtime::oci_spec::runtime::{Process, Spec};
use skiff_runtime::user_namespace::IdMappings;

/// Ids of a container's user namespace on the host; empty without one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Users(IdMappings);

impl Users {
    /// Those of a configuration.
    pub(crate) fn of(spec: &Spec) -> Self {
        Self(IdMappings::of(spec))
    }

    /// The mappings; `None` without a user namespace.
    pub(crate) fn mappings(&self) -> Option<&IdMappings> {
        (!self.0.is_empty()).then_some(&self.0)
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
        match self.mappings() {
            None => Some(user),
            Some(mappings) => mappings.host_uid(user),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_runtime::oci_spec::runtime::LinuxIdMappingBuilder;

    #[test]
    fn users_are_found_on_the_host() {
        assert_eq!(Users::default().on_host(1000), Some(1000));
        let mapping = LinuxIdMappingBuilder::default()
            .container_id(0u32)
            .host_id(100_000u32)
            .size(1000u32)
            .build()
            .unwrap();
        let users = Users(IdMappings {
            uid: vec![mapping],
            gid: vec![mapping],
        });
        assert_eq!(users.on_host(0), Some(100_000));
        assert_eq!(users.on_host(1000), None);
    }
}
