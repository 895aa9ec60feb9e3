//! The steps that make a container, each undoing itself and those before it.
//!
//! ```text
//!  hold the image        directory, record         snapshot          Create
//!  ──────────────> Held ──────────────────> Recorded ──────> Prepared ─────> Made
//! ```
//!
//! The record is written before the snapshot and the cgroup it names are made, so a daemon that
//! dies between two steps leaves nothing that the next one does not know of.

mod build;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::runtime::Spec;
use skiff_cri::v1 as cri;
use skiff_image::Image;
use skiff_spec::{Devices, Input, PodFacts, Signal, SpecError, User, container_spec, resolve_user};

use self::build::Recorded;
use super::admission::admit;
use super::error::ContainerError;
use super::host_paths::{self, Found, make_dir};
use super::image::{image_config, image_name};
use super::image_volumes::ImageVolumes;
use super::record::{ContainerBirth, ContainerRecord, UserRecord};
use super::remains::discard;
use super::state::State;
use super::view::Facts;
use super::volumes::OwnVolumes;
use crate::cgroup;
use crate::daemon::Daemon;
use crate::handler::Handler;
use crate::host::cdi;
use crate::id::Id;
use crate::record::Request;
use crate::selinux;
use crate::shim::Client;
use crate::telemetry::Timeline;

/// What a container is to be made of.
pub struct Plan {
    /// Its id.
    pub id: Id,
    /// The request.
    pub config: cri::ContainerConfig,
    /// What its pod's runtime handler stands for.
    pub handler: Arc<Handler>,
    /// The configuration of its pod.
    pub pod_config: Arc<crate::pod::Facts>,
    /// Its pod as it is.
    pub pod: PodFacts,
    /// Parent of its cgroup, relative to the root of the hierarchy.
    pub cgroup_parent: PathBuf,
    /// Host pid of the container that it shares the PID namespace of.
    pub target_pid: Option<i32>,
    /// Where it is put down how long its making takes.
    pub timeline: Timeline,
}

impl Plan {
    /// Carries the plan out with the pod's shim.
    pub async fn run(
        self,
        daemon: &Daemon,
        client: &Client,
    ) -> Result<(Arc<Facts>, State), ContainerError> {
        let timeline = self.timeline.clone();
        self.handler.features.settled().await;
        let held = Held::hold(daemon, self)?.admit(daemon).await?;
        let held = held.look(daemon).await?;
        let recorded = held.record(daemon)?.confine(daemon).await?;
        let prepared = recorded.prepare(daemon)?.fill(daemon).await?;
        let prepared = prepared.label(daemon).await?;
        prepared.build(daemon, client, &timeline).await
    }

    fn name(&self) -> String {
        name_of(&self.config)
    }

    fn refused(&self, source: SpecError) -> ContainerError {
        ContainerError::Spec {
            name: self.name(),
            source,
        }
    }
}

struct Held {
    plan: Plan,
    image: Arc<Image>,
    volumes: ImageVolumes,
    devices: Devices,
}

impl Held {
    fn hold(daemon: &Daemon, plan: Plan) -> Result<Self, ContainerError> {
        let name = plan
            .config
            .image
            .as_ref()
            .map_or("", |image| image.image.as_str());
        let Some(image) = daemon.images.hold(plan.id.as_str(), name) else {
            return Err(ContainerError::NoImage {
                name: plan.name(),
                image: name.into(),
            });
        };
        match ImageVolumes::hold(daemon, &plan.id, &plan.config) {
            Ok(volumes) => Ok(Self {
                plan,
                image,
                volumes,
                devices: Devices::default(),
            }),
            Err(error) => {
                daemon.images.release(plan.id.as_str());
                Err(error)
            }
        }
    }

    async fn admit(self, daemon: &Daemon) -> Result<Self, ContainerError> {
        let Self {
            plan,
            image,
            volumes,
            ..
        } = &self;
        let name = plan.config.image.iter().map(|spec| (spec, image));
        let images = name.chain(volumes.images(&plan.config));
        match admit(daemon, &plan.pod_config.config, images).await {
            Ok(()) => Ok(self),
            Err((image, source)) => {
                daemon.images.release(plan.id.as_str());
                let name = plan.name();
                Err(ContainerError::Signature {
                    name,
                    image,
                    source: Box::new(source),
                })
            }
        }
    }

    /// Looks at what the request names on the host.
    async fn look(mut self, daemon: &Daemon) -> Result<Self, ContainerError> {
        let (config, found) = host_paths::look(std::mem::take(&mut self.plan.config)).await;
        self.plan.config = config;
        let error = match found {
            Found::Devices(devices) => {
                self.devices = devices;
                return Ok(self);
            }
            Found::Refused(source) => self.plan.refused(source),
            Found::Failed(error) => error,
        };
        daemon.images.release(self.plan.id.as_str());
        Err(error)
    }

