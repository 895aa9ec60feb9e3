//! Reads tar archives: ustar, PAX, GNU long names, sparse files in all four forms.
//!
//! Our own, because the `tar` crate splits PAX records at line feeds, which breaks extended
//! attributes with binary values (`security.capability` has byte 10 in it for some sets), and
//! knows no PAX sparse files. Where forms contradict each other this reader follows Go's
//! archive/tar, which most images were written with: entries other than files have no data
//! whatever their size says, global PAX headers do not apply.

use std::io::{self, BufRead};

use super::header::{self, BLOCK, Header};
use super::pax::{self, Pax};
use super::sparse::{self, Segment};

/// Longest PAX header or GNU long name in bytes.
const MAX_EXTENSION: u64 = 1 << 20;
/// Most extension headers in front of one entry; two long names and a PAX header are usual.
const MAX_EXTENSIONS: usize = 16;

/// An archive that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The archive ends within an entry.
    #[error("the archive is cut short")]
    Truncated,
    /// Bytes that are no tar.
    #[error("malformed archive: {0}")]
    Malformed(String),
}

pub(super) fn malformed(reason: impl Into<String>) -> TarError {
    TarError::Malformed(reason.into())
}

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    Character,
    Block,
    Directory,
    Fifo,
}

/// One entry. Its data is read through [`Reader::data`].
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    /// Permission bits, setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since the epoch and nanoseconds.
    pub(crate) mtime: (i64, u32),
    pub(crate) device: (u32, u32),
    /// Size of the file once it is written.
    pub(crate) size: u64,
    /// Where the data belongs, in order; one segment from 0 for a file that is not sparse.
    pub(crate) segments: Vec<Segment>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A reader of entries, one after the other.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    input: R,
    /// Data bytes of the current entry that were not read yet.
    data: u64,
    /// Bytes that fill its last block.
    padding: u64,
}

