//! The limits that hold for a container, as its cgroup has them.

use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use skiff_cri::v1 as cri;
use skiff_spec::report_resources;

use super::view::{ContainerView, Facts};

/// The status of a container with the limits that hold now. An ended one's cgroup says nothing more
/// than was asked for, if it is there at all.
pub fn status(container: &ContainerView) -> cri::ContainerStatus {
    let mut status = container.status();
    if container.state.process().is_some() {
        status.resources = Some(cri::ContainerResources {
            linux: Some(held(&container.facts)),
            windows: None,
        });
    }
    status
}

/// The limits asked for, corrected by what the cgroup's files say now. Reading them takes no
/// lock that a writer of limits holds for long, and a few microseconds each.
pub fn held(facts: &Facts) -> cri::LinuxContainerResources {
    let none = cri::LinuxContainerResources::default();
    report_resources(facts.resources().unwrap_or(&none), |file| {
        read(&facts.cgroup.join(file))
    })
}

/// The content of a cgroup's file, which a page holds; `None` when there is none to be read.
fn read(path: &Path) -> Option<String> {
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut page = [0; 4096];
    let length = rustix::io::read(&file, &mut page).ok()?;
    String::from_utf8(page[..length].to_vec()).ok()
}
