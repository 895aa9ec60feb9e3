//! Sizes of a client's terminal: JSON objects, one after the other.

use serde::Deserialize;
use tokio::sync::watch;

/// Longest text without a whole object in it, in bytes.
const MAX_PENDING: usize = 4096;

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// The sizes that a client tells; only the last one matters.
#[derive(Debug)]
pub struct Resizes(pub(crate) watch::Receiver<Option<Size>>);

impl Resizes {
    /// The next size that differs from the last one seen; `None` when there will be none.
    pub async fn next(&mut self) -> Option<Size> {
        loop {
            self.0.changed().await.ok()?;
            let size = *self.0.borrow_and_update();
            if size.is_some() {
                return size;
            }
        }
    }
}

/// Finds the objects in text that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    pending: Vec<u8>,
}

impl Parser {
    /// Takes another piece; gives the last size that is complete. Text that is no size is dropped.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Option<Size> {
        self.pending.extend_from_slice(piece);
        let mut sizes = serde_json::Deserializer::from_slice(&self.pending).into_iter::<Size>();
        let mut last = None;
        let (mut taken, mut broken) = (0, false);
        while let Some(next) = sizes.next() {
            match next {
                Ok(size) => {
                    last = Some(size);
                    taken = sizes.byte_offset();
                }
                Err(e) => {
                    broken = !e.is_eof();
                    break;
                }
            }
        }
        self.pending.drain(..taken);
        if broken || self.pending.len() > MAX_PENDING {
            self.pending.clear();
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_found_in_pieces() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(br#"{"Width":80,"#), None);
        let first = Size {
            width: 80,
            height: 24,
        };
        assert_eq!(parser.push(br#""Height":24}"#), Some(first));
        let both = b"{\"Width\":1,\"Height\":2}\n{\"Width\":3,\"Height\":4}\n";
        let last = Size {
            width: 3,
            height: 4,
        };
        assert_eq!(parser.push(both), Some(last));
        assert_eq!(parser.push(b"nonsense"), None);
        assert_eq!(parser.push(br#"{"Width":80,"Height":24}"#), Some(first));
    }

    proptest! {
        #[test]
        fn nothing_is_kept_for_long(pieces in proptest::collection::vec("[{}\"a-z0-9:,]{0,900}", 0..20)) {
            let mut parser = Parser::default();
            for piece in pieces {
                parser.push(piece.as_bytes());
                prop_assert!(parser.pending.len() <= MAX_PENDING);
            }
        }
    }
}
