//! What CDI devices change in a container: made last, so that a vendor's word goes before that of
//! the image and the request, as in other runtimes.

use std::path::Path;

use oci_spec::runtime::{Hooks, LinuxResources, Mount, Spec};

use crate::SpecError;
use crate::devices::{node, rule};
use crate::input::RequestedDevice;
use crate::process::set_variable;

/// The changes, with the host's side of them looked up by the caller.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Injection {
    /// Environment, as `NAME=value`.
    pub env: Vec<String>,
    /// Device nodes. One without permissions is made and may not be used.
    pub devices: Vec<RequestedDevice>,
    /// Mounts. One at a path that has a mount takes its place.
    pub mounts: Vec<Mount>,
    /// Programs to be run.
    pub hooks: Hooks,
    /// Further groups of the process.
    pub additional_gids: Vec<u32>,
}

impl Injection {
    /// Changes a specification.
    pub(crate) fn apply(&self, spec: &mut Spec) -> Result<(), SpecError> {
        if *self == Self::default() {
            return Ok(());
        }
        self.apply_to_process(spec);
        self.add_devices(spec)?;
        if !self.mounts.is_empty() {
            let mut mounts = spec.mounts().clone().unwrap_or_default();
            for mount in &self.mounts {
                mounts.retain(|other| other.destination() != mount.destination());
                insert(&mut mounts, mount.clone());
            }
            spec.set_mounts(Some(mounts));
        }
        if self.hooks != Hooks::default() {
            spec.set_hooks(Some(self.hooks.clone()));
        }
        Ok(())
    }

    fn apply_to_process(&self, spec: &mut Spec) {
        let Some(process) = spec.process_mut() else {
            return;
        };
        let mut env = process.env().clone().unwrap_or_default();
        for entry in &self.env {
            set_variable(&mut env, entry.clone());
        }
        process.set_env(Some(env));
        let user = process.user_mut();
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        for gid in self.additional_gids.iter().filter(|gid| **gid != 0) {
            if !groups.contains(gid) {
                groups.push(*gid);
            }
        }
        user.set_additional_gids(Some(groups));
    }

    fn add_devices(&self, spec: &mut Spec) -> Result<(), SpecError> {
        let Some(linux) = spec.linux_mut() else {
            return Ok(());
        };
        let mut nodes = linux.devices().clone().unwrap_or_default();
        let mut resources: LinuxResources = linux.resources().clone().unwrap_or_default();
        let mut rules = resources.devices().clone().unwrap_or_default();
        for device in &self.devices {
            nodes.retain(|other| *other.path() != device.container_path);
            nodes.push(node(&device.node, &device.container_path)?);
            if !device.permissions.is_empty() {
                rules.push(rule(Some(&device.node), true, &device.permissions)?);
            }
        }
        resources.set_devices(Some(rules));
        linux.set_resources(Some(resources));
        linux.set_devices(Some(nodes));
        Ok(())
    }
}

/// Puts a mount where it hides none of those that are there: before the first that lies below it,
/// or last.
fn insert(mounts: &mut Vec<Mount>, mount: Mount) {
    let is_below = |other: &Mount| other.destination().starts_with(mount.destination());
    let at = mounts.iter().position(is_below).unwrap_or(mounts.len());
    mounts.insert(at, mount);
}

/// Where an injected mount goes, as the request's own.
pub fn check_destination(path: &Path, field: &str) -> Result<(), SpecError> {
    crate::mounts::container_path(&path.to_string_lossy(), field).map(drop)
}
