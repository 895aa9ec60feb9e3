//! Archives that want out, or want everything.

use super::*;

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
fn names_of_implied_directories_are_limited_in_bytes() {
    // Each entry is some 5 KB of archive, and makes twenty directories with long paths.
    let archive = (0..2000).fold(Archive::new(), |archive, i| {
        let dirs = format!("{i:0200}/").repeat(20);
        archive
            .pax(&[("path", format!("{dirs}f").as_bytes())])
            .file("f", "")
    });
    let limits = Limits {
        entries: 1_000_000,
        ..LIMITS
    };
    let error = Place::new()
        .extract_limited(&archive.bytes(), limits)
        .unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, LayerError::Limit { .. }), "{said}");
    assert!(said.contains("bytes of names"), "{said}");
}

#[test]
fn long_link_targets_and_attributes_count_as_disk_space() {
    let place = Place::new();
    let archive = Archive::new()
        .dir("./", 0o755)
        .symlink("short", "f")
        .symlink("long", &"f".repeat(90))
        .pax(&[("SCHILY.xattr.user.x", &[b'x'; 1000])])
        .file("f", "");
    let done = place.extract(archive).unwrap();
    assert_eq!((done.inodes, done.bytes), (4, 3 * 4096));
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
