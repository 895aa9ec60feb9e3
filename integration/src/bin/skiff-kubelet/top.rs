//! `kubectl top`: what the metrics-server makes of what the kubelet tells of containers.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::json;

use crate::cluster::{ADDRESS, create, kubectl};
use crate::lab::{LIMIT, Lab};
use crate::manifest::{IDLE, container, pod};
use crate::node::LOOK;

/// Where the metrics-server of the cluster answers.
const PORT: u16 = 4443;
const SYSTEM: &str = "kube-system";

/// A container that burns what it may, one that holds 24 MiB, and the node under both.
pub(crate) async fn pods_and_the_node(lab: Arc<Lab>) -> anyhow::Result<()> {
    register().await?;
    let containers = [
        container(
            "burns",
            "while true; do :; done",
            json!({"resources": {"requests": {"cpu": "50m"}, "limits": {"cpu": "50m"}}}),
        ),
        container(
            "holds",
            &format!("dd if=/dev/zero of=/dev/shm/file bs=1M count=24; {IDLE}"),
            json!({}),
        ),
    ];
    let (given, _) = lab.run(&pod("top", &containers, json!({}))).await?;
    let deadline = Instant::now() + LIMIT;
    loop {
        let Err(error) = told().await else { break };
        if Instant::now() > deadline {
            return Err(error.context(format!("after {LIMIT:?}")));
        }
        tokio::time::sleep(LOOK).await;
    }
    given.remove().await
}

/// What it tells is what the containers do.
async fn told() -> anyhow::Result<()> {
    let pods = kubectl(&["top", "pod", "top", "--containers", "--no-headers"]).await?;
    within(&pods, "burns", 2, "m", 30..=60)?;
    within(&pods, "holds", 2, "m", 0..=20)?;
    within(&pods, "holds", 3, "Mi", 24..=32)?;
    let node = kubectl(&["top", "node", "--no-headers"]).await?;
    within(&node, "node", 1, "m", 30..=1100)?;
    // more than the pod, less than the node has
    within(&node, "node", 3, "Mi", 24..=5 << 10)
}

/// The word number `column` of the line with the word `name` is a number of this unit in `range`.
fn within(
    table: &str,
    name: &str,
    column: usize,
    unit: &str,
    range: RangeInclusive<u64>,
) -> anyhow::Result<()> {
    let rows = table.lines().map(|line| line.split_whitespace().collect());
    let row = rows.into_iter().find(|row: &Vec<&str>| row.contains(&name));
    let cell = row.and_then(|row| row.get(column)?.strip_suffix(unit));
    let value: u64 = cell
        .with_context(|| format!("no {unit} of {name} in {table:?}"))?
        .parse()?;
    ensure!(
        range.contains(&value),
        "{name}: {value}{unit}, not {range:?}"
    );
    Ok(())
}

/// Tells the API server of the metrics-server.
async fn register() -> anyhow::Result<()> {
    let service = "metrics-server";
    create(
        &format!("/api/v1/namespaces/{SYSTEM}/services"),
        &json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": service},
            "spec": {"ports": [{"name": "https", "port": 443, "targetPort": PORT}]},
        }),
    )
    .await?;
    create(
        &format!("/apis/discovery.k8s.io/v1/namespaces/{SYSTEM}/endpointslices"),
        &json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": PORT}],
            "endpoints": [{"addresses": [ADDRESS]}],
        }),
    )
    .await?;
    create(
        "/apis/apiregistration.k8s.io/v1/apiservices",
        &json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io"},
            "spec": {
                "group": "metrics.k8s.io", "version": "v1beta1",
                "groupPriorityMinimum": 100, "versionPriority": 100,
                "insecureSkipTLSVerify": true,
                "service": {"name": service, "namespace": SYSTEM},
            },
        }),
    )
    .await
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_found_by_its_name() {
        let table = "top   burns   49m   1Mi\ntop   holds   1m    25Mi\n";
        assert!(within(table, "burns", 2, "m", 40..=50).is_ok());
        assert!(within(table, "holds", 3, "Mi", 1..=24).is_err());
        assert!(within(table, "absent", 2, "m", 0..=100).is_err());
    }
}
