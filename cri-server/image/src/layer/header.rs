//! One header block of a tar archive.

use super::sparse::Segment;
use super::tar::{TarError, malformed};

/// Size of a block in bytes.
pub(super) const BLOCK: usize = 512;
/// Size of one segment in a GNU sparse header: two numbers of 12 bytes.
const SEGMENT: usize = 24;

/// The fields we use.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) flag: u8,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) device: (u32, u32),
    /// Only for GNU's own form of a sparse file.
    pub(super) sparse: Option<Sparse>,
}

/// The sparse part of a GNU header.
#[derive(Debug)]
pub(super) struct Sparse {
    pub(super) segments: Vec<Segment>,
    pub(super) real_size: u64,
    /// Blocks with further segments follow.
    pub(super) more: bool,
}

impl Header {
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Self, TarError> {
        check_sum(block)?;
        let flag = block[156];
        let ustar = &block[257..263] == b"ustar\0";
        let gnu = &block[257..265] == b"ustar  \0";
        let mut name = text(&block[..100]);
        let prefix = text(&block[345..500]);
        if ustar && !prefix.is_empty() {
            name = [prefix.as_slice(), b"/", name.as_slice()].concat();
        }
        let device = matches!(flag, b'3' | b'4');
        Ok(Self {
            name,
            link: text(&block[157..257]),
            flag,
            mode: (number(&block[100..108])? & 0o7777) as u32,
            uid: id(&block[108..116])?,
            gid: id(&block[116..124])?,
            size: unsigned(&block[124..136])?,
            mtime: number(&block[136..148])?,
            device: if device {
                (id(&block[329..337])?, id(&block[337..345])?)
            } else {
                (0, 0)
            },
            sparse: if flag == b'S' && gnu {
                Some(sparse(block)?)
            } else {
                None
            },
        })
    }
}

fn sparse(block: &[u8; BLOCK]) -> Result<Sparse, TarError> {
    let mut segments = Vec::new();
    for entry in block[386..386 + 4 * SEGMENT].chunks_exact(SEGMENT) {
        push_segment(entry, &mut segments)?;
    }
    Ok(Sparse {
        segments,
        real_size: unsigned(&block[483..495])?,
        more: block[482] != 0,
    })
}

/// Reads a block of further segments; says whether yet another follows.
pub(super) fn more_segments(
    block: &[u8; BLOCK],
    segments: &mut Vec<Segment>,
) -> Result<bool, TarError> {
    for entry in block[..21 * SEGMENT].chunks_exact(SEGMENT) {
        push_segment(entry, segments)?;
    }
    Ok(block[504] != 0)
}

fn push_segment(entry: &[u8], segments: &mut Vec<Segment>) -> Result<(), TarError> {
    if entry[0] != 0 {
        segments.push(Segment {
            offset: unsigned(&entry[..12])?,
            len: unsigned(&entry[12..])?,
        });
    }
    Ok(())
}

/// The sum of all bytes, those of the sum itself counted as spaces. Some old writers summed
/// signed bytes.
fn check_sum(block: &[u8; BLOCK]) -> Result<(), TarError> {
    let stored = number(&block[148..156])?;
    let others = || block[..148].iter().chain(&block[156..]);
    let unsigned: i64 = others().map(|b| i64::from(*b)).sum::<i64>() + 8 * 32;
    let signed: i64 = others().map(|b| i64::from(*b as i8)).sum::<i64>() + 8 * 32;
    if stored == unsigned || stored == signed {
        return Ok(());
    }
    Err(malformed("a header's checksum is wrong"))
}

fn text(field: &[u8]) -> Vec<u8> {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    field[..end].to_vec()
}

/// A number in octal, or in base 256 when the first bit is set.
fn number(field: &[u8]) -> Result<i64, TarError> {
    if field[0] & 0x80 != 0 {
        return base256(field);
    }
    let padding = |b: &u8| matches!(b, b' ' | 0);
    let start = field
        .iter()
        .position(|b| !padding(b))
        .unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(padding).unwrap_or(digits.len());
    digits[..end]
        .iter()
        .try_fold(0i64, |sum, digit| match digit {
            b'0'..=b'7' => sum
                .checked_mul(8)
                .and_then(|sum| sum.checked_add(i64::from(digit - b'0')))
                .ok_or_else(|| malformed("a number overflows")),
            _ => Err(malformed("a number has a character that is no octal digit")),
        })
}

fn base256(field: &[u8]) -> Result<i64, TarError> {
    // 0x80 marks a positive number, 0xff a negative one in two's complement.
    let negative = field[0] & 0x40 != 0;
    let mut value = if negative { -1i128 } else { 0 };
    for (i, byte) in field.iter().enumerate() {
        let byte = if i == 0 && !negative {
            byte & 0x7f
        } else {
            *byte
        };
        value = (value << 8) | i128::from(byte);
    }
    i64::try_from(value).map_err(|_| malformed("a number overflows"))
}

fn unsigned(field: &[u8]) -> Result<u64, TarError> {
    u64::try_from(number(field)?).map_err(|_| malformed("a size is negative"))
}

fn id(field: &[u8]) -> Result<u32, TarError> {
    let value = number(field)?;
    u32::try_from(value).map_err(|_| malformed(format!("user, group or device number {value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(number(b"0000644\0").unwrap(), 0o644);
        assert_eq!(number(b"   644 \0").unwrap(), 0o644);
        assert_eq!(number(b"\0\0\0\0\0\0\0\0").unwrap(), 0);
        assert_eq!(number(b"\x80\0\0\0\0\0\x01\0").unwrap(), 256);
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xfe").unwrap(), -2);
        assert!(number(b"0000648\0").is_err());
        assert!(number(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
        assert!(unsigned(b"\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
    }
}
