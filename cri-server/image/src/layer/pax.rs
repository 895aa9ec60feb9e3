//! PAX extended headers: `<length> <key>=<value>\n` records, where the length counts all of the
//! record and the value may hold any byte.

use super::sparse::{self, Segment, decimal};
use super::tar::{TarError, malformed};

const XATTR: &[u8] = b"SCHILY.xattr.";

/// The records we use. A record with an empty value counts as absent.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Sparse,
}

/// The records of GNU's sparse forms.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    major: Option<u64>,
    minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    /// Offsets and lengths, alternating, of form 0.0 or 0.1.
    numbers: Option<Vec<u64>>,
}

/// Where a sparse file's segments are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SparseVersion {
    /// Forms 0.0 and 0.1: here.
    Header,
    /// Form 1.0: in front of the data.
    Data,
}

impl Sparse {
    pub(super) fn version(&self) -> Option<SparseVersion> {
        match (self.major, self.minor, &self.numbers) {
            (Some(1), Some(0), _) => Some(SparseVersion::Data),
            (_, _, Some(_)) => Some(SparseVersion::Header),
            _ => None,
        }
    }

    pub(super) fn segments(&self) -> Result<Vec<Segment>, TarError> {
        let numbers = self.numbers.as_deref().unwrap_or_default();
        if !numbers.len().is_multiple_of(2) {
            return Err(malformed("sparse map with an odd number of numbers"));
        }
        Ok(sparse::pairs(numbers))
    }
}

/// Reads the records of one extended header.
pub(super) fn parse(mut records: &[u8]) -> Result<Pax, TarError> {
    let mut pax = Pax::default();
    while !records.is_empty() {
        let record = Record::split(records)?;
        records = record.rest;
        apply(&mut pax, record.key, record.value)?;
    }
    Ok(pax)
}

/// One record, and those that follow it.
struct Record<'a> {
    key: &'a [u8],
    value: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Record<'a> {
    fn split(records: &'a [u8]) -> Result<Self, TarError> {
        let bad = || malformed("PAX record");
        let space = records
            .iter()
            .take(20)
            .position(|b| *b == b' ')
            .ok_or_else(bad)?;
        let len = usize::try_from(decimal(&records[..space])?).map_err(|_| bad())?;
        if len > records.len() || len < space + 3 || records[len - 1] != b'\n' {
            return Err(bad());
        }
        let record = &records[space + 1..len - 1];
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
        Ok(Self {
            key: &record[..equals],
            value: &record[equals + 1..],
            rest: &records[len..],
        })
    }
}

fn apply(pax: &mut Pax, key: &[u8], value: &[u8]) -> Result<(), TarError> {
    if let Some(name) = key.strip_prefix(XATTR) {
        pax.xattrs.push((name.to_vec(), value.to_vec()));
        return Ok(());
    }
    let present = !value.is_empty();
    let text = || present.then(|| value.to_vec());
    let number = || present.then(|| decimal(value)).transpose();
    match key {
        b"path" => pax.path = text(),
        b"linkpath" => pax.linkpath = text(),
        b"size" => pax.size = number()?,
        b"uid" => pax.uid = number()?.map(id).transpose()?,
        b"gid" => pax.gid = number()?.map(id).transpose()?,
        b"mtime" => pax.mtime = present.then(|| time(value)).transpose()?,
        b"GNU.sparse.major" => pax.sparse.major = number()?,
        b"GNU.sparse.minor" => pax.sparse.minor = number()?,
        b"GNU.sparse.name" => pax.sparse.name = text(),
        b"GNU.sparse.size" | b"GNU.sparse.realsize" => pax.sparse.real_size = number()?,
        b"GNU.sparse.map" => {
            let numbers = value
                .split(|b| *b == b',')
                .map(decimal)
                .collect::<Result<_, _>>()?;
            pax.sparse.numbers = present.then_some(numbers);
        }
        b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
            pax.sparse
                .numbers
                .get_or_insert_default()
                .push(decimal(value)?);
        }
        _ => {}
    }
    Ok(())
}

fn id(number: u64) -> Result<u32, TarError> {
    u32::try_from(number).map_err(|_| malformed(format!("user or group number {number}")))
}

/// `[-]seconds[.fraction]`, as seconds rounded down and nanoseconds.
fn time(text: &[u8]) -> Result<(i64, u32), TarError> {
    let bad = || malformed(format!("time {:?}", String::from_utf8_lossy(text)));
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let mut parts = digits.splitn(2, |b| *b == b'.');
    let seconds = i64::try_from(decimal(parts.next().ok_or_else(bad)?)?).map_err(|_| bad())?;
    let mut fraction = parts.next().unwrap_or_default().to_vec();
    fraction.resize(9, b'0');
    let nanos = u32::try_from(decimal(&fraction)?).map_err(|_| bad())?;
    Ok(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
        let body = key.len() + value.len() + 3;
        let mut len = body + 1;
        while len != body + len.to_string().len() {
            len = body + len.to_string().len();
        }
        [len.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
    }

    #[test]
    fn an_attribute_may_hold_line_feeds() {
        let value = b"\x01\0\0\x02\n\n\0=";
        let records = [
            record(b"SCHILY.xattr.security.capability", value),
            record(b"path", b"a\nb"),
        ]
        .concat();
        let pax = parse(&records).unwrap();
        assert_eq!(
            pax.xattrs,
            [(b"security.capability".to_vec(), value.to_vec())]
        );
        assert_eq!(pax.path.unwrap(), b"a\nb");
    }

    #[test]
    fn times() {
        assert_eq!(time(b"1.5").unwrap(), (1, 500_000_000));
        assert_eq!(time(b"1").unwrap(), (1, 0));
        assert_eq!(time(b"-1.25").unwrap(), (-2, 750_000_000));
        assert_eq!(time(b"1.1234567891").unwrap(), (1, 123_456_789));
        for bad in [
            b"".as_slice(),
            b"x",
            b"1.x",
            b"--1",
            b"99999999999999999999",
        ] {
            assert!(time(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            b"5 a=b".as_slice(),
            b"6 a=b\n6",
            b"999 a=b\n",
            b"0 a=b\n",
            b" a=b\n",
            b"6 abcd\n",
            b"18446744073709551616 a=b\n",
            b"7 a=b\n\0",
            b"11 size=1x\n",
        ] {
            assert!(parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn records_come_back(
            path in proptest::collection::vec(1u8.., 1..300),
            value in proptest::collection::vec(any::<u8>(), 1..300),
        ) {
            let bytes = [record(b"path", &path), record(b"SCHILY.xattr.user.a", &value)].concat();
            let pax = parse(&bytes).unwrap();
            prop_assert_eq!(pax.path.unwrap(), path);
            prop_assert_eq!(&pax.xattrs[0].1, &value);
        }
    }
}
