//! Time of create, start, exec and kill, with an idle gap between rounds as pods
//! have it on a node: back to back, the kernel's cgroup locks stay warm and flatter everybody.
//!
//!     latency <busybox> <scratch directory> [rounds [gap in ms]]
//!
//! Needs root and cgroup v2.

#![allow(clippy::print_stdout, reason = "the figures are its output")]

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use skiff_runtime::oci_spec::runtime::{Process, Spec};
use skiff_runtime::{Create, Exec, Init, Progress, Rootfs, Stdio, cgroup};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, busybox, scratch, rest @ ..] = args.as_slice() else {
        bail!("usage: latency <busybox> <scratch directory> [rounds [gap in ms]]");
    };
    let number = |at: usize, default: u64| rest.get(at).map_or(Ok(default), |n| n.parse());
    let (rounds, gap) = (number(0, 20)?, Duration::from_millis(number(1, 200)?));
    let scratch = Path::new(scratch);
    let lower = scratch.join("lower");
    make_image(&lower, Path::new(busybox))?;
    let spec: Spec = serde_json::from_str(include_str!("latency.json"))?;
    let mut times: [Vec<Duration>; 5] = Default::default();
    for round in 0..rounds {
        std::thread::sleep(gap);
        let container = Round::new(scratch, &lower, round)?;
        for (times, time) in times.iter_mut().zip(container.run(&spec, gap)?) {
            times.push(time);
        }
    }
    for (name, mut times) in ["create", "start", "create+start", "exec", "kill+remove"]
        .into_iter()
        .zip(times)
    {
        times.sort();
        let at = |q: usize| times[(times.len() * q / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
        println!(
            "{name:13} p50 {:7.3} ms  p90 {:7.3} ms  min {:7.3} ms",
            at(50),
            at(90),
            at(0)
        );
    }
    Ok(())
}

fn make_image(lower: &Path, busybox: &Path) -> Result<()> {
    for dir in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(lower.join(dir))?;
    }
    fs::copy(busybox, lower.join("bin/busybox")).context("copy busybox")?;
    for name in ["sh", "sleep", "true"] {
        let _ = std::os::unix::fs::symlink("busybox", lower.join("bin").join(name));
    }
    Ok(())
}

struct Round {
    rootfs: Rootfs,
    cgroup: PathBuf,
    null: fs::File,
}

impl Round {
    fn new(scratch: &Path, lower: &Path, round: u64) -> Result<Self> {
        let dir = scratch.join(format!("container-{round}"));
        let (upper, work) = (dir.join("upper"), dir.join("work"));
        fs::create_dir_all(&upper)?;
        fs::create_dir_all(&work)?;
        let cgroup = PathBuf::from(format!("/sys/fs/cgroup/skiff-latency/{round}"));
        let null = fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        Ok(Self {
            rootfs: Rootfs::Overlay {
                lower: vec![lower.into()],
                upper,
                work,
            },
            cgroup,
            null,
        })
    }

    fn run(&self, spec: &Spec, gap: Duration) -> Result<[Duration; 5]> {
        let stdio = || Stdio::Fds([self.null.as_fd(); 3]);
        let begin = Instant::now();
        let mut init = skiff_runtime::create(Create::new(
            "latency",
            spec,
            &self.rootfs,
            &self.cgroup,
            stdio(),
        ))?;
        expect(&mut init, "ready")?;
        let created = begin.elapsed();
        std::thread::sleep(gap);
        let begin = Instant::now();
        init.start()?;
        expect(&mut init, "running")?;
        let started = begin.elapsed();
        std::thread::sleep(gap);
        let mut process: Process = spec.process().clone().context("no process")?;
        process.set_args(Some(vec!["true".into()]));
        let begin = Instant::now();
        let mut exec =
            skiff_runtime::exec(Exec::new(&process, init.pidfd(), &self.cgroup, stdio()))?;
        expect(&mut exec, "running")?;
        waitid(WaitId::PidFd(exec.pidfd()), WaitIdOptions::EXITED)?;
        let executed = begin.elapsed();
        std::thread::sleep(gap);
        let begin = Instant::now();
        cgroup::kill_all(&self.cgroup)?;
        waitid(WaitId::PidFd(init.pidfd()), WaitIdOptions::EXITED)?;
        while !cgroup::remove(&self.cgroup)? {}
        Ok([
            created,
            started,
            created + started,
            executed,
            begin.elapsed(),
        ])
    }
}

fn expect(init: &mut Init, wanted: &str) -> Result<()> {
    match (init.wait()?, wanted) {
        (Progress::Ready { .. }, "ready") | (Progress::Running { .. }, "running") => Ok(()),
        (Progress::Failed(failure), _) => bail!(failure),
        (other, _) => bail!("{other:?} instead of {wanted}"),
    }
}
