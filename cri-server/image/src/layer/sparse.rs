//! Sparse files: which bytes of a file an archive holds.

use super::header::BLOCK;
use super::tar::{TarError, malformed};

/// Most segments of one file.
const MAX_SEGMENTS: usize = 1 << 18;

/// A run of bytes that the archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Where in the file it begins.
    pub(crate) offset: u64,
    /// Its length in bytes.
    pub(crate) len: u64,
}

pub(super) fn check_count(segments: usize) -> Result<(), TarError> {
    if segments > MAX_SEGMENTS {
        return Err(malformed(format!(
            "sparse file of more than {MAX_SEGMENTS} segments"
        )));
    }
    Ok(())
}

/// Segments must be in order, within the file, and hold as much as the archive does.
pub(super) fn check(segments: &[Segment], size: u64, data: u64) -> Result<(), TarError> {
    check_count(segments.len())?;
    let (mut end, mut held) = (0u64, 0u64);
    for segment in segments {
        if segment.offset < end {
            return Err(malformed("segments of a sparse file overlap"));
        }
        end = segment
            .offset
            .checked_add(segment.len)
            .filter(|end| *end <= size)
            .ok_or_else(|| malformed("a segment of a sparse file is beyond its end"))?;
        held += segment.len;
    }
    if held != data {
        return Err(malformed(format!(
            "sparse file: segments of {held} bytes, data of {data}"
        )));
    }
    Ok(())
}

/// Reads the map of PAX form 1.0: decimal lines (how many, then offset and length of each) that
/// fill whole blocks in front of the data.
#[derive(Debug, Default)]
pub(super) struct MapReader {
    line: Vec<u8>,
    expected: Option<usize>,
    numbers: Vec<u64>,
}

impl MapReader {
    pub(super) fn is_complete(&self) -> bool {
        self.expected == Some(self.numbers.len())
    }

    pub(super) fn add(&mut self, block: &[u8; BLOCK]) -> Result<(), TarError> {
        for byte in block {
            if self.is_complete() {
                return Ok(());
            }
            match byte {
                b'0'..=b'9' if self.line.len() < 20 => self.line.push(*byte),
                b'\n' => self.end_line()?,
                _ => {
                    return Err(malformed(
                        "sparse map: expected a decimal number and a newline",
                    ));
                }
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), TarError> {
        let line = std::mem::take(&mut self.line);
        let number = decimal(&line)?;
        match self.expected {
            Some(_) => self.numbers.push(number),
            None => {
                let count = usize::try_from(number).unwrap_or(usize::MAX);
                check_count(count)?;
                self.expected = Some(2 * count);
            }
        }
        Ok(())
    }

    pub(super) fn into_segments(self) -> Vec<Segment> {
        pairs(&self.numbers)
    }
}

/// Offset and length, alternating.
pub(super) fn pairs(numbers: &[u64]) -> Vec<Segment> {
    numbers
        .chunks_exact(2)
        .map(|n| Segment {
            offset: n[0],
            len: n[1],
        })
        .collect()
}

pub(super) fn decimal(digits: &[u8]) -> Result<u64, TarError> {
    std::str::from_utf8(digits)
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            malformed(format!(
                "{:?} is no number",
                String::from_utf8_lossy(digits)
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lying_segments_are_refused() {
        let s = |offset, len| Segment { offset, len };
        assert!(check(&[s(0, 5), s(10, 5)], 20, 10).is_ok());
        assert!(check(&[], 20, 0).is_ok());
        for bad in [
            [s(0, 5), s(4, 5)].as_slice(),
            &[s(18, 5), s(30, 5)],
            &[s(0, 9), s(10, 5)],
            &[s(u64::MAX, 5), s(0, 5)],
        ] {
            assert!(check(bad, 20, 10).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_map_may_span_blocks() {
        let mut text = b"60\n".to_vec();
        for i in 0..60u64 {
            text.extend(format!("{}\n{}\n", i * 1000, 10).bytes());
        }
        text.resize(text.len().next_multiple_of(BLOCK), 0);
        let mut map = MapReader::default();
        for block in text.chunks_exact(BLOCK) {
            assert!(!map.is_complete());
            map.add(block.try_into().unwrap()).unwrap();
        }
        assert!(map.is_complete());
        let segments = map.into_segments();
        assert_eq!(
            (segments.len(), segments[59]),
            (
                60,
                Segment {
                    offset: 59_000,
                    len: 10
                }
            )
        );
    }
}
