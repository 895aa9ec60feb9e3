//! Reading a container's log while it is written.

use std::io::{self, Read, Write};
use std::path::Path;

/// One entry of a CRI log file: `<RFC 3339 time> <stdout|stderr> <P|F> <text>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry<'a> {
    stderr: bool,
    /// The entry ends its line; otherwise the line goes on in the stream's next entry.
    full: bool,
    text: &'a [u8],
}

fn entry(line: &[u8]) -> Option<Entry<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    parts.next()?;
    let stderr = match parts.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let full = match parts.next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Entry {
        stderr,
        full,
        text: parts.next().unwrap_or_default(),
    })
}

/// A log file that is being written.
pub(super) struct Follow {
    file: std::fs::File,
    /// The beginning of an entry whose end is not written yet.
    pending: Vec<u8>,
}

impl Follow {
    /// Opens the file; it is there once its container is created.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: std::fs::File::open(path)?,
            pending: Vec::new(),
        })
    }

    /// Copies what was written since the last call to where the container meant it.
    pub(super) fn copy(&mut self, out: &mut impl Write, err: &mut impl Write) -> io::Result<()> {
        self.file.read_to_end(&mut self.pending)?;
        let Some(end) = self.pending.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(());
        };
        for line in self.pending[..end].split(|byte| *byte == b'\n') {
            let Some(entry) = entry(line) else {
                return Err(io::Error::other("not a line of a CRI log"));
            };
            let out: &mut dyn Write = if entry.stderr { err } else { out };
            out.write_all(entry.text)?;
            if entry.full {
                out.write_all(b"\n")?;
            }
        }
        self.pending.drain(..=end);
        out.flush()?;
        err.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_go_to_their_streams_and_parts_are_joined() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = std::fs::File::create(&path).unwrap();
        let mut follow = Follow::open(&path).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let t = "2026-01-01T00:00:00.000000000Z";
        write!(
            file,
            "{t} stdout P half \n{t} stderr F oops\n{t} stdout F and half\n{t} std"
        )
        .unwrap();
        follow.copy(&mut out, &mut err).unwrap();
        assert_eq!(out, b"half and half\n");
        assert_eq!(err, b"oops\n");
        write!(file, "out F a b\n{t} stdout F \n").unwrap();
        follow.copy(&mut out, &mut err).unwrap();
        assert_eq!(out, b"half and half\na b\n\n");
    }

    #[test]
    fn lines_that_are_no_entries_are_refused() {
        for line in [
            "",
            "t",
            "t stdout",
            "t stdin F x",
            "t stdout X x",
            "stdout F x",
        ] {
            assert_eq!(entry(line.as_bytes()), None, "{line:?}");
        }
        assert_eq!(entry(b"t stdout F").unwrap().text, b"");
    }
}
