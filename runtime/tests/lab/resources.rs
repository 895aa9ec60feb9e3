//! Limits, and the end by them.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::process::{
    Resource, Rlimit, Signal, WaitId, WaitIdOptions, getrlimit, pidfd_send_signal, setrlimit,
    waitid,
};
use serde_json::json;
use skiff_runtime::{cgroup, pod_init};

use crate::Test;
use crate::fixture::{Lab, More, Skip, holds};

pub(crate) const TESTS: &[Test] = &[
    ("limits are in the cgroup before the container is", limits),
    (
        "a limit without its controller is refused by name",
        no_controller,
    ),
    ("the OOM killer's work is counted", oom),
    ("limits can be changed", update),
    ("limits are changed all or none", update_all_or_none),
    (
        "a limit below the memory in use is refused",
        update_memory_in_use,
    ),
    (
        "killing the cgroup kills a crowd, and then it can be removed",
        crowd,
    ),
    (
        "a full cgroup refuses an exec with an error",
        pids_exhausted,
    ),
    (
        "exec goes where the first process went that manages the container's cgroup",
        inner_cgroup,
    ),
    (
        "what fails for want of descriptors leaves no cgroup",
        no_descriptors,
    ),
];

fn has(controller: &str) -> bool {
    fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
        .is_ok_and(|text| text.split_whitespace().any(|word| word == controller))
}

fn need(controllers: &[&str]) -> Result<()> {
    match controllers.iter().find(|controller| !has(controller)) {
        Some(absent) => Err(Skip(format!("no {absent} controller on this node")).into()),
        None => Ok(()),
    }
}

fn limits(lab: &Lab) -> Result<()> {
    need(&["cpu", "memory", "pids"])?;
    let container = lab.container("sleep 100").set(
        "/linux/resources",
        json!({
            "cpu": {"shares": 512, "quota": 50000, "period": 100000},
            "memory": {"limit": 64 << 20, "swap": 64 << 20, "reservation": 1 << 20},
            "pids": {"limit": 20},
            "unified": {"memory.high": "33554432", "memory.oom.group": "1"},
        }),
    );
    let _running = container.create()?;
    for (file, value) in [
        ("cpu.max", "50000 100000"),
        ("memory.max", "67108864"),
        ("memory.low", "1048576"),
        ("pids.max", "20"),
        ("memory.high", "33554432"),
        ("memory.oom.group", "1"),
    ] {
        let is = fs::read_to_string(container.cgroup.join(file))?;
        ensure!(is.trim() == value, "{file} is {is:?}");
    }
    let procs = fs::read_to_string(container.cgroup.join("cgroup.procs"))?;
    ensure!(procs.lines().count() == 1, "{procs:?}");
    Ok(())
}

fn no_controller(lab: &Lab) -> Result<()> {
    if has("hugetlb") && has("cpuset") {
        return Err(Skip("all controllers are here".into()).into());
    }
    let (limit, name) = if has("cpuset") {
        (json!({"unified": {"hugetlb.2MB.max": "0"}}), "hugetlb")
    } else {
        (json!({"cpu": {"cpus": "0"}}), "cpuset")
    };
    let container = lab.container("true").set("/linux/resources", limit);
    holds(
        &container.failure()?,
        &[name, "controller", &container.cgroup.to_string_lossy()],
    )?;
    ensure!(!container.cgroup.exists(), "the cgroup is left");
    Ok(())
}

fn oom(lab: &Lab) -> Result<()> {
    need(&["memory"])?;
    let script = "head -c 200000000 /dev/zero > /dev/shm/x; true; x=$(cat /dev/shm/x); echo no";
    let container = lab.container(script).set(
        "/linux/resources",
        json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}}),
    );
    let running = container.start()?;
    let pidfd = running.init.pidfd().try_clone_to_owned()?;
    let _ = rustix::event::poll(
        &mut [rustix::event::PollFd::new(
            &pidfd,
            rustix::event::PollFlags::IN,
        )],
        None,
    )?;
    ensure!(cgroup::oom_kills(&container.cgroup) > 0);
    Ok(())
}

fn update(lab: &Lab) -> Result<()> {
    need(&["memory"])?;
    let container = lab.container("sleep 100");
    let _running = container.start()?;
    let limits = serde_json::from_value(json!({"memory": {"limit": 32 << 20}}))?;
    cgroup::update(&container.cgroup, &limits)?;
    let is = fs::read_to_string(container.cgroup.join("memory.max"))?;
    ensure!(is.trim() == "33554432", "{is:?}");
    Ok(())
}

fn update_all_or_none(lab: &Lab) -> Result<()> {
    need(&["cpu", "memory", "pids"])?;
    let limits = json!({"cpu": {"shares": 512}, "memory": {"limit": 64 << 20}});
    let container = lab.container("sleep 100").set("/linux/resources", limits);
    let _running = container.start()?;
    let changes = serde_json::from_value(json!({
        "cpu": {"shares": 1024, "quota": 50000, "period": 100000},
        "memory": {"limit": 128 << 20},
        "unified": {"pids.max": "many"},
    }))?;
    let error = cgroup::update(&container.cgroup, &changes).expect_err("changed");
    holds(&error.to_string(), &["pids.max", "many"])?;
    for (file, value) in [
        ("cpu.weight", "59"),
        ("cpu.max", "max 100000"),
        ("memory.max", "67108864"),
        ("pids.max", "max"),
    ] {
        let is = fs::read_to_string(container.cgroup.join(file))?;
        ensure!(is.trim() == value, "{file} is {is:?}");
    }
    Ok(())
}

