//! The library at work, on a kernel: as root, with cgroup v2 and a static busybox (in $BUSYBOX or
//! /usr/bin/busybox). Anywhere else this prints why it is skipped.
//!
//!     lab [name...]     only the tests whose names contain one of the words
//!
//! One thread, since the library clones: so no harness of Rust's. What a container is like is
//! asked of a shell inside of it.

#![allow(clippy::print_stdout, reason = "the results are its output")]

mod devices;
mod escapes;
mod fixture;
mod images;
mod isolation;
mod lifecycle;
mod mounts;
mod pod;
mod resources;
mod seccomp;
#[allow(unsafe_code, reason = "an ioctl without a safe wrapper")]
mod sys;
mod tracers;
mod user_namespaces;

use std::process::ExitCode;

use anyhow::Result;

use fixture::Lab;

/// A test: its name and what it does.
type Test = (&'static str, fn(&Lab) -> Result<()>);

fn main() -> ExitCode {
    let lab = match Lab::new() {
        Ok(lab) => lab,
        Err(why) => {
            println!("skipped: {why:#}");
            return ExitCode::SUCCESS;
        }
    };
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let all = [
        lifecycle::TESTS,
        mounts::TESTS,
        isolation::TESTS,
        resources::TESTS,
        pod::TESTS,
        user_namespaces::TESTS,
        devices::TESTS,
        images::TESTS,
        escapes::TESTS,
        tracers::TESTS,
        seccomp::TESTS,
    ];
    let before = lab.host();
    let mut failed = 0;
    for (name, test) in all.into_iter().flatten() {
        if !wanted.is_empty() && !wanted.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        match test(&lab) {
            Ok(()) => println!("ok      {name}"),
            Err(e) if e.is::<fixture::Skip>() => println!("skipped {name}: {e}"),
            Err(e) => {
                failed += 1;
                println!("FAILED  {name}: {e:#}");
            }
        }
    }
    let after = lab.host();
    if before != after {
        failed += 1;
        println!("FAILED  host is as before: {before:?} became {after:?}");
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
