//! Archives of every kind, honest and hostile, and what becomes of them.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use ::tar::{Builder, EntryType, Header};
use proptest::prelude::*;
use rustix::fs::lgetxattr;
use tempfile::TempDir;

use super::extract::{Extracted, Extractor};
use super::tar::{Kind, Reader};
use super::*;

const LIMITS: Limits = Limits {
    bytes: 1 << 30,
    entries: 10_000,
    reserve: 0,
};

/// Says why a test does nothing.
#[allow(clippy::print_stderr)]
fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// An archive under construction.
struct Archive(Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// Adds an entry with exactly this name, which the builder itself would refuse.
    fn add(mut self, kind: EntryType, name: &str, link: &str, mode: u32, data: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, name: &str, data: &str) -> Self {
        self.add(EntryType::Regular, name, "", 0o644, data.as_bytes())
    }

    fn dir(self, name: &str, mode: u32) -> Self {
        self.add(EntryType::Directory, name, "", mode, b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Symlink, name, target, 0o777, b"")
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Link, name, target, 0o644, b"")
    }

    fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0
            .append_pax_extensions(records.iter().copied())
            .unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// A place to extract to, with something beside it that must stay as it is.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["fs", "replaced", "outside"] {
            fs::create_dir(dir.path().join(sub)).unwrap();
        }
        fs::write(dir.path().join("outside/secret"), "untouched").unwrap();
        Self { dir }
    }

    fn fs(&self) -> PathBuf {
        self.dir.path().join("fs")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.fs().join(path)
    }

    fn extract_limited(&self, archive: &[u8], limits: Limits) -> Result<Extracted, LayerError> {
        Extractor::new(&self.fs(), &self.dir.path().join("replaced"), limits)?
            .run(&mut Reader::new(archive))
    }

    fn extract(&self, archive: Archive) -> Result<Extracted, LayerError> {
        self.extract_limited(&archive.bytes(), LIMITS)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    fn assert_outside_untouched(&self) {
        let outside = self.dir.path().join("outside");
        assert_eq!(
            fs::read_to_string(outside.join("secret")).unwrap(),
            "untouched"
        );
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::metadata(outside.join("secret")).unwrap().nlink(), 1);
    }
}

#[test]
fn files_directories_and_links() {
    let place = Place::new();
    let done = place
        .extract(
            Archive::new()
                .dir("./", 0o711)
                .dir("a/", 0o555)
                .file("a/f", "content")
                .link("a/h", "a/f")
                .symlink("a/s", "/nowhere/else")
                .add(EntryType::Fifo, "p", "", 0o640, b"")
                .add(EntryType::Regular, "suid", "", 0o4755, b"x"),
        )
        .unwrap();
    assert_eq!(place.read("a/h"), "content");
    let meta = |path: &str| fs::symlink_metadata(place.path(path)).unwrap();
    assert_eq!(meta("a/f").ino(), meta("a/h").ino());
    assert_eq!(
        fs::read_link(place.path("a/s")).unwrap(),
        Path::new("/nowhere/else")
    );
    assert!(meta("p").file_type().is_fifo());
    for (path, mode) in [
        ("", 0o711),
        ("a", 0o555),
        ("a/f", 0o644),
        ("p", 0o640),
        ("suid", 0o4755),
    ] {
        assert_eq!(meta(path).mode() & 0o7777, mode, "{path}");
        assert_eq!(meta(path).mtime(), 1_000_000_000, "{path}");
    }
    assert_eq!(meta("a/s").mtime(), 1_000_000_000);
    assert_eq!((done.inodes, done.bytes), (6, 4 * 4096));
    assert!(done.implied.is_empty());
}

