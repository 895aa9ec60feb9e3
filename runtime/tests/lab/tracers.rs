//! Containers that may trace: what they see of a process that comes in.

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use skiff_runtime::{Exec, Progress, Stdio};

use crate::Test;
use crate::fixture::{Container, Lab, More, Running, reap};

pub(crate) const TESTS: &[Test] = &[
    (
        "an exec shows a container with CAP_SYS_PTRACE nothing of the host",
        own_exec,
    ),
    (
        "an exec shows another container in its PID namespace nothing of the host",
        exec_of_another,
    ),
    (
        "a process beside tracers has what it is to have",
        whole_process,
    ),
];

/// How often somebody comes in: without a helper, most times something was seen.
const EXECS: usize = 150;

fn tracing(container: Container) -> Container {
    ["bounding", "effective", "permitted"]
        .into_iter()
        .fold(container, |container, set| {
            let pointer = format!("/process/capabilities/{set}");
            let mut names = container.tree.pointer(&pointer).cloned();
            if let Some(Value::Array(names)) = &mut names {
                names.push("CAP_SYS_PTRACE".into());
            }
            container.set(&pointer, json!(names))
        })
}

/// Looks through the root and every descriptor of every process for a directory of the host's,
/// with nothing but what is built into the shell, so that it is quick.
fn watcher(lab: &Lab) -> String {
    let mark = lab.dir.path().display();
    format!(
        "while :; do for p in /proc/[1-9]*; do \
           [ $p = /proc/$$ ] && continue; \
           [ -e $p/root/bin/busybox ] && : >/tmp/looked; \
           [ -e $p/root{mark} ] && echo $p/root >>/tmp/seen; \
           for f in $p/fd/*; do \
             [ -e $f/../../../../../../../..{mark} ] && echo $f >>/tmp/seen; \
           done; \
         done; done"
    )
}

fn judge(watching: &Running<'_>) -> Result<()> {
    let (_, seen) = watching.exec("cat /tmp/seen; [ -e /tmp/looked ] && echo looked")?;
    let (looked, seen): (Vec<_>, Vec<_>) = seen.lines().partition(|line| *line == "looked");
    ensure!(looked.len() == 1, "the watcher saw nobody: {seen:?}");
    let seen: Vec<_> = seen
        .iter()
        .filter(|line| line.starts_with("/proc"))
        .collect();
    ensure!(
        seen.is_empty(),
        "{} ways to the host, among them {:?}",
        seen.len(),
        &seen[..seen.len().min(4)]
    );
    Ok(())
}

fn own_exec(lab: &Lab) -> Result<()> {
    let container = tracing(lab.container(&watcher(lab)));
    let running = container.start()?;
    for _ in 0..EXECS {
        running.exec_process(json!(["true"]))?;
    }
    judge(&running)
}

/// `kubectl debug --target`: the debugger may trace, the container that execs go to may not.
fn exec_of_another(lab: &Lab) -> Result<()> {
    let target = lab.container("sleep 1000");
    let debugger = tracing(lab.container(&watcher(lab)));
    let running = target.start()?;
    let more = More {
        pid_namespace: Some(running.init.pidfd()),
        ..More::default()
    };
    let (mut watching, _) = debugger.create_with(more)?;
    watching.start()?;
    for _ in 0..EXECS {
        running.exec_beside_tracers(json!(["true"]))?;
    }
    judge(&watching)
}

/// Its terminal, descriptors, namespaces, cgroup and score are as without tracers.
fn whole_process(lab: &Lab) -> Result<()> {
    let look = "cat /proc/self/cgroup /proc/self/oom_score_adj; ls /proc/self/fd | wc -l; \
                readlink /proc/self/ns/mnt /proc/self/ns/pid /proc/self/ns/cgroup /proc/self/ns/ipc \
                /proc/self/ns/uts /proc/self/ns/net; pwd; grep -E 'Cap|Dump' /proc/self/status";
    let container = tracing(lab.container("sleep 1000"));
    let running = container.start()?;
    let (code, beside) = running.exec(look)?;
    ensure!(code == 0, "{beside}");
    let plain = lab.container("sleep 1000");
    let without = plain.start()?;
    let (_, direct) = without.exec(look)?;
    for (beside, direct) in beside.lines().zip(direct.lines()) {
        let own = |line: &str| line.contains(":[") || line.starts_with("Cap");
        ensure!(
            beside == direct || own(direct),
            "{beside:?}, not {direct:?}"
        );
    }
    let namespaces = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| line.contains(":["))
            .map(str::to_owned)
            .collect()
    };
    let (_, first) = running.exec(
        "readlink /proc/1/ns/mnt /proc/1/ns/pid /proc/1/ns/cgroup \
                                   /proc/1/ns/ipc /proc/1/ns/uts /proc/1/ns/net",
    )?;
    ensure!(
        namespaces(&beside) == namespaces(&first),
        "{beside} beside {first}"
    );
    let failure = running.exec_process(json!(["/no/such"]));
    let failure = failure.err().map(|e| e.to_string()).unwrap_or_default();
    ensure!(failure.contains("/no/such"), "{failure}");
    let terminal = terminal(&running)?;
    ensure!(terminal.contains("/dev/pts/0"), "{terminal}");
    Ok(())
}

/// What `tty` says on a terminal.
fn terminal(running: &Running<'_>) -> Result<String> {
    let mut tree = running.container.tree["process"].clone();
    tree["args"] = json!(["tty"]);
    let process = serde_json::from_value(tree)?;
    let cgroup = &running.container.cgroup;
    let exec = Exec::new(&process, running.init.pidfd(), cgroup, Stdio::Terminal);
    let mut init = skiff_runtime::exec(exec)?;
    let Progress::Running {
        console: Some(console),
    } = init.wait()?
    else {
        bail!("no terminal");
    };
    let mut said = [0; 64];
    let length = rustix::io::read(&console, &mut said)?;
    reap(&init)?;
    Ok(String::from_utf8_lossy(&said[..length]).into_owned())
}
