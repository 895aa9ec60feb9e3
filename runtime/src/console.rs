//! Pseudo-terminals, made in the container's own devpts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, OFlags, makedev};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::error::Doing;
use crate::mount::{attach_tree, copy_of};
use crate::oci_spec::runtime::Process;
use crate::path::{self, Kind};
use crate::{Error, sys};

/// Both ends of a pseudo-terminal.
#[derive(Debug)]
pub(crate) struct Console {
    /// For whoever talks to the process.
    pub(crate) master: OwnedFd,
    /// For the process.
    pub(crate) slave: OwnedFd,
}

/// Opens a new pseudo-terminal of the devpts mounted in `root`, of the size that the
/// configuration gives. What is opened is checked to be a terminal multiplexer: the name in a
/// running container may be anything.
pub(crate) fn open(root: BorrowedFd<'_>, process: &Process) -> Result<Console, Error> {
    let ptmx = Path::new("/dev/pts/ptmx");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK;
    let master = path::open_as(root, ptmx, flags)
        .doing(|| "open a terminal: /dev/pts/ptmx (is a devpts mounted at /dev/pts?)")?;
    let stat = rustix::fs::fstat(&master).doing(|| "stat /dev/pts/ptmx")?;
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !device || stat.st_rdev != makedev(5, 2) {
        return Err(Error::invalid(
            "/dev/pts/ptmx",
            "not a terminal multiplexer",
        ));
    }
    rustix::io::ioctl_fionbio(&master, false).doing(|| "set up the terminal")?;
    unlockpt(&master).doing(|| "unlock the terminal")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).doing(|| "open the terminal's other end")?;
    if let Some(size) = process.console_size() {
        let clamp = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
        let winsize = Winsize {
            ws_row: clamp(size.height()),
            ws_col: clamp(size.width()),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&slave, winsize).doing(|| "set the terminal's size")?;
    }
    Ok(Console { master, slave })
}

impl Console {
    /// Makes the terminal appear as /dev/console.
    pub(crate) fn bind(&self, root: BorrowedFd<'_>) -> Result<(), Error> {
        let target = path::open_or_create(root, Path::new("/dev/console"), || Ok(Kind::File))?;
        copy_of(self.slave.as_fd())
            .and_then(|copy| attach_tree(copy.as_fd(), target.as_fd()))
            .doing(|| "mount the terminal at /dev/console")
    }

    /// Makes the terminal the process's controlling one and its descriptors 0, 1 and 2. The
    /// caller leads a session.
    pub(crate) fn adopt(&self, process: &Process) -> Result<(), Error> {
        rustix::process::ioctl_tiocsctty(&self.slave)
            .doing(|| "make the terminal the controlling one")?;
        let user = rustix::fs::Uid::from_raw(process.user().uid());
        rustix::fs::fchown(&self.slave, Some(user), None)
            .doing(|| "give the terminal to the user")?;
        for target in 0..3 {
            sys::fd::place(self.slave.as_fd(), target)
                .doing(|| "make the terminal the standard input and output")?;
        }
        Ok(())
    }
}