#[test]
fn owners_and_devices() {
    if !is_root() {
        return skip("needs root");
    }
    let place = Place::new();
    let mut archive = Archive::new();
    let mut header = Header::new_ustar();
    header.set_path("dev").unwrap();
    header.set_entry_type(EntryType::Char);
    header.set_device_major(1).unwrap();
    header.set_device_minor(3).unwrap();
    header.set_mode(0o666);
    header.set_uid(1000);
    header.set_gid(2000);
    header.set_size(0);
    header.set_cksum();
    archive.0.append(&header, &b""[..]).unwrap();
    let archive = archive
        .pax(&[("uid", b"3000000000"), ("gid", b"7")])
        .file("big-id", "x");
    place.extract(archive).unwrap();
    let dev = fs::metadata(place.path("dev")).unwrap();
    assert!(dev.file_type().is_char_device());
    assert_eq!(
        (dev.rdev(), dev.uid(), dev.gid()),
        (rustix::fs::makedev(1, 3), 1000, 2000)
    );
    assert_eq!(dev.mode() & 0o7777, 0o666);
    let file = fs::metadata(place.path("big-id")).unwrap();
    assert_eq!((file.uid(), file.gid()), (3_000_000_000, 7));
}

#[test]
fn extended_attributes_of_binary_value() {
    let place = Place::new();
    let value = b"\x01\n\n\x00=\xff";
    let archive = Archive::new()
        .pax(&[
            ("SCHILY.xattr.user.x", value),
            ("SCHILY.xattr.user.overlay.redirect", b"/"),
        ])
        .file("f", "x")
        .pax(&[("SCHILY.xattr.user.x", value)])
        .dir("d", 0o755)
        .pax(&[("SCHILY.xattr.user.x", value)])
        .symlink("l", "f");
    place.extract(archive).unwrap();
    let mut buffer = [0; 64];
    match lgetxattr(place.path("f"), "user.x", &mut buffer) {
        Err(rustix::io::Errno::NOTSUP) => return skip("the file system has no attributes"),
        len => assert_eq!(&buffer[..len.unwrap()], value),
    }
    assert_eq!(
        lgetxattr(place.path("d"), "user.x", &mut buffer),
        Ok(value.len())
    );
    assert!(lgetxattr(place.path("f"), "user.overlay.redirect", &mut buffer).is_err());
}

#[test]
fn capabilities_survive_the_change_of_owner() {
    if !is_root() {
        return skip("needs root");
    }
    let place = Place::new();
    // VFS_CAP_REVISION_2 with the effective bit; permitted 0x0a, which is a line feed.
    let value = b"\x01\0\0\x02\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let archive = Archive::new()
        .pax(&[
            ("SCHILY.xattr.security.capability", value),
            ("uid", b"1000"),
        ])
        .file("ping", "x");
    place.extract(archive).unwrap();
    let mut buffer = [0; 64];
    let len = lgetxattr(place.path("ping"), "security.capability", &mut buffer).unwrap();
    assert_eq!(&buffer[..len], value);
}

#[test]
fn long_names_of_both_kinds() {
    let place = Place::new();
    let name = format!("{0}/{0}/{0}", "n".repeat(120));
    let mut archive = Archive::new();
    let mut header = Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o644);
    archive
        .0
        .append_data(&mut header, &name, &b"gnu"[..])
        .unwrap();
    let pax = name.replace('n', "p");
    let archive = archive
        .pax(&[("path", pax.as_bytes())])
        .file("short", "pax");
    let done = place.extract(archive).unwrap();
    assert_eq!(place.read(&name), "gnu");
    assert_eq!(place.read(&pax), "pax");
    assert!(!place.path("short").exists());
    assert_eq!(
        done.implied.len(),
        5,
        "the root and two directories for each"
    );
}

