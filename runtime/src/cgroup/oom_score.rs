//! Who the OOM killer prefers: `oom_score_adj`, which belongs to processes and not to cgroups.

use std::io;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::Error;
use crate::error::Doing;

/// Most passes over the processes of a cgroup: each finds only those that were forked meanwhile
/// by one that had the old score.
const PASSES: usize = 8;

/// Sets the score of every process in the cgroup and below that has the one of its first process
/// (by pid, not reaped); the others have chosen their own. Returns what it was; on error it is
/// that again.
pub fn set_oom_score_adj(cgroup: &Path, first: i32, score: i32) -> Result<i32, Error> {
    let doing = || {
        let path = cgroup.display();
        format!(
            "set oom_score_adj of the processes in {path} to {score} (lowering takes \
             CAP_SYS_RESOURCE)"
        )
    };
    let old = Scored::of(first)
        .and_then(|process| process.score())
        .doing(doing)?;
    if old != score
        && let Err(error) = change_all(cgroup, old, score)
    {
        // Back to where it was is always allowed.
        let _ = change_all(cgroup, score, old);
        return Err(error).doing(doing);
    }
    Ok(old)
}

fn change_all(cgroup: &Path, old: i32, new: i32) -> io::Result<()> {
    for _ in 0..PASSES {
        let mut changed = false;
        for pid in super::processes(cgroup).map_err(io::Error::other)? {
            changed |= change(pid, old, new).or_else(gone)?;
        }
        if !changed {
            break;
        }
    }
    Ok(())
}

fn change(pid: i32, old: i32, new: i32) -> io::Result<bool> {
    let process = Scored::of(pid)?;
    if process.score()? != old {
        return Ok(false);
    }
    process.set(new)?;
    Ok(true)
}

/// A process that has ended has no score.
fn gone(error: io::Error) -> io::Result<bool> {
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT | Errno::SRCH) => Ok(false),
        _ => Err(error),
    }
}

/// The file of one process, which stays that process's when its pid is given to another.
struct Scored(std::fs::File);

impl Scored {
    fn of(pid: i32) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let path = format!("/proc/{pid}/oom_score_adj");
        Ok(Self(openat(CWD, path, flags, Mode::empty())?.into()))
    }

    fn score(&self) -> io::Result<i32> {
        let mut text = [0; 16];
        let length = rustix::io::pread(&self.0, &mut text, 0)?;
        let text = String::from_utf8_lossy(&text[..length]);
        text.trim_end()
            .parse()
            .map_err(|_| io::Error::other(format!("oom_score_adj is {text:?}")))
    }

    fn set(&self, score: i32) -> io::Result<()> {
        rustix::io::pwrite(&self.0, score.to_string().as_bytes(), 0)?;
        Ok(())
    }
}
