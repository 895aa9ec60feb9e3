//! Limits given to `update`, as changes of those that a container has.
//!
//! Changes are JSON in the form of `linux.resources`: what is absent stays.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use skiff_runtime::oci_spec::runtime::LinuxResources;

use crate::args::Update;

/// Changes asked for, from the file or the options.
pub(crate) fn of(args: &Update) -> Result<Value> {
    if let Some(path) = &args.resources {
        let mut text = String::new();
        if path == Path::new("-") {
            std::io::stdin()
                .read_to_string(&mut text)
                .context("read standard input")?;
        } else {
            text = std::fs::read_to_string(path)
                .with_context(|| format!("read {}", path.display()))?;
        }
        return serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()));
    }
    let changes = json!({
        "memory": {
            "limit": args.memory,
            "reservation": args.memory_reservation,
            "swap": args.memory_swap,
        },
        "cpu": {
            "shares": args.cpu_share,
            "quota": args.cpu_quota,
            "period": args.cpu_period,
            "burst": args.cpu_burst,
            "idle": args.cpu_idle,
            "cpus": args.cpuset_cpus,
            "mems": args.cpuset_mems,
        },
        "blockIO": {"weight": args.blkio_weight},
        "pids": {"limit": args.pids_limit},
    });
    Ok(without_nulls(changes))
}

/// The old limits with the changes in place.
pub(crate) fn merge(old: &LinuxResources, changes: &Value) -> Result<LinuxResources> {
    let mut all = serde_json::to_value(old)?;
    overlay(&mut all, changes);
    serde_json::from_value(all).context("limits are not in the form of linux.resources")
}

/// What has to be written: every group of limits of which one has changed, whole, since some
/// files hold two of them.
pub(crate) fn changed(new: &LinuxResources, changes: &Value) -> Result<LinuxResources> {
    let mut all = serde_json::to_value(new)?;
    if let (Value::Object(all), Value::Object(changes)) = (&mut all, changes) {
        all.retain(|group, _| changes.contains_key(group));
    }
    Ok(serde_json::from_value(all)?)
}

fn overlay(old: &mut Value, new: &Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                overlay(old.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (old, new) => *old = new.clone(),
    }
}

fn without_nulls(value: Value) -> Value {
    let Value::Object(map) = value else {
        return value;
    };
    let kept: Map<String, Value> = map
        .into_iter()
        .map(|(key, value)| (key, without_nulls(value)))
        .filter(|(_, value)| !value.is_null() && value.as_object().is_none_or(|m| !m.is_empty()))
        .collect();
    Value::Object(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_touched_groups_are_written_and_those_whole() {
        let old = serde_json::from_value(json!({
            "memory": {"limit": 1000, "swap": 1000},
            "pids": {"limit": 5},
        }));
        let changes = json!({"memory": {"swap": 3000}});
        let new = merge(&old.unwrap(), &changes).unwrap();
        let memory = new.memory().unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(1000), Some(3000)));
        assert!(new.pids().is_some());
        let written = changed(&new, &changes).unwrap();
        assert!(written.memory().is_some() && written.pids().is_none());
    }

    #[test]
    fn options_not_given_are_no_changes() {
        let value = without_nulls(json!({"a": {"b": null}, "c": {"d": 1, "e": null}}));
        assert_eq!(value, json!({"c": {"d": 1}}));
    }
}
