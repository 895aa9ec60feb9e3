//! A number that a child leaves to its parent in memory, and its own children have no part of.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI32, Ordering};

use super::check;

/// The kernel makes a page of it.
const LENGTH: usize = size_of::<AtomicI32>();

/// Memory shared by its maker and children cloned after that; 0 at first.
pub(crate) struct Word(NonNull<AtomicI32>);

impl Word {
    /// Maps it.
    pub(crate) fn new() -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: no address is asked for, so that nothing which exists is replaced.
        let at = unsafe { libc::mmap(ptr::null_mut(), LENGTH, protection, flags, -1, 0) };
        match NonNull::new(at) {
            Some(at) if at.as_ptr() != libc::MAP_FAILED => Ok(Self(at.cast())),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// What has been left.
    pub(crate) fn get(&self) -> i32 {
        // SAFETY: `new` has mapped it, zeroed and aligned to a page, and until `self` is dropped
        // it stays so in every process that gets here: see `leave` for the one that does not.
        unsafe { self.0.as_ref() }.load(Ordering::Acquire)
    }

    /// Leaves the pid of the child that `clone` makes. The child does not have the memory, and
    /// never returns from `clone`, as `super::clone` sees to.
    pub(crate) fn leave(&self, clone: impl FnOnce() -> io::Result<i32>) -> io::Result<()> {
        // SAFETY: the range is a mapping of our own; the advice takes it from children only, and
        // none of them uses it, see above.
        let advised = unsafe { libc::madvise(self.0.as_ptr().cast(), LENGTH, libc::MADV_DONTFORK) };
        check(advised.into())?;
        let pid = clone()?;
        // SAFETY: as in `get`.
        unsafe { self.0.as_ref() }.store(pid, Ordering::Release);
        Ok(())
    }
}

impl Drop for Word {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nothing borrows from it that outlives `self`.
        unsafe { libc::munmap(self.0.as_ptr().cast(), LENGTH) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cloned_is_left() {
        let word = Word::new().unwrap();
        assert_eq!(word.get(), 0);
        assert!(word.leave(|| Err(io::Error::other("no"))).is_err());
        assert_eq!(word.get(), 0);
        word.leave(|| Ok(7)).unwrap();
        assert_eq!(word.get(), 7);
    }
}
