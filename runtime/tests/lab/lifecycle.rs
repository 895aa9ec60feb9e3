//! Create, start, exec, the end of it, and commands that cannot be.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use serde_json::json;
use skiff_runtime::{Failure, Init, Progress};

use crate::Test;
use crate::fixture::{Lab, More, holds, reap};

pub(crate) const TESTS: &[Test] = &[
    ("container runs and its exit code is seen", runs),
    ("nothing of the command happens before start", waits),
    (
        "a command that is not there is 127, one not executable 126",
        refused_commands,
    ),
    ("exec joins the container", exec_joins),
    ("exec of a command that is not there is 127", exec_refused),
    (
        "a created container ends with its creator",
        ends_with_creator,
    ),
    ("a created container is started through its gate", gate),
    (
        "a terminal is the controlling one, of the size asked for",
        terminal,
    ),
    (
        "working directory is made, and must not be a file",
        working_directory,
    ),
    (
        "working directory cannot be the host's",
        host_working_directory,
    ),
    ("hooks run where and when they should", hooks),
    ("a failed hook outside fails the create", failed_hook),
];

fn runs(lab: &Lab) -> Result<()> {
    let (code, output) = lab.container("echo $HOME; hostname; exit 7").run()?;
    ensure!(
        code == 7 && output == "/root\nlatency\n",
        "{code} {output:?}"
    );
    let (code, _) = lab
        .container("kill -TERM $$; trap : TERM; kill -9 $$; sleep 9 & wait")
        .run()?;
    ensure!(code == 0 || code > 128, "{code}");
    Ok(())
}

fn waits(lab: &Lab) -> Result<()> {
    let container = lab.container("touch /made");
    let mut running = container.create()?;
    std::thread::sleep(Duration::from_millis(20));
    let made = container.dir.join("upper/made");
    ensure!(!made.exists(), "ran before start");
    ensure!(running.init.start_time()? > 0);
    running.start()?;
    running.finish()?;
    ensure!(made.exists(), "did not run");
    Ok(())
}

fn exit_code_of(error: &anyhow::Error) -> Option<i32> {
    error
        .downcast_ref::<Failure>()
        .and_then(|failure| failure.exit_code)
}

fn refused_commands(lab: &Lab) -> Result<()> {
    for (args, code) in [
        (json!(["no-such"]), 127),
        (json!(["/no/such"]), 127),
        (json!(["/etc"]), 126),
        (json!(["/bin/data"]), 126),
        (json!(["data"]), 126),
    ] {
        std::fs::write(lab.image().join("bin/data"), "neither script nor program")?;
        let container = lab.container("").set("/process/args", args.clone());
        let error = container.run().expect_err("ran");
        ensure!(exit_code_of(&error) == Some(code), "{args}: {error:#}");
        holds(&error.to_string(), &[args[0].as_str().unwrap_or_default()])?;
    }
    Ok(())
}

fn exec_joins(lab: &Lab) -> Result<()> {
    let container = lab.container("sleep 100");
    let running = container.start()?;
    let script = "hostname; for k in pid mnt cgroup; do readlink /proc/self/ns/$k; done; \
                  cat /proc/self/oom_score_adj; cat /proc/self/cgroup; exit 3";
    let (code, inside) = running.exec(script)?;
    ensure!(code == 3, "{code}: {inside}");
    holds(&inside, &["latency\n", "\n1000\n", "0::/\n"])?;
    let own = std::fs::read_link("/proc/self/ns/mnt")?;
    ensure!(
        !inside.contains(&*own.to_string_lossy()),
        "in the host's mount namespace"
    );
    let (_, fds) = running.exec("ls /proc/self/fd | wc -l")?;
    ensure!(fds.trim() == "4", "0, 1, 2 and that of ls, but {fds}");
    Ok(())
}

fn exec_refused(lab: &Lab) -> Result<()> {
    let container = lab.container("sleep 100");
    let running = container.start()?;
    let error = running.exec_process(json!(["no-such"])).expect_err("ran");
    ensure!(exit_code_of(&error) == Some(127), "{error:#}");
    Ok(())
}

fn ends_with_creator(lab: &Lab) -> Result<()> {
    let container = lab.container("touch /made");
    let running = container.create()?;
    // The same process, with another end of another conversation: ours is closed.
    let pidfd = running.init.pidfd().try_clone_to_owned()?;
    let (a, _b) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut running = running;
    running.init = Init::attach(running.init.pid(), pidfd, a);
    let code = reap(&running.init)?;
    ensure!(code == 1, "{code}");
    ensure!(
        !container.dir.join("upper/made").exists(),
        "ran nevertheless"
    );
    Ok(())
}