#[test]
fn sparse_files_of_every_form() {
    let source = tempfile::tempdir().unwrap();
    let mut file = fs::File::create(source.path().join("f")).unwrap();
    for hole in 0..40u64 {
        use std::os::unix::fs::FileExt;
        file.write_all_at(&[b'a' + (hole % 26) as u8; 4096], hole * 64 * 1024)
            .unwrap();
    }
    file.set_len(40 * 64 * 1024).unwrap();
    file.flush().unwrap();
    let whole = fs::read(source.path().join("f")).unwrap();
    for form in [
        ["--format=gnu", "--sparse"].as_slice(),
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1"],
        &["--format=posix", "--sparse", "--sparse-version=1.0"],
    ] {
        let made = Command::new("tar")
            .args(form)
            .arg("-C")
            .arg(source.path())
            .args(["-c", "f"])
            .output();
        let Ok(made) = made else {
            return skip("needs GNU tar");
        };
        assert!(made.status.success(), "{form:?}");
        assert!(
            made.stdout.len() < whole.len() / 2,
            "{form:?}: the archive is sparse"
        );
        let place = Place::new();
        place.extract_limited(&made.stdout, LIMITS).unwrap();
        let read = fs::read(place.path("f")).unwrap();
        let differs = read.iter().zip(&whole).position(|(a, b)| a != b);
        assert_eq!((read.len(), differs), (whole.len(), None), "{form:?}");
        let blocks = fs::metadata(place.path("f")).unwrap().blocks();
        assert!(
            blocks * 512 < whole.len() as u64 / 2,
            "{form:?}: the file is sparse"
        );
    }
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|meta| meta.file_type().is_char_device() && meta.rdev() == 0)
}

fn is_opaque(path: &Path) -> bool {
    lgetxattr(path, super::place::OPAQUE, &mut [0; 4]) == Ok(1)
}

#[test]
fn whiteouts_speak_of_lower_layers_only() {
    if !is_root() {
        return skip("needs root");
    }
    let place = Place::new();
    let archive = Archive::new()
        .file(".wh.gone", "")
        .file("d/.wh.gone", "")
        .file("file-first", "x")
        .file(".wh.file-first", "")
        .dir("dir-first", 0o755)
        .file(".wh.dir-first", "")
        .file(".wh.dir-last", "")
        .file("dir-last/f", "x")
        .file(".wh.file-last", "")
        .file("file-last", "x")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/f", "x")
        .file(".wh..wh.plnk", "");
    place.extract(archive).unwrap();
    assert!(is_whiteout(&place.path("gone")) && is_whiteout(&place.path("d/gone")));
    assert_eq!(place.read("file-first"), "x");
    assert_eq!(place.read("file-last"), "x");
    for dir in ["dir-first", "dir-last", "opaque"] {
        assert!(is_opaque(&place.path(dir)), "{dir}");
    }
    assert!(!is_opaque(&place.path("d")));
    assert_eq!(place.read("dir-last/f"), "x");
    assert_eq!(place.read("opaque/f"), "x");
    assert!(
        fs::read_dir(place.fs())
            .unwrap()
            .all(|entry| { !entry.unwrap().file_name().as_bytes().starts_with(b".wh.") })
    );
}

#[test]
fn an_opaque_root_is_noted() {
    let done = Place::new()
        .extract(Archive::new().file("./.wh..wh..opq", "").file("f", "x"))
        .unwrap();
    assert!(done.opaque);
}

#[test]
fn later_entries_replace_earlier_ones() {
    let place = Place::new();
    let archive = Archive::new()
        .file("a", "first")
        .file("a", "second")
        .dir("b", 0o755)
        .file("b/f", "x")
        .file("b", "now a file")
        .symlink("c", "a")
        .dir("c", 0o700)
        .file("c/f", "in c")
        .dir("c", 0o750);
    place.extract(archive).unwrap();
    assert_eq!(place.read("a"), "second");
    assert_eq!(place.read("b"), "now a file");
    assert_eq!(place.read("c/f"), "in c");
    assert_eq!(
        fs::metadata(place.path("c")).unwrap().mode() & 0o7777,
        0o750
    );
}

#[test]
fn hostile_names_stay_inside_or_are_refused() {
    for name in ["../outside/new", "a/../../outside/new", "..", "a/.."] {
        let place = Place::new();
        let error = place.extract(Archive::new().file(name, "x")).unwrap_err();
        assert!(
            matches!(error, LayerError::Refused { .. }),
            "{name}: {error}"
        );
        place.assert_outside_untouched();
    }
    let place = Place::new();
    place
        .extract(Archive::new().file("/etc/passwd", "ours"))
        .unwrap();
    assert_eq!(place.read("etc/passwd"), "ours");
}