/// Extensions seen in front of an entry.
#[derive(Debug, Default)]
struct Extensions {
    pax: Pax,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: BufRead> Reader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            data: 0,
            padding: 0,
        }
    }

    /// The stream behind, for what follows the archive.
    pub(crate) fn into_inner(self) -> R {
        self.input
    }

    /// The next entry, `None` at the end of the archive. Unread data is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extensions = Extensions::default();
        for _ in 0..MAX_EXTENSIONS {
            self.skip()?;
            let Some(block) = self.header_block()? else {
                return Ok(None);
            };
            let header = Header::parse(&block)?;
            match header.flag {
                b'x' => extensions.pax = pax::parse(&self.extension(&header)?)?,
                b'L' => extensions.name = Some(self.long_name(&header)?),
                b'K' => extensions.link = Some(self.long_name(&header)?),
                b'g' => self.set_data(header.size)?,
                _ => return self.entry(header, extensions).map(Some),
            }
        }
        Err(malformed(format!(
            "more than {MAX_EXTENSIONS} extension headers in a row"
        )))
    }

    /// Bytes of the current entry's data that are at hand; empty when all were consumed.
    pub(crate) fn data(&mut self) -> Result<&[u8], TarError> {
        if self.data == 0 {
            return Ok(&[]);
        }
        let at_hand = self.input.fill_buf()?;
        if at_hand.is_empty() {
            return Err(TarError::Truncated);
        }
        let len = at_hand
            .len()
            .min(usize::try_from(self.data).unwrap_or(usize::MAX));
        Ok(&at_hand[..len])
    }

    /// Marks `len` bytes of [`Self::data`] as read.
    pub(crate) fn consume(&mut self, len: usize) {
        self.input.consume(len);
        self.data -= len as u64;
    }

    fn skip(&mut self) -> Result<(), TarError> {
        self.data += std::mem::take(&mut self.padding);
        loop {
            match self.data()?.len() {
                0 => return Ok(()),
                len => self.consume(len),
            }
        }
    }

    fn set_data(&mut self, size: u64) -> Result<(), TarError> {
        self.data = size;
        self.padding = size
            .checked_next_multiple_of(BLOCK as u64)
            .ok_or_else(|| malformed("an entry's size overflows"))?
            - size;
        Ok(())
    }

    /// The next header. A block of zeros ends the archive, and so does the end of the stream
    /// between entries: some writers leave the zeros out.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let block = self.block()?;
        Ok(if block.iter().all(|b| *b == 0) {
            None
        } else {
            Some(block)
        })
    }

    fn block(&mut self) -> Result<[u8; BLOCK], TarError> {
        let mut block = [0; BLOCK];
        self.input
            .read_exact(&mut block)
            .map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => TarError::Truncated,
                _ => TarError::Io(e),
            })?;
        Ok(block)
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        if header.size > MAX_EXTENSION {
            return Err(malformed(format!(
                "extension header of {} bytes, the limit is {MAX_EXTENSION}",
                header.size
            )));
        }
        self.set_data(header.size)?;
        let mut content = Vec::with_capacity(header.size as usize);
        loop {
            let part = self.data()?;
            let len = part.len();
            if len == 0 {
                return Ok(content);
            }
            content.extend_from_slice(part);
            self.consume(len);
        }
    }

    fn long_name(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let mut name = self.extension(header)?;
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    fn entry(&mut self, header: Header, extensions: Extensions) -> Result<Entry, TarError> {
        let Extensions {
            mut pax,
            name,
            link,
        } = extensions;
        let path = pax
            .sparse
            .name
            .take()
            .or(pax.path.take())
            .or(name)
            .unwrap_or(header.name);
        let kind = match header.flag {
            // Before POSIX a directory was a file whose name ends in a slash.
            0 | b'0' if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Character,
            b'4' => Kind::Block,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            flag => return Err(malformed(format!("entry of unknown type {flag:#04x}"))),
        };
        let (uid, gid) = (pax.uid.unwrap_or(header.uid), pax.gid.unwrap_or(header.gid));
        // To chown(2) it means "leave it as it is": the file would stay root's.
        if uid == u32::MAX || gid == u32::MAX {
            return Err(malformed("user or group number 4294967295 names nobody"));
        }
        let mut entry = Entry {
            path,
            link: pax.linkpath.take().or(link).unwrap_or(header.link),
            kind,
            mode: header.mode,
            uid,
            gid,
            mtime: pax.mtime.unwrap_or((header.mtime, 0)),
            device: header.device,
            size: 0,
            segments: Vec::new(),
            xattrs: pax.xattrs,
        };
        if kind == Kind::File {
            self.set_data(pax.size.unwrap_or(header.size))?;
            (entry.size, entry.segments) = match header.sparse {
                Some(map) => self.gnu_sparse(map)?,
                None => self.pax_sparse(&pax.sparse)?,
            };
        }
        Ok(entry)
    }

    /// A sparse file in GNU's own form: four segments in the header, further ones in blocks.
    fn gnu_sparse(&mut self, head: header::Sparse) -> Result<(u64, Vec<Segment>), TarError> {
        let mut segments = head.segments;
        let mut more = head.more;
        while more {
            let block = self.block()?;
            more = header::more_segments(&block, &mut segments)?;
            sparse::check_count(segments.len())?;
        }
        sparse::check(&segments, head.real_size, self.data)?;
        Ok((head.real_size, segments))
    }

    /// A file that may be sparse in a PAX form. In form 1.0 the segments precede the data.
    fn pax_sparse(&mut self, pax: &pax::Sparse) -> Result<(u64, Vec<Segment>), TarError> {
        let segments = match pax.version() {
            None => {
                let whole = Segment {
                    offset: 0,
                    len: self.data,
                };
                return Ok((self.data, vec![whole]));
            }
            Some(pax::SparseVersion::Header) => pax.segments()?,
            Some(pax::SparseVersion::Data) => {
                let mut map = sparse::MapReader::default();
                while !map.is_complete() {
                    if self.data < BLOCK as u64 {
                        return Err(malformed("sparse map is cut short"));
                    }
                    let block = self.block()?;
                    self.data -= BLOCK as u64;
                    map.add(&block)?;
                }
                map.into_segments()
            }
        };
        let size = pax
            .real_size
            .ok_or_else(|| malformed("sparse file without a real size"))?;
        sparse::check(&segments, size, self.data)?;
        Ok((size, segments))
    }
}
