//! Descriptors of ours that the async runtime watches.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches `fd` for what is of interest, and for nothing else: each thing that is watched for wakes
/// the daemon when it happens, whether somebody waits for it or not. Needs a tokio runtime.
#[expect(
    deprecated,
    reason = "unsound only for types that may close their descriptor; an OwnedFd does not, and \
              the replacement is an unsafe function, which this crate does without"
)]
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, interest)
}
