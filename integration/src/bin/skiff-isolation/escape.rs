//! Ways out of a container that other runtimes once had.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::ensure;
use skiff_integration::process;

use crate::lab::{Lab, Shape, same};

/// CVE-2024-21626: no descriptor of the host's is open, and a working directory cannot name one.
pub(crate) async fn leaked_descriptors(lab: &mut Lab) -> anyhow::Result<()> {
    for number in [3, 5, 7, 9] {
        let name = format!("descriptor-{number}");
        let mut shape = Shape::new(&name);
        shape.container.working_dir = format!("/proc/self/fd/{number}");
        let refused = lab.refuses(shape, &[]).await;
        if let Err(error) = refused {
            anyhow::bail!("working directory /proc/self/fd/{number}: {error:#}");
        }
    }
    Ok(())
}

/// CVE-2019-5736: a container that runs /proc/self/exe runs no program of the host's that it could
/// overwrite.
pub(crate) async fn overwriting_the_runtime(lab: &mut Lab) -> anyhow::Result<()> {
    let programs = ["/usr/local/bin/skiff-shim", "/usr/local/bin/skiffd"];
    let before = state(&programs);
    let mut shape = Shape::new("overwrite");
    shape.security().capabilities = Some(skiff_cri::v1::Capability {
        add_capabilities: vec!["ALL".to_owned()],
        ..Default::default()
    });
    lab.look(shape, async |inside| {
        let script = "i=0; while [ $i -lt 40 ]; do for p in /proc/[0-9]*; do \
                      [ $p = /proc/$$ ] || echo owned 2>/dev/null >$p/exe; done; i=$((i+1)); done; true";
        inside.beside("writer", |shape| {
            shape.container.command = ["sh", "-c", script].map(str::to_owned).to_vec();
        })
        .await?;
        // an exec is the moment when the runtime's own program is in the container
        for _ in 0..5 {
            let again = inside.lab.cri.exec(&inside.id, &["/proc/self/exe", "--help"], 10).await;
            drop(again);
            inside.run(&["true"]).await?;
        }
        Ok(())
    })
    .await?;
    same("programs of the runtime", state(&programs), before)
}

fn state(programs: &[&str]) -> Vec<(u64, i64, u64)> {
    let data = programs.iter().flat_map(fs::metadata);
    data.map(|data| (data.ino(), data.mtime(), data.size()))
        .collect()
}

/// CVE-2025-31133 and its sisters: a link in a volume at a masked or read-only path stays inside.
pub(crate) async fn masked_paths_that_are_links(lab: &mut Lab) -> anyhow::Result<()> {
    let (volume, target) = ("/var/isolation-mask", "/var/isolation-mask-target");
    fs::create_dir_all(volume)?;
    fs::write(target, "host")?;
    let link = format!("{volume}/link");
    if fs::symlink_metadata(&link).is_err() {
        std::os::unix::fs::symlink(target, &link)?;
    }
    let mut shape = Shape::new("mask-link");
    shape.mount(volume, "/volume");
    shape.security().masked_paths = vec!["/volume/link".to_owned()];
    shape.security().readonly_paths = vec!["/volume/link".to_owned()];
    // refusing it is right, too
    let outcome = lab
        .look(shape, async |inside| {
            inside
                .outcomes(&[("read=/volume/link", "ok|ENOENT|ELOOP")])
                .await
        })
        .await;
    same(
        "the file on the host",
        fs::read_to_string(target)?,
        "host".to_owned(),
    )?;
    if let Err(error) = outcome {
        let text = format!("{error:#}");
        ensure!(
            text.contains("CreateContainer") || text.contains("StartContainer"),
            "{text}"
        );
    }
    Ok(())
}

/// A container without a PID namespace of the host's cannot trace the runtime, nor its neighbour.
pub(crate) async fn tracing_others(lab: &mut Lab) -> anyhow::Result<()> {
    lab.look(Shape::new("trace"), async |inside| {
        let shims = process::running("skiff-shim");
        let mut expected = vec![("enter=/proc/1/ns/mnt", "EPERM|EINVAL|ok")];
        let attempts: Vec<String> = shims.iter().map(|pid| format!("trace={pid}")).collect();
        // ids of the host mean nothing inside, or another process of the container
        expected.extend(
            attempts
                .iter()
                .map(|attempt| (attempt.as_str(), "ESRCH|EPERM")),
        );
        inside.outcomes(&expected).await
    })
    .await
}
