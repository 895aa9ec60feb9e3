//! The tmpfs that the containers of a pod share at /dev/shm.

use std::os::fd::OwnedFd;

use crate::Error;

/// A tmpfs that is mounted nowhere (nosuid, nodev, noexec; mode 1777). It lives as long as this
/// or a container that has it.
#[derive(Debug)]
pub struct Shm {
    mount: OwnedFd,
}

impl Shm {
    /// A tmpfs of `size` bytes.
    pub fn new(size: u64) -> Result<Self, Error> {
        let _ = size;
        Err(Error::invalid("shm", "under construction"))
    }
}
