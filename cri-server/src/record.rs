//! Records: what the daemon must still know after it was killed.
//!
//! A record is a file of lines, each a JSON value. The first, written once, is the record's birth:
//! its version and what never changes. Every further line is the record as it was then, and the
//! last whole one is the record. So a change is one write to a file that is there, which costs a
//! tenth of making a file and renaming it over another (ext4 starts to write out at once what is
//! renamed over something). Nothing is synced (ARCHITECTURE.md, invariants): a reader meets the
//! record before a change or after it, or after a power cut a torn one, which [`read`] reports as
//! malformed when not even one record is whole.

use std::borrow::Cow;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use prost::Message;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::Id;

/// Why a record could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system refused.
    #[error("{action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// Not a record: torn, or not ours.
    #[error("read record {}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where parsing stopped.
        #[source]
        source: serde_json::Error,
    },
    /// Not the record of the directory it is in.
    #[error("record {} is of {id}", path.display())]
    Misplaced {
        /// The file.
        path: PathBuf,
        /// Whose record it is.
        id: Id,
    },
    /// Written by a newer daemon.
    #[error("record {} has version {found}, this daemon knows up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that can be read.
        known: u32,
    },
}

impl RecordError {
    /// Whether there is no such record at all.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// A type that is kept in a file of its own.
pub trait Record: Serialize + DeserializeOwned {
    /// What is known when the record is made and never changes.
    type Birth: Serialize + DeserializeOwned;
    /// The version written, and the newest that can be read.
    const VERSION: u32;
}

/// A request in a record, as the protocol buffer it came as.
#[derive(Debug, Clone, PartialEq)]
pub struct Request<M>(pub M);

impl<M: Message> Serialize for Request<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(self.0.encode_to_vec()))
    }
}

impl<'de, M: Message + Default> Deserialize<'de> for Request<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let bytes = BASE64.decode(&*text).map_err(D::Error::custom)?;
        M::decode(&*bytes).map(Self).map_err(D::Error::custom)
    }
}

/// Most that is added to a record before it is written anew, in bytes.
const MOST_ADDED: u64 = 256 * 1024;

#[derive(Deserialize)]
struct Header {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct First<B> {
    version: u32,
    birth: B,
}

/// Makes the record at `path`, where there must be none.
pub fn create<R: Record>(path: &Path, birth: &R::Birth, record: &R) -> Result<(), RecordError> {
    let lines = lines(path, birth, record)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let made = options.open(path);
    made.and_then(|mut file| file.write_all(&lines))
        .map_err(failed("write record", path))
}

/// Changes the record at `path`.
pub fn append<R: Record>(path: &Path, record: &R) -> Result<(), RecordError> {
    let mut line = vec![b'\n'];
    serde_json::to_writer(&mut line, record).map_err(malformed(path))?;
    let opened = OpenOptions::new().append(true).open(path);
    let length = opened
        .and_then(|mut file| {
            // One write, so that a line is all there or torn at its end. It begins with the line
            // break: the line before may be one that a full disk has torn.
            file.write_all(&line)?;
            file.stream_position()
        })
        .map_err(failed("write record", path))?;
    if length > MOST_ADDED
        && let Err(error) = shorten(path, record, length)
    {
        // The change is on disk; the next one tries again.
        tracing::warn!(error = crate::telemetry::chain(&error), "a record grows");
    }
    Ok(())
}

/// Writes a record of `length` bytes anew when most of that was added after its birth.
fn shorten<R: Record>(path: &Path, record: &R, length: u64) -> Result<(), RecordError> {
    let file = fs::File::open(path).map_err(failed("read record", path))?;
    let mut born = Vec::new();
    BufReader::new(file)
        .read_until(b'\n', &mut born)
        .map_err(failed("read record", path))?;
    if length <= born.len() as u64 + MOST_ADDED {
        return Ok(());
    }
    serde_json::to_writer(&mut born, record).map_err(malformed(path))?;
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(&temporary)
        .and_then(|mut file| file.write_all(&born))
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(failed("shorten record", path))
}

/// Removes the record at `path`. One that does not exist is fine.
pub fn remove(path: &Path) -> Result<(), RecordError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove record", path)(e)),
        _ => Ok(()),
    }
}

/// Reads the record at `path`.
pub fn read<R: Record>(path: &Path) -> Result<(R::Birth, R), RecordError> {
    let text = fs::read(path).map_err(failed("read record", path))?;
    let mut lines = text.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let Header { version } = serde_json::from_slice(first).map_err(malformed(path))?;
    if version > R::VERSION {
        return Err(RecordError::Newer {
            path: path.into(),
            found: version,
            known: R::VERSION,
        });
    }
    let First { birth, .. } =
        serde_json::from_slice::<First<R::Birth>>(first).map_err(malformed(path))?;
    let mut torn = serde_json::from_slice::<R>(b"");
    for line in lines.rev() {
        torn = serde_json::from_slice(line);
        if torn.is_ok() {
            break;
        }
    }
    Ok((birth, torn.map_err(malformed(path))?))
}

