//! Tests of the parent module, with shell scripts as plugins.

use std::fs;

use super::*;
use crate::capture::MAX_EXCERPT;

/// A directory of plugins.
struct Bin(tempfile::TempDir);

impl Bin {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(script: &str) -> Self {
        let bin = Self::new();
        bin.write("fake", script);
        bin
    }

    fn write(&self, name: &str, script: &str) {
        // Renamed into place: a test on another thread may be spawning and so, for a moment,
        // hold a copy of the descriptor the script is written through.
        let temporary = self.0.path().join(format!("{name}.new"));
        fs::write(&temporary, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&temporary, self.0.path().join(name)).unwrap();
    }

    fn launcher(&self) -> Launcher {
        Launcher::new(&[self.0.path().to_owned()], std::env::vars_os())
    }

    async fn run(&self, request: &str) -> Result<String, PluginError> {
        self.run_for(request, Duration::from_secs(60)).await
    }

    async fn run_for(&self, request: &str, limit: Duration) -> Result<String, PluginError> {
        let variables = [("CNI_COMMAND", OsString::from("ADD"))];
        let answer = self
            .launcher()
            .run("fake", &variables, request, limit)
            .await?;
        Ok(String::from_utf8(answer).unwrap())
    }
}

#[tokio::test]
async fn the_answer_is_what_was_printed() {
    assert_eq!(
        Bin::with("cat; echo noise >&2")
            .run("{\"a\":1}")
            .await
            .unwrap(),
        "{\"a\":1}"
    );
}

#[tokio::test]
async fn a_request_larger_than_a_pipe_is_delivered() {
    let request = "x".repeat(500_000);
    assert_eq!(
        Bin::with("cat").run(&request).await.unwrap().len(),
        request.len()
    );
}

#[tokio::test]
async fn a_plugin_need_not_read_its_request() {
    assert_eq!(
        Bin::with("echo done")
            .run(&"x".repeat(500_000))
            .await
            .unwrap(),
        "done\n"
    );
}

#[tokio::test]
async fn the_environment_is_explicit() {
    let bin = Bin::with("echo $CNI_COMMAND $CNI_PATH $NOTIFY_SOCKET $CNI_OLD $KEPT");
    let pairs = [
        ("NOTIFY_SOCKET", "bad"),
        ("CNI_OLD", "bad"),
        ("KEPT", "kept"),
    ];
    let environment = pairs.map(|(k, v)| (OsString::from(k), OsString::from(v)));
    let dirs = [bin.0.path().to_owned(), "/other".into()];
    let launcher = Launcher::new(&dirs, environment.into_iter());
    let variables = [("CNI_COMMAND", OsString::from("DEL"))];
    let answer = launcher
        .run("fake", &variables, "", Duration::from_secs(60))
        .await
        .unwrap();
    let expected = format!("DEL {}:/other kept\n", bin.0.path().display());
    assert_eq!(String::from_utf8(answer).unwrap(), expected);
}

