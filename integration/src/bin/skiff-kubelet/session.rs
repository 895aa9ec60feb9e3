//! Sessions of kubectl that last: they reach the middle of a scenario, and end there with the daemon
//! that carries them. What they have reached goes on.

use std::process::Stdio;

use anyhow::{Context, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::cluster::KUBECONFIG;
use crate::lab::{LIMIT, Lab};

/// A kubectl that runs, with its input and output. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Session {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Session {
    /// Starts `kubectl ARGUMENT...`.
    pub(crate) fn open(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new("kubectl")
            .args(["--kubeconfig", KUBECONFIG])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start kubectl {arguments:?}"))?;
        let input = child.stdin.take().context("no input")?;
        let output = child.stdout.take().context("no output")?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output).lines(),
        })
    }

    /// Writes a line and waits for the line that answers it.
    pub(crate) async fn ask(&mut self, line: &str, answer: &str) -> anyhow::Result<()> {
        self.input.write_all(format!("{line}\n").as_bytes()).await?;
        self.hear(answer).await
    }

    /// Waits for this line, which is the next but for what kubectl says itself.
    pub(crate) async fn hear(&mut self, line: &str) -> anyhow::Result<()> {
        let next = tokio::time::timeout(LIMIT, self.output.next_line()).await;
        let said = next.with_context(|| format!("no {line:?} within {LIMIT:?}"))??;
        ensure!(said.as_deref() == Some(line), "{said:?}, not {line:?}");
        Ok(())
    }

    /// Takes the session through the middle. Where daemons are restarted its client must not wait
    /// for more: it ends.
    pub(crate) async fn pass(mut self, lab: &Lab) -> anyhow::Result<()> {
        lab.midway().await?;
        if lab.restarts() {
            let ended = tokio::time::timeout(LIMIT, self.child.wait()).await;
            ended.with_context(|| format!("the client still waits after {LIMIT:?}"))??;
        }
        Ok(())
    }
}
