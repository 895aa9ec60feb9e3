//! What a driver found out, test by test, in the form that `integration/run` counts.

use std::fs::{File, OpenOptions};
use std::io::Write;

use anyhow::Context;

/// Appends results to the file that `$OUT/results` names, and says them on standard output.
#[derive(Debug)]
pub struct Report {
    file: File,
    failed: usize,
}

impl Report {
    /// Opens `$OUT/results`; `OUT` is set by the runner.
    pub fn open() -> anyhow::Result<Self> {
        let out = std::env::var("OUT")
            .context("OUT is not set: start this driver through integration/run")?;
        let path = format!("{out}/results");
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("open {path}"))?;
        Ok(Self { file, failed: 0 })
    }

    /// Records a test that passed, or the error it failed with.
    pub fn result(&mut self, test: &str, outcome: &anyhow::Result<()>) -> anyhow::Result<()> {
        match outcome {
            Ok(()) => self.line(&format!("pass\t{test}")),
            Err(error) => {
                self.failed += 1;
                let why = format!("{error:#}").replace(['\t', '\n'], " ");
                self.line(&format!("fail\t{test}\t{why}"))
            }
        }
    }

    /// Records a test that could not be run.
    pub fn skip(&mut self, test: &str, why: &str) -> anyhow::Result<()> {
        self.line(&format!("skip\t{test}\t{why}"))
    }

    /// How many tests failed so far.
    pub fn failed(&self) -> usize {
        self.failed
    }

    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        writeln!(std::io::stdout(), "{line}")?;
        writeln!(self.file, "{line}").context("write the results")
    }
}
