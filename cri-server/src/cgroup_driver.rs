//! Who makes the cgroup that a pod's containers are below.

use std::path::{Path, PathBuf};

use skiff_config::CgroupDriver;
use skiff_cri::v1 as cri;

use crate::cgroup;
use crate::id::Id;
use crate::systemd::{self, Scope, Systemd, SystemdError};

/// Who makes it; the same for the life of the daemon.
#[derive(Debug)]
pub enum Driver {
    /// A shim, as a directory, when it makes the first container.
    Cgroupfs,
    /// systemd, as a scope, when the pod is started.
    Systemd(Systemd),
}

impl Driver {
    /// As configured; otherwise systemd where it runs.
    pub fn new(configured: CgroupDriver) -> Self {
        match configured {
            CgroupDriver::Auto if systemd::is_booted() => Self::Systemd(Systemd::default()),
            CgroupDriver::Systemd => Self::Systemd(Systemd::default()),
            CgroupDriver::Auto | CgroupDriver::Cgroupfs => Self::Cgroupfs,
        }
    }

    /// In the words of the CRI.
    pub fn to_cri(&self) -> cri::CgroupDriver {
        match self {
            Self::Cgroupfs => cri::CgroupDriver::Cgroupfs,
            Self::Systemd(_) => cri::CgroupDriver::Systemd,
        }
    }

    /// Whether a pod needs an init even when its containers do not share a PID namespace: a scope
    /// exists as long as it has a process.
    pub fn needs_init(&self) -> bool {
        matches!(self, Self::Systemd(_))
    }

    /// Where the containers of a pod go by the `cgroup_parent` of its request. The error says what
    /// is wrong with that.
    pub fn place(&self, requested: &str, pod: &Id) -> Result<Place, String> {
        match self {
            Self::Cgroupfs => match cgroup::parent(requested, pod) {
                Some(path) => Ok(Place { path, scope: None }),
                None => Err(format!("{requested:?} leads out of the cgroup hierarchy")),
            },
            Self::Systemd(_) => {
                let scope = Scope::new(requested, &cgroup::name(pod))?;
                Ok(Place {
                    path: scope.path.clone(),
                    scope: Some(scope),
                })
            }
        }
    }

    /// Sees to it that containers can be made at a pod's place below `root`. `init` is the pod's.
    pub async fn make(
        &self,
        root: &Path,
        place: &Place,
        pod: &Id,
        init: Option<i32>,
    ) -> Result<(), SystemdError> {
        let (Self::Systemd(systemd), Some(scope), Some(init)) = (self, &place.scope, init) else {
            return Ok(());
        };
        systemd.start(scope, init).await?;
        let path = root.join(&place.path);
        let leaf = path.join(cgroup::name(pod));
        // Moving a process takes a lock for which the kernel may wait some milliseconds.
        let settled = tokio::task::spawn_blocking(move || systemd::settle(&path, &leaf, init));
        // It ends early only with the daemon.
        settled.await.unwrap_or(Ok(()))
    }
}

/// Where the cgroups of a pod's containers are.
#[derive(Debug)]
pub struct Place {
    /// Their parent, relative to the root of the hierarchy.
    pub path: PathBuf,
    scope: Option<Scope>,
}