#[tokio::test]
async fn a_refusal_keeps_code_and_texts() {
    let bin = Bin::with(r#"echo '{"code":7,"msg":"bad config","details":"no subnet"}'; exit 1"#);
    let error = bin.run("").await.unwrap_err();
    assert!(
        matches!(error, PluginError::Refused { code: 7, .. }),
        "{error:?}"
    );
    assert_eq!(error.to_string(), "bad config: no subnet (code 7)");
    let bin = Bin::with(r#"echo '{"code":100,"msg":"odd","details":{"a":1}}'; exit 1"#);
    assert_eq!(
        bin.run("").await.unwrap_err().to_string(),
        "odd: {\"a\":1} (code 100)"
    );
}

#[tokio::test]
async fn a_death_keeps_what_was_printed() {
    let text = Bin::with("echo why >&2; exit 3")
        .run("")
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(text, "exit status: 3, it printed: why");
    let text = Bin::with("echo panic; exit 2")
        .run("")
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(text, "exit status: 2, it printed: panic");
    let text = Bin::with("kill -9 $$")
        .run("")
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(text, "signal: 9 (SIGKILL)");
}

#[tokio::test]
async fn endless_output_is_cut() {
    let bin = Bin::with("head -c 3000000 /dev/zero | tr '\\0' x");
    let error = bin.run("").await.unwrap_err();
    assert!(matches!(&error, PluginError::Garbage { output, .. } if output.len() == MAX_EXCERPT));
}

#[tokio::test]
async fn a_hanging_plugin_is_killed_with_its_children() {
    let bin = Bin::new();
    let pids = bin.0.path().join("pids");
    bin.write(
        "fake",
        &format!("sleep 1000 & echo $! $$ > {}; wait", pids.display()),
    );
    let short = Duration::from_millis(300);
    let error = bin.run_for("", short).await.unwrap_err();
    assert!(matches!(error, PluginError::TimedOut { .. }), "{error:?}");
    for pid in fs::read_to_string(&pids).unwrap().split_whitespace() {
        wait_gone(pid).await;
    }
}

#[tokio::test]
async fn a_plugin_nobody_waits_for_is_killed() {
    let bin = Bin::new();
    let pids = bin.0.path().join("pids");
    bin.write(
        "fake",
        &format!(
            "echo $$ > {0}.new; mv {0}.new {0}; sleep 1000",
            pids.display()
        ),
    );
    {
        let run = bin.run("");
        tokio::pin!(run);
        while !pids.exists() {
            let pause = Duration::from_millis(5);
            assert!(tokio::time::timeout(pause, run.as_mut()).await.is_err());
        }
    }
    wait_gone(fs::read_to_string(&pids).unwrap().trim()).await;
}

/// Returns when the process is gone or a zombie; hangs otherwise, which the test runner reports.
async fn wait_gone(pid: &str) {
    let alive = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    while alive() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_descendant_with_the_pipes_open_delays_nothing() {
    let bin = Bin::new();
    let pid = bin.0.path().join("pid");
    bin.write(
        "fake",
        &format!("sleep 1000 & echo $! > {}; echo answer", pid.display()),
    );
    assert_eq!(bin.run("").await.unwrap(), "answer\n");
    let pid = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test]
async fn the_first_directory_with_the_binary_wins() {
    let (first, second) = (Bin::new(), Bin::with("echo second"));
    let dirs = [first.0.path().to_owned(), second.0.path().to_owned()];
    let launcher = Launcher::new(&dirs, std::env::vars_os());
    assert_eq!(launcher.find("fake").unwrap(), dirs[1].join("fake"));
    first.write("fake", "echo first");
    launcher.forget();
    assert_eq!(launcher.find("fake").unwrap(), dirs[0].join("fake"));
    fs::remove_file(dirs[0].join("fake")).unwrap();
    let answer = launcher
        .run("fake", &[], "", Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(answer, b"second\n");
}

#[tokio::test]
async fn what_is_no_executable_file_is_not_found() {
    let bin = Bin::new();
    fs::create_dir(bin.0.path().join("fake")).unwrap();
    fs::write(bin.0.path().join("plain"), "").unwrap();
    for kind in ["fake", "plain", "absent"] {
        let text = bin.launcher().find(kind).unwrap_err().to_string();
        let expected = format!(
            "no executable file of that name in {}",
            bin.0.path().display()
        );
        assert_eq!(text, expected);
    }
}

#[tokio::test]
async fn a_binary_that_cannot_run_names_its_path() {
    let bin = Bin::new();
    let path = bin.0.path().join("fake");
    fs::write(&path, [0x7f, b'E', b'L', b'F', 0, 0]).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let text = bin.run("").await.unwrap_err().to_string();
    assert!(
        text.starts_with(&format!("cannot run {}: ", path.display())),
        "{text}"
    );
}
