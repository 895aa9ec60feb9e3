//! The steps on disk and with the shim, once a container has its record.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use oci_spec::runtime::Spec;
use skiff_cri::v1 as cri;
use skiff_image::{Image, Snapshot};
use skiff_shim_proto::message::{Create, LOG_ENTRY, Rootfs};

use super::name_of;
use crate::cgroup;
use crate::container::confine::{Unconfinable, confine};
use crate::container::error::ContainerError;
use crate::container::image_volumes::ImageVolumes;
use crate::container::labelled::Labelled;
use crate::container::record::ContainerRecord;
use crate::container::remains::give_back;
use crate::container::state::{Event, State, step};
use crate::container::view::Facts;
use crate::container::volumes::OwnVolumes;
use crate::daemon::Daemon;
use crate::handler::Handler;
use crate::pod::EMPTY;
use crate::profile::seccomp::Program;
use crate::selinux::Held;
use crate::shim::process::ProcessId;
use crate::shim::{Client, ShimError};
use crate::telemetry::Timeline;

/// A container that has a directory and a record.
pub(super) struct Recorded {
    pub(super) image: Arc<Image>,
    pub(super) handler: Arc<Handler>,
    pub(super) volumes: ImageVolumes,
    pub(super) record: ContainerRecord,
    pub(super) config: cri::ContainerConfig,
    pub(super) spec: Spec,
    /// What tells it from containers of other pods where SELinux is in use.
    pub(super) pair: Option<Arc<Held>>,
    /// Its seccomp filter.
    pub(super) program: Option<Arc<Program>>,
}

/// One that has a writable layer, too.
pub(super) struct Prepared {
    recorded: Recorded,
    snapshot: Snapshot,
}

impl Recorded {
    pub(super) async fn confine(mut self, daemon: &Daemon) -> Result<Self, ContainerError> {
        let confined = confine(daemon, &self.handler, &self.config, &mut self.spec).await;
        let error = match confined {
            Ok(program) => {
                self.program = program;
                return Ok(self);
            }
            Err(error) => error,
        };
        let name = name_of(&self.config);
        let error = match error {
            Unconfinable::Request(source) => ContainerError::Spec { name, source },
            Unconfinable::Profile(source) => ContainerError::Profile { name, source },
        };
        Err(self.fail(daemon, error))
    }

    pub(super) fn prepare(self, daemon: &Daemon) -> Result<Prepared, ContainerError> {
        match daemon.images.prepare(self.record.id.as_str(), &self.image) {
            Ok(snapshot) => Ok(Prepared {
                recorded: self,
                snapshot,
            }),
            Err(source) => {
                let id = self.record.id.clone();
                let action = "make the root file system";
                Err(self.fail(daemon, ContainerError::Image { action, id, source }))
            }
        }
    }

    /// The directory that goes below an image of one layer, where it is mounted with a label.
    fn empty(&self, daemon: &Daemon) -> Option<PathBuf> {
        let label = self.spec.linux().as_ref()?.mount_label().as_ref();
        label.map(|_| daemon.layout.pod_files(&self.record.pod).join(EMPTY))
    }

    fn fail(self, daemon: &Daemon, error: ContainerError) -> ContainerError {
        if let Err(undo) = give_back(daemon, &self.record.id) {
            tracing::error!(
                container = %self.record.id,
                error = crate::telemetry::chain(&undo),
                "a container that could not be created could not be undone either"
            );
        }
        error
    }
}

impl Prepared {
    /// Makes the volumes that the image declares.
    pub(super) async fn fill(self, daemon: &Daemon) -> Result<Self, ContainerError> {
        let Recorded {
            image,
            record,
            config,
            ..
        } = &self.recorded;
        let id = record.id.clone();
        let made = match OwnVolumes::of(image, config) {
            Ok(own) => own
                .make(daemon, &id, Arc::clone(image))
                .await
                .map_err(|source| {
                    let action = "make the volumes";
                    ContainerError::Image { action, id, source }
                }),
            Err(source) => {
                let name = config.metadata.clone().unwrap_or_default().name;
                Err(ContainerError::Spec { name, source })
            }
        };
        match made {
            Ok(()) => Ok(self),
            Err(error) => Err(self.recorded.fail(daemon, error)),
        }
    }

    /// Labels the volumes that are to have the container's label.
    pub(super) async fn label(self, daemon: &Daemon) -> Result<Self, ContainerError> {
        let Recorded {
            image,
            record,
            config,
            spec,
            ..
        } = &self.recorded;
        let Some(volumes) = Labelled::of(daemon, &record.id, image, config, spec) else {
            return Ok(self);
        };
        match volumes.label().await {
            Ok(()) => Ok(self),
            Err(error) => Err(self.recorded.fail(daemon, error)),
        }
    }

    pub(super) async fn build(
        self,
        daemon: &Daemon,
        client: &Client,
        timeline: &Timeline,
    ) -> Result<(Arc<Facts>, State), ContainerError> {
        let Self { recorded, snapshot } = self;
        let mut record = recorded.record.clone();
        let id = record.id.clone();
        let Snapshot { lower, upper, work } = snapshot;
        let create = Create {
            id: id.to_string(),
            spec: recorded.spec.clone(),
            rootfs: Rootfs::Overlay { lower, upper, work },
            images: recorded.volumes.mounts(recorded.empty(daemon)),
            cgroup: record.cgroup.clone(),
            log_path: record.log_path.clone(),
            log_entry: log_entry(daemon),
            stdin: recorded.config.stdin,
            stdin_once: recorded.config.stdin_once,
            seccomp: recorded
                .program
                .as_ref()
                .map(|program| program.description.clone()),
            exit_path: daemon.layout.container_exit(&id),
        };
        let program = recorded
            .program
            .as_ref()
            .map(|program| Arc::clone(&program.file));
        let asked = Instant::now();
        let process = match client.create(create, program).await {
            Ok((process, took)) => {
                if let Some(took) = took {
                    timeline.created(asked, &took);
                }
                process
            }
            Err(source) => {
                delete_by_shim(client, &record, &source).await;
                let action = "create";
                return Err(recorded.fail(daemon, ContainerError::Shim { action, id, source }));
            }
        };
        if let Err(error) = created(daemon, &mut record, process) {
            // The client would be told of a container that a restart forgets.
            let _ = client.delete(id.as_str()).await;
            return Err(recorded.fail(daemon, error));
        }
        let facts = Facts::new(&record, recorded.config, recorded.spec, recorded.pair);
        Ok((Arc::new(facts), record.state))
    }
}

/// The configured length of log entries, unless it is the usual one.
fn log_entry(daemon: &Daemon) -> Option<NonZeroUsize> {
    let size = daemon.config.load().container.log_entry_size.bytes();
    let size = usize::try_from(size).ok().and_then(NonZeroUsize::new);
    size.filter(|size| *size != LOG_ENTRY)
}

fn created(
    daemon: &Daemon,
    record: &mut ContainerRecord,
    process: ProcessId,
) -> Result<(), ContainerError> {
    record.state =
        step(&record.state, Event::Created(process)).map_err(|denied| ContainerError::Denied {
            action: "create",
            id: record.id.clone(),
            denied,
        })?;
    Ok(record.write(&daemon.layout)?)
}

/// A shim that refused has undone what it did; one that did not answer has perhaps not.
async fn delete_by_shim(client: &Client, record: &ContainerRecord, error: &ShimError) {
    if error.refusal().is_none() {
        let _ = client.delete(record.id.as_str()).await;
        let _ = cgroup::kill(&record.cgroup).await;
    }
}
