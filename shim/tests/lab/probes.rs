//! What the shim's program is asked by the daemon at its start.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use crate::needs_a_lab;

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

fn ask(change: impl FnOnce(&mut Command) -> &mut Command) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skiff-shim"));
    command.arg("--probe-recursive-read-only");
    change(&mut command).output().unwrap()
}

#[test]
fn recursive_read_only_mounts_are_tried_and_nothing_is_left() {
    needs_a_lab!();
    let before = mounts();
    let tried = ask(|command| command);
    let told = String::from_utf8_lossy(&tried.stderr);
    assert!(tried.status.success(), "{told}");
    assert_eq!(mounts(), before);
}

#[test]
fn what_does_not_work_is_told() {
    needs_a_lab!();
    const NOBODY: u32 = 65534;
    let tried = ask(|command| command.uid(NOBODY).gid(NOBODY));
    let told = String::from_utf8_lossy(&tried.stderr);
    assert!(!tried.status.success());
    assert!(told.contains("not permitted"), "{told}");
}
