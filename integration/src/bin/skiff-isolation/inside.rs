//! A running container, asked about what it has and may do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use skiff_cri::v1::{
    ContainerState, ContainerStatusRequest, LinuxContainerResources,
    UpdateContainerResourcesRequest,
};
use skiff_probe::report::Report;
use tonic::Status;

use crate::lab::{Lab, PATIENCE, PROBE, Shape};

/// A running container, and how it looks to the process it was started with.
pub(crate) struct Inside<'lab> {
    pub(crate) lab: &'lab mut Lab,
    pub(crate) shape: Shape,
    pub(crate) pod_id: String,
    pub(crate) id: String,
    pub(crate) report: Report,
}

impl Inside<'_> {
    /// The first line that the container of that name logs.
    pub(crate) async fn said(&mut self, container: &str) -> anyhow::Result<String> {
        let path = format!("{}/{container}.log", self.shape.pod.log_directory);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = std::fs::read_to_string(&path).unwrap_or_default();
            if let Some(line) = first_line(&log) {
                return Ok(line);
            }
            let status = self
                .lab
                .cri
                .status(&self.id)
                .await
                .context("ContainerStatus")?;
            if status.state() == ContainerState::ContainerExited && first_line(&log).is_none() {
                bail!("ended with {}: {} {log}", status.exit_code, status.message);
            }
            ensure!(
                Instant::now() < deadline,
                "nothing in {path} after {PATIENCE:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What a command prints; it must succeed.
    pub(crate) async fn run(&mut self, command: &[&str]) -> anyhow::Result<String> {
        let answer = self.lab.cri.exec(&self.id, command, 60).await;
        let answer = answer.with_context(|| format!("ExecSync {command:?}"))?;
        let errors = String::from_utf8_lossy(&answer.stderr);
        ensure!(
            answer.exit_code == 0,
            "{command:?}: exit code {}: {errors}",
            answer.exit_code
        );
        Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
    }

    /// How the container looks to a process that is executed in it.
    pub(crate) async fn exec_report(&mut self) -> anyhow::Result<Report> {
        let text = self.run(&[PROBE, "report"]).await?;
        serde_json::from_str(&text).with_context(|| format!("read the report {text}"))
    }

    /// Tries things and returns what came of each.
    pub(crate) async fn attempt(
        &mut self,
        attempts: &[&str],
    ) -> anyhow::Result<BTreeMap<String, String>> {
        let text = self.run(&[&[PROBE, "attempt"], attempts].concat()).await?;
        serde_json::from_str(&text).with_context(|| format!("read the outcomes {text}"))
    }

    /// Each attempt must come to one of the outcomes beside it, divided by `|`; `ok` stands for any
    /// success.
    pub(crate) async fn outcomes(&mut self, expected: &[(&str, &str)]) -> anyhow::Result<()> {
        let attempts: Vec<&str> = expected.iter().map(|(attempt, _)| *attempt).collect();
        let outcomes = self.attempt(&attempts).await?;
        let mut wrong = Vec::new();
        for (attempt, wanted) in expected {
            let outcome = outcomes.get(*attempt).map_or("", String::as_str);
            let met =
                |wanted: &str| wanted == outcome || wanted == "ok" && outcome.starts_with("ok");
            if !wanted.split('|').any(met) {
                wrong.push(format!("{attempt}: {outcome}, not {wanted}"));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        Ok(())
    }

    /// Starts another container in the same pod, with the probe in it.
    pub(crate) async fn beside(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut Shape),
    ) -> anyhow::Result<String> {
        let mut shape = self.shape.clone();
        shape.container.metadata.get_or_insert_default().name = name.to_owned();
        shape.container.log_path = format!("{name}.log");
        change(&mut shape);
        self.lab.start(&self.pod_id, &shape).await
    }

    /// What the verbose status of a container of this runtime has.
    pub(crate) async fn info(&mut self, id: &str) -> anyhow::Result<serde_json::Value> {
        let request = ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: true,
        };
        let answer = self.lab.cri.runtime.container_status(request).await?;
        let info = answer.into_inner().info;
        let info = info.get("info").context("no verbose information")?;
        Ok(serde_json::from_str(info)?)
    }

    /// UpdateContainerResources.
    pub(crate) async fn update(
        &mut self,
        resources: LinuxContainerResources,
    ) -> Result<(), Status> {
        let request = UpdateContainerResourcesRequest {
            container_id: self.id.clone(),
            linux: Some(resources),
            ..Default::default()
        };
        let answer = self
            .lab
            .cri
            .runtime
            .update_container_resources(request)
            .await;
        answer.map(drop)
    }

    /// What ContainerStatus says of the resources.
    pub(crate) async fn told(&mut self) -> anyhow::Result<LinuxContainerResources> {
        let status = self
            .lab
            .cri
            .status(&self.id)
            .await
            .context("ContainerStatus")?;
        let resources = status.resources.and_then(|resources| resources.linux);
        resources.context("no resources in ContainerStatus")
    }
}

/// The first whole line of a CRI log; long ones are in parts.
fn first_line(log: &str) -> Option<String> {
    let mut line = String::new();
    for entry in log.split_inclusive('\n') {
        let mut fields = entry.strip_suffix('\n')?.splitn(4, ' ').skip(2);
        let (tag, part) = (fields.next()?, fields.next()?);
        line.push_str(part);
        if tag == "F" {
            return Some(line);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::first_line;

    #[test]
    fn a_line_in_parts_is_put_together() {
        let log = "T stdout P one \nT stdout F two\nT stdout F three\n";
        assert_eq!(first_line(log).as_deref(), Some("one two"));
        assert_eq!(first_line("T stdout P one \nT stdout F tw"), None);
        assert_eq!(first_line(""), None);
    }
}
