//! Every seed, and every seed damaged, through its target.

use std::fs;
use std::path::{Path, PathBuf};

use skiff_fuzz::{TARGETS, Target};

/// Places of damage tried in one seed, of each kind.
const PLACES: usize = 24;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = here("seeds").join(target);
    let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| (fs::read(&path).unwrap(), path);
    paths
        .into_iter()
        .map(read)
        .map(|(data, path)| (path, data))
        .collect()
}

/// Says what was being run when a target panics.
struct Running<'a> {
    seed: &'a Path,
    damage: String,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}, {}", self.seed.display(), self.damage);
        }
    }
}

fn run(run: Target, seed: &Path, damage: String, data: &[u8]) {
    let _running = Running { seed, damage };
    run(data);
}

/// Runs `check` for all targets at once; the panic of one is that of the test.
fn for_every_target(check: fn(&str, Target)) {
    std::thread::scope(|scope| {
        for (name, target) in TARGETS {
            scope.spawn(move || check(name, *target));
        }
    });
}

#[test]
fn every_target_has_seeds_and_a_program_and_nothing_else_has() {
    let manifest = fs::read_to_string(here("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(!seeds(name).is_empty(), "{name} has no seeds");
        assert!(
            manifest.contains(&format!("[[bin]]\nname = \"{name}\"\n")),
            "{name}"
        );
        let program = fs::read_to_string(here(&format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(
            program.contains(&format!("skiff_fuzz::{name}(data)")),
            "{program}"
        );
    }
    for dir in ["seeds", "fuzz_targets"] {
        assert_eq!(
            fs::read_dir(here(dir)).unwrap().count(),
            TARGETS.len(),
            "{dir}"
        );
    }
}

#[test]
fn seeds_hold() {
    for_every_target(|name, target| {
        for (path, data) in seeds(name) {
            run(target, &path, "whole".into(), &data);
        }
    });
}

#[test]
fn truncated_seeds_hold() {
    for_every_target(|name, target| {
        for (path, data) in seeds(name) {
            for length in (0..data.len()).step_by(data.len().div_ceil(PLACES).max(1)) {
                run(
                    target,
                    &path,
                    format!("{length} bytes of it"),
                    &data[..length],
                );
            }
        }
    });
}

#[test]
fn flipped_seeds_hold() {
    for_every_target(|name, target| {
        for (path, mut data) in seeds(name) {
            for place in (0..data.len()).step_by(data.len().div_ceil(PLACES).max(1)) {
                // One bit, another for each place, and then all of them.
                for mask in [1 << (place % 8), 0xff] {
                    data[place] ^= mask;
                    run(target, &path, format!("byte {place} xor {mask:#x}"), &data);
                    data[place] ^= mask;
                }
            }
        }
    });
}
