//! A container's log file in the CRI's format: `<RFC 3339 time> <stream> <tag> <content>`, where
//! tag F ends a line and tag P says that it goes on in the next entry of its stream.
//!
//! Invariants: entries are whole or absent, on a full disk too; what a stream said is found again
//! byte for byte by joining its entries; a write never waits for anything but the file system.

mod entry;
mod stamp;

use std::io::{self, IoSlice};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use entry::{Entries, Entry};

/// Entries in one writev: three slices each, under the kernel's limit of 1024.
const BATCH: usize = 256;
/// Longest header: time, stream, tag and the spaces after them.
const HEADER: usize = stamp::LEN + " stdout F ".len();

/// Where output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// An open log.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: OwnedFd,
    /// Most bytes of content in an entry.
    longest: NonZeroUsize,
    /// Beginnings of lines, for each stream.
    held: [Vec<u8>; 2],
    failing: Option<Errno>,
    dropped: u64,
    /// The file ends within an entry that could not be taken back.
    torn: bool,
}

impl Log {
    /// Opens the log for appending; a new one has mode 0640. An entry has at most `longest` bytes
    /// of content; for a line as long as that is how much is held in memory.
    pub fn open(path: &Path, longest: NonZeroUsize) -> io::Result<Self> {
        Ok(Self {
            path: path.to_path_buf(),
            file: open(path)?,
            longest,
            held: [Vec::new(), Vec::new()],
            failing: None,
            dropped: 0,
            torn: false,
        })
    }

    /// Where the log is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Goes on in a file at the same path, made anew after a rotation. On error the old file
    /// stays in use.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path)?;
        self.torn = false;
        Ok(())
    }

    /// Writes the entries that `chunk` completes, all with the time `now` in nanoseconds since
    /// the epoch. Entries that cannot be written are dropped; that it begins and ends is to be
    /// told to an operator, once each.
    pub fn write(&mut self, stream: Stream, chunk: &[u8], now: i64) -> Option<String> {
        let mut held = std::mem::take(&mut self.held[stream as usize]);
        let headers = Headers::new(stream, now);
        let mut entries = Entries::new(&held, chunk, self.longest);
        let mut batch = Vec::new();
        let mut notice = None;
        loop {
            batch.clear();
            batch.extend(entries.by_ref().take(BATCH));
            if batch.is_empty() {
                break;
            }
            notice = self.append(&headers, &batch).or(notice);
        }
        let (head, tail) = entries.rest();
        let (goes_on, rest) = (!head.is_empty(), &chunk[chunk.len() - tail.len()..]);
        if goes_on {
            held.extend_from_slice(rest);
        } else {
            held = rest.to_vec();
        }
        self.held[stream as usize] = held;
        notice
    }

    /// Writes what is left of a stream that has ended within a line.
    pub fn finish(&mut self, stream: Stream, now: i64) -> Option<String> {
        let held = std::mem::take(&mut self.held[stream as usize]);
        if held.is_empty() {
            return None;
        }
        let rest = Entry {
            head: &held,
            tail: &[],
            full: false,
        };
        self.append(&Headers::new(stream, now), &[rest])
    }

    fn append(&mut self, headers: &Headers, entries: &[Entry<'_>]) -> Option<String> {
        match self.write_whole(headers, entries) {
            Ok(()) => {
                self.failing.take()?;
                let dropped = std::mem::take(&mut self.dropped);
                let path = self.path.display();
                Some(format!(
                    "log {path} is written again; {dropped} entries were dropped"
                ))
            }
            Err((lost, errno)) => {
                self.dropped += lost as u64;
                let known = self.failing.replace(errno) == Some(errno);
                let path = self.path.display();
                (!known).then(|| format!("write log {path}: {errno}; entries are dropped"))
            }
        }
    }

    /// Writes entries with as few calls as the kernel allows. On error: how many are not in the
    /// file, and why; the file ends with a whole entry.
    fn write_whole(
        &mut self,
        headers: &Headers,
        entries: &[Entry<'_>],
    ) -> Result<(), (usize, Errno)> {
        let mut slices = Vec::with_capacity(1 + 4 * entries.len());
        if self.torn {
            slices.push(IoSlice::new(b"\n"));
        }
        for entry in entries {
            let parts = headers.parts(entry);
            slices.extend(
                parts
                    .into_iter()
                    .filter(|part| !part.is_empty())
                    .map(IoSlice::new),
            );
        }
        let mut written = 0;
        let mut left = slices.as_mut_slice();
        while !left.is_empty() {
            match rustix::io::writev(&self.file, &left[..left.len().min(1024)]) {
                Ok(count) => {
                    written += count;
                    IoSlice::advance_slices(&mut left, count);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err((self.take_back(headers, entries, written), errno)),
            }
        }
        self.torn = false;
        Ok(())
    }

    /// After `written` bytes of the entries: cuts off the one that is not whole and counts those
    /// that are missing.
    fn take_back(&mut self, headers: &Headers, entries: &[Entry<'_>], written: usize) -> usize {
        let Some(mut of_entries) = written.checked_sub(usize::from(self.torn)) else {
            return entries.len();
        };
        if written > 0 {
            self.torn = false;
        }
        for (index, entry) in entries.iter().enumerate() {
            let length: usize = headers.parts(entry).iter().map(|part| part.len()).sum();
            if of_entries < length {
                if of_entries > 0 {
                    self.torn = self.cut_off(of_entries as u64).is_err();
                }
                return entries.len() - index;
            }
            of_entries -= length;
        }
        0
    }

    fn cut_off(&self, bytes: u64) -> rustix::io::Result<()> {
        let size = u64::try_from(rustix::fs::fstat(&self.file)?.st_size).unwrap_or(0);
        rustix::fs::ftruncate(&self.file, size.saturating_sub(bytes))
    }
}

/// Opens for appending. A symbolic link is refused, since the directory may be a container's
/// volume, and so is anything on which a write could wait for a reader.
fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::CLOEXEC
        | OFlags::NOFOLLOW
        | OFlags::NOCTTY
        | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o640))?;
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file),
        other => Err(io::Error::other(format!(
            "not a regular file but a {other:?}"
        ))),
    }
}

/// The beginnings of a batch's entries, which share one time.
struct Headers {
    full: [u8; HEADER],
    partial: [u8; HEADER],
}

impl Headers {
    fn new(stream: Stream, now: i64) -> Self {
        let mut full = [0; HEADER];
        let (time, rest) = full.split_at_mut(stamp::LEN);
        time.copy_from_slice(&stamp::format(now));
        rest.copy_from_slice(match stream {
            Stream::Stdout => b" stdout F ",
            Stream::Stderr => b" stderr F ",
        });
        let mut partial = full;
        partial[HEADER - 2] = b'P';
        Self { full, partial }
    }

    fn parts<'a>(&'a self, entry: &Entry<'a>) -> [&'a [u8]; 4] {
        let header = if entry.full {
            &self.full
        } else {
            &self.partial
        };
        [header, entry.head, entry.tail, b"\n"]
    }
}

#[cfg(test)]
mod tests;
