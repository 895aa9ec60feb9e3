//! Container logs, which the kubelet rotates and the runtime writes.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;

use crate::lab::Lab;
use crate::manifest::{IDLE, container, pod};
use crate::node::messages;

const LINES: usize = 2000;

/// A log that grows is rotated under the writing container, and no line is lost or doubled.
pub(crate) async fn rotation_loses_nothing(lab: Arc<Lab>) -> anyhow::Result<()> {
    // a hundred lines, some 6 kB, five times a second
    let script = format!(
        "i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo $i; [ $((i % 100)) != 0 ] || sleep 0.5; done; {IDLE}"
    );
    let main = container("main", &script, json!({}));
    let (given, pod) = lab.run(&pod("rotation", &[main], json!({}))).await?;
    let id = pod
        .container("main")
        .context("no main container")?
        .id()
        .to_owned();
    let path = lab.status(&id).await?.log_path;
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let (lines, files) = all_lines(Path::new(&path))?;
        if lines.last().is_some_and(|last| *last == LINES.to_string()) && files > 1 {
            let expected: Vec<String> = (1..=LINES).map(|line| line.to_string()).collect();
            let wrong = lines
                .iter()
                .zip(&expected)
                .find(|(is, should)| is != should);
            ensure!(
                wrong.is_none() && lines.len() == LINES,
                "{} lines in {files} files; {wrong:?}",
                lines.len()
            );
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "{} lines in {files} files",
            lines.len()
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    given.remove().await
}

/// The lines of a log and of what it was rotated to, oldest first, and how many files these are.
fn all_lines(path: &Path) -> anyhow::Result<(Vec<String>, usize)> {
    let directory = path.parent().context("a log without a directory")?;
    let mut files: Vec<_> = fs::read_dir(directory)?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.retain(|file| file.extension().is_none_or(|end| end != "tmp") && file != path);
    files.sort();
    files.push(path.to_owned());
    let mut lines = Vec::new();
    for file in &files {
        let bytes = fs::read(file).unwrap_or_default();
        let text = if file.extension().is_some_and(|end| end == "gz") {
            std::io::read_to_string(flate2::read::GzDecoder::new(&bytes[..]))?
        } else {
            String::from_utf8(bytes).context("a log that is no text")?
        };
        lines.extend(messages(&text));
    }
    Ok((lines, files.len()))
}