fn update_memory_in_use(lab: &Lab) -> Result<()> {
    need(&["memory"])?;
    let script = "head -c 20000000 /dev/zero > /dev/shm/x; sleep 100";
    let limits = json!({"memory": {"limit": 64 << 20, "swap": 64 << 20}});
    let container = lab.container(script).set("/linux/resources", limits);
    let _running = container.start()?;
    let begin = std::time::Instant::now();
    let usage = || fs::read_to_string(container.cgroup.join("memory.current"));
    while usage()?.trim().parse::<u64>()? < 20_000_000 {
        ensure!(begin.elapsed().as_secs() < 10, "memory is not used");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let changes = serde_json::from_value(json!({"memory": {"limit": 8 << 20}}))?;
    let error = cgroup::update(&container.cgroup, &changes).expect_err("changed");
    holds(&error.to_string(), &["in use", "8388608"])?;
    for (file, value) in [("memory.max", "67108864"), ("memory.high", "max")] {
        let is = fs::read_to_string(container.cgroup.join(file))?;
        ensure!(is.trim() == value, "{file} is {is:?}");
    }
    ensure!(cgroup::oom_kills(&container.cgroup) == 0, "killed for it");
    Ok(())
}

fn crowd(lab: &Lab) -> Result<()> {
    let script = "trap '' TERM HUP INT; i=0; while [ $i -lt 300 ]; do sleep 1000 & i=$((i+1)); done; \
                  echo there; wait";
    let container = lab.container(script);
    let running = container.start()?;
    let begin = std::time::Instant::now();
    while cgroup::processes(&container.cgroup)?.len() < 301 {
        ensure!(begin.elapsed().as_secs() < 30, "no crowd");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    cgroup::kill_all(&container.cgroup)?;
    let (code, _) = running.finish()?;
    ensure!(code == 137, "{code}");
    Ok(())
}

/// As systemd and podman do in a container: from then on no process may be in the cgroup above.
fn inner_cgroup(lab: &Lab) -> Result<()> {
    need(&["memory", "pids"])?;
    let script = "cd /sys/fs/cgroup; mkdir init; echo 1 >init/cgroup.procs; \
                  echo +memory +pids >cgroup.subtree_control; sleep 1000";
    let limits = json!({"memory": {"limit": 256 << 20}, "pids": {"limit": 100}});
    let mut container = lab.container(script).set("/linux/resources", limits);
    let mounts = container.tree["mounts"].as_array_mut().expect("mounts");
    let mount = mounts.iter_mut().find(|m| m["type"] == "cgroup");
    mount.expect("a cgroup mount")["options"] = json!(["rw"]);
    let running = container.start()?;
    let control = container.cgroup.join("cgroup.subtree_control");
    let begin = std::time::Instant::now();
    while fs::read_to_string(&control)?.trim().is_empty() {
        ensure!(begin.elapsed().as_secs() < 10, "no controllers handed down");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let args = json!(["cat", "/proc/self/cgroup"]);
    for (code, output) in [
        running.exec_process(args.clone())?,
        running.exec_beside_tracers(args)?,
    ] {
        ensure!(code == 0 && output == "0::/init\n", "{code}: {output:?}");
    }
    running.exec("sleep 1000 >/dev/null 2>&1 &")?;
    let processes = || cgroup::processes(&container.cgroup);
    ensure!(processes()?.len() >= 2, "{:?}", processes()?);
    cgroup::kill_all(&container.cgroup)?;
    let (code, _) = running.finish()?;
    ensure!(code == 137, "{code}");
    ensure!(processes()?.is_empty(), "{:?}", processes()?);
    Ok(())
}

/// Each time one step more can be taken, until all can.
fn no_descriptors(lab: &Lab) -> Result<()> {
    let limits = getrlimit(Resource::Nofile);
    let few = Rlimit {
        current: Some(64),
        ..limits
    };
    setrlimit(Resource::Nofile, few)?;
    let done = container_refused(lab).and_then(|()| init_refused());
    setrlimit(Resource::Nofile, limits)?;
    done
}

fn container_refused(lab: &Lab) -> Result<()> {
    for free in 0.. {
        // A volatile overlay's directories are used once.
        let container = lab.container("true");
        match starved(free, || container.create_with(More::default())) {
            Ok(_) => break,
            Err(e) => ensure!(!container.cgroup.exists(), "{free} free: {e:#}"),
        }
    }
    Ok(())
}

fn init_refused() -> Result<()> {
    let cgroup = Path::new("/sys/fs/cgroup/skiff-lab-test/starved");
    for free in 0.. {
        match starved(free, || Ok(pod_init::spawn(Some(cgroup), None)?)) {
            Ok(init) => {
                pidfd_send_signal(&init.pidfd, Signal::KILL)?;
                waitid(WaitId::PidFd(init.pidfd.as_fd()), WaitIdOptions::EXITED)?;
                break;
            }
            Err(e) => ensure!(!cgroup.exists(), "{free} free: {e:#}"),
        }
    }
    while !cgroup::remove(cgroup)? {}
    Ok(())
}

/// Runs something with only so many descriptors to be had.
fn starved<T>(free: usize, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut taken: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
    let rest = taken.len().checked_sub(free);
    taken.truncate(rest.context("all of them are not enough")?);
    let outcome = run();
    drop(taken);
    outcome
}

fn pids_exhausted(lab: &Lab) -> Result<()> {
    need(&["pids"])?;
    let container = lab
        .container("sleep 100")
        .set("/linux/resources", json!({"pids": {"limit": 1}}));
    let running = container.start()?;
    let error = running.exec("true").expect_err("ran");
    holds(
        &format!("{error:#}"),
        &["clone", &container.cgroup.to_string_lossy()],
    )
}
