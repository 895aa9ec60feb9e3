//! `update`.

use anyhow::{Context, Result, bail};
use skiff_runtime::cgroup;

use crate::args;
use crate::record::{Root, Status};
use crate::resources;

/// Changes a container's limits, and remembers them.
pub(crate) fn run(root: &Root, args: &args::Update) -> Result<()> {
    let mut record = root.load(&args.id)?;
    if record.status()? == Status::Stopped {
        bail!("container {} is stopped", args.id);
    }
    let mut linux = record
        .spec
        .linux()
        .clone()
        .context("linux: missing in the configuration")?;
    let old = linux.resources().clone().unwrap_or_default();
    let changes = resources::of(args)?;
    let new = resources::merge(&old, &changes)?;
    cgroup::update(&record.cgroup, &resources::changed(&new, &changes)?)?;
    linux.set_resources(Some(new));
    record.spec.set_linux(Some(linux));
    record.save()
}