fn lines<R: Record>(path: &Path, birth: &R::Birth, record: &R) -> Result<Vec<u8>, RecordError> {
    let first = First {
        version: R::VERSION,
        birth,
    };
    let mut lines = serde_json::to_vec(&first).map_err(malformed(path))?;
    lines.push(b'\n');
    serde_json::to_writer(&mut lines, record).map_err(malformed(path))?;
    Ok(lines)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    move |source| RecordError::Io {
        action,
        path: path.into(),
        source,
    }
}

fn malformed(path: &Path) -> impl FnOnce(serde_json::Error) -> RecordError {
    move |source| RecordError::Malformed {
        path: path.into(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Thing {
        name: String,
    }

    impl Record for Thing {
        type Birth = u64;
        const VERSION: u32 = 2;
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Long(u64);

    impl Record for Long {
        type Birth = String;
        const VERSION: u32 = 1;
    }

    fn thing(name: &str) -> Thing {
        Thing { name: name.into() }
    }

    #[test]
    fn the_last_change_counts_and_the_birth_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thing.json");
        create(&path, &7, &thing("a")).unwrap();
        assert_eq!(read::<Thing>(&path).unwrap(), (7, thing("a")));
        append(&path, &thing("b")).unwrap();
        append(&path, &thing("c")).unwrap();
        assert_eq!(read::<Thing>(&path).unwrap(), (7, thing("c")));
    }

    #[test]
    fn a_record_is_made_once_and_changed_only_when_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thing.json");
        assert!(append(&path, &thing("a")).unwrap_err().is_missing());
        create(&path, &7, &thing("a")).unwrap();
        assert!(create(&path, &8, &thing("b")).is_err());
        assert_eq!(read::<Thing>(&path).unwrap(), (7, thing("a")));
    }

    #[test]
    fn a_record_that_changes_for_ever_stays_short() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thing.json");
        let long = "x".repeat(10_000);
        create(&path, &7, &thing("a")).unwrap();
        for turn in 0..100 {
            append(&path, &thing(&format!("{long}{turn}"))).unwrap();
            assert!(fs::metadata(&path).unwrap().len() <= MOST_ADDED + 100);
        }
        assert_eq!(
            read::<Thing>(&path).unwrap(),
            (7, thing(&format!("{long}99")))
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// Shortening is for tidiness: a disk too full for it must not cost a container.
    #[test]
    fn a_change_counts_although_the_record_cannot_be_shortened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thing.json");
        create(&path, &7, &thing("a")).unwrap();
        fs::create_dir(dir.path().join("thing.json.tmp")).unwrap();
        let long = "x".repeat(MOST_ADDED as usize);
        for name in [&*long, "b"] {
            append(&path, &thing(name)).unwrap();
            assert_eq!(read::<Thing>(&path).unwrap(), (7, thing(name)));
        }
    }

    #[test]
    fn a_record_with_a_long_birth_is_not_written_anew_at_every_change() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long.json");
        create(&path, &"x".repeat(10 << 20), &Long(0)).unwrap();
        let file = || fs::metadata(&path).unwrap().ino();
        let made = file();
        append(&path, &Long(1)).unwrap();
        assert_eq!(file(), made);
        assert_eq!(read::<Long>(&path).unwrap().1, Long(1));
    }

    proptest! {
        /// Wherever a record is cut, it is one that it has been, or none; and a change after a
        /// torn one is not lost with it.
        #[test]
        fn a_torn_record_is_an_earlier_one_or_none(
            names in prop::collection::vec("[ -~\\n]{0,12}", 1..5),
            cut in any::<prop::sample::Index>(),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("thing.json");
            create(&path, &7, &thing(&names[0])).unwrap();
            for name in &names[1..] {
                append(&path, &thing(name)).unwrap();
            }
            let whole = fs::read(&path).unwrap();
            fs::write(&path, &whole[..cut.index(whole.len())]).unwrap();
            match read::<Thing>(&path) {
                Ok((7, Thing { name })) => {
                    prop_assert!(names.contains(&name));
                    append(&path, &thing("after")).unwrap();
                    prop_assert_eq!(read::<Thing>(&path).unwrap(), (7, thing("after")));
                }
                Err(RecordError::Malformed { .. }) => {}
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn newer_and_missing_records_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thing.json");
        assert!(read::<Thing>(&path).unwrap_err().is_missing());
        fs::write(&path, r#"{"version":3,"shape":"unknown"}"#).unwrap();
        let error = read::<Thing>(&path).unwrap_err();
        assert!(
            matches!(
                error,
                RecordError::Newer {
                    found: 3,
                    known: 2,
                    ..
                }
            ),
            "{error}"
        );
    }
}