#[test]
fn links_lead_nowhere_outside() {
    let place = Place::new();
    let outside = place.dir.path().join("outside");
    let up = "../".repeat(20) + outside.strip_prefix("/").unwrap().to_str().unwrap();
    let inner = outside.strip_prefix("/").unwrap();
    let archive = Archive::new()
        .symlink("absolute", outside.to_str().unwrap())
        .file("absolute/secret", "a")
        .symlink("relative", &up)
        .file("relative/new", "b")
        .file("absolute/.wh.gone", "");
    if let Err(e) = place.extract(archive) {
        panic!("{e}");
    }
    place.assert_outside_untouched();
    assert_eq!(
        fs::read_to_string(place.fs().join(inner).join("secret")).unwrap(),
        "a"
    );
    assert_eq!(
        fs::read_to_string(place.fs().join(inner).join("new")).unwrap(),
        "b"
    );
}

#[test]
fn a_directory_swapped_for_a_link_is_not_written_through() {
    let place = Place::new();
    let outside = place.dir.path().join("outside");
    let archive = Archive::new()
        .dir("d", 0o755)
        .file("d/one", "1")
        .symlink("d", outside.to_str().unwrap())
        .file("d/secret", "overwritten")
        .dir("d/sub", 0o777);
    place.extract(archive).unwrap();
    place.assert_outside_untouched();
}

#[test]
fn hard_links_do_not_reach_outside() {
    let place = Place::new();
    let outside = place.dir.path().join("outside/secret");
    let error = place
        .extract(Archive::new().link("h", "../outside/secret"))
        .unwrap_err();
    assert!(matches!(error, LayerError::Refused { .. }), "{error}");
    let done = place
        .extract(
            Archive::new()
                .symlink("up", outside.parent().unwrap().to_str().unwrap())
                .link("h", "up/secret")
                .link("i", outside.to_str().unwrap()),
        )
        .unwrap();
    assert_eq!(done.links.len(), 2, "there is no such file in the layer");
    assert!(!place.path("h").exists());
    place.assert_outside_untouched();
}

#[test]
fn a_hard_link_to_a_symbolic_link_is_the_link() {
    let place = Place::new();
    let outside = place.dir.path().join("outside/secret");
    place
        .extract(
            Archive::new()
                .symlink("s", outside.to_str().unwrap())
                .link("h", "s"),
        )
        .unwrap();
    assert_eq!(fs::read_link(place.path("h")).unwrap(), outside);
    place.assert_outside_untouched();
}

#[test]
fn senseless_entries_are_refused() {
    for archive in [
        Archive::new().symlink("./", "/etc"),
        Archive::new().dir("d", 0o755).link("h", "d"),
        Archive::new().link("h", "/"),
        Archive::new().file("f", "x").link("f", "./f"),
        Archive::new().file(".wh.", ""),
        Archive::new().file(".wh...", ""),
    ] {
        let error = Place::new().extract(archive).unwrap_err();
        assert!(matches!(error, LayerError::Refused { .. }), "{error}");
    }
    let error = Place::new()
        .extract(Archive::new().file("f", "x").file("f/g", "x"))
        .unwrap_err();
    assert!(matches!(error, LayerError::Io { .. }), "{error}");
    let strange = Archive::new().add(EntryType::new(b'Z'), "z", "", 0o644, b"");
    assert!(matches!(
        Place::new().extract(strange).unwrap_err(),
        LayerError::Archive(_)
    ));
}

