//! Cuts a stream of bytes into log entries.

use std::num::NonZeroUsize;

/// One entry: its content is `head`, then `tail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    /// What was held back from earlier chunks.
    pub(crate) head: &'a [u8],
    /// What is of this chunk.
    pub(crate) tail: &'a [u8],
    /// The line ends here (tag F); otherwise it goes on in the next entry (tag P).
    pub(crate) full: bool,
}

/// The entries of a chunk that follows the `held` beginning of a line. After the last one,
/// [`Entries::rest`] is what is to be held back for the next chunk.
#[derive(Debug)]
pub(crate) struct Entries<'a> {
    held: &'a [u8],
    chunk: &'a [u8],
    longest: NonZeroUsize,
}

impl<'a> Entries<'a> {
    /// `longest` is the most bytes of content in an entry: a longer line becomes several. `held`
    /// is no longer, and without a newline: the rest of an earlier chunk.
    pub(crate) fn new(held: &'a [u8], chunk: &'a [u8], longest: NonZeroUsize) -> Self {
        Self {
            held,
            chunk,
            longest,
        }
    }

    /// The beginning of a line whose end has not come, at most one entry.
    pub(crate) fn rest(&self) -> (&'a [u8], &'a [u8]) {
        (self.held, self.chunk)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let room = self.longest.get().saturating_sub(self.held.len());
        // One byte more than fits: a newline right after a line of the greatest length.
        let window = &self.chunk[..self.chunk.len().min(room + 1)];
        let (length, skip, full) = match window.iter().position(|&byte| byte == b'\n') {
            Some(newline) => (newline, 1, true),
            None if window.len() > room => (room, 0, false),
            None => return None,
        };
        let (tail, chunk) = self.chunk.split_at(length);
        let head = std::mem::take(&mut self.held);
        self.chunk = &chunk[skip..];
        Some(Entry { head, tail, full })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use skiff_shim_proto::message::LOG_ENTRY;

    const LONGEST: usize = LOG_ENTRY.get();

    /// Entries of all chunks as (content, full), the rest at the end of the stream included.
    fn cut<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<(Vec<u8>, bool)> {
        let mut held = Vec::new();
        let mut all = Vec::new();
        for chunk in chunks {
            let mut entries = Entries::new(&held, chunk, LOG_ENTRY);
            for entry in &mut entries {
                assert!(entry.head.len() + entry.tail.len() <= LONGEST);
                all.push(([entry.head, entry.tail].concat(), entry.full));
            }
            let (head, tail) = entries.rest();
            assert!(head.len() + tail.len() <= LONGEST);
            held = [head, tail].concat();
        }
        if !held.is_empty() {
            all.push((held, false));
        }
        all
    }

    /// What a reader of the log makes of it.
    fn joined(entries: &[(Vec<u8>, bool)]) -> Vec<u8> {
        let mut all = Vec::new();
        for (content, full) in entries {
            all.extend_from_slice(content);
            if *full {
                all.push(b'\n');
            }
        }
        all
    }

    #[test]
    fn lines_and_a_rest() {
        let entries = cut([b"one\n\ntw".as_slice(), b"o\nthree"]);
        let expected: [(&[u8], bool); 4] = [
            (b"one", true),
            (b"", true),
            (b"two", true),
            (b"three", false),
        ];
        assert_eq!(
            entries,
            expected.map(|(content, full)| (content.to_vec(), full))
        );
    }

    #[test]
    fn a_line_of_the_greatest_length_is_one_entry() {
        let mut line = vec![b'x'; LONGEST];
        line.push(b'\n');
        let entries = cut([line.as_slice()]);
        assert_eq!(entries, [(vec![b'x'; LONGEST], true)]);
        let (most, newline) = line.split_at(LONGEST);
        assert_eq!(cut([most, newline]), entries);
    }

    #[test]
    fn a_longer_line_is_cut() {
        let line = [vec![b'x'; 2 * LONGEST], b"y\n".to_vec()].concat();
        let lengths: Vec<_> = cut([line.as_slice()])
            .iter()
            .map(|e| (e.0.len(), e.1))
            .collect();
        assert_eq!(lengths, [(LONGEST, false), (LONGEST, false), (1, true)]);
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..50),
            Just(b"\n".to_vec()),
            (LONGEST - 2..LONGEST + 3).prop_map(|length| vec![b'z'; length]),
        ];
        proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_entries(
            stream in stream(),
            sizes in proptest::collection::vec(1usize..20_000, 1..40),
        ) {
            let mut chunks = Vec::new();
            let mut left = stream.as_slice();
            for size in sizes {
                let (chunk, rest) = left.split_at(size.min(left.len()));
                chunks.push(chunk);
                left = rest;
            }
            chunks.push(left);
            let entries = cut(chunks);
            prop_assert_eq!(joined(&entries), stream.as_slice());
            prop_assert_eq!(entries, cut([stream.as_slice()]));
        }
    }
}
