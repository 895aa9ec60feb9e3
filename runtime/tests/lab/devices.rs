//! Devices of the configuration, and what the cgroup's program says of others.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use skiff_runtime::cgroup::device_programs;

use crate::Test;
use crate::fixture::{Container, Lab, holds};

pub(crate) const TESTS: &[Test] = &[
    (
        "a device that was not given is not opened, whoever makes its node",
        not_given,
    ),
    ("a device given for reading is not written", read_only),
    (
        "containers with equal rules share one program, others have another",
        one_program,
    ),
];

/// A node of /dev/null's numbers plus `minor`, with a rule.
fn with_rule(container: Container, minor: u32, access: &str) -> Container {
    let rules: Value = json!({"devices": [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": minor, "access": access},
    ]});
    let node = json!([{"path": "/dev/given", "type": "c", "major": 1, "minor": minor,
        "fileMode": 0o666, "uid": 0, "gid": 0}]);
    container
        .set("/linux/devices", node)
        .set("/linux/resources", rules)
}

/// Major 10, minor 229 is /dev/fuse, major 7 the loop devices: neither is anybody's default.
fn not_given(lab: &Lab) -> Result<()> {
    let script = "mknod /dev/fuse c 10 229 && mknod /dev/loop0 b 7 0 && \
                  for d in fuse loop0; do head -c 1 /dev/$d 2>&1; echo x 2>&1 >/dev/$d; done; true";
    let output = with_rule(lab.container(script), 11, "r").output()?;
    let refusals = output.matches("Operation not permitted").count();
    ensure!(refusals == 4, "{output}");
    Ok(())
}

/// The device is /dev/kmsg, which every kernel has.
fn read_only(lab: &Lab) -> Result<()> {
    let script = "sh -c 'exec 3</dev/given' 2>&1 || exit 1; echo read; \
                  sh -c 'exec 3>>/dev/given' 2>&1; sh -c 'exec 3<>/dev/given' 2>&1; true";
    if std::fs::File::open("/dev/kmsg").is_err() {
        let why = "the node itself cannot read /dev/kmsg".to_owned();
        return Err(crate::fixture::Skip(why).into());
    }
    let output = with_rule(lab.container(script), 11, "r").output()?;
    holds(&output, &["read\n"])?;
    let refusals = output.matches("Operation not permitted").count();
    ensure!(refusals == 2, "{output}");
    Ok(())
}

fn one_program(lab: &Lab) -> Result<()> {
    let containers = [(11, "r"), (11, "r"), (11, "rw")]
        .map(|(minor, access)| with_rule(lab.container("sleep 100"), minor, access));
    let mut ids = Vec::new();
    let mut running = Vec::new();
    for container in &containers {
        running.push(container.start()?);
        ids.push(device_programs(&container.cgroup)?);
    }
    ensure!(ids.iter().all(|ids| ids.len() == 1), "{ids:?}");
    ensure!(ids[0] == ids[1], "loaded twice: {ids:?}");
    ensure!(ids[0] != ids[2], "one program for two rule sets: {ids:?}");
    Ok(())
}
