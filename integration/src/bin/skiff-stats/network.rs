//! What goes through a pod's interfaces.

use anyhow::{Context, ensure};
use skiff_cri::v1::{LinuxContainerResources, PodSandboxStats};

use crate::lab::{Lab, told};

/// Packets sent.
const PINGS: u64 = 40;
/// Bytes in each.
const SIZE: u64 = 1200;

/// The bytes that a container sees to have been received and sent.
async fn seen(lab: &mut Lab, id: &str) -> anyhow::Result<(u64, u64)> {
    let text = lab
        .exec(id, "cat /sys/class/net/eth0/statistics/*x_bytes")
        .await?;
    let mut numbers = text.lines().map(str::parse);
    let mut next = || numbers.next().context("no number");
    Ok((next()??, next()??))
}

pub(crate) async fn sent_bytes(lab: &mut Lab) -> anyhow::Result<()> {
    let pod = lab.pod();
    let none = LinuxContainerResources::default();
    let made = lab.run_in(pod, "sleep 3600", none).await?;
    let before = seen(lab, &made.id).await?;
    let ping = format!("ping -q -c {PINGS} -i 0.05 -s {SIZE} 10.88.0.1");
    lab.exec(&made.id, &ping).await?;
    let after = seen(lab, &made.id).await?;
    ensure!(after.1 - before.1 >= PINGS * SIZE, "{before:?} {after:?}");
    let check = |stats: &PodSandboxStats| {
        let linux = stats.linux.as_ref().context("nothing of Linux")?;
        let network = linux.network.as_ref().context("nothing of the network")?;
        ensure!(network.timestamp > 0);
        ensure!(network.interfaces.is_empty(), "{:?}", network.interfaces);
        let eth0 = network.default_interface.as_ref().context("no interface")?;
        ensure!(eth0.name == "eth0", "{}", eth0.name);
        let (received, sent) = (told("rx", eth0.rx_bytes)?, told("tx", eth0.tx_bytes)?);
        ensure!(
            received >= after.0 && sent >= after.1,
            "{received} received and {sent} sent are told, {after:?} it is"
        );
        told("rx errors", eth0.rx_errors)?;
        told("tx errors", eth0.tx_errors)?;
        Ok((received, sent))
    };
    let (received, sent) = lab.until_pod(&made.pod, check).await?;
    let now = seen(lab, &made.id).await?;
    ensure!(received <= now.0 && sent <= now.1, "{now:?}");
    Ok(())
}

pub(crate) async fn the_hosts_network_is_no_pods(lab: &mut Lab) -> anyhow::Result<()> {
    let none = LinuxContainerResources::default();
    let made = lab.run("sleep 3600", none).await?;
    let stats = lab.pod_stats(&made.pod).await?;
    let linux = stats.linux.context("nothing of Linux")?;
    ensure!(linux.network.is_none(), "{:?}", linux.network);
    ensure!(linux.cpu.is_some() && linux.memory.is_some());
    Ok(())
}
