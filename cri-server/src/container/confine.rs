//! The security profiles that a container asks for, found before it is made.

use std::sync::Arc;

use oci_spec::runtime::{Capabilities, Spec};
use skiff_cri::v1::ContainerConfig;
use skiff_spec::{Profile, SpecError, apparmor_profile, seccomp_profile};

use crate::daemon::Daemon;
use crate::handler::Handler;
use crate::profile::ProfileError;
use crate::profile::apparmor::check_loaded;
use crate::profile::seccomp::Program;

/// Why a container cannot be confined as it asks.
#[derive(Debug)]
pub(super) enum Unconfinable {
    /// The request cannot be meant.
    Request(SpecError),
    /// The profile cannot be had.
    Profile(ProfileError),
}

impl From<SpecError> for Unconfinable {
    fn from(error: SpecError) -> Self {
        Self::Request(error)
    }
}

impl From<ProfileError> for Unconfinable {
    fn from(error: ProfileError) -> Self {
        Self::Profile(error)
    }
}

/// The container's seccomp program, for the capabilities of its specification; `None` when it is
/// not confined. Its AppArmor profile is in the specification and is loaded. Another runtime makes
/// its programs itself: for one the profile is put into the specification.
pub(super) async fn confine(
    daemon: &Daemon,
    handler: &Handler,
    config: &ContainerConfig,
    spec: &mut Spec,
) -> Result<Option<Arc<Program>>, Unconfinable> {
    let linux = config.linux.as_ref();
    let context = linux.and_then(|linux| linux.security_context.as_ref());
    if let Profile::Localhost(name) = apparmor_profile(context, &daemon.features)? {
        check_loaded(&name)?;
    }
    let path = match seccomp_profile(context, &daemon.features)? {
        Profile::Unconfined => return Ok(None),
        Profile::RuntimeDefault => handler.seccomp_profile.clone(),
        Profile::Localhost(path) => Some(path.into()),
    };
    let capabilities = spec
        .process()
        .as_ref()
        .and_then(|p| p.capabilities().as_ref());
    let bounding = capabilities.and_then(|sets| sets.bounding().as_ref());
    let none = Capabilities::new();
    let bounding = bounding.unwrap_or(&none);
    let programs = &daemon.seccomp;
    if handler.external.is_some() {
        let plain = programs.plain(path.as_deref(), bounding).await?;
        if let Some(linux) = spec.linux_mut() {
            linux.set_seccomp(Some(plain));
        }
        return Ok(None);
    }
    Ok(Some(match path {
        None => programs.runtime_default(bounding).await?,
        Some(path) => programs.localhost(&path, bounding).await?,
    }))
}
