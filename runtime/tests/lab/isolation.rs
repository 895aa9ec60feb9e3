//! What a container must not have, see or do.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::Test;
use crate::fixture::{Lab, Skip, holds};

pub(crate) const TESTS: &[Test] = &[
    (
        "no descriptor of ours is left in the container",
        descriptors,
    ),
    (
        "masked paths are empty, read-only paths cannot be written",
        masks,
    ),
    (
        "a masked path that is a link in the image masks its target only",
        mask_through_link,
    ),
    (
        "user, groups, umask and capabilities are those asked for",
        credentials,
    ),
    ("another user keeps the ambient capabilities", ambient),
    (
        "limits are set, and raising them without the right is refused",
        limits,
    ),
    ("namespaces are the container's own", namespaces),
    ("a new network namespace has its loopback up", loopback),
    (
        "sysctls are set in the container's namespaces only",
        sysctls,
    ),
    ("devices are made, and others cannot be used", devices),
    (
        "a configured device is usable when its rule says so",
        configured_device,
    ),
    ("what is not supported is refused by name", refused),
];

fn descriptors(lab: &Lab) -> Result<()> {
    let container = lab
        .container("")
        .set("/process/args", json!(["sleep", "100"]));
    let running = container.start()?;
    let script = "ls /proc/1/fd | wc -l; readlink /proc/1/cwd; readlink /proc/1/root";
    let (_, output) = running.exec(script)?;
    ensure!(output == "3\n/\n/\n", "{output:?}");
    Ok(())
}

fn masks(lab: &Lab) -> Result<()> {
    let script = "cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; touch /sys/firmware/x 2>&1; \
                  echo 1 > /proc/sys/kernel/domainname; echo $?; \
                  mount -o remount,rw /proc/sys 2>&1; cat /proc/keys | wc -c";
    let (_, output) = lab.container(script).run()?;
    holds(&output, &["0\n0\n", "Read-only file system", "\n1\n"])?;
    ensure!(output.ends_with("0\n"), "{output:?}");
    Ok(())
}

fn mask_through_link(lab: &Lab) -> Result<()> {
    let mut container = lab
        .container("cat /etc/secret; echo end; ls /tmp/none 2>&1")
        .set(
            "/linux/maskedPaths",
            json!(["/mask-link", "/tmp/none", "/etc/secret/deeper"]),
        );
    let layer = tempfile::tempdir_in(lab.dir.path())?.keep();
    std::fs::create_dir(layer.join("etc"))?;
    std::fs::write(layer.join("etc/secret"), "secret")?;
    std::os::unix::fs::symlink("/etc/secret", layer.join("mask-link"))?;
    container.lower.insert(0, layer);
    let (_, output) = container.run()?;
    ensure!(output.starts_with("end\n"), "{output:?}");
    Ok(())
}

fn credentials(lab: &Lab) -> Result<()> {
    let script = "id -u; id -g; grep -E '^(Groups|CapBnd|CapEff|CapPrm|CapInh|CapAmb|NoNewPrivs)' \
                  /proc/self/status; umask";
    let container = lab
        .container(script)
        .set(
            "/process/user",
            json!({"uid": 1000, "gid": 1001, "umask": 0o077,
            "additionalGids": [5, 1002]}),
        )
        .set(
            "/process/capabilities",
            json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN"],
            "effective": [], "inheritable": []}),
        );
    let output = container.output()?.replace('\t', " ");
    holds(
        &output,
        &[
            "1000\n1001\n",
            "Groups: 5 1002",
            "CapInh: 0000000000000000",
            "CapPrm: 0000000000000000",
            "CapEff: 0000000000000000",
            "CapBnd: 0000000000000021",
            "CapAmb: 0000000000000000",
            "NoNewPrivs: 1",
            "0077\n",
        ],
    )?;
    let root = lab
        .container("grep -E '^Cap(Eff|Bnd)' /proc/self/status")
        .output()?;
    let root = root.replace('\t', " ");
    holds(
        &root,
        &["CapEff: 00000000a80425fb", "CapBnd: 00000000a80425fb"],
    )
}

fn ambient(lab: &Lab) -> Result<()> {
    let set = json!(["CAP_NET_BIND_SERVICE"]);
    let container = lab
        .container("grep -E '^Cap(Eff|Amb)' /proc/self/status")
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .set(
            "/process/capabilities",
            json!({
            "bounding": set, "permitted": set, "effective": set, "inheritable": set,
            "ambient": set}),
        );
    let output = container.output()?.replace('\t', " ");
    holds(
        &output,
        &["CapEff: 0000000000000400", "CapAmb: 0000000000000400"],
    )
}

