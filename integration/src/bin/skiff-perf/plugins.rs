//! What the CNI plugins of a network cost by themselves: the chain of a configuration list, run by
//! hand as the CNI specification says.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};
use skiff_integration::figures::Column;

/// The container id and the name of the network namespace that plugins are told.
const CONTAINER: &str = "skiff-perf-plugins";

/// Options of `plugins`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The configuration list.
    #[arg(long, value_name = "FILE")]
    conf: PathBuf,
    /// Where the plugins are.
    #[arg(long, default_value = "/opt/cni/bin")]
    bin: PathBuf,
    /// How often the chain runs.
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Pause before each round, in milliseconds.
    #[arg(long, default_value_t = 200)]
    idle_ms: u64,
    /// Write every measurement here.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Measures the chain's ADD and DEL, beside the calls that contain them.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let text = std::fs::read(&options.conf).with_context(|| format!("read {:?}", options.conf))?;
    let list: Value =
        serde_json::from_slice(&text).with_context(|| format!("{:?} is not JSON", options.conf))?;
    let mut column = Column::new("CNI plugins alone");
    for round in 0..=options.rounds {
        std::thread::sleep(Duration::from_millis(options.idle_ms));
        ip("add")?;
        let outcome = chain(&list, &options.bin, &mut column);
        ip("delete")?;
        outcome?;
        if round == 0 {
            column.clear();
        }
    }
    super::report(&[column], options.json.as_ref())
}

fn ip(verb: &str) -> anyhow::Result<()> {
    let status = Command::new("ip")
        .args(["netns", verb, CONTAINER])
        .status()?;
    if !status.success() {
        bail!("ip netns {verb} {CONTAINER}: {status}");
    }
    Ok(())
}

/// ADD in the order of the list, then DEL backwards.
fn chain(list: &Value, bin: &Path, column: &mut Column) -> anyhow::Result<()> {
    let plugins = list["plugins"]
        .as_array()
        .context("no plugins in the list")?;
    let mut result = Value::Null;
    let began = Instant::now();
    for plugin in plugins {
        let output = execute("ADD", &request(list, plugin, &result), bin)?;
        result = serde_json::from_slice(&output)?;
    }
    column.push("RunPodSandbox", began.elapsed());
    let began = Instant::now();
    for plugin in plugins.iter().rev() {
        execute("DEL", &request(list, plugin, &result), bin)?;
    }
    column.push("StopPodSandbox", began.elapsed());
    Ok(())
}

/// One plugin's configuration: its own, the list's name and version, and the result so far.
fn request(list: &Value, plugin: &Value, result: &Value) -> Value {
    let mut request = plugin.clone();
    request["cniVersion"] = list["cniVersion"].clone();
    request["name"] = list["name"].clone();
    if !result.is_null() {
        request["prevResult"] = result.clone();
    }
    if request["capabilities"]["portMappings"] == json!(true) {
        request["runtimeConfig"] = json!({"portMappings": []});
    }
    if let Some(request) = request.as_object_mut() {
        request.remove("capabilities");
    }
    request
}

fn execute(verb: &str, request: &Value, bin: &Path) -> anyhow::Result<Vec<u8>> {
    let name = request["type"]
        .as_str()
        .context("a plugin without a type")?;
    let mut child = Command::new(bin.join(name))
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", CONTAINER)
        .env("CNI_NETNS", format!("/run/netns/{CONTAINER}"))
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", bin)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start the plugin {name}"))?;
    let mut input = child
        .stdin
        .take()
        .context("a plugin without standard input")?;
    input.write_all(&serde_json::to_vec(request)?)?;
    drop(input);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        std::io::stderr().write_all(&output.stdout)?;
        bail!("{name} {verb}: {}", output.status);
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_the_plugin_in_its_list() {
        let list = json!({"cniVersion": "1.0.0", "name": "net", "plugins": []});
        let plugin = json!({"type": "p", "capabilities": {"portMappings": true}});
        let expected = json!({
            "type": "p", "cniVersion": "1.0.0", "name": "net",
            "runtimeConfig": {"portMappings": []}, "prevResult": {"ips": []},
        });
        assert_eq!(request(&list, &plugin, &json!({"ips": []})), expected);
        assert!(
            request(&list, &plugin, &Value::Null)
                .get("prevResult")
                .is_none()
        );
    }
}