fn gate(lab: &Lab) -> Result<()> {
    let container = lab.container("touch /made");
    let path = lab.dir.path().join("gate.sock");
    let seqpacket = || {
        socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
    };
    let listener = seqpacket()?;
    bind(&listener, &SocketAddrUnix::new(&path)?)?;
    listen(&listener, 1)?;
    let (mut running, progress) = container.create_with(More {
        gate: Some(listener.as_fd()),
        ..More::default()
    })?;
    ensure!(matches!(progress, Progress::Ready { .. }), "{progress:?}");
    let socket = seqpacket()?;
    connect(&socket, &SocketAddrUnix::new(&path)?)?;
    let pidfd = running.init.pidfd().try_clone_to_owned()?;
    running.init = Init::attach(running.init.pid(), pidfd, socket);
    running.start()?;
    running.finish()?;
    ensure!(container.dir.join("upper/made").exists(), "did not run");
    Ok(())
}

fn terminal(lab: &Lab) -> Result<()> {
    let container = lab
        .container("tty; stty size; stat -c %u /dev/console; echo x > /dev/tty; sleep 0.1")
        .set("/process/terminal", json!(true))
        .set("/process/consoleSize", json!({"height": 11, "width": 77}))
        .set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let (mut running, progress) = container.create_with(More {
        terminal: true,
        ..More::default()
    })?;
    let Progress::Ready {
        console: Some(master),
    } = progress
    else {
        bail!("{progress:?}")
    };
    running.start()?;
    let mut text = Vec::new();
    let mut buffer = [0; 1024];
    // The end of a terminal is an error of reading.
    while let Ok(n) = rustix::io::read(&master, &mut buffer) {
        text.extend_from_slice(&buffer[..n]);
    }
    holds(
        &String::from_utf8_lossy(&text),
        &["/dev/console\r\n11 77\r\n1000\r\nx\r\n"],
    )
    .or_else(|_| {
        holds(
            &String::from_utf8_lossy(&text),
            &["/dev/pts/0\r\n11 77\r\n1000\r\nx\r\n"],
        )
    })
}

fn working_directory(lab: &Lab) -> Result<()> {
    let at = |cwd: &str| lab.container("pwd").set("/process/cwd", json!(cwd));
    ensure!(at("/made/by/us").output()? == "/made/by/us\n");
    let read_only = at("/made/too").set("/root/readonly", json!(true));
    ensure!(read_only.output()? == "/made/too\n");
    holds(
        &at("/bin/busybox").failure()?,
        &["/bin/busybox", "Not a directory"],
    )
}

fn host_working_directory(lab: &Lab) -> Result<()> {
    for cwd in ["/proc/self/fd/7", "/proc/self/cwd", "/proc/1/root"] {
        let message = lab
            .container("pwd")
            .set("/process/cwd", json!(cwd))
            .failure()?;
        holds(&message, &[cwd])?;
    }
    Ok(())
}

fn hook(lab: &Lab, what: &str) -> serde_json::Value {
    let out = lab.dir.path().join("hooks");
    let script = format!(
        "{{ echo {what}; readlink /proc/self/ns/mnt; }} >> {}",
        out.display()
    );
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}])
}

fn hooks(lab: &Lab) -> Result<()> {
    let out = lab.dir.path().join("hooks");
    let inside = json!([{"path": "/bin/touch", "args": ["touch", "/by-hook"]}]);
    let container = lab
        .container("ls /by-hook")
        .set("/root/path", json!("rootfs"))
        .set(
            "/hooks",
            json!({
                "prestart": hook(lab, "prestart"),
                "createRuntime": hook(lab, "createRuntime"),
                "createContainer": hook(lab, "createContainer"),
                "startContainer": inside,
            }),
        );
    let bundle = lab.dir.path().join("bundle");
    std::fs::create_dir_all(bundle.join("rootfs"))?;
    let (mut running, progress) = container.create_with(More {
        bundle: Some(&*bundle),
        ..More::default()
    })?;
    ensure!(matches!(progress, Progress::Ready { .. }), "{progress:?}");
    let text = std::fs::read_to_string(&out)?;
    let lines: Vec<&str> = text.lines().collect();
    let own = std::fs::read_link("/proc/self/ns/mnt")?;
    let own = own.to_string_lossy();
    ensure!(
        lines[..4] == ["prestart", &own, "createRuntime", &own],
        "{lines:?}"
    );
    ensure!(
        lines[4] == "createContainer" && lines[5] != own,
        "{lines:?}"
    );
    running.start()?;
    let (code, output) = running.finish()?;
    ensure!(code == 0 && output == "/by-hook\n", "{code} {output:?}");
    let without = lab
        .container("true")
        .set("/hooks", json!({"prestart": hook(lab, "x")}));
    holds(&without.failure()?, &["hooks"])
}

fn failed_hook(lab: &Lab) -> Result<()> {
    let failing = json!([{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}]);
    let bundle = lab.dir.path().join("bundle");
    std::fs::create_dir_all(bundle.join("rootfs"))?;
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let hooks = json!({ kind: failing.clone() });
        let container = lab.container("true").set("/hooks", hooks);
        let (_running, progress) = container.create_with(More {
            bundle: Some(&*bundle),
            ..More::default()
        })?;
        let Progress::Failed(failure) = progress else {
            bail!("{kind}: {progress:?}")
        };
        holds(&failure.message, &[kind, "/bin/sh", "exited with 3"])?;
    }
    Ok(())
}