fn limits(lab: &Lab) -> Result<()> {
    let limit =
        |kind: &str, soft: u64, hard: u64| json!({"type": kind, "soft": soft, "hard": hard});
    let container = lab
        .container("ulimit -n; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj")
        .set(
            "/process/rlimits",
            json!([limit("RLIMIT_NOFILE", 100, 200), limit("RLIMIT_CORE", 0, 0)]),
        );
    ensure!(container.output()? == "100\n200\n0\n1000\n");
    let may_raise = std::fs::read_to_string("/proc/self/status")?
        .lines()
        .filter_map(|line| line.strip_prefix("CapEff:\t"))
        .any(|hex| u64::from_str_radix(hex, 16).is_ok_and(|caps| caps >> 24 & 1 == 1));
    if !may_raise {
        let high = json!([limit("RLIMIT_NOFILE", 1 << 30, 1 << 30)]);
        let message = lab
            .container("true")
            .set("/process/rlimits", high)
            .failure()?;
        holds(&message, &["RLIMIT_NOFILE", "CAP_SYS_RESOURCE"])?;
    }
    Ok(())
}

fn namespaces(lab: &Lab) -> Result<()> {
    let output = lab
        .container("for f in /proc/self/ns/*; do readlink $f; done; echo $$")
        .output()?;
    for kind in ["pid", "ipc", "uts", "mnt", "cgroup"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}"))?;
        ensure!(
            !output.contains(&*own.to_string_lossy()),
            "{kind} is the host's"
        );
    }
    let host = std::fs::read_link("/proc/self/ns/net")?;
    holds(&output, &[&host.to_string_lossy(), "\n1\n"])
}

fn loopback(lab: &Lab) -> Result<()> {
    let mut container = lab.container("ifconfig lo; ls /sys/class/net");
    if let Some(list) = container.tree["linux"]["namespaces"].as_array_mut() {
        list.push(json!({"type": "network"}));
    }
    let output = container.output()?;
    holds(&output, &["UP LOOPBACK RUNNING", "127.0.0.1"])?;
    ensure!(!output.contains("eth"), "{output}");
    Ok(())
}

fn sysctls(lab: &Lab) -> Result<()> {
    let before = std::fs::read_to_string("/proc/sys/kernel/msgmax")?;
    let output = lab
        .container("cat /proc/sys/kernel/msgmax")
        .set("/linux/sysctl", json!({"kernel.msgmax": "4321"}))
        .output()?;
    ensure!(output == "4321\n", "{output:?}");
    ensure!(std::fs::read_to_string("/proc/sys/kernel/msgmax")? == before);
    let message = lab
        .container("true")
        .set("/linux/sysctl", json!({"kernel.no_such": "1"}))
        .failure()?;
    holds(&message, &["kernel.no_such"])
}

fn devices(lab: &Lab) -> Result<()> {
    let script = "ls /dev; echo x > /dev/null && head -c 4 /dev/zero | wc -c; \
                  mknod /dev/mem c 1 1 && cat /dev/mem 2>&1 | head -c 60; \
                  ls -l /dev/ptmx /dev/fd";
    let output = lab.container(script).output()?;
    for name in [
        "full", "null", "random", "tty", "urandom", "zero", "fd", "stdin", "shm",
    ] {
        ensure!(
            output.lines().any(|line| line == name),
            "no /dev/{name} in {output}"
        );
    }
    holds(
        &output,
        &[
            "\n4\n",
            "Operation not permitted",
            "pts/ptmx",
            "/proc/self/fd",
        ],
    )
}

fn configured_device(lab: &Lab) -> Result<()> {
    let script = "stat -c '%a %u %t:%T' /dev/extra; head -c 1 /dev/extra 2>&1 | wc -c";
    let rules = |allow: bool| {
        json!({"devices": [
            {"allow": false, "access": "rwm"},
            {"allow": allow, "type": "c", "major": 1, "minor": 11, "access": "r"},
        ]})
    };
    let device = json!([{"path": "/dev/extra", "type": "c", "major": 1, "minor": 11,
        "fileMode": 0o640, "uid": 7, "gid": 0}]);
    let with = |allow: bool| {
        lab.container(script)
            .set("/linux/devices", device.clone())
            .set("/linux/resources", rules(allow))
            .output()
    };
    let output = with(false)?;
    holds(&output, &["640 7 1:b\n"])?;
    if std::fs::File::open("/dev/kmsg").is_err() {
        return Err(Skip("the node itself cannot read /dev/kmsg".into()).into());
    }
    let output = with(true)?;
    ensure!(!output.contains("not permitted"), "{output}");
    Ok(())
}

fn refused(lab: &Lab) -> Result<()> {
    let mapping = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
    let container = lab.container("true").set("/linux/uidMappings", mapping);
    holds(&container.failure()?, &["linux.uidMappings"])
}
