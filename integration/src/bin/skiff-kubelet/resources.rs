//! Limits as the kubelet asks for them and the cgroup has them.

use std::sync::Arc;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::manifest::{idle, pod};

const MIB: u64 = 1 << 20;

/// What a cgroup file of the only container of a pod with these resources holds.
async fn holds(
    lab: &Arc<Lab>,
    name: &str,
    resources: Value,
    expected: &[(&str, String)],
) -> anyhow::Result<()> {
    let main = idle("main", json!({"resources": resources}));
    let (given, pod) = lab.run(&pod(name, &[main], json!({}))).await?;
    let id = pod.container("main").context("no main container")?.id();
    for (file, value) in expected {
        let is = lab.cgroup(id, file).await?;
        ensure!(is == *value, "{name}: {file} is {is}, not {value}");
    }
    given.remove().await
}

/// CPU time and memory by class of service; a pod of the kubelet's own gets no swap.
pub(crate) async fn classes_of_service(lab: Arc<Lab>) -> anyhow::Result<()> {
    let amount = json!({"cpu": "50m", "memory": "32Mi"});
    let limit = (32 * MIB).to_string();
    let none = || "0".to_owned();
    holds(
        &lab,
        "best-effort",
        Value::Null,
        &[
            ("memory.max", "max".to_owned()),
            ("cpu.max", "max 100000".to_owned()),
            ("memory.swap.max", none()),
        ],
    )
    .await?;
    holds(
        &lab,
        "burstable",
        json!({"requests": amount, "limits": {"memory": "64Mi"}}),
        &[
            ("memory.max", (64 * MIB).to_string()),
            ("cpu.max", "max 100000".to_owned()),
            ("memory.swap.max", none()),
        ],
    )
    .await?;
    holds(
        &lab,
        "guaranteed",
        json!({"requests": amount, "limits": amount}),
        &[
            ("memory.max", limit),
            ("cpu.max", "5000 100000".to_owned()),
            ("memory.swap.max", none()),
        ],
    )
    .await
}

/// MemoryQoS: what was requested is protected, and a container is throttled before its limit.
pub(crate) async fn memory_qos(lab: Arc<Lab>) -> anyhow::Result<()> {
    let (request, limit) = (32 * MIB, 64 * MIB);
    // nine tenths of the way from the request to the limit, in whole pages
    let high = (request * 10 + (limit - request) * 9) / 10 / 4096 * 4096;
    let burstable = json!({
        "requests": {"cpu": "10m", "memory": request.to_string()},
        "limits": {"memory": limit.to_string()},
    });
    holds(
        &lab,
        "qos-burstable",
        burstable,
        &[
            ("memory.low", request.to_string()),
            ("memory.min", "0".to_owned()),
            ("memory.high", high.to_string()),
        ],
    )
    .await?;
    let amount = json!({"cpu": "10m", "memory": request.to_string()});
    holds(
        &lab,
        "qos-guaranteed",
        json!({"requests": amount, "limits": amount}),
        &[
            ("memory.min", request.to_string()),
            ("memory.high", "max".to_owned()),
        ],
    )
    .await
}