#[test]
fn limits_hold() {
    let many = (0..20).fold(Archive::new(), |archive, i| {
        archive.file(&format!("f{i}"), "")
    });
    let error = Place::new().extract_limited(
        &many.bytes(),
        Limits {
            entries: 19,
            ..LIMITS
        },
    );
    assert!(matches!(
        error,
        Err(LayerError::Limit {
            limit: 19,
            unit: "entries"
        })
    ));
    let big = Archive::new().file("f", &"x".repeat(5000)).bytes();
    let error = Place::new().extract_limited(
        &big,
        Limits {
            bytes: 4999,
            ..LIMITS
        },
    );
    assert!(matches!(
        error,
        Err(LayerError::Limit {
            limit: 4999,
            unit: "bytes"
        })
    ));
    let mut header = Header::new_ustar();
    header.set_path("huge").unwrap();
    header.set_size(40 << 20);
    header.set_cksum();
    let error = Place::new()
        .extract_limited(
            header.as_bytes(),
            Limits {
                reserve: u64::MAX,
                ..LIMITS
            },
        )
        .unwrap_err();
    assert!(matches!(error, LayerError::NoSpace { .. }), "{error}");
}

#[test]
fn an_archive_cut_anywhere_is_an_error_or_shorter() {
    let whole = Archive::new()
        .file("a", "x")
        .pax(&[("path", b"long")])
        .file("b", "y")
        .bytes();
    for len in (0..whole.len())
        .step_by(61)
        .chain([512, 1024, whole.len() - 512])
    {
        let place = Place::new();
        match place.extract_limited(&whole[..len], LIMITS) {
            // Between entries, or after the first of the two blocks of zeros at the end.
            Ok(_) => assert!(len.is_multiple_of(512) || len > whole.len() - 512, "{len}"),
            Err(e) => assert!(matches!(e, LayerError::Archive(_)), "{len}: {e}"),
        }
    }
}

/// Two layers, the upper one grafted on the lower one.
fn grafted(lower: Archive, upper: Archive) -> (Place, Place, Result<Extracted, LayerError>) {
    let (below, place) = (Place::new(), Place::new());
    below.extract(lower).unwrap();
    let mut done = place.extract(upper).unwrap();
    let outcome = graft(&place.fs(), &mut done, &[below.fs()]).map(|()| done);
    (below, place, outcome)
}

#[test]
fn a_directory_without_an_entry_looks_like_the_one_below() {
    let (_below, place, outcome) = grafted(
        Archive::new()
            .dir("./", 0o751)
            .dir("tmp", 0o1777)
            .dir("tmp/private", 0o700),
        Archive::new().file("tmp/private/f", "x").file("new/f", "x"),
    );
    outcome.unwrap();
    for (path, mode) in [
        ("", 0o751),
        ("tmp", 0o1777),
        ("tmp/private", 0o700),
        ("new", 0o755),
    ] {
        let meta = fs::metadata(place.path(path)).unwrap();
        assert_eq!(meta.mode() & 0o7777, mode, "{path}");
        assert_eq!(meta.mtime() == 1_000_000_000, path != "new", "{path}");
    }
}

#[test]
fn files_go_where_a_link_below_leads() {
    let (_below, place, outcome) = grafted(
        Archive::new()
            .dir("usr", 0o711)
            .dir("usr/lib", 0o750)
            .symlink("lib", "usr/lib"),
        Archive::new()
            .file("usr/lib/both/a", "a")
            .file("lib/both/b", "b")
            .file("lib/c", "c"),
    );
    outcome.unwrap();
    for (path, content) in [
        ("usr/lib/both/a", "a"),
        ("usr/lib/both/b", "b"),
        ("usr/lib/c", "c"),
    ] {
        assert_eq!(place.read(path), content);
    }
    assert!(!place.path("lib").exists(), "it would hide the link");
    assert_eq!(
        fs::metadata(place.path("usr/lib")).unwrap().mode() & 0o7777,
        0o750
    );
}

#[test]
fn a_link_of_this_layer_to_a_directory_below() {
    let (_below, place, outcome) = grafted(
        Archive::new().dir("usr/lib", 0o750),
        Archive::new().symlink("lib", "/usr/lib").file("lib/f", "x"),
    );
    outcome.unwrap();
    assert_eq!(place.read("usr/lib/f"), "x");
    assert_eq!(
        fs::metadata(place.path("usr/lib")).unwrap().mode() & 0o7777,
        0o750
    );
}

