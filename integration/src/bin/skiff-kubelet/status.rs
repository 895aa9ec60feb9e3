//! Pods as the kubelet tells them.

use serde_json::Value;

/// One pod of the kubelet's list.
#[derive(Clone, Debug)]
pub(crate) struct Pod(pub(crate) Value);

/// One container of a pod, as the kubelet tells it.
#[derive(Clone, Debug)]
pub(crate) struct Container<'a>(&'a Value);

impl Pod {
    pub(crate) fn name(&self) -> &str {
        text(&self.0["metadata"]["name"])
    }

    pub(crate) fn uid(&self) -> &str {
        text(&self.0["metadata"]["uid"])
    }

    /// Pending, Running, Succeeded or Failed.
    pub(crate) fn phase(&self) -> &str {
        text(&self.0["status"]["phase"])
    }

    pub(crate) fn ip(&self) -> &str {
        text(&self.0["status"]["podIP"])
    }

    /// The condition of this type holds.
    pub(crate) fn is(&self, condition: &str) -> bool {
        let conditions = self.0["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|one| {
            one["type"].as_str() == Some(condition) && one["status"].as_str() == Some("True")
        })
    }

    /// A container of any kind.
    pub(crate) fn container(&self, name: &str) -> Option<Container<'_>> {
        self.containers().find(|one| one.name() == name)
    }

    /// All that have a status: init containers, containers, ephemeral ones.
    pub(crate) fn containers(&self) -> impl Iterator<Item = Container<'_>> {
        let kinds = [
            "initContainerStatuses",
            "containerStatuses",
            "ephemeralContainerStatuses",
        ];
        kinds
            .into_iter()
            .flat_map(|kind| self.0["status"][kind].as_array().into_iter().flatten())
            .map(Container)
    }
}

impl<'a> Container<'a> {
    pub(crate) fn name(&self) -> &'a str {
        text(&self.0["name"])
    }

    /// The runtime's id, of the newest instance.
    pub(crate) fn id(&self) -> &'a str {
        let id = text(&self.0["containerID"]);
        id.split_once("://").map_or(id, |(_, id)| id)
    }

    pub(crate) fn running(&self) -> bool {
        self.0["state"]["running"].is_object()
    }

    pub(crate) fn ready(&self) -> bool {
        self.0["ready"] == true
    }

    /// The startup probe succeeded, where there is one.
    pub(crate) fn started(&self) -> bool {
        self.0["started"] == true
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.0["restartCount"].as_u64().unwrap_or(0)
    }

    /// What it waits for, or "".
    pub(crate) fn waits_for(&self) -> &'a str {
        text(&self.0["state"]["waiting"]["reason"])
    }

    /// The exit code and the reason of an instance that ended and is the newest.
    pub(crate) fn ended(&self) -> Option<(i64, &'a str)> {
        end(&self.0["state"])
    }

    /// The same of the instance before.
    pub(crate) fn ended_before(&self) -> Option<(i64, &'a str)> {
        end(&self.0["lastState"])
    }
}

fn end(state: &Value) -> Option<(i64, &str)> {
    let end = &state["terminated"];
    Some((end["exitCode"].as_i64()?, text(&end["reason"])))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
