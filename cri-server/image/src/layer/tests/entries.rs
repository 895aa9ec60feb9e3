//! Honest archives: every kind of entry.

use super::*;

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