#[test]
fn a_hard_link_to_a_file_below_is_copied_up() {
    let (_below, place, outcome) = grafted(
        Archive::new().add(EntryType::Regular, "d/f", "", 0o4711, b"content"),
        Archive::new().link("d/h", "d/f").link("e/i", "/d/f"),
    );
    let done = outcome.unwrap();
    assert_eq!(place.read("d/h"), "content");
    assert_eq!(place.read("e/i"), "content");
    assert_eq!(
        fs::metadata(place.path("d/h")).unwrap().mode() & 0o7777,
        0o4711
    );
    assert!(done.links.is_empty());
    let (_below, _place, outcome) = grafted(Archive::new(), Archive::new().link("h", "nowhere"));
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("nowhere, which no layer has"), "{error}");
}

#[test]
fn grafting_follows_no_link_outside() {
    let outside = tempfile::tempdir().unwrap();
    let (below, place) = (Place::new(), Place::new());
    below.extract(Archive::new()).unwrap();
    symlink(outside.path(), below.path("out")).unwrap();
    let mut done = place
        .extract(Archive::new().file("out/f", "x").link("out/h", "out/g"))
        .unwrap();
    let _ = graft(&place.fs(), &mut done, &[below.fs()]);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[derive(Debug, Clone)]
struct Foreign {
    kind: Kind,
    name: String,
    link: String,
}

fn foreign() -> impl Strategy<Value = Foreign> {
    let kind = prop_oneof![
        Just(Kind::File),
        Just(Kind::Directory),
        Just(Kind::Symlink),
        Just(Kind::HardLink),
    ];
    let name = "(/?(\\.\\.|a|b|O)(/(\\.\\.|a|b|secret|\\.wh\\.a)){0,3})";
    (kind, name, name).prop_map(|(kind, name, link)| Foreign { kind, name, link })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_archive_writes_outside(entries in proptest::collection::vec(foreign(), 1..14)) {
        let place = Place::new();
        let outside = place.dir.path().join("outside");
        let mut archive = Archive::new().symlink("O", outside.to_str().unwrap());
        for Foreign { kind, name, link } in &entries {
            let link = link.replace('O', outside.to_str().unwrap());
            let link = if link.len() < 100 { link } else { "/".into() };
            archive = match kind {
                Kind::Directory => archive.dir(name, 0o755),
                Kind::Symlink => archive.symlink(name, &link),
                Kind::HardLink => archive.link(name, &link),
                _ => archive.file(name, "overwritten"),
            };
        }
        let below = Place::new();
        symlink(&outside, below.path("b")).unwrap();
        if let Ok(mut done) = place.extract(archive) {
            let _ = graft(&place.fs(), &mut done, &[below.fs()]);
        }
        place.assert_outside_untouched();
    }

    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 512..2048)) {
        // A right checksum, or nothing would get past the first check.
        bytes[148..156].fill(b' ');
        let sum: u32 = bytes[..512].iter().map(|b| u32::from(*b)).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut reader = Reader::new(bytes.as_slice());
        while let Ok(Some(_)) = reader.next() {}
    }

    #[test]
    fn names_and_data_come_back(
        files in proptest::collection::vec(("[a-z]{1,150}", proptest::collection::vec(any::<u8>(), 0..1500)), 0..6)
    ) {
        let mut builder = Builder::new(Vec::new());
        for (name, data) in &files {
            let mut header = Header::new_gnu();
            header.set_size(data.len() as u64);
            builder.append_data(&mut header, name, data.as_slice()).unwrap();
        }
        let bytes = builder.into_inner().unwrap();
        let mut reader = Reader::new(bytes.as_slice());
        for (name, data) in &files {
            let entry = reader.next().unwrap().unwrap();
            prop_assert_eq!(&entry.path, name.as_bytes());
            let mut read = Vec::new();
            loop {
                let part = reader.data().unwrap().to_vec();
                if part.is_empty() {
                    break;
                }
                reader.consume(part.len());
                read.extend(part);
            }
            prop_assert_eq!(&read, data);
        }
        prop_assert!(reader.next().unwrap().is_none());
    }
}
