//! What only a stock kernel has: NAT for host ports, cpuset, huge pages.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use skiff_cri::v1::{HugepageLimit, LinuxContainerResources, PortMapping};

use crate::lab::{Lab, Shape, same};

/// An address of the node that is not loopback.
const NODE: &str = "192.168.77.1";

/// A port of the node leads to the pod, by the rules of the portmap plugin, for as long as it is there.
pub(crate) async fn host_port_by_nat(lab: &mut Lab) -> anyhow::Result<()> {
    let port = 18080;
    let mut shape = Shape::new("host-port");
    shape.pod.port_mappings.push(PortMapping {
        container_port: 80,
        host_port: port,
        ..Default::default()
    });
    lab.look(shape, async |inside| {
        inside
            .beside("web", |shape| {
                let command = ["httpd", "-f", "-p", "80", "-h", "/etc"];
                shape.container.command = command.map(str::to_owned).to_vec();
            })
            .await?;
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = get(port, "/hostname");
            if answer
                .as_ref()
                .is_ok_and(|answer| answer.contains("host-port"))
            {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "port {port} of the node: {answer:?}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await?;
    ensure!(
        get(port, "/hostname").is_err(),
        "port {port} still answers without the pod"
    );
    Ok(())
}

fn get(port: i32, path: &str) -> anyhow::Result<String> {
    let address = format!("{NODE}:{port}").parse()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The processors a container may use, given and changed.
pub(crate) async fn cpuset(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("cpuset");
    shape.resources().cpuset_cpus = "1".to_owned();
    shape.resources().cpuset_mems = "0".to_owned();
    lab.look(shape, async |inside| {
        same(
            "Cpus_allowed_list",
            inside.report.field("Cpus_allowed_list"),
            "1",
        )?;
        same(
            "Mems_allowed_list",
            inside.report.field("Mems_allowed_list"),
            "0",
        )?;
        let resources = LinuxContainerResources {
            cpuset_cpus: "0".to_owned(),
            ..Default::default()
        };
        inside
            .update(resources)
            .await
            .context("UpdateContainerResources")?;
        let report = inside.exec_report().await?;
        same(
            "Cpus_allowed_list after an update",
            report.field("Cpus_allowed_list"),
            "0",
        )
    })
    .await
}

pub(crate) async fn huge_pages(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("huge-pages");
    shape.resources().hugepage_limits.push(HugepageLimit {
        page_size: "2MB".to_owned(),
        limit: 4 << 20,
    });
    lab.look(shape, async |inside| {
        let limit = inside.report.cgroup_files.get("hugetlb.2MB.max");
        same(
            "hugetlb.2MB.max",
            limit.map(String::as_str),
            Some("4194304"),
        )
    })
    .await
}
