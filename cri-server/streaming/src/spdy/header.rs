//! Header blocks: names and values, compressed by zlib with a dictionary, all blocks of one
//! direction as one stream.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The dictionary of SPDY/3 (section 2.6.10.1 of the draft), whose Adler-32 is 0xe3c6a7c2.
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");
/// Longest block once it is inflated, in bytes, and most headers in it. Ours have three.
const MAX_BLOCK: usize = 64 << 10;
const MAX_HEADERS: u32 = 128;

/// Names, in lower case, and values.
pub type Headers = Vec<(String, String)>;

/// Headers that cannot be read. The connection cannot go on: the blocks are one stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No zlib stream with our dictionary.
    #[error("SPDY headers cannot be inflated: {0}")]
    Inflate(String),
    /// More than we read.
    #[error("SPDY headers of more than {MAX_BLOCK} bytes")]
    TooLong,
    /// Not a list of names and values.
    #[error("SPDY headers: {0}")]
    Malformed(&'static str),
}

/// Reads the header blocks of one direction, in their order.
#[derive(Debug)]
pub struct HeaderReader {
    inflate: Decompress,
}

impl Default for HeaderReader {
    fn default() -> Self {
        Self {
            inflate: Decompress::new(true),
        }
    }
}

impl HeaderReader {
    /// Reads the next block.
    pub fn read(&mut self, block: &[u8]) -> Result<Headers, HeaderError> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, HeaderError> {
        let mut plain = Vec::with_capacity(1024);
        loop {
            let before = (self.inflate.total_in(), self.inflate.total_out());
            let outcome = self
                .inflate
                .decompress_vec(block, &mut plain, FlushDecompress::Sync);
            let taken = (self.inflate.total_in() - before.0) as usize;
            block = &block[taken.min(block.len())..];
            match outcome {
                Ok(Status::StreamEnd) => return Ok(plain),
                Ok(_) => {}
                Err(e) if e.needs_dictionary().is_some() => {
                    self.inflate
                        .set_dictionary(DICTIONARY)
                        .map_err(|e| HeaderError::Inflate(e.to_string()))?;
                    continue;
                }
                Err(e) => return Err(HeaderError::Inflate(e.to_string())),
            }
            if plain.len() > MAX_BLOCK {
                return Err(HeaderError::TooLong);
            }
            let full = plain.len() == plain.capacity();
            if full {
                plain.reserve(plain.len());
            } else if block.is_empty() || taken == 0 && self.inflate.total_out() == before.1 {
                return Ok(plain);
            }
        }
    }
}

/// Number of headers, then length and bytes of each name and value; all numbers of 32 bits.
fn parse(mut plain: &[u8]) -> Result<Headers, HeaderError> {
    let count = number(&mut plain)?;
    if count > MAX_HEADERS {
        return Err(HeaderError::Malformed("too many"));
    }
    (0..count)
        .map(|_| {
            let name = text(&mut plain)?.to_ascii_lowercase();
            Ok((name, text(&mut plain)?))
        })
        .collect()
}

fn number(plain: &mut &[u8]) -> Result<u32, HeaderError> {
    let (number, rest) = plain.split_first_chunk::<4>().ok_or(CUT)?;
    *plain = rest;
    Ok(u32::from_be_bytes(*number))
}

fn text(plain: &mut &[u8]) -> Result<String, HeaderError> {
    let len = usize::try_from(number(plain)?).map_err(|_| CUT)?;
    let (text, rest) = plain.split_at_checked(len).ok_or(CUT)?;
    *plain = rest;
    String::from_utf8(text.to_vec()).map_err(|_| HeaderError::Malformed("not UTF-8"))
}

const CUT: HeaderError = HeaderError::Malformed("cut short");

/// Writes header blocks of one direction, in their order.
pub struct HeaderWriter {
    deflate: Compress,
}

impl Default for HeaderWriter {
    fn default() -> Self {
        let mut deflate = Compress::new(Compression::fast(), true);
        deflate
            .set_dictionary(DICTIONARY)
            .expect("a new compressor takes a dictionary");
        Self { deflate }
    }
}

impl HeaderWriter {
    /// Writes the next block.
    pub fn write(&mut self, headers: &Headers) -> Vec<u8> {
        let mut plain = Vec::new();
        plain.extend((headers.len() as u32).to_be_bytes());
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend((text.len() as u32).to_be_bytes());
            plain.extend(text.as_bytes());
        }
        let mut block = Vec::with_capacity(64);
        let mut left = &plain[..];
        loop {
            let before = self.deflate.total_in();
            self.deflate
                .compress_vec(left, &mut block, FlushCompress::Sync)
                .expect("deflating into a vector does not fail");
            left = &left[(self.deflate.total_in() - before) as usize..];
            if left.is_empty() && block.len() < block.capacity() {
                return block;
            }
            block.reserve(block.len().max(64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_come_back_in_their_order(
            blocks in proptest::collection::vec(
                proptest::collection::vec(("[a-z-]{0,12}", "\\PC{0,300}"), 0..5),
                1..6,
            ),
        ) {
            let (mut writer, mut reader) = (HeaderWriter::default(), HeaderReader::default());
            for block in blocks {
                let wire = writer.write(&block);
                prop_assert_eq!(reader.read(&wire).unwrap(), block);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = HeaderReader::default().read(&bytes);
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn the_dictionary_is_that_of_the_draft() {
        assert_eq!(DICTIONARY.len(), 1423);
        // Its Adler-32 follows the two bytes that begin the stream.
        let wire = HeaderWriter::default().write(&Vec::new());
        assert_eq!(wire[2..6], 0xe3c6_a7c2u32.to_be_bytes());
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let value = "0".repeat(512 << 10);
        let wire = HeaderWriter::default().write(&vec![("a".into(), value)]);
        assert!(wire.len() < 16 << 10);
        let error = HeaderReader::default().read(&wire).unwrap_err();
        assert_eq!(error, HeaderError::TooLong);
    }
}
