//! Archives of layers.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use skiff_image::layer::{Limits, extract, graft};

/// Nothing may ever be here: seeds try it by its absolute path.
const FORBIDDEN: &str = "/tmp/skiff-fuzz-escaped";
const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    entries: 1000,
    reserve: 0,
};
const BLOCK: usize = 512;

/// An archive, unpacked and settled on a lower layer full of traps. What is outside of its
/// directory stays as it was. Checksums are repaired first: they are no obstacle to an attacker
/// and would be one to an engine.
pub fn layer(data: &[u8]) {
    unpack(data);
    let mut repaired = data.to_vec();
    repair(&mut repaired);
    if repaired != data {
        unpack(&repaired);
    }
}

fn unpack(archive: &[u8]) {
    let dir = crate::scratch();
    let root = dir.path();
    make_surroundings(root);
    let before = look(root);
    let (fs, replaced) = (root.join("store/fs"), root.join("store/replaced"));
    match extract(archive, &fs, &replaced, LIMITS) {
        Ok(mut extracted) => {
            assert!(extracted.inodes <= LIMITS.entries, "{extracted:?}");
            if let Err(error) = graft(&fs, &mut extracted, &[root.join("lower")], LIMITS) {
                assert!(!error.to_string().is_empty());
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert_eq!(
        look(root),
        before,
        "something outside of the layer has changed"
    );
    assert!(!Path::new(FORBIDDEN).exists(), "{FORBIDDEN} was made");
    open_up(&root.join("store"));
}

/// What is to stay as it is, and the empty layer: `outside` with a file and a directory, and a
/// lower layer with links that lead everywhere.
fn make_surroundings(root: &Path) {
    for made in [
        "outside/dir",
        "store/fs",
        "store/replaced",
        "lower/usr/lib",
        "lower/etc",
    ] {
        fs::create_dir_all(root.join(made)).expect("make a directory");
    }
    for file in ["outside/file", "lower/etc/passwd", "lower/usr/lib/libc.so"] {
        fs::write(root.join(file), file).expect("write a file");
    }
    for (link, target) in [
        ("lib", "usr/lib"),
        ("up", "../../outside"),
        ("absolute", "/tmp"),
        ("forbidden", FORBIDDEN),
        ("loop", "loop"),
        ("etc/up", "../../../outside/dir"),
        ("secret", "../outside/file"),
    ] {
        let link = root.join("lower").join(link);
        std::os::unix::fs::symlink(target, link).expect("make a link");
    }
}

/// What can be seen of a file: mode, owner, links to it, time of change of its content, content.
type Seen = (u32, u32, u64, i64, Vec<u8>);

/// Everything but the layer.
fn look(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let meta = fs::symlink_metadata(&path).expect("look at a file");
        let content = if meta.is_file() {
            fs::read(&path).expect("read a file")
        } else if meta.is_symlink() {
            let target = fs::read_link(&path).expect("read a link");
            target.into_os_string().into_encoded_bytes()
        } else {
            Vec::new()
        };
        if meta.is_dir() && path != root.join("store/fs") && path != root.join("store/replaced") {
            let entries = fs::read_dir(&path).expect("list a directory");
            pending.extend(entries.map(|entry| entry.expect("list a directory").path()));
        }
        let inside = path.starts_with(root.join("store"));
        if !inside || path == root.join("store") {
            let time = meta.mtime() * 1_000_000_000 + meta.mtime_nsec();
            seen.insert(path, (meta.mode(), meta.uid(), meta.nlink(), time, content));
        } else {
            seen.insert(path, (0, 0, 0, 0, Vec::new()));
        }
    }
    seen
}

/// Makes directories without permissions removable for who is not root.
fn open_up(dir: &Path) {
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// Puts the right checksum into every header, found as a reader finds them.
fn repair(archive: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = archive.get_mut(at..at + BLOCK) {
        at += BLOCK;
        if header.iter().all(|byte| *byte == 0) {
            continue;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = std::str::from_utf8(&header[124..136]).unwrap_or_default();
        let size = size.trim_matches([' ', '\0']);
        let size = usize::from_str_radix(size, 8).unwrap_or(0);
        let has_data = matches!(
            header[156],
            b'0' | b'\0' | b'x' | b'g' | b'L' | b'K' | b'S' | b'7'
        );
        if has_data {
            at = at.saturating_add(size.min(archive.len()).next_multiple_of(BLOCK));
        }
    }
}