    fn record(mut self, daemon: &Daemon) -> Result<Recorded, ContainerError> {
        let devices = std::mem::take(&mut self.devices);
        let recorded = self.specify(daemon, devices).and_then(|(record, spec)| {
            let birth = ContainerBirth {
                request: Request(self.plan.config.clone()),
                spec,
            };
            if let Err(error) = record.create(&daemon.layout, &birth) {
                // What stays is torn, and put aside by the next daemon.
                let _ = discard(&daemon.layout, &record.id);
                return Err(error.into());
            }
            Ok((record, birth))
        });
        match recorded {
            Ok((record, birth)) => Ok(Recorded {
                pair: daemon.pairs.of_container(&birth.spec, &record.pod),
                image: self.image,
                handler: self.plan.handler,
                volumes: self.volumes,
                record,
                config: birth.request.0,
                spec: birth.spec,
                program: None,
            }),
            Err(error) => {
                daemon.images.release(self.plan.id.as_str());
                Err(error)
            }
        }
    }

    fn specify(
        &self,
        daemon: &Daemon,
        mut devices: Devices,
    ) -> Result<(ContainerRecord, Spec), ContainerError> {
        let Self { plan, image, .. } = self;
        let config = &plan.config;
        let image_failed = |source| ContainerError::Image {
            action: "read the users of the image",
            id: plan.id.clone(),
            source,
        };
        let files = daemon
            .users
            .of(&*daemon.images, image)
            .map_err(image_failed)?;
        let context = config
            .linux
            .as_ref()
            .and_then(|linux| linux.security_context.as_ref());
        let user =
            resolve_user(context, &image.config.user, &files).map_err(|e| plan.refused(e))?;
        devices.cdi =
            cdi::injection(&daemon.cdi.load(), config, &user).map_err(|e| plan.refused(e))?;
        let image_config = image_config(image);
        let stop_signal =
            skiff_spec::signal::stop_signal(config, &image_config).map_err(|e| plan.refused(e))?;
        let cgroups_path = plan.cgroup_parent.join(cgroup::name(&plan.id));
        let image_name = image_name(config, image);
        let input = Input {
            config,
            pod_config: &plan.pod_config.config,
            pod: &plan.pod,
            image: &image_config,
            image_name: &image_name,
            user: &user,
            cgroups_path: &Path::new("/").join(&cgroups_path),
            target_pid: plan.target_pid,
            devices: &devices,
            defaults: &plan.handler.defaults,
            host: &daemon.features,
        };
        let mut spec = container_spec(&input).map_err(|e| plan.refused(e))?;
        selinux::of_container(&mut spec, plan.pod.labels.as_ref()).map_err(|e| plan.refused(e))?;
        plan.handler
            .check_mounts(config)
            .map_err(|e| plan.refused(e))?;
        plan.handler.annotate(&mut spec, &plan.pod_config.config);
        OwnVolumes::of(image, config)
            .and_then(|own| own.mount(daemon, &plan.id, &mut spec, &plan.pod_config.config))
            .map_err(|e| plan.refused(e))?;
        let log_path = self.log_path()?;
        if let Some(dir) = log_path.as_ref().and_then(|path| path.parent()) {
            make_dir("make the log directory", dir)?;
        }
        let cgroup = daemon.cgroup_root.join(&cgroups_path);
        let record = new_record(
            daemon,
            plan,
            image,
            image_name,
            cgroup,
            log_path,
            &user,
            stop_signal,
        );
        let record = ContainerRecord {
            image_volumes: self.volumes.ids(),
            ..record
        };
        Ok((record, spec))
    }

    /// The log below the pod's log directory; none when either has no name.
    fn log_path(&self) -> Result<Option<PathBuf>, ContainerError> {
        let directory = &self.plan.pod_config.config.log_directory;
        let path = Path::new(&self.plan.config.log_path);
        if directory.is_empty() || path.as_os_str().is_empty() {
            return Ok(None);
        }
        let inside = path
            .components()
            .all(|c| matches!(c, std::path::Component::Normal(_)));
        if !inside {
            let reason = format!("{path:?} leads out of the pod's log directory");
            return Err(self.plan.refused(SpecError::invalid("log_path", reason)));
        }
        Ok(Some(Path::new(directory).join(path)))
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "a record's fields, each from another place"
)]
fn new_record(
    daemon: &Daemon,
    plan: &Plan,
    image: &Image,
    image_name: String,
    cgroup: PathBuf,
    log_path: Option<PathBuf>,
    user: &User,
    stop_signal: Signal,
) -> ContainerRecord {
    ContainerRecord {
        boot_id: daemon.boot_id.clone(),
        id: plan.id.clone(),
        pod: plan.pod_config.id.clone(),
        created_at: crate::clock::now(),
        image_id: image.id.to_string(),
        image: image_name,
        image_volumes: BTreeMap::new(),
        cgroup,
        log_path,
        user: UserRecord {
            uid: user.uid,
            gid: user.gid,
            groups: user.groups.clone(),
        },
        stop_signal: stop_signal.number(),
        resources: None,
        state: State::Creating,
    }
}

fn name_of(config: &cri::ContainerConfig) -> String {
    let metadata = config.metadata.as_ref();
    metadata.map_or_else(String::new, |metadata| metadata.name.clone())
}
