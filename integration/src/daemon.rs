//! skiffd as a child process: started, asked whether it answers, killed and started again.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use skiff_cri::v1::{StatusRequest, VersionRequest};

use crate::client::{BUSYBOX, Cri};

/// How long a start may take until Version and Status answer.
const START_LIMIT: Duration = Duration::from_secs(10);

/// What a driver of tests is told about the daemon that it starts.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// The daemon to start.
    #[arg(long, default_value = "/usr/local/bin/skiffd")]
    pub skiffd: PathBuf,
    /// Its socket.
    #[arg(long, default_value = "unix:///run/skiff/skiff.sock")]
    pub endpoint: String,
    /// Its log, appended to.
    #[arg(long, default_value = "/var/log/skiffd.log")]
    pub log: PathBuf,
    /// Run only the tests whose name contains this.
    #[arg(long)]
    pub only: Option<String>,
}

impl Flags {
    /// The daemon, with the image that tests run.
    pub async fn start(&self) -> anyhow::Result<(Daemon, Cri)> {
        let started = Daemon::start(&self.skiffd, &[], &self.log, &self.endpoint).await;
        let (daemon, mut cri) = started?;
        cri.pull(BUSYBOX).await.context("pull the image")?;
        Ok((daemon, cri))
    }
}

/// A skiffd that this driver started. It is killed when this is dropped.
#[derive(Debug)]
pub struct Daemon {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    endpoint: String,
    child: Child,
}

impl Daemon {
    /// Starts `program`, whose socket is `endpoint`, with its output appended to `log`. Returns
    /// once it answers.
    pub async fn start(
        program: impl Into<PathBuf>,
        arguments: &[&str],
        log: impl Into<PathBuf>,
        endpoint: &str,
    ) -> anyhow::Result<(Self, Cri)> {
        let (program, log) = (program.into(), log.into());
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let child = spawn(&program, &arguments, &log)?;
        let mut daemon = Self {
            program,
            arguments,
            log,
            endpoint: endpoint.to_owned(),
            child,
        };
        let (cri, _) = daemon.answering().await?;
        Ok((daemon, cri))
    }

    /// SIGKILL, as a crash would be.
    pub fn crash(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("kill skiffd")?;
        self.child.wait().context("wait for skiffd")?;
        Ok(())
    }

    /// Starts it again after a crash. Returns how long it took until Version and Status answered.
    pub async fn restart(&mut self) -> anyhow::Result<(Cri, Duration)> {
        self.child = spawn(&self.program, &self.arguments, &self.log)?;
        self.answering().await
    }

    /// SIGTERM, and the wait for its end.
    pub fn terminate(&mut self) -> anyhow::Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).context("terminate skiffd")?;
        let deadline = Instant::now() + START_LIMIT;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("skiffd has not ended {START_LIMIT:?} after SIGTERM");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    async fn answering(&mut self) -> anyhow::Result<(Cri, Duration)> {
        let began = Instant::now();
        loop {
            let refusal = match self.answers().await {
                Ok(cri) => return Ok((cri, began.elapsed())),
                Err(error) => error,
            };
            if let Some(status) = self.child.try_wait()? {
                bail!("skiffd ended with {status}, see {}", self.log.display());
            }
            if began.elapsed() > START_LIMIT {
                return Err(refusal.context(format!(
                    "skiffd does not answer, see {}",
                    self.log.display()
                )));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn answers(&self) -> anyhow::Result<Cri> {
        let mut cri = Cri::connect(&self.endpoint).await?;
        cri.runtime.version(VersionRequest::default()).await?;
        cri.runtime.status(StatusRequest::default()).await?;
        Ok(cri)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // already ended: nothing to do, and nobody to tell
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &PathBuf, arguments: &[String], log: &PathBuf) -> anyhow::Result<Child> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("open {log:?}"))?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {program:?}"))
}
