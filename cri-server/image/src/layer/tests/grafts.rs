//! Layers that were written for the layers below them.

use super::*;

/// Two layers, the upper one grafted on the lower one.
fn grafted(lower: Archive, upper: Archive) -> (Place, Place, Result<Extracted, LayerError>) {
    let (below, place) = (Place::new(), Place::new());
    below.extract(lower).unwrap();
    let mut done = place.extract(upper).unwrap();
    let outcome = graft(&place.fs(), &mut done, &[below.fs()], LIMITS).map(|()| done);
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
    let _ = graft(&place.fs(), &mut done, &[below.fs()], LIMITS);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

fn megabyte() -> String {
    "x".repeat(1 << 20)
}

#[test]
fn links_to_one_file_below_are_one_file() {
    let (_below, place, outcome) = grafted(
        Archive::new().file("f", &megabyte()).link("also", "f"),
        Archive::new()
            .link("a/one", "f")
            .link("two", "also")
            .link("three", "two"),
    );
    let done = outcome.unwrap();
    let inode = |path: &str| fs::metadata(place.path(path)).unwrap().ino();
    assert_eq!(inode("a/one"), inode("two"));
    assert_eq!(inode("two"), inode("three"));
    assert_eq!(fs::metadata(place.path("two")).unwrap().nlink(), 3);
    // The root, a, and the file.
    assert_eq!(done.bytes, 2 * 4096 + (1 << 20));
}

#[test]
fn copying_up_stops_at_the_limit_of_a_layer() {
    let lower = |archive: Archive, i| archive.file(&format!("f{i}"), &megabyte());
    let upper = |archive: Archive, i| archive.link(&format!("h{i}"), &format!("f{i}"));
    let (below, place) = (Place::new(), Place::new());
    below.extract((0..4).fold(Archive::new(), lower)).unwrap();
    let mut done = place.extract((0..4).fold(Archive::new(), upper)).unwrap();
    let limits = Limits {
        bytes: 3 << 20,
        ..LIMITS
    };
    let error = graft(&place.fs(), &mut done, &[below.fs()], limits).unwrap_err();
    assert!(
        matches!(error, LayerError::Limit { limit, .. } if limit == 3 << 20),
        "{error}"
    );
    assert!(!place.path("h3").exists());
    let place = Place::new();
    let mut done = place.extract(upper(Archive::new(), 0)).unwrap();
    let limits = Limits {
        reserve: u64::MAX,
        ..LIMITS
    };
    let error = graft(&place.fs(), &mut done, &[below.fs()], limits).unwrap_err();
    assert!(matches!(error, LayerError::NoSpace { .. }), "{error}");
}

#[test]
fn the_last_of_several_entries_of_one_name_counts() {
    let (_below, place, outcome) = grafted(
        Archive::new().file("f", "below"),
        Archive::new()
            .file("a", "file, then link")
            .link("a", "f")
            .link("b", "f")
            .file("b", "link, then file"),
    );
    outcome.unwrap();
    assert_eq!(place.read("a"), "below");
    assert_eq!(place.read("b"), "link, then file");
}

#[test]
fn merging_deep_trees_takes_neither_the_stack_nor_all_descriptors() {
    let deep = "d/".repeat(300);
    let (_below, _place, outcome) = grafted(
        Archive::new()
            .dir("usr/lib", 0o755)
            .symlink("lib", "usr/lib"),
        Archive::new()
            .pax(&[("path", format!("usr/lib/{deep}a").as_bytes())])
            .file("a", "a")
            .pax(&[("path", format!("lib/{deep}b").as_bytes())])
            .file("b", "b"),
    );
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("settle directory"), "{error}");
}
