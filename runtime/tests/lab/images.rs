//! Image volumes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use serde_json::json;
use skiff_runtime::{ImageVolume, Progress};

use crate::Test;
use crate::fixture::{Container, Lab, More, holds};

pub(crate) const TESTS: &[Test] = &[
    (
        "an image volume shows all layers, and cannot be written",
        whole,
    ),
    (
        "an image volume of one layer cannot be written either",
        one_layer,
    ),
    ("a part of an image volume is shown alone", part),
    ("a part that is a file is mounted on a file", part_file),
    ("a part's links stay inside of the image", links),
    ("a part that is not there is named", missing_part),
    (
        "a mount of type image without an image is refused",
        no_image,
    ),
];

/// Two layers that both have /who, and a program.
fn layers(lab: &Lab) -> Result<Vec<PathBuf>> {
    let dir = tempfile::tempdir_in(lab.dir.path())?.keep();
    let layers: Vec<_> = ["upper", "lower"].iter().map(|n| dir.join(n)).collect();
    for layer in &layers {
        fs::create_dir_all(layer.join("models/big"))?;
        fs::write(
            layer.join("who"),
            layer.file_name().unwrap().as_encoded_bytes(),
        )?;
    }
    fs::write(layers[1].join("models/big/weights"), "weights")?;
    fs::write(layers[0].join("models/tool"), "#!/bin/sh\necho ran\n")?;
    fs::set_permissions(
        layers[0].join("models/tool"),
        PermissionsExt::from_mode(0o755),
    )?;
    symlink("../../../../../../etc", layers[1].join("models/out"))?;
    Ok(layers)
}

fn run(
    lab: &Lab,
    script: &str,
    layers: Vec<PathBuf>,
    sub_path: Option<&str>,
) -> Result<(i32, String)> {
    let mount = json!({"destination": "/volume", "type": "image", "source": "sha256:0",
        "options": ["ro", "noexec", "nosuid", "nodev"]});
    let container = lab.container(script).mount(mount);
    let volume = ImageVolume {
        destination: "/volume".into(),
        layers,
        sub_path: sub_path.map(Into::into),
    };
    run_with(&container, &[volume])
}

fn run_with(container: &Container, images: &[ImageVolume]) -> Result<(i32, String)> {
    let more = More {
        images,
        ..More::default()
    };
    match container.create_with(more)? {
        (mut running, Progress::Ready { .. }) => {
            running.start()?;
            running.finish()
        }
        (_, Progress::Failed(failure)) => bail!(failure),
        (_, other) => bail!("{other:?}"),
    }
}

fn whole(lab: &Lab) -> Result<()> {
    let script = "cat /volume/who; echo; cat /volume/models/big/weights; echo; \
                  touch /volume/made 2>&1; /volume/models/tool 2>&1; \
                  mount | grep -c /volume; true";
    let (_, output) = run(lab, script, layers(lab)?, None)?;
    holds(
        &output,
        &[
            "upper\nweights\n",
            "made: Read-only file system",
            "tool: Permission denied",
            "\n1\n",
        ],
    )
}

fn one_layer(lab: &Lab) -> Result<()> {
    let layer = layers(lab)?.remove(0);
    let script = "cat /volume/who; touch /volume/made /volume/who 2>&1; true";
    let (_, output) = run(lab, script, vec![layer.clone()], None)?;
    holds(&output, &["upper", "made: Read-only", "who: Read-only"])?;
    ensure!(!layer.join("made").exists());
    Ok(())
}

fn part(lab: &Lab) -> Result<()> {
    let script = "ls /volume; touch /volume/x 2>&1; mount | grep -c /volume; \
                  ls -a /volume/..; true";
    let (_, output) = run(lab, script, layers(lab)?, Some("models/big"))?;
    ensure!(output.starts_with("weights\n"), "{output}");
    holds(&output, &["Read-only", "\n1\n", "bin\n"])?;
    ensure!(!output.contains("who"), "{output}");
    let (_, again) = run(
        lab,
        script,
        vec![layers(lab)?.remove(1)],
        Some("/models/big"),
    )?;
    ensure!(again == output, "{again}");
    Ok(())
}

fn part_file(lab: &Lab) -> Result<()> {
    let (_, output) = run(lab, "cat /volume", layers(lab)?, Some("models/big/weights"))?;
    ensure!(output == "weights", "{output}");
    Ok(())
}

/// The link leads to /etc of the image, which has none, and not to the host's.
fn links(lab: &Lab) -> Result<()> {
    match run(lab, "ls /volume", layers(lab)?, Some("models/out")) {
        Err(e) => holds(&format!("{e:#}"), &["models/out", "No such file"])?,
        Ok((_, output)) => bail!("it leads somewhere: {output}"),
    }
    let layers = layers(lab)?;
    fs::create_dir(layers[1].join("etc"))?;
    fs::write(layers[1].join("etc/mine"), "")?;
    let (_, output) = run(lab, "ls /volume", layers, Some("models/out"))?;
    ensure!(output == "mine\n", "{output}");
    Ok(())
}

fn missing_part(lab: &Lab) -> Result<()> {
    match run(lab, "true", layers(lab)?, Some("models/none")) {
        Err(e) => holds(
            &format!("{e:#}"),
            &["/volume", "models/none", "No such file"],
        ),
        Ok(_) => bail!("it was found"),
    }
}

fn no_image(lab: &Lab) -> Result<()> {
    let mount = json!({"destination": "/volume", "type": "image", "source": "x"});
    let container = lab.container("true").mount(mount);
    holds(&container.failure()?, &["/volume", "type image"])
}
